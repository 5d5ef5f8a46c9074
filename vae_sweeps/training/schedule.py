"""The schedule of a training: its length, the learning rate, and the steps with rows or pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from vae_sweeps.config.schema import Optim, Point
from vae_sweeps.data.batches import steps_per_epoch
from vae_sweeps.training.rates import learning_rate


@dataclass(frozen=True)
class Schedule:
    """The schedule of a point's training, which all points of its pack share; `num_images` is the size of train."""

    point: Point
    num_images: int

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.num_images, self.point.batch_size)

    @property
    def num_steps(self) -> int:
        """The length of the training in optimiser steps."""
        if self.point.steps is not None:
            return self.point.steps
        assert self.point.epochs is not None
        return self.point.epochs * self.steps_per_epoch

    def batch_size(self, step: int) -> int:
        """The number of images in the batch of `step` (from 0): an epoch's last batch may be smaller."""
        return min(self.point.batch_size, self.num_images - step % self.steps_per_epoch * self.point.batch_size)

    def learning_rates(self, points: Sequence[Point], step: int) -> list[float]:
        """The learning rate of each point of the pack in `step` (from 0)."""
        return [self.learning_rate(point.optim, step) for point in points]

    def learning_rate(self, optim: Optim, step: int) -> float:
        return learning_rate(optim, step, self.steps_per_epoch, self.num_steps)

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch, or the whole training, ends after `step` steps."""
        return step % self.steps_per_epoch == 0 or step == self.num_steps

    def wants_row(self, step: int) -> bool:
        """Whether a row is written after `step` steps."""
        if self.point.log_steps == "powers_of_two":
            return self.ends_epoch(step) or step & (step - 1) == 0
        return self.ends_epoch(step) or step % self.point.log_every_steps == 0

    def wants_pictures(self, step: int) -> bool:
        """Whether pictures are drawn after `step` steps; the pictures at the end of training do not count."""
        epoch, rest = divmod(step, self.steps_per_epoch)
        every = self.point.pictures_every_epochs
        is_chosen = (every is not None and epoch % every == 0) or epoch in self.point.pictures_at_epochs
        return rest == 0 and is_chosen and step < self.num_steps
