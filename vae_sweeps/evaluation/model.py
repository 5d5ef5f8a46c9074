"""Loads a run as a model for notebooks."""

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vae_sweeps.config.schema import Point
from vae_sweeps.config.trust import allowed, allowing, check_points, targets_of_points
from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.batching import images_at_once
from vae_sweeps.evaluation.metrics.latent import fit_mixture, sample_mixture
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.precision import DTYPES, computing
from vae_sweeps.models.vae import VAE, elbo_terms
from vae_sweeps.runs import checkpoint, own_source
from vae_sweeps.runs.finding import find_run
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.system.files import DamagedError
from vae_sweeps.system.rng import generator

_NUM_FIT_IMAGES = 10_000


@dataclass(frozen=True)
class Model:
    """One trained point. Images are [B,C,H,W] on the model's scale (`pixel_range`), latents [B,L].

    Inputs may be on any device: they are moved to the model's `device`, where the outputs are. A model can be pickled;
    in the process that reads it, it is on the CPU, and the modules of the user's own parts must be importable there.
    """

    point: Point
    vae: VAE
    image_shape: tuple[int, int, int]
    # What may be called to load the data; see `config.trust`.
    allowed: frozenset[str] = frozenset()

    @property
    def latent(self) -> int:
        return self.point.latent

    @property
    def pixel_range(self) -> tuple[float, float]:
        low, high = self.point.data.get("pixel_range", (0.0, 1.0))
        return float(low), float(high)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.point.precision]

    @property
    def device(self) -> torch.device:
        return self.vae.heads.weight.device

    def to(self, device: torch.device | str) -> "Model":
        """A model with the same weights on `device`; this one stays where it is."""
        return replace(self, vae=copy.deepcopy(self.vae).to(device))

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: tensor.detach().cpu() for name, tensor in self.vae.state_dict().items()}
        return _from_pickle, (self.point, state, self.image_shape, self.allowed)

    @torch.inference_mode()
    def encode(self, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
        """Mean and standard deviation of q(z|x)."""
        with self._unrounded():
            q = self.vae.encode(x.to(self.device, self.dtype))
        return q.mu[0], q.sigma[0]

    @torch.inference_mode()
    def decode(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "B C H W"]:
        """The likelihood's mean."""
        mean = self.vae.likelihood.mean(self._params(z))  # type: ignore[operator]
        return mean[0].unflatten(-1, self.image_shape)

    @torch.inference_mode()
    def log_px(self, x: Float[Tensor, "B C H W"], z: Float[Tensor, "B L"]) -> Float[Tensor, " B"]:
        """log p(x|z) in nats with all constants."""
        x = x.to(self.device, self.dtype).flatten(1)
        return self.vae.likelihood.log_prob(self._params(z), x)[0]  # type: ignore[operator]

    @torch.inference_mode()
    def elbo(self, x: Float[Tensor, "B C H W"], seed: int = 0) -> Float[Tensor, " B"]:
        """ELBO in nats at beta = 1, at one posterior sample drawn from `seed`."""
        eps = self._normals(len(x), seed).to(self.device).unsqueeze(0)
        with self._unrounded():
            terms = elbo_terms(self.vae, x.to(self.device, self.dtype), eps)
        return (terms.log_px - terms.kl)[0]

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n C H W"]:
        """The likelihood's mean at `n` draws from the prior."""
        return self.decode(self._normals(n, seed))

    def sample_mixture(self, n: int, num_components: int = 10, seed: int = 0) -> Float[Tensor, "n C H W"]:
        """The likelihood's mean at `n` draws from a Gaussian mixture on the means of q(z|x) of the training images.

        The mixture is fitted as in evaluations, to at most 10,000 images (Ghosh et al. 2020, sec. 4).
        """
        blocks = self.images("train")[:_NUM_FIT_IMAGES].split(images_at_once(self.image_shape))
        mu = torch.cat([self.encode(x)[0] for x in blocks])
        mixture = fit_mixture(mu.cpu().double().numpy(), num_components, seed)
        return self.decode(torch.from_numpy(sample_mixture(mixture, n)))

    def images(self, split: str) -> Float[Tensor, "N C H W"]:
        """The images of train, val or test as evaluations use them, on the CPU.

        Raises ValueError if the data cannot be loaded.
        """
        dataset = self._dataset(split)
        return to_model(dataset, for_evaluation(dataset, split), self.dtype)

    def labels(self, split: str) -> Int[Tensor, " N"] | None:
        """The classes of `images(split)`, None if the data have none. Raises ValueError like `images`."""
        labels = self._dataset(split).labels
        return None if labels is None else labels[split]

    def _dataset(self, split: str) -> Dataset:
        with allowing(self.allowed):
            dataset = load_dataset(self.point.data)
        if split not in dataset.images:
            raise ValueError(f"split={split}: must be one of {', '.join(dataset.images)}")
        return dataset

    def _normals(self, n: int, seed: int) -> Float[Tensor, "n L"]:
        return torch.randn(n, self.latent, generator=generator("model", seed), dtype=self.dtype)

    def _params(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "1 B D"]:
        with self._unrounded():
            return self.vae.decode(z.to(self.device, self.dtype).unsqueeze(0))

    def _unrounded(self) -> contextlib.AbstractContextManager[None]:
        """By default PyTorch rounds the factors of convolutions on a GPU to TF32; evaluations do not, nor does this."""
        return computing("fp32", self.device)


def from_state(point: Point, state: Mapping[str, Any], image_shape: tuple[int, int, int]) -> Model:
    """A model from the state dict of one point."""
    vae = build_vae([point], image_shape).to(DTYPES[point.precision])
    vae.load_state_dict(state)
    return Model(point, vae.eval().requires_grad_(False), image_shape, allowed())


def _from_pickle(
    point: Point, state: Mapping[str, Any], image_shape: tuple[int, int, int], addresses: frozenset[str]
) -> Model:
    with allowing(addresses):
        return from_state(point, state, image_shape)


def load(
    run: str | Path, output_dir: str | Path = "outputs", *, device: torch.device | str = "cpu", trust: bool = False
) -> Model:
    """The model of a run's folder, or of a run's name in `output_dir`, with the weights of its newest whole checkpoint.

    The model is on `device`, such as "cuda:0", and so are its outputs.

    A run's config names the functions that build its networks. Only vae-sweeps' own and those that your conf/ names are
    called; `trust=True` calls whatever the config names, which may run any code. Raises ValueError if the run names
    something else, if there is no such run, or if it has no checkpoint.
    """
    folder = find_run(run, output_dir)
    with allowing(targets_of_points([folder.read_point()]) if trust else ()):
        model = load_run(folder)
    return model if model.device == torch.device(device) else model.to(device)


def load_run(folder: RunFolder) -> Model:
    """The model of a run's folder, as `load` gives it.

    Raises ValueError if the run has no checkpoint, if it is done and has none of its last step, or if the code of its
    own parts has changed.
    """
    point, result = folder.read_point(), folder.read_result()
    check_points([point])
    own_source.check(folder, point)
    checkpoints = checkpoint.available(folder)
    last = result["step"] if result is not None and result["status"] in ("done", STOPPED) else None
    if last is not None and not any(saved.step == last for saved in checkpoints[:1]):
        lost = f"it has no intact checkpoint of its last step, {last}"
        raise DamagedError(f"run={folder.path}: {lost}; `vae-sweeps doctor` says what to do")
    if not checkpoints:
        raise ValueError(f"run={folder.path}: it has no intact checkpoint; launch it first")
    return from_state(point, checkpoints[0].model, checkpoints[0].image_shape)
