"""Progress bars that leave nothing behind on a terminal that becomes narrower."""

from collections.abc import Iterator
from math import ceil

from rich.console import Console, ConsoleOptions, RenderableType
from rich.control import Control
from rich.progress import Progress
from rich.segment import ControlType, Segment


class Bars(Progress):
    """rich's bars, which also clear the rows into which a narrower terminal has broken their lines.

    rich moves the cursor up by the lines that it has written. A terminal that becomes narrower breaks the lines that no
    longer fit, so the first rows of the last frame would stay above the next one.
    """

    _width: int | None = None  # of the terminal at the last frame

    def start(self) -> None:
        """Show the bars from now on."""
        self._width = self.console.width
        super().start()

    def get_renderable(self) -> RenderableType:
        """The bars, of which rich makes each frame."""
        if self._width is not None:
            before, self._width = self._width, self.console.width
            one_row = Control((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            for _ in range(self._num_broken(before, self._width)):
                self.console.control(one_row)
        return _Cut(super().get_renderable())

    def _num_broken(self, before: int, width: int) -> int:
        """By how many rows the bars have grown that were drawn for `before` columns, if there are only `width` now."""
        if width >= before:
            return 0
        options = self.console.options.update(width=before)
        lines = self.console.render_lines(self.make_tasks_table(self.tasks), options, pad=False)
        return sum(max(ceil(Segment.get_line_length(line) / width) - 1, 0) for line in lines)


class _Cut:
    """Lines that the terminal cuts where they are too long, instead of breaking them.

    tmux tells a program of a new size up to 250 ms late. Frames that are drawn meanwhile, for the old size, must not
    take more rows: only the last frame before the change has been broken, so `_num_broken` knows how many to clear.
    """

    # DEC's private mode 7, autowrap. The control code is for old Windows consoles, where it does no harm.
    _OFF, _ON = (Segment(f"\x1b[?7{end}", None, [(ControlType.CARRIAGE_RETURN,)]) for end in "lh")

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in console.render_lines(self._renderable, options, pad=False):
            yield self._OFF
            yield from line
            yield self._ON
            yield Segment.line()
