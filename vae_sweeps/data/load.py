"""Load a point's Dataset from its config."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vae_sweeps.config.own_names import OWN
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.data.contract import check_splits
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.remembered import Remembered, recall, remember


def load_dataset(data: Mapping[str, Any]) -> Dataset:
    """Load a point's data on the CPU; the last few data sets stay cached. Raises ValueError if loading fails."""
    return _cached_dataset(json.dumps(data, sort_keys=True))


@lru_cache(maxsize=4)
def _cached_dataset(data: str) -> Dataset:
    config = json.loads(data)
    dataset = instantiate_target(config)
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"_target_={config['_target_']}: returned {type(dataset).__name__}; must return a vae_sweeps.data.Dataset "
            "(for a data set of PyTorch, use data=torch_dataset)"
        )
    if config["_target_"] not in OWN:
        check_splits(dataset)
    elif dataset.files is not None:
        found = Remembered(dataset.fingerprint, dataset.describe())
        if recall(config) != found:
            remember(config, found, dataset.files)
    return dataset
