"""The only training loop: a pack in, finished points out."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_sweeps import checkpoint, objective, parallel, rows, store
from vae_sweeps.checkpoint import Checkpoint
from vae_sweeps.data.dataset import Batches, Dataset
from vae_sweeps.layers import slots
from vae_sweeps.noise import PosteriorNoise
from vae_sweeps.schema import Point
from vae_sweeps.vae import VAE, put_point, take_point

# What weights, moments and the loss are kept in; tf32 and bf16 are how products are computed.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Progress:
    """How far a pack is: `elbo` holds the living points' training ELBOs (nats per image) since the last row."""

    step: int
    num_steps: int
    elbo: list[float]
    images_per_s: float


@dataclass(frozen=True)
class Outcome:
    """What became of a point: done, diverged (at `step`) or preempted (saved at `step`)."""

    status: str
    step: int
    time_s: float


def num_steps(point: Point, steps_per_epoch: int) -> int:
    """The length of a point's training in optimiser steps."""
    if point.steps is not None:
        return point.steps
    assert point.epochs is not None
    return point.epochs * steps_per_epoch


def learning_rate(point: Point, epoch: int) -> float:
    """The step size in `epoch` (from 0): exponential decay once per epoch."""
    return point.optim.lr * point.optim.lr_decay_per_epoch**epoch


def is_to_be_drawn(point: Point, step: int, steps_per_epoch: int) -> bool:
    """Whether `step` steps are a number of whole epochs after which the point wants pictures."""
    epoch, rest = divmod(step, steps_per_epoch)
    every = point.pictures_every_epochs
    return rest == 0 and ((every is not None and epoch % every == 0) or epoch in point.pictures_at_epochs)


def is_to_be_logged(point: Point, step: int) -> bool:
    """Whether the point wants a row after `step` steps, beside those at the ends of epochs."""
    if point.log_steps == "powers_of_two":
        return step & (step - 1) == 0
    return step % point.log_every_steps == 0


@contextlib.contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """How products are computed in here: tf32 rounds their factors to 10 bits on an NVIDIA GPU, bf16 to 7 anywhere."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


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
class _Pack:
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
        trace = parallel.total(torch.stack(self.trace)).cpu()
        is_bad = ~trace.isfinite().all(1)
        for k in self.living:
            if is_bad[:, k].any():
                self.diverged_at[k] = step - len(trace) + int(is_bad[:, k].int().argmax()) + 1
        return trace

    def save(self, step: int) -> None:
        """Checkpoint every point that is alive; the main process writes."""
        trace = self.recent(step) if self.trace else torch.empty(0, 3, len(self.points))
        if not parallel.is_main():
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


def _start(
    vae: VAE,
    points: Sequence[Point],
    folders: Sequence[Path],
    starts: Sequence[Checkpoint],
    device: torch.device,
) -> _Pack:
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
    pack = _Pack(vae, points, folders, optimiser, starts)
    trace = torch.stack([start.trace for start in starts], dim=-1).to(device)
    pack.trace = list(trace if parallel.is_main() else torch.zeros_like(trace))  # each rank has its share of a sum
    return pack


def train(
    vae: VAE,
    points: Sequence[Point],
    folders: Sequence[Path],
    dataset: Dataset,
    starts: Sequence[Checkpoint],
    *,
    device: torch.device,
    checkpoint_every_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[Progress], None] = lambda progress: None,
    saved: Callable[[int], None] = lambda step: None,
    draw: Callable[[int, int], None] = lambda k, epoch: None,
) -> list[Outcome]:
    """Train `points` together from `starts`, which stand at the same step, and log and checkpoint into `folders`.

    Ends after the last step, or, with everything saved, after the step during which `should_stop` became true.
    `vae` is left with the trained weights of all points.

    `saved(step)` is called before the first step, with the step of `starts`, and whenever all living points have been
    checkpointed at `step`: rows up to there are never dropped and logged again, unless a checkpoint is damaged.
    `draw(k, epoch)` is called for each living point k at the ends of the epochs (from 1) for which `is_to_be_drawn`,
    but not at the last step, and before the row of that step is written. It must leave `vae` as it is.
    """
    first, num_models = points[0], len(points)
    dtype = DTYPES[first.precision]
    batches = Batches(dataset, first.batch_size, dtype)
    noise = PosteriorNoise([p.seed for p in points], [p.latent for p in points], first.batch_size, device, dtype)
    weights = objective.weights(points, dataset.image_shape, batches.steps_per_epoch, device, dtype)
    pack = _start(vae, points, folders, starts, device)
    parameters = list(vae.parameters())
    step, last_step = starts[0].step, num_steps(first, batches.steps_per_epoch)
    ones = torch.ones(num_models, device=device, dtype=dtype)  # the models' losses are independent
    images_logged, logged_at, saved_at = 0, time.monotonic(), time.monotonic()
    is_stopped, agree = False, parallel.Agreement()
    saved(step)

    vae.train()
    while step < last_step and pack.living and not is_stopped:
        epoch = step // batches.steps_per_epoch
        for group in pack.optimiser.param_groups:
            group["lr"] = learning_rate(first, epoch)

        x = batches(step)
        num_images, own = len(x), parallel.share(len(x))
        with computing(first.precision, device):
            terms = objective.elbo_terms(vae, x[own], noise(step)[:, :num_images][:, own])
            loss = weights.loss(terms, step, num_images)
            pack.optimiser.zero_grad()
            loss.backward(ones)
        parallel.add_gradients(parameters)
        if first.optim.clip_norm is not None:
            clip_gradients(parameters, num_models, first.optim.clip_norm)
        pack.optimiser.step()

        with torch.no_grad():
            pack.trace.append(torch.stack((terms.log_px.sum(1), terms.kl.sum(1), loss)))
        step += 1
        images_logged += num_images

        is_epoch_end = step % batches.steps_per_epoch == 0 or step == last_step
        if is_epoch_end or is_to_be_logged(first, step):
            trace = pack.recent(step)
            sizes = [batches.size(s) for s in range(step - len(trace), step)]
            averages = rows.of_training(trace, sizes, dataset.image_shape)
            speed = images_logged * num_models / (time.monotonic() - logged_at)
            if is_epoch_end and parallel.is_main():
                rows.add_validation(averages, vae, points, dataset, weights, step)
            if is_to_be_drawn(first, step, batches.steps_per_epoch) and step < last_step:
                for k in pack.living:
                    draw(k, step // batches.steps_per_epoch)
            betas = weights.beta_nats_at(step - 1)
            for k in pack.living:
                position = {"step": step, "num_steps": last_step, "epoch": step / batches.steps_per_epoch}
                schedules = {"lr": learning_rate(first, epoch), "beta_nats": betas[k]}
                cost = {"time_s": pack.time_s(k), "images_per_s": speed}
                if parallel.is_main():
                    store.append_row(folders[k], position | averages[k] | schedules | cost)
            report(Progress(step, last_step, [averages[k]["train/elbo"] for k in pack.living], speed))
            pack.trace, images_logged, logged_at = [], 0, time.monotonic()

        is_time = parallel.is_main() and time.monotonic() - saved_at >= checkpoint_every_s
        is_stopped, is_to_be_saved = agree(should_stop(), is_time)
        if step == last_step or is_stopped or is_to_be_saved:
            pack.save(step)
            saved(step)
            saved_at = time.monotonic()

    agree.settle()
    ended = "done" if step == last_step else "preempted"
    return [
        Outcome("diverged", pack.diverged_at[k], pack.time_s(k))
        if k in pack.diverged_at
        else Outcome(ended, step, pack.time_s(k))
        for k in range(num_models)
    ]
