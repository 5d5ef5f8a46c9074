"""The fixed binarisation of MNIST is read as published, and damage is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.idx_files import load, options
from vae_sweeps.data.dataset import SPLITS, for_evaluation
from vae_sweeps.data.mnist_family import mnist5k

NAMES = {
    "train": "binarized_mnist_train.amat",
    "val": "binarized_mnist_valid.amat",
    "test": "binarized_mnist_test.amat",
}
NUM_IMAGES = {"train": 7, "val": 3, "test": 4}


def bits() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {split: rng.integers(0, 2, (num, 28, 28), dtype=np.uint8) for split, num in NUM_IMAGES.items()}


@pytest.fixture
def root(tmp_path) -> Path:
    """The three files, written as text: a line for each image."""
    for split, images in bits().items():
        np.savetxt(tmp_path / NAMES[split], images.reshape(len(images), -1), fmt="%d")
    return tmp_path


def test_the_images_are_those_of_the_files_whatever_the_seed(root) -> None:
    dataset = load(root, binarize="larochelle", seed=5)
    assert dataset.labels is None
    for split, images in bits().items():
        assert torch.equal(dataset.images[split], torch.from_numpy(255 * images)[:, None])
        assert torch.equal(for_evaluation(dataset, split), dataset.images[split])
    assert dataset.fingerprint == load(root, binarize="larochelle").fingerprint


def test_training_on_all_images(root) -> None:
    everything = load(root, binarize="larochelle", train_on="all")
    assert torch.equal(
        everything.images["train"], torch.cat([load(root, binarize="larochelle").images[split] for split in SPLITS])
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: b"", "0 bytes, expected a multiple of 1568"),
        (lambda text: text[:-2], "4702 bytes, expected a multiple of 1568"),
        (lambda text: text.replace(b"\n", b" "), "line 1 does not consist of 784 numbers 0 or 1"),
        (lambda text: text[:1568] + b"2" + text[1569:], "line 2 does not consist of 784 numbers 0 or 1"),
    ],
)
def test_a_damaged_file_is_named(damage, reason: str, root) -> None:
    path = root / NAMES["val"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{path}: {reason}"):
        load(root, binarize="larochelle")


def test_other_digits_have_no_such_binarisation() -> None:
    with pytest.raises(ValueError, match=r"^data.binarize=larochelle: mnist5k has no such binarisation; use static"):
        mnist5k(None, **options(binarize="larochelle"))
