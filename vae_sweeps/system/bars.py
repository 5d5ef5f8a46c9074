"""Progress bars that leave nothing behind on a terminal that becomes narrower."""

from math import ceil

from rich.console import RenderableType
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
        return super().get_renderable()

    def _num_broken(self, before: int, width: int) -> int:
        """By how many rows the bars have grown that were drawn for `before` columns, if there are only `width` now."""
        if width >= before:
            return 0
        options = self.console.options.update(width=before)
        lines = self.console.render_lines(self.make_tasks_table(self.tasks), options, pad=False)
        return sum(max(ceil(Segment.get_line_length(line) / width) - 1, 0) for line in lines)
