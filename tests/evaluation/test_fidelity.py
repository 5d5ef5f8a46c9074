"""FID, KID, PSNR and SSIM against independent computations and closed forms; the mixture on codes.

Sources: Heusel et al. 2017 (FID); Binkowski et al. 2018 (KID); Wang et al. 2004 (SSIM).
"""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_sweeps.evaluation.metrics import fidelity
from vae_sweeps.evaluation.metrics.fidelity import (
    frechet_distance,
    kernel_distance,
    peak_signal_to_noise,
    structural_similarity,
)
from vae_sweeps.evaluation.metrics.latent import fit_mixture, sample_mixture


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(num_images: int, width: int, seed: int) -> Tensor:
    return normals(num_images, width, seed=seed) @ normals(width, width, seed=seed + 1) + normals(width, seed=seed + 2)


def with_moments(num_images: int, mean: Tensor, scale: Tensor, seed: int) -> Tensor:
    """Draws whose mean and whose unbiased covariance are exactly `mean` and diag(scale^2)."""
    x = normals(num_images, len(mean), seed=seed)
    u, _, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return math.sqrt(num_images - 1) * u @ v * scale + mean


# FID


@pytest.mark.parametrize(("num_real", "num_fake", "width"), [(300, 200, 6), (100, 400, 20)])
def test_fid_is_scipys(num_real: int, num_fake: int, width: int) -> None:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, eq. 6)."""
    real, fake = correlated(num_real, width, 0), correlated(num_fake, width, 10)
    m1, m2 = real.numpy().mean(0), fake.numpy().mean(0)
    c1, c2 = np.cov(real.numpy(), rowvar=False), np.cov(fake.numpy(), rowvar=False)
    expected = np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-6)


def test_fid_of_a_set_and_itself_is_0() -> None:
    real = correlated(200, 10, 0)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(real, real.flip(0)) == pytest.approx(0, abs=1e-6)


def test_fid_of_diagonal_normals_is_its_closed_form() -> None:
    """sum (mu1 - mu2)^2 + (s1 - s2)^2; the two bases of the covariances are the same."""
    mean, other_mean = normals(5), normals(5, seed=1)
    scale, other_scale = (normals(5, seed=seed).abs() + 0.2 for seed in (2, 3))
    found = frechet_distance(with_moments(100, mean, scale, 4), with_moments(150, other_mean, other_scale, 5))
    expected = (mean - other_mean).square().sum() + (scale - other_scale).square().sum()
    assert found == pytest.approx(expected.item(), abs=1e-8)


def test_fid_does_not_change_under_a_common_rotation_and_shift() -> None:
    real, fake = correlated(100, 7, 0), correlated(120, 7, 10)
    rotation, _ = torch.linalg.qr(normals(7, 7, seed=20))
    shift = 3 * normals(7, seed=21)
    moved = frechet_distance(real @ rotation + shift, fake @ rotation + shift)
    assert moved == pytest.approx(frechet_distance(real, fake), rel=1e-8)


@pytest.mark.parametrize(("width", "num_images"), [(10, 1000), (20, 1500)])
def test_fid_of_few_images_is_biased_as_expected(width: int, num_images: int) -> None:
    """About 2 d / N from the means and d (d + 1) / (2 (N - 1)) from the covariances, to first order in d / N."""
    draws = [
        frechet_distance(normals(num_images, width, seed=2 * i), normals(num_images, width, seed=2 * i + 1))
        for i in range(20)
    ]
    expected = 2 * width / num_images + width * (width + 1) / (2 * (num_images - 1))
    assert np.mean(draws) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("num_real", "num_fake"), [(8, 100), (100, 8), (3, 3)])
def test_fid_of_too_few_images_is_refused(num_real: int, num_fake: int) -> None:
    with pytest.raises(ValueError, match="more than 8 images"):
        frechet_distance(normals(num_real, 8), normals(num_fake, 8))
    assert math.isfinite(frechet_distance(normals(9, 8), normals(9, 8, seed=1)))


def test_fid_of_float32_features_is_taken_in_float64() -> None:
    """Means of 1,000 with a spread of 0.1 leave float32's squares no digits."""
    real, fake = ((1000 + 0.1 * normals(200, 4, seed=seed)).float() for seed in (0, 1))
    expected = frechet_distance(real.double() - 1000, fake.double() - 1000)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)


# KID


def kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def u_statistic(real: Tensor, fake: Tensor) -> float:
    """The unbiased estimate of MMD^2 (Binkowski et al. 2018, eq. 4), of all pairs."""
    n, m = len(real), len(fake)
    same = [
        (k.sum() - k.trace()) / (size * (size - 1)) for k, size in ((kernel(real, real), n), (kernel(fake, fake), m))
    ]
    return (sum(same) - 2 * kernel(real, fake).mean()).item()


def test_kid_of_constant_features_is_its_closed_form() -> None:
    a, b = normals(1, 4), normals(1, 4, seed=1)
    expected = (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)).item()
    assert expected > 0.01
    assert kernel_distance(a.expand(30, 4), b.expand(30, 4)) == pytest.approx(expected, abs=1e-12)


def test_kid_of_at_most_1000_images_is_that_of_all_pairs() -> None:
    real, fake = normals(200, 5), 1.2 * normals(200, 5, seed=1) + 0.1
    assert kernel_distance(real, fake) == pytest.approx(u_statistic(real, fake), abs=1e-12)
    real, fake = normals(1000, 5), 1.2 * normals(1000, 5, seed=1) + 0.1
    assert kernel_distance(real, fake) == pytest.approx(u_statistic(real, fake), abs=1e-12)


def test_kid_of_equal_distributions_is_0_on_average() -> None:
    draws = np.array([kernel_distance(normals(40, 4, seed=2 * i), normals(40, 4, seed=2 * i + 1)) for i in range(300)])
    assert abs(draws.mean()) < 4 * draws.std() / 300**0.5
    assert draws.min() < 0 < draws.max()


@pytest.fixture
def _small_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subsets of 100 images, as a thousand of them would be compared for long."""
    monkeypatch.setattr(fidelity, "_KID_SUBSET_SIZE", 100)


@pytest.mark.usefixtures("_small_subsets")
def test_kid_of_many_images_is_the_mean_over_subsets() -> None:
    """It is an average of unbiased estimates, so near the one of all pairs, whose own noise it shares."""
    real, fake = normals(150, 4), 1.3 * normals(150, 4, seed=1)
    found = np.array([kernel_distance(real, fake, seed) for seed in range(2)])
    assert found[0] != found[1]
    assert found.mean() == pytest.approx(u_statistic(real, fake), rel=0.1)


@pytest.mark.usefixtures("_small_subsets")
def test_kid_is_a_function_of_features_and_seed_alone() -> None:
    real, fake = normals(110, 3), normals(110, 3, seed=1)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    found = kernel_distance(real, fake, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert kernel_distance(real, fake, seed=2) == found


# PSNR and SSIM


def pairs(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Smooth-ish images in [0,1] and noisier ones of them, float32."""
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    noise = torch.tensor([0.02, 0.1, 0.3, 1.0])[:, None, None, None] * normals(4, *shape)
    return images, (images + noise).clamp(0, 1).float()


def test_psnr_is_its_formula_for_each_image() -> None:
    images, others = pairs((3, 8, 8))
    squared_error = np.square(images.double().numpy() - others.double().numpy()).mean((1, 2, 3))
    assert peak_signal_to_noise(images, others).tolist() == pytest.approx(-10 * np.log10(squared_error), rel=1e-5)
    assert peak_signal_to_noise(torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.1)).tolist() == pytest.approx(
        [20] * 2
    )
    assert peak_signal_to_noise(images[:1], images[:1]).tolist() == [math.inf]


def test_ssim_of_equal_images_is_1() -> None:
    images, others = pairs((1, 28, 28))
    assert structural_similarity(images, images).tolist() == pytest.approx([1] * 4, abs=1e-6)
    found = structural_similarity(images, others).tolist()
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5


def test_ssim_of_11x11_pixels_is_that_of_their_one_window() -> None:
    """The images of Wang et al. 2004 end at their borders, so one window of 11 pixels is all of 11x11 pixels."""
    images, others = pairs((1, 11, 11))
    window = np.outer(*[np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)] * 2)
    window /= window.sum()
    x, y = images[:, 0].double().numpy(), others[:, 0].double().numpy()
    mx, my = (x * window).sum((1, 2)), (y * window).sum((1, 2))
    vx, vy = (x * x * window).sum((1, 2)) - mx**2, (y * y * window).sum((1, 2)) - my**2
    covariance = (x * y * window).sum((1, 2)) - mx * my
    ssim = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert structural_similarity(images, others).tolist() == pytest.approx(ssim, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 11, 16)])
def test_ssim_is_an_independent_implementations(shape: tuple[int, int, int]) -> None:
    """Wang et al. 2004, eq. 13: a Gaussian window of 11 pixels and sigma 1.5, wholly inside the image."""
    images, others = pairs(shape)

    def local_mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=5, axes=(2, 3))[..., 5:-5, 5:-5]

    x, y = images.double().numpy(), others.double().numpy()
    mx, my = local_mean(x), local_mean(y)
    vx, vy, covariance = local_mean(x * x) - mx**2, local_mean(y * y) - my**2, local_mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert structural_similarity(images, others).tolist() == pytest.approx(ssim.mean((1, 2, 3)), abs=1e-4)


# The mixture


def test_the_mixture_finds_well_separated_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    codes = np.concatenate(
        [centre + scale * rng.standard_normal((400, 2)) for centre, scale in zip(centres, (1, 2, 0.5), strict=True)]
    )
    mixture = fit_mixture(codes, 3, seed=0)
    means, covariances = np.asarray(mixture.means_), np.asarray(mixture.covariances_)
    order = [int(np.square(means - centre).sum(1).argmin()) for centre in centres]
    assert sorted(order) == [0, 1, 2]
    assert means[order] == pytest.approx(centres, abs=4 * 2 / 400**0.5)
    assert mixture.weights_ == pytest.approx(np.full(3, 1 / 3), abs=1e-3)
    variances = covariances[order][:, [0, 1], [0, 1]]
    assert variances == pytest.approx(np.array([[1, 1], [4, 4], [0.25, 0.25]]), rel=4 * (2 / 400) ** 0.5)


def test_the_mixture_is_a_function_of_codes_and_seed() -> None:
    codes = np.random.default_rng(0).standard_normal((300, 2))
    one, again, other = (sample_mixture(fit_mixture(codes, 5, seed), 50) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_mixture_does_not_depend_on_the_number_of_threads() -> None:
    codes = np.random.default_rng(0).standard_normal((2000, 128))
    codes[:1000] *= np.linspace(0.1, 2, 128)
    found = []
    for num_threads in (1, 2):
        with threadpool_limits(num_threads):
            mixture = fit_mixture(codes, 5, seed=0)
            found.append((mixture.means_, sample_mixture(mixture, 500)))
    (means, samples), (other_means, other_samples) = found
    assert np.array_equal(means, other_means)
    assert np.array_equal(samples, other_samples)


def test_a_mixture_of_one_component_is_the_codes_mean_and_covariance() -> None:
    codes = correlated(200, 3, 0).numpy()
    mixture = fit_mixture(codes, 1, seed=0)
    means, covariances = np.asarray(mixture.means_), np.asarray(mixture.covariances_)
    assert means[0] == pytest.approx(codes.mean(0), abs=1e-9)
    assert covariances[0] == pytest.approx(np.cov(codes, rowvar=False, bias=True) + 1e-6 * np.eye(3), abs=1e-9)
