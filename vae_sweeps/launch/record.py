"""What a pack's training leaves for people: each point's result with its ELBO, and pictures, also on the way."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vae_sweeps.analysis import pictures, run_plots, style
from vae_sweeps.analysis.latent_map import latent_map
from vae_sweeps.config.schema import Point
from vae_sweeps.data.batches import steps_per_epoch
from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.evaluation.evaluate import first_result
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.evaluation.parts import Drawing, LatentCodes
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.models.size import num_params
from vae_sweeps.models.stacking import take_point
from vae_sweeps.models.vae import VAE
from vae_sweeps.runs import run_folder
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.system import files, git
from vae_sweeps.training import objective
from vae_sweeps.training.pack import Outcome

log = logging.getLogger(__name__)

_NUM_SHOWN = 1000  # images of the test split that pictures are drawn from


def record(
    vae: VAE,
    points: Sequence[Point],
    folders: Sequence[Path],
    outcomes: Sequence[Outcome],
    starts: Sequence[Checkpoint],
    reference: Reference,
) -> None:
    """Write the result, with the ELBO's terms, of every point that is done or has diverged, and draw what is done.

    `starts` give the tensors' own shapes.
    """
    dataset = reference.dataset
    for k, (point, folder, outcome) in enumerate(zip(points, folders, outcomes, strict=True)):
        if outcome.status == "preempted":
            continue
        result = _circumstances(vae, k, point, dataset, outcome)
        if outcome.status == "done":
            state = take_point(vae.state_dict(), k, len(points), starts[k].model)
            model = from_state(point, state, dataset.image_shape)
            result |= first_result(model, reference)
            if result["status"] == "done":
                with _dispensable(folder, set()):
                    _draw(model, dataset, folder / "pictures")
                    is_log = point.log_steps == "powers_of_two"
                    curves = run_plots.learning_curves(run_folder.read_rows(folder), title=folder.name, is_log=is_log)
                    style.save(curves, folder / "pictures" / "curves.png")
        if result["status"] == "diverged":
            log.warning("%s diverged at step %d", folder.name, outcome.step)
        run_folder.write_result(folder, result)


def _circumstances(vae: VAE, k: int, point: Point, dataset: Dataset, outcome: Outcome) -> dict[str, Any]:
    """What a result says beside its metrics: how it came about and what it cost."""
    images_per_epoch = dataset.num_images("train")
    epochs, rest = divmod(outcome.step, steps_per_epoch(images_per_epoch, point.batch_size))
    num_images = epochs * images_per_epoch + rest * point.batch_size
    sigma = getattr(vae.likelihood, "sigma", None)
    device = vae.heads.weight.device
    return {
        "status": outcome.status,
        "step": outcome.step,
        "beta_nats": objective.beta_nats(point, dataset.image_shape),
        "sigma": None if sigma is None else sigma[k].item(),
        "num_params": num_params(point, dataset.image_shape),
        "time_s": outcome.time_s,
        "images_per_s": num_images / outcome.time_s,
        "pack_size": vae.num_models,
        "data_fingerprint": dataset.fingerprint,
        "git_commit": git.commit(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "host": socket.gethostname(),
        "finished_at": files.now(),
    }


def drawing(
    vae: VAE, points: Sequence[Point], folders: Sequence[Path], starts: Sequence[Checkpoint], dataset: Dataset
) -> Callable[[int, int], None]:
    """A function (k, epoch) that draws point k, as `vae` has it now, into its folder's pictures/epoch-NNNN.

    It draws a copy of the point's tensors, alone as at the end, so neither the training nor the pack matters.
    """
    failed: set[Path] = set()

    def draw(k: int, epoch: int) -> None:
        # What a network of one's own draws when it is built must not be missing in training.
        with torch.random.fork_rng(devices=[]), _dispensable(folders[k], failed):
            state = take_point(vae.state_dict(), k, len(points), starts[k].model)
            model = from_state(points[k], state, dataset.image_shape)
            _draw(model, dataset, folders[k] / "pictures" / f"epoch-{epoch:04d}")

    return draw


def draw_findings(folder: Path, to_draw: Iterable[Drawing]) -> None:
    """Draw what an evaluation found into the run's folder."""
    failed: set[Path] = set()
    for found in to_draw:
        with _dispensable(folder, failed):
            (folder / "pictures").mkdir(exist_ok=True)
            if isinstance(found, LatentCodes):
                picture = latent_map(found.mu, found.labels, folder.name)
                style.save(picture, folder / "pictures" / "latent_map.png")
                style.save(run_plots.kl_bars(found.kl, folder.name), folder / "pictures" / "kl_bars.png")
            else:
                picture = pictures.neighbours(found.samples, found.nearest)
                pictures.save(picture, folder / "pictures" / "neighbours.png")


def _draw(model: Model, dataset: Dataset, target: Path) -> None:
    """The samples' noise is a function of the point's seed and latent size: the same at all times."""
    model.vae.cpu()
    x = to_model(dataset, for_evaluation(dataset, "test")[:_NUM_SHOWN].cpu(), model.dtype)
    pictures.save_run_pictures(model, x, target, seed=model.point.seed, how=model.point.pictures)


@contextlib.contextmanager
def _dispensable(folder: Path, failed: set[Path]) -> Iterator[None]:
    """Pictures are for people: where they fail they cost nothing else, and the log says so once for each folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if folder not in failed:
            log.warning("%s: pictures not drawn (%s: %s)", folder.name, type(error).__name__, error)
        failed.add(folder)
