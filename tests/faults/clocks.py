"""Clocks that are wrong, are set, or run at another speed; needs libfaketime (Debian's package `libfaketime`)."""

from pathlib import Path

from tests.faults.faults import Fault
from tests.faults.scenes import Scene
from tests.faults.verdict import Marks
from tests.helpers.processes import Zygote

_OFFSETS = ("+0", "-3s", "+90s", "-2h", "+1d", "-400d", "+20y", "-30y")


def _library() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def _why_not() -> str | None:
    return None if _library() else "no libfaketime: install Debian's package faketime"


class _Clock:
    """A zygote whose commands see this clock. As on a real machine, only the time of day can be set."""

    def __init__(self, scene: Scene) -> None:
        self._time = scene.stock.folder / "time-of-day"
        self.set("+0")
        settings = {"LD_PRELOAD": str(_library()), "FAKETIME_TIMESTAMP_FILE": str(self._time)}
        settings |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        self.zygote: Zygote = scene.stock.named_zygote("clock", **settings)

    def set(self, offset: str) -> None:
        """Set the clock to so much after or before the real one, or let it run faster (`+0 x10`)."""
        aside = self._time.with_suffix(".tmp")
        aside.write_text(offset + "\n")
        aside.replace(self._time)


def _wrong(scene: Scene) -> Marks:
    """A whole launch with a wrong clock; another one with another clock that kills interrupt."""
    clock, offset = _Clock(scene), scene.rng.choice(_OFFSETS[1:])
    clock.set(offset)
    running, moment = scene.start(zygote=clock.zygote), scene.moment()
    scene.pause(moment, running)
    running.send(9)
    scene.wait(running)
    clock.set(other := scene.rng.choice(_OFFSETS[1:]))
    ended = scene.launch(zygote=clock.zygote)
    return Marks(
        f"killed after {moment:.2f} s with the clock at {offset}, launched at {other} (exit code {ended.code})"
    )


def _set(scene: Scene) -> Marks:
    """The clock is set several times while a launch runs, and a second launch starts beside it."""
    clock, offsets = _Clock(scene), []
    running = scene.start(zygote=clock.zygote)
    for _ in range(scene.rng.randint(1, 4)):
        scene.pause(scene.moment() / 2, running)
        clock.set(scene.rng.choice(_OFFSETS))
        offsets.append(clock._time.read_text().strip())
    beside = scene.launch()
    ended = scene.wait(running)
    return Marks(f"clock set to {', '.join(offsets)} (exit codes {ended.code}, beside it {beside.code})")


def _fast(scene: Scene) -> Marks:
    clock, speed = _Clock(scene), scene.rng.choice(("x50", "x1000", "x0.1"))
    clock.set(f"+0 {speed}")
    running, moment = scene.start(zygote=clock.zygote), scene.moment()
    scene.pause(moment, running)
    beside = scene.launch()
    ended = scene.wait(running)
    return Marks(f"clock at {speed} (exit codes {ended.code}, beside it {beside.code})")


FAULTS = [
    Fault("clock/wrong", _wrong, why_not=_why_not),
    Fault("clock/set", _set, why_not=_why_not),
    Fault("clock/fast", _fast, why_not=_why_not),
]
