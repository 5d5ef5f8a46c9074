"""Several launches at once: of the same sweep, of sweeps that share points, and from containers of one host name."""

import os
import signal
import time
from collections.abc import Sequence

from tests.faults.faults import Fault
from tests.faults.scenes import NINE_ALONE, SIX_ALONE, Grid, Scene
from tests.faults.verdict import Marks, Problem
from tests.helpers.processes import Running, Zygote

# Sweeps of one name, which share points; each point trains in a pack of its own.
_OVERLAPPING = (SIX_ALONE, NINE_ALONE, Grid("nine-alone", (8, 5), alone=True), Grid("nine-alone", (2, 8), alone=True))
_UNSHARE = ("unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child")


def _finish(scene: Scene, running: Sequence[Running], marks: Marks) -> None:
    """Wait for all. Who skipped points of others exits with 1 if they were not done yet."""
    codes = [scene.wait(each).code for each in running]
    marks.what += f" (exit codes {', '.join(map(str, codes))})"
    if bad := [code for code in codes if code not in (0, 1, -signal.SIGKILL)]:
        marks.problems.append(Problem("code", f"{bad} of launches side by side"))


def _same(scene: Scene) -> Marks:
    running = _start_several(scene, [scene.grid] * scene.rng.randint(2, 8))
    marks = Marks(f"{len(running)} launches at once")
    _finish(scene, running, marks)
    return marks


def _overlapping(scene: Scene) -> Marks:
    """At the end, all of them are launched again, one after the other."""
    grids = [scene.rng.choice(_OVERLAPPING) for _ in range(scene.rng.randint(2, 8))]
    running = _start_several(scene, grids)
    latents = ", ".join("+".join(map(str, grid.latents)) for grid in grids)
    marks = Marks(f"{len(running)} launches with latents {latents}", relaunch=list(dict.fromkeys(grids)))
    _finish(scene, running, marks)
    return marks


def _one_is_killed(scene: Scene) -> Marks:
    running = _start_several(scene, [scene.grid] * scene.rng.randint(2, 4))
    moment = scene.moment()
    scene.pause(moment, running[0])
    for each in scene.rng.sample(running, scene.rng.randint(1, len(running) - 1)):
        each.send(signal.SIGKILL)
    marks = Marks(f"{len(running)} launches, some killed after {moment:.2f} s")
    _finish(scene, running, marks)
    return marks


def _start_several(scene: Scene, grids: Sequence[Grid], zygotes: Sequence[Zygote | None] = (None,)) -> list[Running]:
    running = []
    for number, grid in enumerate(grids):
        running.append(scene.start(grid=grid, zygote=zygotes[number % len(zygotes)]))
        time.sleep(scene.rng.choice((0, 0, 0.1, 1)))
    return running


def _containers(scene: Scene) -> list[Zygote]:
    """Two containers with the same host name, whose process ids collide."""
    return [scene.stock.named_zygote(f"container-{number}", *_UNSHARE) for number in (1, 2)]


def _in_containers(scene: Scene) -> Marks:
    num = scene.rng.randint(2, 4)
    running = _start_several(scene, [scene.grid] * num, _containers(scene))
    marks = Marks(f"{num} launches in two containers, pids {', '.join(str(each.pid) for each in running)}")
    _finish(scene, running, marks)
    return marks


def _inside_and_outside(scene: Scene) -> Marks:
    running = _start_several(scene, [scene.grid] * 3, [None, *_containers(scene)])
    marks = Marks("3 launches, two of them in containers")
    _finish(scene, running, marks)
    return marks


def _killed_in_a_container(scene: Scene) -> Marks:
    """The container stays, and the next launches in it see that the process is gone."""
    one, other = _containers(scene)
    first, moment = scene.start(zygote=one), scene.moment()
    second = scene.start(zygote=other)
    scene.pause(moment, first)
    first.send(signal.SIGKILL)
    marks = Marks(f"two containers, one launch killed after {moment:.2f} s")
    _finish(scene, [first, second], marks)
    _finish(scene, [scene.start(zygote=one)], marks)
    return marks


def _paused_in_a_container(scene: Scene) -> Marks:
    """Longer than its lease, so that another container takes over; then it wakes up, and must not write."""
    lease = {"VAE_SWEEPS_LEASE_S": "4"}
    one, other = _containers(scene)
    first, moment = scene.start(zygote=one, environment=lease), scene.moment()
    scene.pause(moment, first)
    first.send(signal.SIGSTOP)
    time.sleep(5)
    meanwhile = scene.wait(scene.start(zygote=other, environment=lease))
    first.send(signal.SIGCONT)
    marks = Marks(f"paused after {moment:.2f} s, longer than its lease (exit code meanwhile {meanwhile.code})")
    _finish(scene, [first], marks)
    return marks


def _why_not() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


_ALONE = (SIX_ALONE, NINE_ALONE)

FAULTS = [
    Fault("crowd/same", _same, _ALONE),
    Fault("crowd/overlapping", _overlapping, [NINE_ALONE]),
    Fault("crowd/killed", _one_is_killed, _ALONE),
    Fault("namespace/two", _in_containers, _ALONE, _why_not),
    Fault("namespace/three", _inside_and_outside, _ALONE, _why_not),
    Fault("namespace/paused", _paused_in_a_container, _ALONE, _why_not),
    Fault("namespace/killed", _killed_in_a_container, _ALONE, _why_not),
]
