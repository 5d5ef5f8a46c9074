"""A pack in training: the weights and the optimiser's moments of K points, copied in and out."""

import contextlib
import logging
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.config.schema import Point
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.copies import Copies
from vae_sweeps.models.layers import BatchNorm2d
from vae_sweeps.models.precision import DTYPES
from vae_sweeps.models.stacking import put_point, slots, take_point
from vae_sweeps.models.vae import initialise
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.row_log import Extent
from vae_sweeps.runs.run import Run
from vae_sweeps.system import distributed, machine
from vae_sweeps.system.lease import LostLeaseError
from vae_sweeps.system.rng import generator
from vae_sweeps.training.optimisers import new_optimiser, zero_moments

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a point's training ended: done, diverged (at `step`), stopped or preempted (saved at `step`), or absent.

    `time_s` is its share of the time that the pack took for `pack_step` steps, of which a diverged point used fewer.
    """

    status: str
    step: int
    time_s: float
    pack_step: int


class Pack:
    """A pack in training: the stacked VAE and its optimiser, and each run's part of them.

    The runs must start at the same step. Those in `absent` only fill their places: they are computed, so that the
    kernels, and therefore the numbers of the other runs, do not change. Nothing of them is written.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        image_shape: tuple[int, int, int],
        device: torch.device,
        absent: Collection[int] = (),
    ) -> None:
        self.runs, self.device, self.absent = list(runs), device, set(absent)
        self.vae = build_vae(self.points, image_shape).to(device, self.dtype)
        self.optimiser = new_optimiser(self.vae, [point.optim for point in self.points], self.step)
        norms = [point.optim.clip_norm for point in self.points]
        self._max_norms = None
        if any(norm is not None for norm in norms):
            finite = [math.inf if norm is None else norm for norm in norms]
            self._max_norms = torch.tensor(finite, device=device, dtype=self.dtype)
        self.began_at = time.monotonic()
        # [3,K] for each step since the last row; see Checkpoint. Each rank holds its part of the sums.
        trace = torch.stack([run.start.trace for run in runs], dim=-1).to(device)
        self.trace = list(trace if distributed.is_main() else torch.zeros_like(trace))
        self.diverged_at: dict[int, int] = {}
        norms = (module for module in self.vae.modules() if isinstance(module, BatchNorm2d))
        self._tower_norms = [norm for norm in norms if norm.towers > 1]
        self._copies = [module for module in self.vae.modules() if isinstance(module, Copies)]
        self._seeds = [point.seed for point in self.points]
        state = self.vae.state_dict()
        for k, run in enumerate(runs):
            put_point(state, k, len(runs), run.start.model)
            self.optimiser.load(k, run.start.moments)

    @property
    def points(self) -> list[Point]:
        return [run.point for run in self.runs]

    @property
    def dtype(self) -> torch.dtype:
        """The data type of weights, moments and the loss."""
        return DTYPES[self.points[0].precision]

    @property
    def step(self) -> int:
        """The step that training starts from."""
        return self.runs[0].start.step

    @property
    def living(self) -> list[int]:
        """The points that have not diverged and are not absent."""
        return [k for k in range(len(self.runs)) if k not in self.diverged_at and k not in self.absent]

    @property
    def has_own_parts(self) -> bool:
        """Whether networks or likelihoods are modules of one model, which the user wrote."""
        return bool(self._copies)

    def time_s(self, k: int) -> float:
        """Point k's share of the pack's wall-clock time; the shares of a sweep's points add up to its cost."""
        return self.runs[k].start.time_s + (time.monotonic() - self.began_at) / len(self.runs)

    def device_time(self, time_s: float) -> dict[str, float]:
        """What `time_s` seconds cost on this pack's devices: {"gpu_s": ...}, or {"core_s": ...} on CPUs."""
        occupied = machine.occupied(self.device)
        return {f"{occupied.kind}_s": occupied.count * time_s}

    def model_state(self, k: int) -> dict[str, Tensor]:
        """Copy point k's tensors to the CPU, shaped as those of a VAE of one model."""
        return take_point(self.vae.state_dict(), k, len(self.runs), self.runs[k].start.model)

    def begin_step(self, step: int, num_images: int) -> None:
        """Set the step (from 0) that is computed next, and how many images its batch has over all ranks."""
        for norm in self._tower_norms:
            norm.batch_size = num_images
        for copies in self._copies:
            copies.begin_step(self._seeds, step)

    def clip_gradients(self) -> None:
        """Clip the gradients of those points that ask for it."""
        if self._max_norms is not None:
            clip_gradients(list(self.vae.parameters()), self._max_norms)

    def append_row(self, k: int, row: Mapping[str, Any]) -> None:
        """Write a row of point k."""
        rows = self.runs[k].rows
        assert rows is not None
        with self._absent_if_lost(k):
            rows.append(row)

    @contextlib.contextmanager
    def _absent_if_lost(self, k: int) -> Iterator[None]:
        """If another process has taken over the run of point k, leave it to that process."""
        try:
            yield
        except LostLeaseError as error:
            if distributed.num_ranks() > 1:  # the other ranks do not know
                raise
            self.absent.add(k)
            log.warning("%s; this process goes on without it", error)

    def take_trace(self, step: int) -> Tensor:
        """Return the trace [n,3,K] since the last row, summed over the ranks, and start a new one after `step`."""
        trace, self.trace = self._whole_trace(step), []
        return trace

    def _whole_trace(self, step: int) -> Tensor:
        """The trace up to `step`, summed over the ranks, on the CPU; also marks the points that have diverged."""
        trace = distributed.total(torch.stack(self.trace)).cpu()
        is_bad = ~trace.isfinite().all(1)
        for k in self.living:
            if is_bad[:, k].any():
                self.diverged_at[k] = step - len(trace) + int(is_bad[:, k].int().argmax()) + 1
        return trace

    def save(self, step: int) -> None:
        """Write a checkpoint of every living point. All ranks must call this; the main one writes."""
        trace = self._whole_trace(step) if self.trace else torch.empty(0, 3, len(self.runs))
        if not distributed.is_main():
            return
        for k in self.living:
            fresh = self.checkpoint(k, step, trace)
            with self._absent_if_lost(k):
                checkpoint.save(self.runs[k].folder, fresh)

    def checkpoint(self, k: int, step: int, trace: Tensor) -> Checkpoint:
        """Copy all that point k needs to resume after `step`; `trace` [n,3,K] has the steps since the last row."""
        start, rows = self.runs[k].start, self.runs[k].rows
        return Checkpoint(
            step=step,
            model=self.model_state(k),
            moments=self.optimiser.of_point(k, start.model),
            trace=trace[:, :, k].clone(),
            time_s=self.time_s(k),
            image_shape=start.image_shape,
            rows=rows.extent() if rows else Extent(),
        )

    def outcomes(self, step: int, num_steps: int, ended: str) -> list[Outcome]:
        """How each point's training ended, after `step` of `num_steps` steps; `ended` is that of an earlier end."""
        if step == num_steps:
            ended = "done"
        outcomes = []
        for k in range(len(self.runs)):
            if k in self.absent:
                outcomes.append(Outcome("absent", step, self.time_s(k), step))
            elif k in self.diverged_at:
                outcomes.append(Outcome("diverged", self.diverged_at[k], self.time_s(k), step))
            else:
                outcomes.append(Outcome(ended, step, self.time_s(k), step))
        return outcomes


def clip_gradients(parameters: Sequence[Tensor], max_norms: Float[Tensor, " K"]) -> None:
    """Scale each model's gradient, over its own parameters only, to an L2 norm of at most its own; inf: any norm."""
    grads = [slots(p.grad, len(max_norms)).flatten(1) for p in parameters if p.grad is not None]
    norm = torch.stack([g.square().sum(1) for g in grads]).sum(0).sqrt()
    factor = (max_norms / (norm + 1e-12)).clamp(max=1.0)
    factor = factor.masked_fill(max_norms.isinf(), 1.0).unsqueeze(1)
    for g in grads:
        g.mul_(factor)


def new_start(point: Point, image_shape: tuple[int, int, int]) -> Checkpoint:
    """The checkpoint of step 0: weights drawn from the point's seed, and the optimiser's moments zero."""
    vae = build_vae([point], image_shape)
    initialise(vae, generator("weights", point.seed))
    moments = zero_moments(point.optim, dict(vae.named_parameters()))
    return Checkpoint(0, dict(vae.state_dict()), moments, torch.empty(0, 3), 0.0, image_shape)
