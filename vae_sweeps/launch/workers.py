"""How many processes train packs, or evaluate points, side by side on this machine."""

from collections.abc import Sequence

import torch

from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.settings import settings
from vae_sweeps.launch.packing import bytes_of_pack
from vae_sweeps.launch.request import Launch
from vae_sweeps.models.size import num_flops, num_params
from vae_sweeps.system import machine
from vae_sweeps.training.schedule import Schedule

# A rough model of a sweep's time on one core. It is not measured anew for each command, so that a command always forms
# the same packs on the same machine, and repeats its numbers to the bit.
_FLOPS_PER_S = 40e9  # of matrix products in single precision
_PARAMS_PER_S = 500e6  # that Adam updates
_EVALUATION_S = 4.0  # of a point; the demo's nine took 38 s
_START_S = 6.0  # until a new process trains: it imports torch and reads the data, while others do so too
_START_BYTES, _EVALUATION_BYTES = 600e6, 1.2e9
# n threads train a pack n ** _SPEED_OF_THREADS times as fast as one: 1.6 and 1.8 times with two, measured with networks
# of 100 and 500 units.
_SPEED_OF_THREADS = 0.75
# Much of an evaluation runs on one thread: the demo's nine points took 1.2 times as long with one as with two.
_SPEED_OF_EVALUATION = 0.2


def number_of_workers(
    launch: Launch, points: Sequence[Point], datasets: Sequence[Dataset], device: torch.device
) -> int:
    """The number of processes that train these points: `hydra.launcher.workers`, or what is expected to end first.

    Without GPUs that is at most one process for each thread that a single one would use, each with its share of them,
    and one process for a sweep that takes seconds. Each GPU has one process.
    """
    if (wanted := launch.workers) is not None:
        return wanted
    if device.type == "cuda":
        return max(1, len(machine.visible_gpus())) if launch.options.device in ("auto", "cuda") else 1
    # Processes that end at each rung of a halving would spend their time on starting.
    is_one = launch.sweep is None or launch.halving is not None or launch.options.devices > 1 or device.type != "cpu"
    if is_one or len(points) < 2 or (num_threads := machine.num_threads()) < 2:
        return 1
    seconds, num_bytes = dict[str, float](), dict[str, float]()  # large sweeps have few kinds of points
    total_s = len(points) * (_EVALUATION_S if settings(launch.options.evaluation).keys() - {"elbo"} else 0.0)
    for point, dataset in zip(points, datasets, strict=True):
        sizes = (point.arch, point.likelihood, point.latent, point.batch_size, point.precision)
        kind = repr((*sizes, point.epochs, point.steps, point.data))
        if kind not in seconds:
            seconds[kind] = _training_s(point, dataset)
            num_bytes[kind] = bytes_of_pack([point], dataset.image_shape)
        total_s += seconds[kind]
    most = int(machine.memory_for_packs(device) / (_START_BYTES + max(num_bytes.values())))
    return _first_to_end(len(points), total_s, num_threads, most, _SPEED_OF_THREADS)


def number_of_evaluators(num_points: int, launch: Launch, device: torch.device) -> int:
    """The number of processes that evaluate so many points: `launch.workers`, or what is expected to end first."""
    if (wanted := launch.workers) is not None:
        return max(1, min(wanted, num_points))
    if device.type == "cuda":
        num_gpus = len(machine.visible_gpus()) if launch.options.device in ("auto", "cuda") else 1
        return max(1, min(num_gpus, num_points))
    if device.type != "cpu" or settings(launch.options.evaluation).keys() <= {"elbo"}:
        return 1
    most = int(machine.memory_for_packs(device) / _EVALUATION_BYTES)
    threads = machine.num_threads()
    return _first_to_end(num_points, num_points * _EVALUATION_S, threads, most, _SPEED_OF_EVALUATION)


def _training_s(point: Point, dataset: Dataset) -> float:
    """The seconds that a core is expected to need for the point."""
    shape, schedule = dataset.image_shape, Schedule(point, dataset.num_images("train"))
    flops = 3 * num_flops(point, shape) * min(point.batch_size, schedule.num_images)  # forward, and twice backward
    return schedule.num_steps * (flops / _FLOPS_PER_S + num_params(point, shape) / _PARAMS_PER_S)


def _first_to_end(num_points: int, total_s: float, num_threads: int, most: int, speed_of_threads: float) -> int:
    """The number of processes, at most `most`, that are expected to end first with equal points of `total_s` in all."""

    def end(number: int) -> float:
        largest_share = -(-num_points // number) / num_points
        speed = (num_threads // number) ** speed_of_threads
        return largest_share * total_s / speed + (_START_S if number > 1 else 0.0)

    return min(range(1, max(1, min(num_points, num_threads, most)) + 1), key=end)
