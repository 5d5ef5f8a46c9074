"""The parts of an evaluation: each turns a model's outputs into columns of the table."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_sweeps.data.dataset import SPLITS, for_evaluation, in_unit_range
from vae_sweeps.evaluation.batching import in_double
from vae_sweeps.evaluation.metrics import fidelity, latent
from vae_sweeps.evaluation.metrics.elbo import bits_per_dim, evaluate_split, importance_bound, is_density
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.runs.catalogue import FLOOR, SAMPLES


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


Drawing = LatentCodes | NearestImages


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


def _scores(outputs: ModelOutputs, score: str, distance: Callable[[Tensor, Tensor], float]) -> Findings:
    reference = outputs.reference
    extractor, prefix = reference.extractor, f"{score}/{reference.features.name}"
    findings = Findings({f"{prefix}/{FLOOR}": reference.floor[score]})
    for samples in SAMPLES:
        try:
            findings.metrics[f"{prefix}/{samples}"] = distance(reference.real, outputs.features(samples))
        except ValueError as error:
            findings.missing[f"{prefix}/{samples}"] = str(error)
    about = {"weights": extractor.weights_hash, "accuracy": extractor.accuracy, "num_images": reference.num_images}
    findings.details["features"] = {reference.features.name: about}
    return findings


def _fid(outputs: ModelOutputs) -> Findings:
    return _scores(outputs, "fid", fidelity.frechet_distance)


def _kid(outputs: ModelOutputs) -> Findings:
    return _scores(outputs, "kid", lambda real, fake: fidelity.kernel_distance(real, fake, outputs.how.seed))


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


PARTS: dict[str, Callable[[ModelOutputs], Findings]] = {
    "elbo": elbo,
    "likelihood": _likelihood,
    "reconstruction": _reconstruction,
    "latent_space": _latent_space,
    "fid": _fid,
    "kid": _kid,
    "neighbours": _neighbours,
}
