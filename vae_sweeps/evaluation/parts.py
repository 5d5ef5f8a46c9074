"""The parts of an evaluation: each turns a model's outputs into columns of the table."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_sweeps.data.dataset import SPLITS, for_evaluation, in_unit_range
from vae_sweeps.evaluation.batching import in_double
from vae_sweeps.evaluation.metrics import fidelity, latent
from vae_sweeps.evaluation.metrics.elbo import bits_per_dim, evaluate_split, importance_bound, is_density
from vae_sweeps.evaluation.metrics.factors.measure import measure
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.runs.catalogue import FLOOR, SAMPLES, SCORES
from vae_sweeps.system import machine
from vae_sweeps.system.logs import warn_once

# The metrics of disentanglement use at most so many test images, as in the literature.
_MAX_FACTOR_IMAGES = 10_000
# The latents of largest KL that are traversed, and the steps of each.
_NUM_TRAVERSED, _NUM_STEPS = 16, 10


@dataclass(frozen=True)
class LatentCodes:
    """Posterior means `mu` [N,L] of the test images, `labels` [N] or None, and each latent's KL [L] in nats."""

    mu: np.ndarray
    labels: np.ndarray | None
    kl: np.ndarray


@dataclass(frozen=True)
class NearestImages:
    """Samples [N,C,H,W] and the training image nearest to each [N,C,H,W], in [0,1] on the CPU."""

    samples: Tensor
    nearest: Tensor


@dataclass(frozen=True)
class LatentFactors:
    """What each latent tells of the factors, and the images that it changes.

    `shares` [L,F] is the mutual information with each of the factors `names`, over the factor's entropy; `kl` [L] is in
    nats. `images` [R,T,C,H,W] in [0,1], on the CPU, are the means as z of R `latents`, one a row, goes from -extent to
    extent in T steps while the others are 0.
    """

    shares: np.ndarray
    names: tuple[str, ...]
    kl: np.ndarray
    latents: list[int]
    images: Tensor
    extent: float


Drawing = LatentCodes | NearestImages | LatentFactors


@dataclass
class Findings:
    """Columns of the table, or the reasons why they are empty; details that are no columns; and data for figures."""

    metrics: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    to_draw: list[Drawing] = field(default_factory=list)


def elbo(outputs: ModelOutputs) -> Findings:
    """Averages per image in nats, the ELBO at beta = 1: one posterior sample an image, several of the test split's."""
    metrics: dict[str, float] = {}
    how, model, dataset = outputs.how, outputs.model, outputs.dataset
    for split in SPLITS:
        with machine.memory_kept(model.device, "evaluation"):
            terms = evaluate_split(
                model.vae,
                dataset,
                split,
                seed=how.seed,
                batch_size=how.batch_size,
                dtype=model.dtype,
                num_samples=how.elbo_samples if split == "test" else 1,
            )
        metrics[f"{split}/elbo"] = terms.elbo.item()
        metrics[f"{split}/log_px"] = terms.log_px.item()
        metrics[f"{split}/kl"] = terms.kl.item()
        if split == "test":
            metrics["test/active_units"] = int(latent.active_units(terms.mu_variance))
            if how.elbo_samples > 1:
                metrics["test/elbo_se"] = terms.standard_error.item()
    if is_density(model.vae.likelihood):
        reason = "the likelihood is a density, and its bits depend on the scale of the pixels"
        return Findings(metrics, {"test/bits_per_dim": reason})
    metrics["test/bits_per_dim"] = bits_per_dim(metrics["test/elbo"], math.prod(dataset.image_shape))
    return Findings(metrics)


def _likelihood(outputs: ModelOutputs) -> Findings:
    how, model = outputs.how, outputs.model
    with machine.memory_kept(model.device, "evaluation"):
        found = importance_bound(
            model.vae,
            outputs.dataset,
            "test",
            num_samples=how.iwae_samples,
            seed=how.seed,
            batch_size=how.batch_size,
            dtype=model.dtype,
        )
    metrics = {
        "test/iwae": found.bound.item(),
        "test/iwae_se": found.standard_error.item(),
        "test/iwae_ess": found.effective_samples.item(),
        "test/iwae_dominated": found.dominated.item(),
    }
    if how.iwae_samples > 1:
        return Findings(metrics)
    del metrics["test/iwae_se"]
    return Findings(metrics, {"test/iwae_se": "a standard error needs more than one importance sample"})


def _latent_space(outputs: ModelOutputs) -> Findings:
    reference, dataset = outputs.reference, outputs.dataset
    mu, sigma = outputs.test
    eps = outputs.normals("information", len(mu))
    mutual, marginal_kl = latent.information(mu, sigma, eps)
    lower, upper = latent.marginal_kl_bounds(mu, sigma, eps, *outputs.fit)
    kl = latent.kl_per_latent(mu, sigma)
    num_active = int(latent.active_units(mu.var(0, correction=0)))
    error = outputs.reconstruction["squared_error"]
    metrics = {
        "test/mi": mutual,
        "test/mi_at_limit": latent.is_at_limit(mutual, len(mu)),
        "test/marginal_kl": marginal_kl,
        "test/marginal_kl_lower": lower,
        "test/marginal_kl_upper": upper,
        "test/collapsed": latent.is_collapsed(num_active, error, reference.squared_error_of_mean),
    }
    labels = None
    if dataset.labels is not None:
        labels = dataset.labels["test"].cpu().numpy()
        metrics["probe/accuracy"] = reference.probe(outputs.fit[0], mu)
        fit_mu, fit_sigma = outputs.fit
        fit_z = fit_mu + fit_sigma * outputs.normals("probe train", len(fit_mu))
        metrics["probe/samples"] = reference.probe(fit_z, mu + sigma * outputs.normals("probe test", len(mu)))
        metrics["probe/pixels"] = reference.probe_on_pixels
    drawing = LatentCodes(mu.numpy(), labels, kl.numpy())
    return Findings(metrics, details={"kl_per_latent": kl.tolist()}, to_draw=[drawing])


def _reconstruction(outputs: ModelOutputs) -> Findings:
    found = outputs.reconstruction
    if "ssim" in found:
        return Findings({"test/psnr": found["psnr"], "test/ssim": found["ssim"]})
    height, width = outputs.dataset.image_shape[1:]
    window = fidelity.SSIM_WINDOW
    reason = f"images of {height}x{width} are smaller than the window of {window}x{window}"
    return Findings({"test/psnr": found["psnr"]}, {"test/ssim": reason})


def _scores(outputs: ModelOutputs, score: str) -> Findings:
    reference = outputs.reference
    extractor, features = reference.extractor, reference.features.name

    def column(name: str, kind: str) -> str:
        return f"{name}/{kind}".replace("*", features)

    floor = {name: value for name, value in reference.floor.items() if name.startswith(f"{score}/")}
    findings = Findings({column(name, FLOOR): value for name, value in floor.items()})
    for samples in SAMPLES:
        try:
            found = reference.compare(score, outputs.features(samples))
        except ValueError as error:
            findings.missing |= {column(name, samples): str(error) for name in floor}
        else:
            findings.metrics |= {column(name, samples): value for name, value in found.items()}
    about = {"weights": extractor.weights_hash, "accuracy": extractor.accuracy, "num_images": reference.num_images}
    findings.details["features"] = {reference.features.name: about}
    return findings


def _neighbours(outputs: ModelOutputs) -> Findings:
    reference, num = outputs.reference, outputs.how.neighbours
    try:
        samples = torch.cat(list(outputs.images(outputs.normals("neighbours", num), "prior")))
    except ValueError as error:
        return Findings(missing={"neighbour/ratio": str(error)})
    found = reference.nearest(in_double(samples.flatten(1)))
    distance = found.distance.mean().item()
    train = for_evaluation(outputs.dataset, "train")
    shown = train[found.which[:16].to(train.device)]
    drawing = NearestImages(samples[:16].cpu(), in_unit_range(shown, outputs.dataset.pixel_range).cpu())
    findings = Findings({"neighbour/distance": distance}, to_draw=[drawing])
    if outputs.dataset.trains_on_all or reference.held_out_distance == 0:  # new bits are drawn for training images
        findings.missing["neighbour/ratio"] = "the test images are training images"
    else:
        findings.metrics["neighbour/ratio"] = distance / reference.held_out_distance
    return findings


def _factors(outputs: ModelOutputs) -> Findings:
    """Nothing if the data have no factors, as there are no probes without labels."""
    factors = outputs.dataset.factors
    if factors is None:
        return Findings()
    mu = outputs.test[0][:_MAX_FACTOR_IMAGES]
    classes = factors.classes["test"][: len(mu)].cpu().numpy()
    found = measure(mu.numpy(), classes, factors.names, outputs.how.seed)
    for name in found.details["constant_factors"]:
        warn_once(f"{outputs.dataset.name}: the factor {name} has one value in the test images, and is left out")
    findings = Findings(found.metrics, found.missing, {"factors": found.details})
    if found.shares is not None:
        kl = latent.kl_per_latent(*outputs.test)
        latents = kl.argsort(descending=True, stable=True)[:_NUM_TRAVERSED].tolist()
        extent = outputs.model.point.pictures.traversal_extent
        images = _traversals(outputs, latents, extent)
        findings.to_draw.append(LatentFactors(found.shares, found.names, kl.numpy(), latents, images, extent))
    return findings


def _traversals(outputs: ModelOutputs, latents: list[int], extent: float) -> Tensor:
    z = torch.zeros(len(latents), _NUM_STEPS, outputs.model.latent, dtype=torch.float64)
    for row, j in enumerate(latents):
        z[row, :, j] = torch.linspace(-extent, extent, _NUM_STEPS, dtype=z.dtype)
    return torch.cat(list(outputs.means(z.flatten(0, 1)))).cpu().unflatten(0, z.shape[:2])


PARTS: dict[str, Callable[[ModelOutputs], Findings]] = {
    "elbo": elbo,
    "likelihood": _likelihood,
    "reconstruction": _reconstruction,
    "latent_space": _latent_space,
    **{score: partial(_scores, score=score) for score in SCORES},
    "neighbours": _neighbours,
    "factors": _factors,
}
