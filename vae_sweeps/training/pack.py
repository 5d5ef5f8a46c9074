"""A pack in training: K points' weights and Adam's moments, put in and taken out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vae_sweeps.config.schema import Point
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.precision import DTYPES
from vae_sweeps.models.stacking import put_point, slots, take_point
from vae_sweeps.models.vae import VAE, initialise
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.system import distributed
from vae_sweeps.system.rng import generator


@dataclass(frozen=True)
class Outcome:
    """What became of a point: done, diverged (at `step`) or preempted (saved at `step`)."""

    status: str
    step: int
    time_s: float


def clip_gradients(parameters: Sequence[Tensor], num_models: int, max_norm: float) -> None:
    """Scale each model's gradient, over all its parameters, to at most `max_norm` in L2: never over the pack."""
    grads = [slots(p.grad, num_models).flatten(1) for p in parameters if p.grad is not None]
    norm = torch.stack([g.square().sum(1) for g in grads]).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-12)).clamp(max=1.0).unsqueeze(1)
    for g in grads:
        g.mul_(factor)


def _moment(vae: VAE, optimiser: torch.optim.Adam, moment: str) -> dict[str, Tensor]:
    """Adam's `exp_avg` or `exp_avg_sq`, named as the parameters are; the tensors themselves, not copies."""
    return {name: optimiser.state[parameter][moment] for name, parameter in vae.named_parameters()}


@dataclass
class Pack:
    """A pack in training: the stacked model and optimiser, and what each point owns of them."""

    vae: VAE
    points: Sequence[Point]
    folders: Sequence[Path]
    optimiser: torch.optim.Adam
    starts: Sequence[Checkpoint]
    began_at: float = field(default_factory=time.monotonic)
    trace: list[Tensor] = field(default_factory=list)  # [3,K] a step since the last row; see Checkpoint
    diverged_at: dict[int, int] = field(default_factory=dict)

    @property
    def living(self) -> list[int]:
        return [k for k in range(len(self.points)) if k not in self.diverged_at]

    def time_s(self, k: int) -> float:
        """Point k's share of the pack's wall-clock time: shares of a sweep add up to its cost."""
        return self.starts[k].time_s + (time.monotonic() - self.began_at) / len(self.points)

    def recent(self, step: int) -> Tensor:
        """The trace [n,3,K] of all ranks on the CPU up to `step`; marks the points that it shows to have diverged."""
        trace = distributed.total(torch.stack(self.trace)).cpu()
        is_bad = ~trace.isfinite().all(1)
        for k in self.living:
            if is_bad[:, k].any():
                self.diverged_at[k] = step - len(trace) + int(is_bad[:, k].int().argmax()) + 1
        return trace

    def save(self, step: int) -> None:
        """Checkpoint every point that is alive; the main process writes."""
        trace = self.recent(step) if self.trace else torch.empty(0, 3, len(self.points))
        if not distributed.is_main():
            return
        model = dict(self.vae.state_dict())
        exp_avg, exp_avg_sq = (_moment(self.vae, self.optimiser, name) for name in ("exp_avg", "exp_avg_sq"))
        for k in self.living:
            start, num_models = self.starts[k], len(self.points)
            fresh = Checkpoint(
                step=step,
                model=take_point(model, k, num_models, start.model),
                exp_avg=take_point(exp_avg, k, num_models, start.exp_avg),
                exp_avg_sq=take_point(exp_avg_sq, k, num_models, start.exp_avg_sq),
                trace=trace[:, :, k].clone(),
                time_s=self.time_s(k),
                image_shape=start.image_shape,
            )
            checkpoint.save(self.folders[k], fresh)


def start_pack(
    vae: VAE,
    points: Sequence[Point],
    folders: Sequence[Path],
    starts: Sequence[Checkpoint],
    device: torch.device,
) -> Pack:
    """Put the points' tensors into the pack, and Adam's moments beside them."""
    num_models = len(points)
    vae.to(device, DTYPES[points[0].precision])
    state = vae.state_dict()
    optim = points[0].optim
    optimiser = torch.optim.Adam(
        vae.parameters(),
        lr=optim.lr,
        betas=(optim.betas[0], optim.betas[1]),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        fused=True,
    )
    for parameter in vae.parameters():
        optimiser.state[parameter] = {
            "step": torch.tensor(float(starts[0].step), device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    exp_avg, exp_avg_sq = (_moment(vae, optimiser, name) for name in ("exp_avg", "exp_avg_sq"))
    for k, start in enumerate(starts):
        put_point(state, k, num_models, start.model)
        put_point(exp_avg, k, num_models, start.exp_avg)
        put_point(exp_avg_sq, k, num_models, start.exp_avg_sq)
    pack = Pack(vae, points, folders, optimiser, starts)
    trace = torch.stack([start.trace for start in starts], dim=-1).to(device)
    pack.trace = list(trace if distributed.is_main() else torch.zeros_like(trace))  # each rank has its share of a sum
    return pack


def new_start(point: Point, image_shape: tuple[int, int, int]) -> Checkpoint:
    """Step 0: weights drawn from the point's own seed, Adam's moments zero."""
    alone = build_vae([point], image_shape)
    initialise(alone, generator("weights", point.seed))
    zeros = {name: torch.zeros_like(parameter.detach()) for name, parameter in alone.named_parameters()}
    return Checkpoint(0, dict(alone.state_dict()), zeros, zeros, torch.empty(0, 3), 0.0, image_shape)
