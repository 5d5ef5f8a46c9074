"""What a finished point is worth, in parts that can be added later: likelihood, latent space, fidelity, memorisation.

A point is evaluated alone, not in its pack: the numbers are then the same to the last digit whatever the pack was, and
on two cores it is 1.2 to 1.3 times faster (784-100-100-10, 784-500-500-20, conv; K = 9).
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_sweeps import figures, pictures, plot_style
from vae_sweeps.data.dataset import SPLITS, for_evaluation, in_unit_range
from vae_sweeps.latent_map import latent_map
from vae_sweeps.loading import Model
from vae_sweeps.metrics import fidelity, latent
from vae_sweeps.metrics.elbo import bits_per_dim, evaluate_split, importance_bound, in_double
from vae_sweeps.reference import Reference
from vae_sweeps.schema import Evaluation
from vae_sweeps.subject import Subject

log = logging.getLogger(__name__)

SAMPLES = ("prior", "reconstruction", "mixture")


@dataclass
class Findings:
    """Columns of the table, or the reasons why they are empty, and what is no column."""

    metrics: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def _elbo(subject: Subject, folder: Path) -> Findings:
    """Averages per image in nats at one posterior sample each, the ELBO at beta = 1."""
    metrics: dict[str, float] = {}
    how, model, dataset = subject.how, subject.model, subject.dataset
    for split in SPLITS:
        terms = evaluate_split(model.vae, dataset, split, seed=how.seed, batch_size=how.batch_size, dtype=model.dtype)
        metrics[f"{split}/elbo"] = terms.elbo.item()
        metrics[f"{split}/log_px"] = terms.log_px.item()
        metrics[f"{split}/kl"] = terms.kl.item()
        if split == "test":
            metrics["test/active_units"] = int(latent.active_units(terms.mu_variance))
    metrics["test/bits_per_dim"] = bits_per_dim(metrics["test/elbo"], math.prod(dataset.image_shape))
    return Findings(metrics)


def _likelihood(subject: Subject, folder: Path) -> Findings:
    how, model = subject.how, subject.model
    found = importance_bound(
        model.vae,
        subject.dataset,
        "test",
        num_samples=how.iwae_samples,
        seed=how.seed,
        batch_size=how.batch_size,
        dtype=model.dtype,
    )
    metrics = {"test/iwae": found.bound.item(), "test/iwae_se": found.standard_error.item()}
    if how.iwae_samples > 1:
        return Findings(metrics)
    del metrics["test/iwae_se"]
    return Findings(metrics, {"test/iwae_se": "one importance sample does not tell its spread"})


def _latent_space(subject: Subject, folder: Path) -> Findings:
    reference, dataset = subject.reference, subject.dataset
    mu, sigma = subject.test
    mutual, marginal_kl = latent.information(mu, sigma, subject.normals("information", len(mu)))
    kl = latent.kl_per_latent(mu, sigma)
    num_active = int(latent.active_units(mu.var(0, correction=0)))
    error = subject.reconstruction["squared_error"]
    metrics = {
        "test/mi": mutual,
        "test/marginal_kl": marginal_kl,
        "test/collapsed": latent.is_collapsed(num_active, error, reference.squared_error_of_mean),
    }
    labels = None
    if dataset.labels is not None:
        labels = dataset.labels["test"].cpu().numpy()
        metrics["probe/accuracy"] = reference.probe(subject.fit[0], mu)
        metrics["probe/pixels"] = reference.probe_on_pixels
    plot_style.save(latent_map(mu.numpy(), labels, folder.name), folder / "pictures" / "latent_map.png")
    plot_style.save(figures.kl_bars(kl.numpy(), folder.name), folder / "pictures" / "kl_bars.png")
    return Findings(metrics, details={"kl_per_latent": kl.tolist()})


def _reconstruction(subject: Subject, folder: Path) -> Findings:
    found = subject.reconstruction
    if "ssim" in found:
        return Findings({"test/psnr": found["psnr"], "test/ssim": found["ssim"]})
    height, width = subject.dataset.image_shape[1:]
    window = fidelity.SSIM_WINDOW
    reason = f"images of {height}x{width} are smaller than the window of {window}x{window}"
    return Findings({"test/psnr": found["psnr"]}, {"test/ssim": reason})


def _scores(subject: Subject, score: str, distance: Callable[[Tensor, Tensor], float]) -> Findings:
    reference = subject.reference
    extractor, prefix = reference.extractor, f"{score}/{reference.features.name}"
    findings = Findings({f"{prefix}/floor": reference.floor[score]})
    for samples in SAMPLES:
        try:
            findings.metrics[f"{prefix}/{samples}"] = distance(reference.real, subject.features(samples))
        except ValueError as error:
            findings.missing[f"{prefix}/{samples}"] = str(error)
    about = {"weights": extractor.weights_hash, "accuracy": extractor.accuracy, "num_images": reference.num_images}
    findings.details["features"] = {reference.features.name: about}
    return findings


def _fid(subject: Subject, folder: Path) -> Findings:
    return _scores(subject, "fid", fidelity.frechet_distance)


def _kid(subject: Subject, folder: Path) -> Findings:
    return _scores(subject, "kid", lambda real, fake: fidelity.kernel_distance(real, fake, subject.how.seed))


def _neighbours(subject: Subject, folder: Path) -> Findings:
    reference, num = subject.reference, subject.how.neighbours
    try:
        samples = torch.cat(list(subject.images(subject.normals("neighbours", num), "prior")))
    except ValueError as error:
        return Findings(missing={"neighbour/ratio": str(error)})
    found = reference.nearest(in_double(samples.flatten(1)))
    distance = found.distance.mean().item()
    train = for_evaluation(subject.dataset, "train")
    shown = train[found.which[:16].to(train.device)]
    picture = pictures.neighbours(samples[:16].cpu(), in_unit_range(shown, subject.dataset.pixel_range).cpu())
    pictures.save(picture, folder / "pictures" / "neighbours.png")
    if reference.held_out_distance == 0:
        reason = "the test images are training images"
        return Findings({"neighbour/distance": distance}, missing={"neighbour/ratio": reason})
    return Findings({"neighbour/distance": distance, "neighbour/ratio": distance / reference.held_out_distance})


_PARTS: dict[str, Callable[[Subject, Path], Findings]] = {
    "elbo": _elbo,
    "likelihood": _likelihood,
    "reconstruction": _reconstruction,
    "latent_space": _latent_space,
    "fid": _fid,
    "kid": _kid,
    "neighbours": _neighbours,
}


def settings(how: Evaluation) -> dict[str, dict[str, Any]]:
    """The parts that `how` asks for, in order, each with everything that its numbers depend on beside the point."""
    fit = {"max_fit_images": how.max_fit_images}
    features = {name: value for name, value in how.features.items() if name != "_partial_"}
    scores = {"features": features, "num_images": how.num_images, "mixture_components": how.mixture_components, **fit}
    asked = {
        "elbo": {},
        "likelihood": how.iwae_samples > 0 and {"iwae_samples": how.iwae_samples},
        "reconstruction": how.reconstruction and {},
        "latent_space": how.latent_space and fit,
        "fid": how.fid and scores,
        "kid": how.kid and scores,
        "neighbours": how.neighbours > 0 and {"neighbours": how.neighbours},
    }
    return {part: {"seed": how.seed, **more} for part, more in asked.items() if more is not False}


def parts_left(result: Mapping[str, Any], how: Evaluation, explicit: Collection[str] = ()) -> list[str]:
    """Parts that `how` asks for and `result` has not, or has by other values of the `explicit` settings.

    What was made by settings that nobody now sets otherwise stays: 5,000 importance samples are not replaced by 100.
    """
    done = result.get("evaluated", {})

    def is_left(part: str, asked: Mapping[str, Any]) -> bool:
        return part not in done or any(done[part].get(name) != asked[name] for name in asked if name in explicit)

    return [part for part, asked in settings(how).items() if is_left(part, asked)]


def evaluate(model: Model, reference: Reference, folder: Path, parts: Iterable[str]) -> dict[str, Any]:
    """What `parts` find of the point in `folder`; `merged` adds it to the point's result.

    A part that raises is named in the log and left out, to be tried again; it costs nothing else.
    """
    (folder / "pictures").mkdir(exist_ok=True)
    subject, asked = Subject(model, reference), settings(reference.how)
    total = Findings()
    evaluated: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for part in parts:
        began = time.monotonic()
        try:
            found = _PARTS[part](subject, folder)
        except Exception as error:
            log.warning("%s: %s not evaluated", folder.name, part, exc_info=True)
            total.missing[part] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            continue
        for column, value in found.metrics.items():
            if math.isfinite(value):
                total.metrics[column] = value
            else:
                total.missing[column] = f"came out as {value}"
        total.missing |= found.missing
        total.details |= found.details
        evaluated[part] = asked[part]
        seconds[part] = round(time.monotonic() - began, 3)
    log.info("%s: evaluated %s", folder.name, ", ".join(f"{part} {s:.1f} s" for part, s in seconds.items()))
    found = {"metrics": total.metrics, "missing": total.missing, "evaluated": evaluated, "evaluation_s": seconds}
    return found | total.details


def first_result(model: Model, reference: Reference, folder: Path) -> dict[str, Any]:
    """The ELBO's terms, which every finished point has: without them (not finite) the point has diverged."""
    found = _elbo(Subject(model, reference), folder)
    is_whole = all(map(math.isfinite, found.metrics.values()))
    return {
        "status": "done" if is_whole else "diverged",
        "metrics": found.metrics,
        "evaluated": {"elbo": settings(reference.how)["elbo"]},
    }


def merged(result: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """`result` with what `evaluate` found: a column is either there or missing for a reason, never both."""
    merged = {**result, **found}
    for name in ("metrics", "missing", "evaluated", "evaluation_s", "features"):
        merged[name] = {**result.get(name, {}), **found.get(name, {})}
    for one, other in (("metrics", "missing"), ("missing", "metrics")):
        merged[one] = {k: v for k, v in merged[one].items() if k in found[one] or k not in found[other]}
    # A part that failed before and is there now.
    merged["missing"] = {k: v for k, v in merged["missing"].items() if k not in found["evaluated"]}
    return merged
