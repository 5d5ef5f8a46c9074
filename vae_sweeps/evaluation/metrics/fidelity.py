"""Fidelity of generated images: FID and KID of features, PSNR and SSIM of reconstructions."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.system import machine
from vae_sweeps.system.rng import generator

# torchmetrics is imported by the functions that use it: importing it takes longer than importing torch, and most
# commands compute none of these scores.

# With more images, KID averages over this many subsets of this size (Binkowski et al. 2018).
_KID_SUBSET_SIZE, _KID_SUBSETS = 1000, 100

SSIM_WINDOW = 11  # pixels that torchmetrics' Gaussian window spans
# Pixel values per batch of SSIM, whose convolution needs some dozens of times their memory. With four times as many on
# a CPU, its blocks are too large for `machine.memory_kept`, and SSIM takes 1.6 times as long.
_NUMBERS_AT_ONCE, _NUMBERS_AT_ONCE_ON_GPU = 1 << 15, 1 << 21


class _Given(nn.Module):
    """A feature extractor for torchmetrics that returns its input, which already consists of features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Float[Tensor, "N d"], fake: Float[Tensor, "M d"]) -> float:
    """FID (Heusel et al. 2017, eq. 6) of float64 features. Needs N, M > d, or a covariance is singular (ValueError)."""
    width = real.shape[1]
    if min(len(real), len(fake)) <= width:
        raise ValueError(f"FID of {width} features needs more than {width} images a side, not {len(real)}, {len(fake)}")
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(width))
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return metric.compute().item()


def kernel_distance(real: Float[Tensor, "N d"], fake: Float[Tensor, "M d"], seed: int = 0) -> float:
    """KID (Binkowski et al. 2018, eq. 4), unbiased, so it may be below 0.

    Over all images if N = M <= 1,000, else the mean over 100 random subsets of at most 1,000.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    num_images = min(len(real), len(fake))
    subsets = 1 if len(real) == len(fake) <= _KID_SUBSET_SIZE else _KID_SUBSETS
    kept = machine.memory_kept(torch.device("cpu"), "evaluation")
    with kept, warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # torchmetrics warns that it keeps all features in memory
        metric = KernelInceptionDistance(
            feature=_Given(real.shape[1]), subsets=subsets, subset_size=min(num_images, _KID_SUBSET_SIZE)
        )
        metric.update(real.double(), real=True)
        metric.update(fake.double(), real=False)
        torch.default_generator.manual_seed(generator("kid", seed).initial_seed())
        mean, _ = metric.compute()
    return mean.item()


def peak_signal_to_noise(images: Float[Tensor, "N C H W"], others: Tensor) -> Float[Tensor, " N"]:
    """PSNR in dB of each image in [0,1]; infinite if both are equal."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(images, others, data_range=1.0, dim=(1, 2, 3), reduction="none")


def structural_similarity(images: Float[Tensor, "N C H W"], others: Tensor) -> Float[Tensor, " N"]:
    """SSIM of each image in [0,1], averaged over all windows inside it (Wang et al. 2004, eq. 13 and 17).

    The window is a Gaussian of 11 pixels and sigma 1.5, so H, W >= 11.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    numbers = _NUMBERS_AT_ONCE if images.device.type == "cpu" else _NUMBERS_AT_ONCE_ON_GPU
    num_at_once, border, found = max(1, numbers // images[0].numel()), SSIM_WINDOW // 2, []
    for batch, other in zip(images.split(num_at_once), others.split(num_at_once), strict=True):
        _, values = structural_similarity_index_measure(batch, other, data_range=1.0, return_full_image=True)
        # torchmetrics mirrors the images at their borders; windows that reach over a border are left out.
        found.append(values[..., border:-border, border:-border].flatten(1).mean(1))
    return torch.cat(found)
