"""Few and small digits, for tests of whole evaluations."""

from dataclasses import replace

from tests.conftest import make_point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.load import load_dataset


def part_of_digits() -> Dataset:
    """A part of the digits at half their size, so that a full evaluation takes a second."""
    whole = load_dataset(make_point().data)
    sizes = {"train": 500, "val": 50, "test": 150}
    assert whole.labels is not None
    return replace(
        whole,
        images={split: images[: sizes[split], :, ::2, ::2] for split, images in whole.images.items()},
        labels={split: labels[: sizes[split]] for split, labels in whole.labels.items()},
        fingerprint="a part of mnist5k",
    )
