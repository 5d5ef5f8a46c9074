"""Precision, recall, density and coverage: their time and memory, and what they say of changed digits.

    python -m benchmarks.prdc

First 10,000 points are compared with 10,000 others, each of 2,048 numbers, which are the widest features that are built
in. Then training images of mnist5k, after some changes, are compared with its test images in the classifier's features.
"""

import resource
import time

import torch
from torch import Tensor

from vae_sweeps.config.compose import compose_command
from vae_sweeps.data.dataset import for_evaluation, in_unit_range
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.metrics.prdc import PRDC, balls, prdc
from vae_sweeps.evaluation.reference import new_reference
from vae_sweeps.system import machine

NUM_POINTS, WIDTH = 10_000, 2048


def show_cost() -> None:
    """Print the time, the processor time, and the process's largest memory."""
    draw = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(NUM_POINTS, WIDTH, generator=draw, dtype=torch.float64) for _ in range(2))
    began, began_cpu = time.perf_counter(), time.process_time()
    prdc(balls(real), balls(fake))
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    of_all = f"{NUM_POINTS} points against {NUM_POINTS} of {WIDTH} numbers on {machine.num_threads()} threads"
    print(f"{of_all}: {took_s:.1f} s, {cpu_s:.1f} s of processor time, {peak_gb:.2f} GB")


def changed(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Up to 1,000 training images [N,1,28,28] in [0,1] after each change."""
    draw, first = torch.Generator().manual_seed(0), images[:1000]
    blurred = torch.nn.functional.avg_pool2d(first, 5, stride=1, padding=2)
    return {
        "none": first,
        "digits 3 and 8 alone": images[(labels == 3) | (labels == 8)],
        "blurred by a window of 5x5": blurred,
        "noise of 0.3": (first + 0.3 * torch.randn(first.shape, generator=draw)).clamp(0, 1),
        "means of two images": (first + images[1000:2000]) / 2,
        "half the rows from another image": torch.cat([first[:, :, :14], images[1000:2000, :, 14:]], 2),
    }


def show_changes() -> None:
    """Print the scores after each change."""
    point, options = compose_command(["evaluation=none", "evaluation.fid=true", "evaluation.prdc=true"])
    dataset = load_dataset(point.data)
    assert dataset.labels is not None
    reference = new_reference(point, options.evaluation, torch.device("cpu"))
    images = in_unit_range(for_evaluation(dataset, "train"), dataset.pixel_range)
    for name, fake in changed(images, dataset.labels["train"]).items():
        features = reference.features_of(fake)
        (fid,) = reference.compare("fid", features).values()
        found = PRDC(*reference.compare("prdc", features).values())
        scores = ", ".join(f"{score} {value:.2f}" for score, value in found._asdict().items())
        print(f"{name}: {len(fake)} images, FID {fid:.1f}, {scores}")


def main() -> None:
    machine.prepare()
    show_cost()
    show_changes()


if __name__ == "__main__":
    main()
