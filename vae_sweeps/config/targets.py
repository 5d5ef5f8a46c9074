"""From a config's `_target_` to the object that it names."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def instantiate_target(config: Mapping[str, Any], **more: Any) -> Any:
    """Call the config's `_target_`; its ValueError arrives as it is, not inside Hydra's."""
    try:
        return instantiate({**config, **more}, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise
