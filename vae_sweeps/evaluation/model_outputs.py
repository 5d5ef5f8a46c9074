"""The model's side of an evaluation: codes, images and features, each computed once for all parts."""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.data.dataset import for_evaluation, in_unit_range, to_model
from vae_sweeps.evaluation.batching import IMAGES_PER_DRAW, images_at_once, in_double, joined
from vae_sweeps.evaluation.metrics import fidelity, latent
from vae_sweeps.evaluation.model import Model
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.system import machine
from vae_sweeps.system.rng import generator


class ModelOutputs:
    """One model under evaluation; outputs that several parts need are computed on first use."""

    def __init__(self, model: Model, reference: Reference) -> None:
        self.model, self.reference, self.how, self.dataset = model, reference, reference.how, reference.dataset
        self.device = reference.device
        self._features: dict[str, Tensor | str] = {}
        model.vae.to(self.device)

    def posterior(self, images: Tensor) -> tuple[Float[Tensor, "N L"], Float[Tensor, "N L"]]:
        """mu and sigma of stored images, float64 on the CPU."""
        found = []
        for batch in self._batches(images):
            mu, sigma = self.model.encode(to_model(self.dataset, batch, self.model.dtype).to(self.device))
            found.append((mu.cpu().double(), sigma.cpu().double()))
        mus, sigmas = zip(*found, strict=True)
        return torch.cat(mus), torch.cat(sigmas)

    def _batches(self, tensor: Tensor) -> list[Tensor]:
        """Split `tensor` [N,...] into batches; no batch spans two noise draws."""
        num_at_once = images_at_once(self.dataset.image_shape, self.how.batch_size)
        return [batch for block in tensor.split(IMAGES_PER_DRAW) for batch in block.split(num_at_once)]

    def normals(self, purpose: str, num: int) -> Float[Tensor, "N L"]:
        """Standard normals on the CPU, seeded by (evaluation seed, purpose, latent size)."""
        draw = generator("evaluation", self.how.seed, purpose, self.model.latent)
        return torch.randn(num, self.model.latent, generator=draw, dtype=torch.float64)

    @cached_property
    def test(self) -> tuple[Float[Tensor, "N L"], Float[Tensor, "N L"]]:
        """mu and sigma of the test split."""
        return self.posterior(for_evaluation(self.dataset, "test"))

    @cached_property
    def fit(self) -> tuple[Float[Tensor, "N L"], Float[Tensor, "N L"]]:
        """mu and sigma of the training images that mixtures and probes are fitted to."""
        return self.posterior(self.reference.fit_images)

    def means(self, z: Float[Tensor, "N L"]) -> Iterator[Float[Tensor, "B C H W"]]:
        """The likelihood's means in [0,1], batch by batch, on the device."""
        for batch in self._batches(z.to(self.device, self.model.dtype)):
            mean = self.model.decode(batch)
            mean = mean.where(mean.isfinite(), torch.nan)  # clipping would turn infinity into a white pixel
            yield in_unit_range(mean, self.model.pixel_range)

    def images(self, z: Float[Tensor, "N L"], purpose: str) -> Iterator[Float[Tensor, "B C H W"]]:
        """The images to compare with real ones: means, or bits drawn from them if the data are binarized.

        Raises ValueError if any is not finite.
        """
        num_bad, num_seen = 0, 0
        draw = None
        for mean in self.means(z):
            if num_seen % IMAGES_PER_DRAW == 0:
                draw = generator("evaluation", self.how.seed, purpose, "bits", num_seen // IMAGES_PER_DRAW)
            num_seen += len(mean)
            num_bad += int((~mean.flatten(1).isfinite().all(1)).sum())
            if num_bad:
                continue
            if self.dataset.binarize == "none":
                yield mean
            else:
                yield (torch.rand(mean.shape, generator=draw).to(mean.device) < mean).to(mean.dtype)
        if num_bad:
            raise ValueError(f"{num_bad} of {num_seen} images of {purpose} are not finite")

    def features(self, samples: str) -> Float[Tensor, "N d"]:
        """Features of N images of one kind. Raises ValueError with the reason if they cannot be computed."""
        if samples not in self._features:
            try:
                blocks = self.images(self._codes(samples), samples)
                features = (self.reference.features_of(block) for block in blocks)
                with machine.memory_kept(self.device, "evaluation"):
                    self._features[samples] = joined(features, self.reference.num_images)
            except ValueError as error:
                self._features[samples] = str(error)
        found = self._features[samples]
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _codes(self, samples: str) -> Float[Tensor, "N L"]:
        num = self.reference.num_images
        if samples == "prior":
            return self.normals("prior", num)
        if samples == "reconstruction":
            return self.test[0][:num]
        mixture = latent.fit_mixture(self.fit[0].numpy(), self.how.mixture_components, self.how.seed)
        return torch.from_numpy(latent.sample_mixture(mixture, num))

    @cached_property
    def reconstruction(self) -> dict[str, float]:
        """Means over test, at z = mu, of PSNR, SSIM (if images are large enough), |x - x_hat|^2 in pixels of [0,1]."""
        sums: dict[str, float] = {}
        real = self._batches(for_evaluation(self.dataset, "test"))
        mu = self.test[0]
        with machine.memory_kept(self.device, "evaluation"):
            for batch, mean in zip(real, self.means(mu), strict=True):
                x = in_unit_range(batch, self.dataset.pixel_range).to(mean)
                found = {"psnr": fidelity.peak_signal_to_noise(mean, x)}
                found["squared_error"] = (x - mean).square().flatten(1).sum(1)
                if min(x.shape[2:]) >= fidelity.SSIM_WINDOW:
                    found["ssim"] = fidelity.structural_similarity(mean, x)
                for name, values in found.items():
                    sums[name] = sums.get(name, 0.0) + in_double(values).sum().item()
        return {name: total / self.dataset.num_images("test") for name, total in sums.items()}
