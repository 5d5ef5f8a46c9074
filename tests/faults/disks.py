"""Disks that are full, have no inodes left or become read-only, and files that may not be read or written."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.faults.faults import Fault
from tests.faults.scenes import Scene, is_resumable
from tests.faults.verdict import Marks, Problem
from tests.helpers.processes import Ended

_ENOUGH = "size=200m,nr_inodes=20000"
_REASON = re.compile(r"no space left|disk|inode|read-only|permission|not permitted|cannot be (written|read)", re.I)


def _is_root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _on_tmpfs(scene: Scene, options: str) -> None:
    """Put the output folder on a disk of its own."""
    scene.out.mkdir()
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(scene.out))
    scene.undo.callback(subprocess.run, ["umount", "-l", str(scene.out)], check=True)


def _expect_reason(marks: Marks, ended: Ended) -> None:
    """Whoever fails says why, and ends with an exit code that says so."""
    if ended.code in (0, 1, 2):
        if ended.code and not _REASON.search(ended.output):
            marks.problems.append(Problem("silent", f"no reason is given: {ended.output[-200:]!r}"))
    else:
        marks.problems.append(Problem("code", f"{ended.code} on a bad disk"))


def _small(unit: str, least: int, most: int) -> Callable[[Scene], Marks]:
    """A disk that is too small from the start, for the first launch and the second."""

    def inflict(scene: Scene) -> Marks:
        size = scene.rng.randint(least, most)
        _on_tmpfs(scene, f"{unit}={size}{'k' if unit == 'size' else ''}")
        marks = Marks(f"disk of {unit}={size}")
        for _ in range(scene.rng.randint(1, 2)):
            _expect_reason(marks, scene.launch())
        _mount("-o", f"remount,{_ENOUGH}", str(scene.out))
        return marks

    return inflict


def _fills_up(scene: Scene) -> Marks:
    """Somebody else fills the disk while a sweep trains."""
    _on_tmpfs(scene, _ENOUGH)
    running, moment = scene.start(), scene.moment()
    scene.pause(moment, running)
    filler = scene.out / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
    except OSError:
        pass
    marks = Marks(f"disk full after {moment:.2f} s")
    _expect_reason(marks, scene.wait(running))
    _expect_reason(marks, scene.launch())
    filler.unlink()
    return marks


def _read_only(scene: Scene) -> Marks:
    """The sweep was killed, and is launched while the disk is read-only."""
    _on_tmpfs(scene, _ENOUGH)
    running, moment = scene.start(), scene.moment()
    scene.pause(moment, running)
    running.send(signal.SIGKILL)
    scene.wait(running)
    _mount("-o", "remount,ro", str(scene.out))
    marks = Marks(f"killed after {moment:.2f} s, then read-only")
    _expect_reason(marks, scene.launch())
    scene.ask("status", scene.sweep.path)
    _mount("-o", "remount,rw", str(scene.out))
    return marks


# Root without these capabilities is bound by permissions, as any other user is.
_BOUND = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


def _forbidden(choose: Callable[[Scene], Path], mode: int) -> Callable[[Scene], Marks]:
    """A path of an unfinished sweep loses permissions for one launch."""

    def inflict(scene: Scene) -> Marks:
        scene.stock.copy_unfinished(scene)
        scene.zygote = scene.stock.named_zygote("bound", *_BOUND)
        path = choose(scene)
        usual = path.stat().st_mode & 0o777
        path.chmod(mode)
        marks = Marks(f"{path.relative_to(scene.out)} has mode {mode:o}")
        _expect_reason(marks, ended := scene.launch())
        marks.what += f" (exit code {ended.code})"
        for command in ("status", "results"):
            scene.ask(command, scene.sweep.path)
        path.chmod(usual)
        inside = path.relative_to(scene.out).parts
        marks.apart = inside[1] if inside[:1] == ("runs",) and len(inside) > 1 and not scene.grid.alone else None
        return marks

    return inflict


def _run_path(name: str) -> Callable[[Scene], Path]:
    return lambda scene: scene.rng.choice([run for run in scene.runs() if is_resumable(run)]).path / name


FAULTS = [
    Fault("disk/small", _small("size", 8, 14_000), why_not=_is_root),
    Fault("disk/inodes", _small("nr_inodes", 4, 120), why_not=_is_root),
    Fault("disk/fills-up", _fills_up, why_not=_is_root),
    Fault("disk/read-only", _read_only, why_not=_is_root),
    *(
        Fault(f"permission/{name}-{mode:o}", _forbidden(choose, mode), why_not=_is_root)
        for name, choose, mode in (
            ("output", lambda scene: scene.out, 0o555),
            ("runs", lambda scene: scene.out / "runs", 0o555),
            ("run", _run_path(""), 0o555),
            ("run", _run_path(""), 0o000),
            ("sweep", lambda scene: scene.sweep.path, 0o555),
            ("checkpoint.pt", _run_path("checkpoint.pt"), 0o000),
            ("config.yaml", _run_path("config.yaml"), 0o000),
            ("metrics.jsonl", _run_path("metrics.jsonl"), 0o000),
            ("metrics.jsonl", _run_path("metrics.jsonl"), 0o444),
        )
    ),
]
