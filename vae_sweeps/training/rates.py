"""The learning rate of each step."""

import math

from vae_sweeps.config.schema import Optim


def learning_rate(optim: Optim, step: int, steps_per_epoch: int, num_steps: int) -> float:
    """The learning rate of `step` (from 0), which is optim.lr times a warm-up and a decay.

    The warm-up is min(1, (step + 1) / W) for W steps, with W = lr_warmup_epochs epochs. The decay at time t of T is

        constant     1
        exponential  lr_decay_per_epoch^(t in epochs)
        cosine       end + (1 - end) (1 + cos(pi t / T)) / 2, with end = lr_end (Loshchilov & Hutter 2017, eq. 5)

    where t changes once per epoch, or with every step if optim.lr_changes is `step`.
    """
    warmup_steps = round(optim.lr_warmup_epochs * steps_per_epoch)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    time = step if optim.lr_changes == "step" else step // steps_per_epoch * steps_per_epoch
    if optim.lr_schedule == "cosine":
        decay = optim.lr_end + (1 - optim.lr_end) * (1 + math.cos(math.pi * time / num_steps)) / 2
    elif optim.lr_changes == "step":
        decay = optim.lr_decay_per_epoch ** (time / steps_per_epoch)
    else:
        decay = optim.lr_decay_per_epoch ** (step // steps_per_epoch)
    return optim.lr * decay if warmup == 1.0 else optim.lr * decay * warmup
