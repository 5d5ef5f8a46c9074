"""The only training loop: a pack in, finished points out."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from vae_sweeps.config.schema import Point
from vae_sweeps.data.batches import Batches
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.precision import DTYPES, computing
from vae_sweeps.models.vae import VAE, elbo_terms
from vae_sweeps.runs import run_folder
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.system import distributed
from vae_sweeps.training import objective, rows
from vae_sweeps.training.noise import PosteriorNoise
from vae_sweeps.training.pack import Outcome, clip_gradients, start_pack
from vae_sweeps.training.progress import Progress
from vae_sweeps.training.schedule import is_to_be_drawn, is_to_be_logged, learning_rate, num_steps


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
    pack = start_pack(vae, points, folders, starts, device)
    parameters = list(vae.parameters())
    step, last_step = starts[0].step, num_steps(first, batches.steps_per_epoch)
    ones = torch.ones(num_models, device=device, dtype=dtype)  # the models' losses are independent
    images_logged, logged_at, saved_at = 0, time.monotonic(), time.monotonic()
    is_stopped, agree = False, distributed.Agreement()
    saved(step)

    vae.train()
    while step < last_step and pack.living and not is_stopped:
        epoch = step // batches.steps_per_epoch
        for group in pack.optimiser.param_groups:
            group["lr"] = learning_rate(first, epoch)

        x = batches(step)
        num_images, own = len(x), distributed.share(len(x))
        with computing(first.precision, device):
            terms = elbo_terms(vae, x[own], noise(step)[:, :num_images][:, own])
            loss = weights.loss(terms, step, num_images)
            pack.optimiser.zero_grad()
            loss.backward(ones)
        distributed.add_gradients(parameters)
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
            if is_epoch_end and distributed.is_main():
                rows.add_validation(averages, vae, points, dataset, weights, step)
            if is_to_be_drawn(first, step, batches.steps_per_epoch) and step < last_step:
                for k in pack.living:
                    draw(k, step // batches.steps_per_epoch)
            betas = weights.beta_nats_at(step - 1)
            for k in pack.living:
                position = {"step": step, "num_steps": last_step, "epoch": step / batches.steps_per_epoch}
                schedules = {"lr": learning_rate(first, epoch), "beta_nats": betas[k]}
                cost = {"time_s": pack.time_s(k), "images_per_s": speed}
                if distributed.is_main():
                    run_folder.append_row(folders[k], position | averages[k] | schedules | cost)
            report(Progress(step, last_step, [averages[k]["train/elbo"] for k in pack.living], speed))
            pack.trace, images_logged, logged_at = [], 0, time.monotonic()

        is_time = distributed.is_main() and time.monotonic() - saved_at >= checkpoint_every_s
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
