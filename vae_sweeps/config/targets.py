"""Create the object that a config's `_target_` names."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def instantiate_target(config: Mapping[str, Any], **arguments: Any) -> Any:
    """Call the config's `_target_`. A ValueError is raised unchanged, not wrapped in Hydra's exception."""
    try:
        return instantiate({**config, **arguments}, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise
