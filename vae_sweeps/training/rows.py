"""The rows of metrics.jsonl: the terms of the ELBO in nats per image, the training loss, and the progress."""

import itertools
import time
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.metrics.elbo import bits_per_dim, evaluate_split, is_density
from vae_sweeps.models.vae import Terms
from vae_sweeps.training import objective
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.progress import Progress
from vae_sweeps.training.schedule import Schedule

_KL_DECIMALS = 6  # enough for a histogram


class RowWriter:
    """An `Observer` that writes a row for each living point into its run's folder."""

    def __init__(self, pack: Pack, dataset: Dataset, evaluation: Evaluation) -> None:
        """`evaluation` has the settings for evaluating the validation split."""
        self.pack, self.dataset, self.evaluation = pack, dataset, evaluation
        self.schedule = Schedule(pack.points[0], dataset.num_images("train"))
        self.weights = objective.weights(
            pack.points,
            dataset.image_shape,
            self.schedule.steps_per_epoch,
            pack.device,
            pack.dtype,
            self.schedule.num_steps,
        )
        self._last_step, self._last_time = pack.step, time.monotonic()

    def saved(self, step: int) -> None:
        pass

    def logged(self, step: int, trace: Tensor) -> None:
        self.write(step, self.averages(step, trace))

    def averages(self, step: int, trace: Tensor) -> list[dict[str, Any]]:
        """The metrics of each point's row; at the end of an epoch they include those of the validation split."""
        sizes = [self.schedule.batch_size(s) for s in range(step - len(trace), step)]
        rows = of_training(trace, sizes)
        if self.schedule.ends_epoch(step):
            self._add_validation(rows, step)
        if not is_density(self.pack.vae.likelihood):
            for row, split in itertools.product(rows, ("train", "val")):
                if f"{split}/elbo" in row:
                    row[f"{split}/bits_per_dim"] = bits_per_dim(row[f"{split}/elbo"], prod(self.dataset.image_shape))
        return rows

    def write(self, step: int, averages: Sequence[dict[str, Any]]) -> Progress:
        """Write the rows after `step` steps, and return the pack's progress."""
        pack, schedule = self.pack, self.schedule
        num_images = sum(schedule.batch_size(s) for s in range(self._last_step, step))
        now = time.monotonic()
        speed = num_images * len(pack.runs) / (now - self._last_time)
        position = {"step": step, "num_steps": schedule.num_steps, "epoch": step / schedule.steps_per_epoch}
        betas = self.weights.beta_nats_at(step - 1)
        rates = schedule.learning_rates(pack.points, step - 1)
        for k in pack.living:
            settings = {"lr": rates[k], **({} if betas[k] is None else {"beta_nats": betas[k]})}
            time_s = pack.time_s(k)
            cost = {"time_s": time_s, **pack.device_time(time_s), "images_per_s": speed}
            pack.append_row(k, position | averages[k] | settings | cost)
        self._last_step, self._last_time = step, time.monotonic()
        return Progress(step, schedule.num_steps, [averages[k]["train/elbo"] for k in pack.living], speed)

    def _add_validation(self, rows: Sequence[dict[str, Any]], step: int) -> None:
        """Add the validation split's terms after `step` steps, and the loss with the weights of the last step.

        `val/kl_per_latent` divides `val/kl` among the point's latents, without the pack's padding, in nats.
        """
        pack, weights, seed, batch_size = self.pack, self.weights, self.evaluation.seed, self.evaluation.batch_size
        val = evaluate_split(pack.vae, self.dataset, "val", seed=seed, batch_size=batch_size, dtype=pack.dtype)
        log_px, kl = (mean.unsqueeze(1).to(pack.device, pack.dtype) for mean in (val.log_px, val.kl))
        # The loss of the means, which is the mean of the loss where it is linear in the terms.
        per_latent = val.kl_per_latent.unsqueeze(1).to(pack.device, pack.dtype)
        loss = weights.loss(Terms(log_px, kl, per_latent), step - 1)
        if weights.sums_over_batch:
            loss = loss * self.schedule.point.batch_size
        columns = (val.elbo, val.log_px, val.kl, loss, val.kl_per_latent)
        values = zip(*(column.tolist() for column in columns), strict=True)
        for row, point, (elbo, log_px, kl, mean_loss, kl_per_latent) in zip(rows, pack.points, values, strict=True):
            row |= {
                "val/elbo": elbo,
                "val/log_px": log_px,
                "val/kl": kl,
                "val/loss": mean_loss,
                "val/kl_per_latent": [round(nats, _KL_DECIMALS) for nats in kl_per_latent[: point.latent]],
            }


def of_training(trace: Tensor, batch_sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Averages per image over the trace [n,3,K], one row per point; batches are weighted by their number of images."""
    sizes = torch.tensor(batch_sizes, dtype=torch.float64)
    log_px, kl = (trace[:, :2].double().sum(0) / sizes.sum()).tolist()
    loss = (trace[:, 2].double() * (sizes / sizes.sum()).unsqueeze(1)).sum(0).tolist()
    return [
        {
            "train/elbo": log_px[k] - kl[k],
            "train/log_px": log_px[k],
            "train/kl": kl[k],
            "train/loss": loss[k],
        }
        for k in range(trace.shape[-1])
    ]
