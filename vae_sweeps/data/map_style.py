"""Data sets of other people's code: anything with a length and items, such as those of torchvision."""

from collections.abc import Mapping
from typing import Any, Unpack

from vae_sweeps.config import source, trust
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.data.arrays import ArrayOptions, as_images, as_labels, dataset_of
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.items import read_items, stamps
from vae_sweeps.system import cache


def torch_dataset(
    dataset: Mapping[str, Any],
    val_dataset: Mapping[str, Any] | None,
    test_dataset: Mapping[str, Any] | None,
    version: str,
    channels: str,
    **options: Unpack[ArrayOptions],
) -> Dataset:
    """The images, and labels, of a map-style data set of the user's choice, read once into the cache.

    Items are images or (image, label, ...): PIL's, arrays or tensors of bytes, or of floats in [0,1]. They are read
    again if the code, an argument, or a file at or under a path among the arguments has changed, and with another text
    as `version`. Raises ValueError if the data set has no length, or an item that is no image.
    """
    named = {"train": dataset, "val": val_dataset, "test": test_dataset}
    used = {
        split: config for split, config in named.items() if config is not None and config.get("_target_") is not None
    }
    if "train" not in used:
        raise ValueError("data.dataset._target_=null: must be the full dotted name of a data set, as in my_data.Shapes")
    splits = {}
    for split, config in used.items():
        target = str(config["_target_"])
        recipe = {
            "dataset": {name: [str(value), *stamps(value)] for name, value in config.items()},
            "source": source.digest(trust.targets_in(config)),
            "version": version,
            "channels": channels,
        }
        read = cache.once(
            "dataset",
            recipe,
            lambda config=config, target=target: read_items(target, instantiate_target(config), channels),
        )
        images = as_images(read["images"].numpy(), "first" if read["is_channels_first"] else channels, target)
        labels = as_labels(read["labels"].numpy(), target) if "labels" in read else None
        splits[split] = (images, labels)
    name = str(used["train"]["_target_"]).rpartition(".")[2]
    return dataset_of(name, splits, str(used["train"]["_target_"]), options)
