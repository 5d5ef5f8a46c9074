"""Features for FID and KID: the trained classifier and its cache, random features, a custom module, Inception."""

import importlib.util
import logging
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import ROOT, make_dataset
from vae_sweeps.data.dataset import Dataset, fingerprint, in_unit_range
from vae_sweeps.evaluation.features import trained as trained_features
from vae_sweeps.evaluation.features.base import Standardised, of_module, weights_hash
from vae_sweeps.evaluation.features.extractors import auto, inception, random
from vae_sweeps.evaluation.features.trained import classifier


def easy() -> Dataset:
    """Images of 8x8 bytes that are one of four patterns each, with noise; which one is the label."""
    draw = torch.Generator().manual_seed(0)
    patterns = torch.randint(40, 216, (4, 1, 8, 8), generator=draw)
    images, labels = {}, {}
    for split, size in (("train", 700), ("val", 8), ("test", 200)):
        labels[split] = torch.arange(size) % 4
        noise = torch.randint(-40, 40, (size, 1, 8, 8), generator=draw)
        images[split] = (patterns[labels[split]] + noise).to(torch.uint8)
    return replace(make_dataset(), images=images, labels=labels, fingerprint=fingerprint(images, labels))


def pixels(dataset: Dataset, split: str = "train") -> Tensor:
    return in_unit_range(dataset.images[split], dataset.pixel_range)


# The classifier

LOAD = """
import logging
import sys
import torch
from vae_sweeps.evaluation.features import classifier

torch.set_num_threads(1)
logging.basicConfig(level=logging.INFO)
features = classifier(torch.load(sys.argv[1], weights_only=False))
print("ready", flush=True)
sys.stdin.readline()
extractor = features.load()
print(extractor.weights_hash, extractor.accuracy)
"""


class Loaded(NamedTuple):
    """A cache folder that two processes filled at once, this and another; what each found and how often it trained."""

    cache_home: Path
    found: list[str]
    num_trained: list[int]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    cache_home = tmp_path_factory.mktemp("cache")
    torch.save(easy(), cache_home / "data")
    other = subprocess.Popen(
        [sys.executable, "-c", LOAD, str(cache_home / "data")],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(cache_home), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "ready\n"  # both have imported everything before one may begin
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    log = logging.getLogger(trained_features.__name__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        patch.setattr(log, "level", logging.INFO)
        log.addHandler(handler)
        other.stdin.write("go\n")
        other.stdin.flush()
        extractor = classifier(easy()).load()
        log.removeHandler(handler)
    printed, others_log = other.communicate(timeout=120)
    assert other.returncode == 0, others_log
    found = [f"{extractor.weights_hash} {extractor.accuracy}\n", printed]
    return Loaded(
        cache_home, found, [text.count("training the classifier") for text in ("\n".join(logged), others_log)]
    )


@pytest.fixture
def in_trained_cache(trained, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.cache_home))
    return trained.cache_home / "vae-sweeps"


@pytest.mark.slow
def test_of_two_processes_that_want_the_classifier_at_once_one_trains_it(trained) -> None:
    assert sorted(trained.num_trained) == [0, 1]
    assert trained.found[0] == trained.found[1]


@pytest.mark.slow
def test_a_trained_classifier_is_read_and_not_trained_again(trained, in_trained_cache, caplog) -> None:
    caplog.set_level(logging.INFO)
    before = {path: path.stat().st_mtime_ns for path in in_trained_cache.glob("*.bin")}
    extractor = classifier(easy()).load()
    assert f"{extractor.weights_hash} {extractor.accuracy}\n" == trained.found[0]
    assert not caplog.records
    assert {path: path.stat().st_mtime_ns for path in in_trained_cache.glob("*.bin")} == before
    assert len(before) == 1


@pytest.mark.slow
def test_easy_images_are_classified(in_trained_cache) -> None:
    accuracy = classifier(easy()).load().accuracy
    assert accuracy is not None
    assert 0.95 < accuracy <= 1


@pytest.mark.slow
def test_the_classifiers_features_have_mean_0_and_variance_1_on_the_training_images(in_trained_cache) -> None:
    dataset = easy()
    features = classifier(dataset)
    module = features.load().module
    with torch.inference_mode():
        found = module(pixels(dataset)).double()
        few = module(pixels(dataset)[:3]).double()
    assert found.shape == (700, features.width) == (700, 64)
    assert found.mean(0).abs().max() < 1e-4
    assert found.var(0, correction=0).tolist() == pytest.approx([1] * 64, abs=1e-3)
    assert torch.allclose(few, found[:3], atol=1e-5)  # nothing depends on the other images
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.slow
def test_without_a_writable_cache_the_same_classifier_is_trained(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    extractor = classifier(easy()).load()
    assert f"{extractor.weights_hash} {extractor.accuracy}\n" == trained.found[0]


def test_without_labels_there_is_no_classifier() -> None:
    with pytest.raises(ValueError, match=r"features=classifier.*without labels") as raised:
        classifier(make_dataset())
    assert "\n" not in str(raised.value)


def test_auto_takes_the_classifier_where_there_are_labels_and_random_features_where_not() -> None:
    assert auto(easy(), None).name == "classifier"
    assert auto(make_dataset(), None).name == "random"


# Random features


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 64, 64), (1, 9, 14)])
def test_random_features_are_standardised_and_the_same_every_time(shape: tuple[int, int, int]) -> None:
    dataset = make_dataset(shape, (200, 4, 4))
    features, again = random(dataset), random(dataset)
    one, other = features.load(), again.load()
    assert one.weights_hash == other.weights_hash
    assert one.accuracy is None
    x = pixels(dataset)
    found = one.module(x)
    assert torch.equal(found, other.module(x))
    assert found.shape == (200, features.width)
    assert found.double().mean(0).abs().max() < 1e-3
    assert found.double().var(0, correction=0).tolist() == pytest.approx([1] * features.width, abs=1e-2)
    assert not found.requires_grad


def test_random_weights_depend_on_the_channels_and_on_nothing_else() -> None:
    def weights(shape: tuple[int, int, int], seed: int) -> dict[str, Tensor]:
        module = random(make_dataset(shape, seed=seed)).load().module
        assert isinstance(module, Standardised)
        return module.module.state_dict()

    grey, others, colour = weights((1, 8, 8), 0), weights((1, 16, 16), 1), weights((3, 8, 8), 0)
    assert all(torch.equal(grey[name], others[name]) for name in grey)
    # Not the grey network with its first layer spread over three channels.
    assert not any(torch.equal(grey[name], colour[name]) for name in grey)
    one, other = (random(make_dataset(shape)).load().weights_hash for shape in ((1, 8, 8), (3, 8, 8)))
    assert one != other


@pytest.mark.parametrize("value", [0, 255])
def test_features_of_constant_images_are_finite(value: int) -> None:
    dataset = make_dataset()
    constant = {split: torch.full_like(images, value) for split, images in dataset.images.items()}
    found = random(replace(dataset, images=constant)).load().module(pixels(dataset))
    assert found.isfinite().all()


@pytest.mark.parametrize("pixel_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_features_see_images_in_the_unit_range_whatever_the_models_scale(pixel_range: tuple[float, float]) -> None:
    dataset = make_dataset()
    plain, scaled = random(dataset).load(), random(replace(dataset, pixel_range=pixel_range)).load()
    assert plain.weights_hash == scaled.weights_hash


# A user's module


class Flat(nn.Module):
    """All pixels, through one linear map."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.map = nn.Linear(64, width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(self.map(images.flatten(1)))


def test_a_users_module_gives_its_width_and_hash() -> None:
    module = Flat()
    features = of_module("flat", module, (1, 8, 8))
    extractor = features.load()
    assert (features.name, features.width) == ("flat", 5)
    assert (extractor.weights_hash, extractor.accuracy) == (weights_hash(module), None)
    x = torch.rand(7, 1, 8, 8)
    assert torch.equal(extractor.module(x), module.map(x.flatten(1)))  # dropout is off
    with torch.no_grad():
        module.map.bias[0] += 1
    assert features.load().weights_hash != extractor.weights_hash


@pytest.mark.parametrize(
    "function",
    [lambda x: x, lambda x: x.flatten(1)[0], lambda x: x.mean(), lambda x: x.flatten(1)[:1], lambda x: [x]],
    ids=["images", "vector", "number", "one row", "list"],
)
def test_a_module_that_does_not_give_a_vector_for_each_image_is_refused(function: Callable[[Tensor], Any]) -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return function(images)

    with pytest.raises(ValueError, match=r"evaluation.features=wrong: .*\[N,d\]") as raised:
        of_module("wrong", Wrong(), (1, 8, 8))
    assert "\n" not in str(raised.value)


def test_the_hash_covers_names_shapes_types_and_values() -> None:
    def of(name: str, values: Tensor) -> str:
        module = nn.Module()
        module.register_buffer(name, values)
        return weights_hash(module)

    values = torch.arange(6.0)
    last = values.clone()
    last[-1] = last[-1].nextafter(torch.tensor(9.0))
    same_bytes = values.view(torch.int32)
    hashes = [of("a", values), of("b", values), of("a", values.view(2, 3)), of("a", last), of("a", same_bytes)]
    assert len(set(hashes)) == 5
    assert of("a", values.clone()) == hashes[0]
    assert of("a", torch.arange(12.0)[::2] / 2) == hashes[0]  # whatever the memory layout
    assert all(len(h) == 12 and int(h, 16) >= 0 for h in hashes)
    assert of("a", torch.tensor(3)) != of("a", torch.tensor(4))


def test_the_hash_does_not_depend_on_the_order_of_the_parts() -> None:
    one, other = nn.Linear(2, 3), nn.Linear(3, 1)
    parts = [("one", one), ("other", other)]
    assert weights_hash(nn.Sequential(OrderedDict(parts))) == weights_hash(nn.Sequential(OrderedDict(parts[::-1])))


# Inception


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="the extra is installed")
def test_without_the_extra_inception_names_the_command_that_installs_it() -> None:
    with pytest.raises(ValueError, match=r"pip install -e \.\[inception\]") as raised:
        inception()
    assert "\n" not in str(raised.value)


def test_inception_has_no_layer_of_100_features() -> None:
    with pytest.raises(ValueError, match="num_features=100: must be one of 64, 192, 768, 2048"):
        inception(num_features=100)
