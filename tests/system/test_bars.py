"""Progress bars on a real terminal, tmux, that becomes narrower and wider: the screen shows each bar once."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

BARS = """
import itertools, time
from vae_sweeps.system.logs import start_logging
from vae_sweeps.training import progress
start_logging()
with progress.several() as bars:
    for label in ("pack 1/2 (4 points)", "pack 2/2 (4 points)"):
        bars.add(label)
    for step in itertools.count():
        for label in ("pack 1/2 (4 points)", "pack 2/2 (4 points)"):
            bars.update(label, progress.Progress(step, 100_000, [-175.0, -141.8], 41607.0))
        time.sleep(0.02)
"""


class Terminal:
    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]

    def run(self, *arguments: str) -> str:
        own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        return subprocess.run([*self._tmux, *arguments], env=own, check=True, capture_output=True, text=True).stdout

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.run("capture-pane", "-p").splitlines() if line.strip()]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal of 120 columns in which two bars move."""
    (tmp_path / "bars.py").write_text(BARS)
    up = Terminal(tmp_path / "tmux")
    up.run("new-session", "-d", "-x", "120", "-y", "24", sys.executable, str(tmp_path / "bars.py"))
    yield up
    up.run("kill-server")


@pytest.mark.parametrize("is_told_late", [False, True])
def test_a_terminal_that_becomes_narrower_shows_each_bar_once(terminal: Terminal, is_told_late: bool) -> None:
    for width in (60, 100, 45):
        for wide_or_narrow in (120, width):
            terminal.run("resize-window", "-x", str(wide_or_narrow))
            if is_told_late and wide_or_narrow == 120:
                continue  # tmux tells a program of a size that follows so soon up to 250 ms late
            end = time.monotonic() + 60
            while not shows_two_bars(lines := terminal.lines(), wide_or_narrow):
                assert time.monotonic() < end, (wide_or_narrow, lines)
                time.sleep(0.1)


def shows_two_bars(lines: list[str], width: int) -> bool:
    """Whether the screen has the two bars, drawn for this width, and nothing else."""
    has_elbo = all(("ELBO -175.0" in line) == (width >= 100) for line in lines)
    return [line[:8] for line in lines] == ["pack 1/2", "pack 2/2"] and has_elbo
