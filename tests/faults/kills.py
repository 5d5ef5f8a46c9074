"""Processes that are killed, told to stop, or paused."""

import signal

from tests.faults.faults import Fault
from tests.faults.scenes import Scene
from tests.faults.verdict import Marks, Problem
from tests.helpers.processes import Ended, Running


def _killed(number: signal.Signals):
    def inflict(scene: Scene) -> Marks:
        """One launch in three is killed twice."""
        moments = []
        for _ in range(scene.rng.choice((1, 1, 2))):
            running, moment = scene.start(), scene.moment()
            scene.pause(moment, running)
            running.send(number)
            code = scene.wait(running).code
            moments.append(f"{moment:.2f} s (exit code {code})")
        return Marks(f"{number.name} after {', '.join(moments)}")

    return inflict


def _interrupted_twice(scene: Scene) -> Marks:
    """The second signal comes while the first is being obeyed, as from somebody who is impatient."""
    running, moment = scene.start(), scene.moment()
    scene.pause(moment, running)
    running.send(signal.SIGINT)
    scene.pause(scene.rng.uniform(0, 0.3), running)
    running.send(scene.rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL)))
    return Marks(f"interrupted twice after {moment:.2f} s (exit code {scene.wait(running).code})")


def _launched_beside_paused(scene: Scene) -> tuple[Running, float, Ended]:
    """A paused command, when it was paused, and how the same command ended that ran meanwhile."""
    running, moment = scene.start(), scene.moment()
    scene.pause(moment, running)
    running.send(signal.SIGSTOP)
    return running, moment, scene.launch()


def _paused(scene: Scene) -> Marks:
    """The command that runs meanwhile must leave alone what the paused one claims."""
    running, moment, meanwhile = _launched_beside_paused(scene)
    running.send(signal.SIGCONT)
    woken = scene.wait(running)
    marks = Marks(f"paused after {moment:.2f} s (exit codes {meanwhile.code} and {woken.code})")
    if woken.code not in (0, 1) or meanwhile.code not in (0, 1):
        marks.problems.append(Problem("code", f"{meanwhile.code} meanwhile, {woken.code} after the pause"))
    return marks


def _paused_and_killed(scene: Scene) -> Marks:
    running, moment, meanwhile = _launched_beside_paused(scene)
    running.send(signal.SIGKILL)
    scene.wait(running)
    return Marks(f"paused after {moment:.2f} s, then killed (exit code meanwhile {meanwhile.code})")


FAULTS = [
    *(Fault(f"kill/{s.name}", _killed(s)) for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    Fault("kill/twice", _interrupted_twice),
    Fault("stop/SIGCONT", _paused),
    Fault("stop/SIGKILL", _paused_and_killed),
]
