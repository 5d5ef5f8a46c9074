"""What a launch would do, in words: `dry_run=true`. Writes nothing."""

import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, NamedTuple

from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.schema import Point
from vae_sweeps.data.load import load_dataset
from vae_sweeps.launch.local import described as described_packs
from vae_sweeps.launch.packing import bytes_of_pack, cost
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.submit import jobs_by_kind, settings_of_jobs
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.rungs import described
from vae_sweeps.system import machine
from vae_sweeps.system.logs import count, duration, size_in_words
from vae_sweeps.training.schedule import Schedule

log = logging.getLogger(__name__)

_MAX_PACKS_SHOWN = 20
_MAX_VALUES_SHOWN = 6
_MAX_EARLIER_RUNS = 50


class _Speed(NamedTuple):
    """Seconds of training per step, and per unit of `packing.Cost`, as the median of `num_runs` earlier runs."""

    seconds: float
    num_runs: int


def show(plan: Plan, launch: Launch) -> None:
    """Say which packs the launch would train, what they need, and in which jobs."""
    if plan.packs and launch.cluster:
        points = count(sum(map(len, plan.packs)), "point")
        log.info("%s to train in %s", points, count(len(plan.packs), "pack"))
    elif plan.packs:
        log.info("%s", described_packs(plan, machine.resolve_device(launch.options.device), launch.options.devices))
    if plan.halving:
        for bracket in plan.halving.brackets:
            log.info("halving: %s", described(bracket, plan.halving))
    speeds: dict[str, _Speed | None] = {}
    for number, pack in enumerate(plan.packs[:_MAX_PACKS_SHOWN], 1):
        points = [plan.runs.unique[run][0] for run in pack]
        kind = _kind(points[0])
        if kind not in speeds:
            speeds[kind] = _measured(points[0], launch)
        of_each = [plan.runs.unique[run][1] for run in pack]
        needs = f"{count(len(pack), 'point')}, {_memory(points)}, {_time(points, speeds[kind])}"
        log.info("  pack %d: %s; %s", number, needs, " ".join(_in_short(of_each, launch.swept)) or pack[0].name)
    if len(plan.packs) > _MAX_PACKS_SHOWN:
        log.info("  and %s more", count(len(plan.packs) - _MAX_PACKS_SHOWN, "pack"))
    if plan.to_evaluate:
        log.info("%s to evaluate, without training", count(len(plan.to_evaluate), "point"))
    if not (plan.packs or plan.to_evaluate):
        log.info("nothing to do")
    elif launch.cluster:
        _show_jobs(plan, launch)
    if known := [speed for speed in speeds.values() if speed]:
        if plan.halving:
            log.info("times of packs: without halving")
        log.info("times: of training alone, from %s", count(sum(speed.num_runs for speed in known), "earlier run"))
    log.info("dry run: nothing was written")


def _show_jobs(plan: Plan, launch: Launch) -> None:
    if launch.cluster and launch.cluster.elastic:
        log.info("elastic: a worker forms its next pack when it is free, so the packs above are an example")
    for kind, jobs in jobs_by_kind(plan, launch).items():
        asked = settings_of_jobs(plan, launch, kind)
        log.info("%s (%s), each with %s", count(len(jobs), "job"), kind, " ".join(_resources(asked)))


def _resources(settings: SlurmLauncher) -> Iterator[str]:
    names = ("partition", "account", "qos", "constraint", "nodes", "gpus_per_node", "gres", "cpus_per_task", "mem_gb")
    for name, value in asdict(settings).items():
        if name in (*names, "timeout_min") and value is not None:
            yield f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def _in_short(overrides: Sequence[Sequence[str]], swept: Sequence[str]) -> Iterator[str]:
    """The swept keys of a pack's points: each with its values, or with how many they are."""
    values: dict[str, list[str]] = {}
    for override in (override for of_point in overrides for override in of_point):
        key, _, value = override.partition("=")
        if key.lstrip("+") in swept and value not in values.setdefault(key, []):
            values[key].append(value)
    for key, found in values.items():
        is_short = len(found) <= _MAX_VALUES_SHOWN
        yield f"{key}={','.join(found)}" if is_short else f"{key}=({len(found)} values)"


def _memory(points: Sequence[Point]) -> str:
    num_bytes = bytes_of_pack(points, load_dataset(points[0].data).image_shape)
    return f"about {size_in_words(num_bytes)} of tensors"


def _time(points: Sequence[Point], speed: _Speed | None) -> str:
    if speed is None:
        return "time not known"
    dataset = load_dataset(points[0].data)
    num_steps = Schedule(points[0], len(dataset.images["train"])).num_steps  # a pack shares its schedule and its cost
    cost_of = cost(points[0], dataset.image_shape)
    seconds = num_steps * sum(cost_of(point.latent) for point in points) * speed.seconds
    return f"about {duration(seconds)}"


def _kind(point: Point) -> str:
    """What the time of a step depends on, besides the number of latents."""
    return repr((point.arch, point.batch_size, point.precision, point.data))


def _measured(point: Point, launch: Launch) -> _Speed | None:
    """The speed of the latest runs of the point's kind in the output folder, on this machine or in jobs of a cluster.

    None if there are none. A point's time is its share of the time of its pack.
    """
    kind, cost_of, found = _kind(point), cost(point, load_dataset(point.data).image_shape), list[float]()
    for run in _latest(all_runs(launch.options.output_dir)):
        try:
            earlier, result = run.read_point(), run.read_result()
        except (ValueError, OSError):
            continue  # whatever is wrong with it, it says nothing of this launch
        if result is None or not result.get("time_s") or not result.get("step"):
            continue
        if _kind(earlier) == kind and _has_trained_there(result, launch):
            found.append(result["time_s"] / result["step"] / cost_of(earlier.latent))
    return _Speed(median(found), len(found)) if found else None


def _latest(runs: Sequence[RunFolder]) -> list[RunFolder]:
    return sorted(runs, key=lambda run: -run.path.stat().st_mtime)[:_MAX_EARLIER_RUNS]


def _has_trained_there(result: dict[str, Any], launch: Launch) -> bool:
    if launch.cluster:
        wants_gpu = bool(launch.cluster.gpus_per_node or launch.cluster.gres)
        return (result.get("device", "cpu") != "cpu") == wants_gpu
    device = machine.resolve_device(launch.options.device)
    is_here = result.get("host") == socket.gethostname()
    return is_here and (result.get("device", "cpu") == "cpu") == (device.type == "cpu")
