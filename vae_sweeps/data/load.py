"""From a point's config to its Dataset."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.data.dataset import Dataset


def load_dataset(data: Mapping[str, Any]) -> Dataset:
    """The data that a point names, on the CPU; a few are kept. Raises ValueError if it cannot be had."""
    return _cached_dataset(json.dumps(data, sort_keys=True))


@lru_cache(maxsize=4)
def _cached_dataset(data: str) -> Dataset:
    return instantiate_target(json.loads(data))
