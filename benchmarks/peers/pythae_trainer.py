"""pythae: its VAE and the step of its trainer, with the same network. Only one model at a time."""

import itertools
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as launch.py does, for all contestants

import numpy as np
import torch
from pythae.data.datasets import BaseDataset  # pyright: ignore[reportMissingImports]
from pythae.models import VAE, VAEConfig  # pyright: ignore[reportMissingImports]
from pythae.models.base.base_utils import ModelOutput  # pyright: ignore[reportMissingImports]
from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore[reportMissingImports]
from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore[reportMissingImports]
from pythae.trainers.training_callbacks import TrainingCallback  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from benchmarks.peers.serving import serve
from benchmarks.peers.torch_loops import count, layer


class Encoder(BaseEncoder):
    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        self.net = nn.Sequential(*(layer(*entry) for entry in case["encoder"]))
        self.mean, self.logvar = (nn.Linear(case["features"], case["latent"]) for _ in range(2))

    def forward(self, x: Tensor) -> ModelOutput:
        features = self.net(x)
        return ModelOutput(embedding=self.mean(features), log_covariance=self.logvar(features))


class Decoder(BaseDecoder):
    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        last = [nn.Sigmoid()] if case["likelihood"] == "bernoulli" else []
        self.net, self.shape = nn.Sequential(*(layer(*entry) for entry in case["decoder"]), *last), case["shape"]

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z).reshape(-1, *self.shape))


class Marks(TrainingCallback):
    """The times after steps."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: Any) -> None:
        self.times.append(time.perf_counter())


class Trainer:
    """pythae's trainer, an epoch at a time."""

    def __init__(self, case: dict[str, Any], images: np.ndarray) -> None:
        logging.disable(logging.CRITICAL)
        loss = "bce" if case["likelihood"] == "bernoulli" else "mse"
        size = case["batch_size"]
        config = VAEConfig(input_dim=tuple(case["shape"]), latent_dim=case["latent"], reconstruction_loss=loss)
        model = VAE(config, Encoder(case), Decoder(case))
        low, high = case["pixel_range"]
        x = torch.from_numpy(images).float() * ((high - low) / 255) + low
        folder = tempfile.mkdtemp(dir=Path(case["images"]).parent)  # which the asker removes
        settings = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, per_device_train_batch_size=size, learning_rate=case["lr"], no_cuda=True
        )
        self._marks = Marks()
        dataset = BaseDataset(x, torch.zeros(len(x)))
        self._trainer = BaseTrainer(model, dataset, None, settings, callbacks=[self._marks])
        self._trainer.prepare_training()
        self.num_params, self._steps = count(model), len(images) // size

    def learn(self, num_steps: int) -> Sequence[float]:
        """The loss of each epoch is that of all of its steps."""
        losses = [self._trainer.train_step(epoch) for epoch in range(1, num_steps // self._steps + 1)]
        return [loss for loss in losses for _ in range(self._steps)]

    def turn(self, seconds: float) -> Sequence[float]:
        times, end = list[float](), time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._marks.times.clear()
            self._trainer.train_step(1)
            times += [b - a for a, b in itertools.pairwise(self._marks.times)]
        return times

    def run(self, num_steps: int) -> float:
        raise NotImplementedError("pythae is only measured on CPUs, step by step")


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Trainer:
    assert k == 1, "one model"
    torch.manual_seed(0)
    return Trainer(case, images)


if __name__ == "__main__":
    serve(make)
