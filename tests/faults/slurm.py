"""What happens to jobs on a cluster: a real SLURM on this machine (tests/helpers/slurm_cluster.py)."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import damage
from tests.faults.faults import Fault
from tests.faults.scenes import SIX, SIX_ALONE, Scene, Stock, is_resumable
from tests.faults.verdict import Marks
from tests.helpers import slurm_cluster
from tests.helpers.processes import StuckError
from tests.helpers.slurm_cluster import Cluster

# A sweep is one job, also if its packs are of one point.
_SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
_SLURM += ("hydra.launcher.points_per_job=100",)
_WAIT = "hydra.launcher.wait=true"
_LONG_S = 120.0


def _cluster(stock: Stock) -> Cluster:
    """The campaign's cluster, which starts when it is first needed."""
    if stock.cluster is None:
        cluster = Cluster(stock.folder / "slurm")
        stock.undo.enter_context(cluster)
        os.environ["SLURM_CONF"] = str(cluster.conf)
        stock.undo.callback(os.environ.pop, "SLURM_CONF", None)
        stock.cluster = cluster
        # Only commands of this zygote see the cluster.
        stock.named_zygote("slurm", SLURM_CONF=str(cluster.conf))
    return stock.cluster


def _submit(scene: Scene) -> tuple[Cluster, float]:
    """Submit the sweep, and wait for a random moment in the life of its job."""
    cluster = _cluster(scene.stock)
    scene.zygote = scene.stock.named_zygote("slurm")
    scene.undo.callback(_empty, cluster)
    scene.launch(*_SLURM)
    _wait_for(lambda: "RUNNING" in cluster.run("squeue", "-h", "-o", "%T"))
    moment = scene.rng.uniform(0, 2) * scene.stock.duration_s(scene.grid)
    end = time.monotonic() + moment
    while time.monotonic() < end and cluster.run("squeue", "-h"):
        time.sleep(0.2)
    return cluster, moment


def _empty(cluster: Cluster) -> None:
    cluster.run("scancel", "--user=root")
    with contextlib.suppress(StuckError):
        _wait_for(lambda: not cluster.run("squeue", "-h"))


def _wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _LONG_S
    while not condition():
        if time.monotonic() > end:
            raise StuckError("SLURM does not get there")
        time.sleep(0.2)


def _told(*command: str) -> Callable[[Scene], Marks]:
    """`scancel` with these options, or `scontrol requeue`, for all jobs; what was cancelled is left time to end."""

    def inflict(scene: Scene) -> Marks:
        cluster, moment = _submit(scene)
        for job in cluster.run("squeue", "-h", "-o", "%A").split():
            with contextlib.suppress(AssertionError):  # it may have ended
                cluster.run(*command, job)
        if command[0] == "scancel" and "--signal=USR2" not in command:
            _wait_for(lambda: not cluster.run("squeue", "-h"))
        return Marks(f"{' '.join(command)} after {moment:.1f} s", more=(*_SLURM, _WAIT))

    return inflict


def _node_fails(scene: Scene) -> Marks:
    cluster, moment = _submit(scene)
    for node in cluster.run("squeue", "-h", "-o", "%N").split():
        for state in ("drain", "down", "resume"):
            with contextlib.suppress(AssertionError):
                cluster.run("scontrol", "update", f"nodename={node}", f"state={state}", "reason=fault")
    return Marks(f"its node fails after {moment:.1f} s", more=(*_SLURM, _WAIT))


def _slurmd_is_killed(scene: Scene) -> Marks:
    """The job's processes go on without it, and SLURM may start the job again elsewhere."""
    cluster, moment = _submit(scene)
    for node in cluster.run("squeue", "-h", "-o", "%N").split():
        cluster.stop(f"slurmd-{node}", signal.SIGKILL)
        time.sleep(scene.rng.uniform(0, 3))
        cluster.start_node(int(node.removeprefix("n")))
    _wait_for(lambda: cluster.num_ready() == cluster.num_nodes)
    return Marks(f"slurmd is killed after {moment:.1f} s", more=(*_SLURM, _WAIT))


def _submitted_twice(scene: Scene) -> Marks:
    """At the same moment; and a launch on this machine beside them."""
    cluster = _cluster(scene.stock)
    scene.zygote = scene.stock.named_zygote("slurm")
    scene.undo.callback(_empty, cluster)
    running = [scene.start(*_SLURM) for _ in range(2)]
    if scene.grid.alone:
        running.append(scene.start())
    codes = [scene.wait(each).code for each in running]
    return Marks(f"submitted twice at once (exit codes {codes})", more=(*_SLURM, _WAIT))


def _damaged(name: str) -> Callable[[Scene], Marks]:
    """The job is killed, and a file is damaged before the sweep is submitted again."""

    def inflict(scene: Scene) -> Marks:
        cluster, moment = _submit(scene)
        cluster.run("scancel", "--user=root")
        _wait_for(lambda: not cluster.run("squeue", "-h"))
        paths: list[Path] = [scene.sweep.submissions]
        if name != "jobs.jsonl":
            paths = [run.path / name for run in scene.runs() if is_resumable(run)]
        marks = Marks(f"cancelled after {moment:.1f} s", more=(*_SLURM, _WAIT))
        if paths:
            path, method = scene.rng.choice(paths), scene.rng.choice(("garbage", "not-utf8"))
            path.write_bytes(damage.METHODS[method](path.read_bytes(), scene.rng) or b"")
            marks.what += f", {method} {path.relative_to(scene.out)}"
            marks.damaged = [path]
        return marks

    return inflict


_GRIDS = (SIX, SIX_ALONE)

FAULTS = [
    Fault(f"slurm/{name}", inflict, grids, why_not=slurm_cluster.why_not)
    for name, inflict, grids in (
        ("usr2", _told("scancel", "--signal=USR2"), _GRIDS),
        ("kill", _told("scancel", "--signal=KILL", "--full"), _GRIDS),
        ("requeue", _told("scontrol", "requeue"), _GRIDS),
        ("cancel", _told("scancel"), _GRIDS),
        ("node", _node_fails, _GRIDS),
        ("slurmd", _slurmd_is_killed, _GRIDS),
        ("twice", _submitted_twice, _GRIDS),
        ("damaged-jobs", _damaged("jobs.jsonl"), _GRIDS),
        ("damaged-checkpoint", _damaged("checkpoint.pt"), [SIX_ALONE]),
    )
]
