"""What happens at which step: the length of training, the learning rate, rows and pictures."""

from vae_sweeps.config.schema import Point


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
