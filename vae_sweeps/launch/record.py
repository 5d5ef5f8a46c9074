"""Write the results of the points of a trained pack, with the terms of the ELBO."""

import logging
import socket
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vae_sweeps.config.schema import OF_EACH, Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.evaluate import first_result
from vae_sweeps.evaluation.model import from_state
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.models.size import num_params
from vae_sweeps.runs.run_folder import STOPPED
from vae_sweeps.system import distributed, files, git
from vae_sweeps.system.lease import LostLeaseError
from vae_sweeps.training import objective
from vae_sweeps.training.pack import Outcome, Pack
from vae_sweeps.training.schedule import Schedule

log = logging.getLogger(__name__)


def record(pack: Pack, outcomes: Sequence[Outcome], reference: Reference, drawer: PictureDrawer) -> None:
    """Write the result of every point that is done, was stopped or has diverged, and draw pictures of the first two."""
    dataset = reference.dataset
    for k, (run, outcome) in enumerate(zip(pack.runs, outcomes, strict=True)):
        if outcome.status in ("preempted", "absent"):
            continue
        result = _circumstances(pack, k, dataset, outcome)
        if outcome.status in ("done", STOPPED):
            model = from_state(run.point, pack.model_state(k), dataset.image_shape)
            result |= first_result(model, reference)
            if result["status"] == "done":
                result["status"] = outcome.status
                drawer.end_of_training(run.folder, model, dataset)
        if result["status"] == "diverged":
            log.warning("%s diverged at step %d", run.folder.name, outcome.step)
        assert run.rows is not None
        try:
            run.folder.write_result(result | {"rows": asdict(run.rows.extent())})
        except LostLeaseError as error:
            log.warning("%s; its result is left to that process", error)


def remove_previous_checkpoints(pack: Pack, outcomes: Sequence[Outcome]) -> None:
    """Remove the checkpoint before the last one of every point that has a result: nothing resumes from it any more."""
    for run, outcome in zip(pack.runs, outcomes, strict=True):
        if outcome.status in ("done", STOPPED, "diverged"):
            try:
                run.folder.remove(run.folder.previous_checkpoint)
            except LostLeaseError:
                continue  # it is the other process's
            except OSError as error:
                log.warning("%s: cannot be removed (%s)", run.folder.previous_checkpoint, error.strerror)


def _circumstances(pack: Pack, k: int, dataset: Dataset, outcome: Outcome) -> dict[str, Any]:
    """The part of a result beside the metrics: how the run was trained, and how long it took."""
    point = pack.points[k]
    schedule = Schedule(point, dataset.num_images("train"))
    epochs, rest = divmod(outcome.pack_step, schedule.steps_per_epoch)
    num_images = epochs * schedule.num_images + rest * point.batch_size
    weights = objective.weights(
        [point], dataset.image_shape, schedule.steps_per_epoch, pack.device, pack.dtype, schedule.num_steps
    )
    scales = {name: getattr(pack.vae.likelihood, name, None) for name in OF_EACH}
    device = pack.device
    return {
        "status": outcome.status,
        "step": outcome.step,
        **{name: scale[k].item() if isinstance(scale, Tensor) else None for name, scale in scales.items()},
        "time_s": outcome.time_s,
        **pack.device_time(outcome.time_s),
        "images_per_s": num_images / outcome.time_s,
        "num_devices": distributed.num_ranks(),
        "pack_size": len(pack.runs),
        "data_fingerprint": dataset.fingerprint,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "host": socket.gethostname(),
        "finished_at": files.now(),
        **facts(point, dataset.image_shape),
        "beta_nats": weights.beta_nats_at(outcome.step - 1)[0],  # a warmup may have been longer than the training
    }


def facts(point: Point, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a result and the tracker show in addition to the point's config."""
    return {
        "beta_nats": objective.beta_nats(point, image_shape),
        "num_params": num_params(point, image_shape),
        "git_commit": git.commit(),
    }
