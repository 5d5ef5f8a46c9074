"""The data's side of an evaluation: computed once for all points, and cached."""

import logging
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset, for_evaluation, identity, in_unit_range
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation import extra
from vae_sweeps.evaluation.batching import images_at_once, in_double
from vae_sweeps.evaluation.features.base import Extractor, Features, build_features
from vae_sweeps.evaluation.metrics import fidelity, latent
from vae_sweeps.evaluation.metrics.neighbours import Nearest, nearest
from vae_sweeps.evaluation.metrics.prdc import Balls, balls, prdc
from vae_sweeps.evaluation.settings import K_DENSITY_COVERAGE
from vae_sweeps.runs.catalogue import SCORES
from vae_sweeps.system import cache

log = logging.getLogger(__name__)

# Images held as float64 at once.
_BLOCK = 250
# The most pixel values that the probe on pixels is fitted to; it needs three copies of them.
_PROBED_NUMBERS = 1 << 23
# Raise this when a change of the code changes the cached values.
_VERSION = 1


def check(how: Evaluation, dataset: Dataset, features: Features | None) -> None:
    """Raise ValueError if `how` asks for more than the data allow."""
    num_test, num_train = dataset.num_images("test"), dataset.num_images("train")
    if how.num_images is not None and how.num_images > num_test:
        raise ValueError(f"evaluation.num_images={how.num_images}: must be at most {num_test}, all of the test split")
    num_images = min(how.num_images or num_test, num_train)
    if how.prdc and num_images <= K_DENSITY_COVERAGE:
        raise ValueError(
            f"evaluation.num_images={num_images}: must be more than {K_DENSITY_COVERAGE}, the number of neighbours of "
            "density and coverage; raise it, or set evaluation.prdc=false"
        )
    if features is not None and how.fid and num_images <= features.width:
        raise ValueError(
            f"evaluation.num_images={num_images}: must be more than {features.width}, the width of the features "
            f"{features.name}, or FID's covariances are singular; raise it, choose narrower features, "
            "or set evaluation.fid=false"
        )
    if scores_asked(how) and min(how.max_fit_images, num_train) < how.mixture_components:
        raise ValueError(
            f"evaluation.mixture_components={how.mixture_components}: must be at most "
            f"{min(how.max_fit_images, num_train)}, the number of codes that the mixture is fitted to"
        )


def scores_asked(how: Evaluation) -> list[str]:
    """The parts that compare features of images."""
    return [score for score in SCORES if getattr(how, score)]


class Reference:
    """Values that the evaluations of all points of one dataset share, each computed on first use."""

    def __init__(self, dataset: Dataset, how: Evaluation, features: Features | None, device: torch.device) -> None:
        check(how, dataset, features)
        self.dataset, self.how, self.device = dataset.to(device), how, device
        self._features = features
        self.num_images = how.num_images or dataset.num_images("test")

    @property
    def features(self) -> Features:
        """The features that scores compare."""
        assert self._features is not None, "no score was asked for"
        return self._features

    @cached_property
    def extractor(self) -> Extractor:
        # Callers may be in inference mode, but a classifier may have to be trained.
        with torch.inference_mode(False), torch.enable_grad():
            extractor = self.features.load()
        return extractor._replace(module=extractor.module.to(self.device))

    def features_of(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B d"]:
        """Float64 features, on the CPU, of images in [0,1]."""
        module = self.extractor.module
        with torch.inference_mode():
            return module(images.to(self.device).float()).cpu().double()

    @cached_property
    def real(self) -> Float[Tensor, "N d"]:
        """Features of the test split's first N images."""
        return self._features_of_split("test")

    @cached_property
    def _balls(self) -> Balls:
        return balls(self.real)

    def compare(self, score: str, fake: Float[Tensor, "M d"]) -> dict[str, float]:
        """A score of features against `real`, by the columns' names up to the kind of images, such as `fid/*`.

        Raises ValueError if it is not defined for them.
        """
        if score == "fid":
            return {"fid/*": fidelity.frechet_distance(self.real, fake)}
        if score == "kid":
            return {"kid/*": fidelity.kernel_distance(self.real, fake, self.how.seed)}
        return {f"prdc/*/{name}": value for name, value in prdc(self._balls, balls(fake))._asdict().items()}

    @cached_property
    def floor(self) -> dict[str, float]:
        """The scores between training and test images: what samples of the data's distribution get at this number."""

        def make() -> dict[str, float]:
            train, found = self._features_of_split("train"), {}
            for score in scores_asked(self.how):
                found |= self.compare(score, train)
            return found

        asked = {"fid": self.how.fid, "kid": self.how.kid and self.how.seed, "prdc": self.how.prdc}
        return self._cached("floor", make, features=self.extractor.weights_hash, n=self.num_images, **asked)

    @property
    def fit_images(self) -> Tensor:
        """The training images that mixtures and probes are fitted to, as stored."""
        return for_evaluation(self.dataset, "train")[: self.how.max_fit_images]

    @cached_property
    def probe_on_pixels(self) -> float:
        """Test accuracy of the linear probe on raw pixels, or on means of 2x2, 4x4, ... if there are too many."""
        fit_images, side = self.fit_images, 1
        while fit_images.numel() > _PROBED_NUMBERS * side**2 and 2 * side <= min(fit_images.shape[2:]):
            side *= 2

        def pixels(images: Tensor) -> Float[np.ndarray, "N D"]:
            if side == 1:
                return self._pixels(images).cpu().numpy()
            x = in_unit_range(images.to(self.device), self.dataset.pixel_range)
            return torch.nn.functional.avg_pool2d(x, side).flatten(1).cpu().numpy()  # float32: half the memory

        def make() -> dict[str, float]:
            labels = self.dataset.labels
            assert labels is not None
            like = pixels(fit_images[:1])
            train = np.empty((len(fit_images), like.shape[1]), like.dtype)
            for start, block in zip(range(0, len(train), _BLOCK), fit_images.split(_BLOCK), strict=True):
                train[start : start + _BLOCK] = pixels(block)
            probe = latent.fitted_probe(train, labels["train"][: len(train)].cpu().numpy())
            test, num_right = for_evaluation(self.dataset, "test"), 0
            for x, y in zip(test.split(_BLOCK), labels["test"].cpu().split(_BLOCK), strict=True):
                num_right += int((probe.predict(pixels(x)) == y.numpy()).sum())
            return {"accuracy": num_right / len(test)}

        return self._cached("probe", make, n=self.how.max_fit_images)["accuracy"]

    def probe(self, codes: Float[Tensor, "N d"], test_codes: Float[Tensor, "M d"]) -> float:
        """Test accuracy of a linear probe fitted to codes of `fit_images`."""
        labels = self.dataset.labels
        assert labels is not None
        numbers = labels["train"][: len(codes)].cpu().numpy()
        return latent.linear_probe(codes.numpy(), numbers, test_codes.numpy(), labels["test"].cpu().numpy())

    @cached_property
    def squared_error_of_mean(self) -> float:
        """Mean over the test images of |x - mean training image|^2, in pixels of [0,1]."""
        train, test = self.fit_images, for_evaluation(self.dataset, "test")
        mean = sum(self._pixels(block).sum(0) for block in train.split(_BLOCK)) / len(train)
        return sum((self._pixels(block) - mean).square().sum().item() for block in test.split(_BLOCK)) / len(test)

    @cached_property
    def held_out_distance(self) -> float:
        """Mean distance of test images to their nearest training image, in pixels of [0,1]."""

        def make() -> dict[str, float]:
            images = self._pixels(for_evaluation(self.dataset, "test")[: self.how.neighbours])
            return {"distance": self.nearest(images).distance.mean().item()}

        return self._cached("neighbours", make, n=self.how.neighbours)["distance"]

    def nearest(self, pixels: Float[Tensor, "N D"]) -> Nearest:
        """The nearest to each image among all training images."""
        return nearest(pixels, for_evaluation(self.dataset, "train"), self._pixels)

    def _pixels(self, images: Tensor) -> Float[Tensor, "N D"]:
        return in_double(in_unit_range(images.to(self.device), self.dataset.pixel_range).flatten(1))

    def _features_of_split(self, split: str) -> Float[Tensor, "N d"]:
        images = for_evaluation(self.dataset, split)[: self.num_images]
        blocks = images.split(images_at_once(self.dataset.image_shape, self.how.batch_size))
        return torch.cat([self.features_of(in_unit_range(block, self.dataset.pixel_range)) for block in blocks])

    def _cached(self, kind: str, make: Callable[[], dict[str, float]], **recipe: Any) -> dict[str, float]:
        def timed() -> dict[str, float]:
            began = time.monotonic()
            found = make()
            took_s = time.monotonic() - began
            log.info("%s: computed %s of the data, once for all points (%.1f s)", self.dataset.name, kind, took_s)
            return found

        return cache.once(kind, {"version": _VERSION, "data": identity(self.dataset), **recipe}, timed)


def checked_features(dataset: Dataset, how: Evaluation) -> Features | None:
    """The features that scores compare, None if no score is asked for; nothing is computed yet.

    Raises ValueError if the evaluation asks for more than the data or this machine allow.
    """
    extra.check(how)
    features = build_features(how.features, dataset) if scores_asked(how) else None
    check(how, dataset, features)
    return features


def new_reference(point: Point, how: Evaluation, device: torch.device) -> Reference:
    """The data's side of the evaluation of a point. Raises ValueError as `checked_features` does."""
    dataset = load_dataset(point.data)
    return Reference(dataset, how, checked_features(dataset, how), device)
