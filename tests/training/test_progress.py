"""The bar of a pack at the widths of terminals."""

from collections.abc import Callable

import pytest
from rich.console import Console

from vae_sweeps.training import progress
from vae_sweeps.training.progress import Progress


@pytest.fixture
def line_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """The bar of a pack at step 1,500 of 17,500, as a terminal of some columns shows it."""

    def draw(width: int) -> str:
        console = Console(width=width, force_terminal=True, color_system=None)
        monkeypatch.setattr(progress, "console", console)
        bars = progress._bars()
        several = progress.Several(bars)
        several.add("pack 1 of 2 (9 points)")
        several.update("pack 1 of 2 (9 points)", Progress(1500, 17500, [-140.12, -102.33], 12345.6))
        with console.capture() as captured:
            console.print(bars.make_tasks_table(bars.tasks))
        return captured.get().rstrip("\n")

    return draw


def test_steps_are_shown_at_every_width_and_the_speed_goes_first(line_at) -> None:
    texts = ["12,346 images/s", "train", "ELBO", "-140.1 .. -102.3"]
    shown = {width: line_at(width) for width in range(50, 141)}
    for width, line in shown.items():
        assert len(line) <= width
        assert "pack 1 of 2 (9 points)" in line
        assert "1500/17500 steps" in line
        assert "\n" not in line
        has = [text in line for text in texts]
        assert has == sorted(has), (width, line)  # whatever is there has all that is shorter
    assert texts[0] in shown[120]
    assert texts[3] in shown[80]
    assert texts[3] not in shown[50]
