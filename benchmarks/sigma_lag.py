"""How much the running sigma of `likelihood.sigma=optimal` costs against the best one for the training split.

    python -m benchmarks.sigma_lag

Trains one network for 30 to 2,000 steps, and prints for each length the difference in the test images' log p(x|z), in
nats per image, between sigma from the mean squared error of all training images and the sigma that evaluations use.
"""

import math
import tempfile
from pathlib import Path

import torch

from vae_sweeps.config.compose import compose_command
from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.data.load import load_dataset
from vae_sweeps.likelihoods import Gaussian
from vae_sweeps.models.vae import VAE
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.loop import NoObserver, TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start


def train_alone(steps: int) -> tuple[VAE, float, float]:
    """Train for so many steps; returns the model and its mean squared error per pixel on train and test images."""
    point, _ = compose_command(
        [*["likelihood=gaussian", "likelihood.sigma=optimal", "tracker=none", "batch_size=100"], f"steps={steps}"]
    )
    dataset = load_dataset(point.data)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(point, RunFolder(Path(folder)), new_start(point, dataset.image_shape), None)
        pack = Pack([run], dataset.image_shape, torch.device("cpu"))
        train(pack, dataset, TrainOptions(), NoObserver())
    pack.vae.eval()
    return pack.vae, _squared_error(pack.vae, dataset, "train"), _squared_error(pack.vae, dataset, "test")


@torch.inference_mode()
def _squared_error(vae: VAE, dataset: Dataset, split: str) -> float:
    x = to_model(dataset, for_evaluation(dataset, split), torch.float32)
    q = vae.encode(x)
    eps = torch.randn(q.mu.shape, generator=torch.Generator().manual_seed(0))
    return (vae.decode(q.rsample(eps)) - x.flatten(1)).square().mean().item()


def log_px(variance: float, squared_error: float, num_pixels: int = 784) -> float:
    return -num_pixels / 2 * (math.log(2 * math.pi * variance) + squared_error / variance)


def main() -> None:
    print("steps  lag, nats per image")
    for steps in (30, 100, 300, 2000):
        vae, on_train, on_test = train_alone(steps)
        assert isinstance(vae.likelihood, Gaussian)
        variance = vae.likelihood.sigma.square().item()
        print(f"{steps:5}  {log_px(on_train, on_test) - log_px(variance, on_test):.2f}", flush=True)


if __name__ == "__main__":
    main()
