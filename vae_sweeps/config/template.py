"""Put the points of a sweep together from values that are checked once, instead of composing each point."""

from collections.abc import Iterable
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from vae_sweeps.config.errors import UserErrors
from vae_sweeps.config.keys import has_interpolation
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.point import checked_content, from_checked, is_allowed
from vae_sweeps.config.schema import Point


class Template:
    """One composed point, into which the values of points that set the same keys are put."""

    def __init__(self, cfg: DictConfig) -> None:
        """`cfg` is a composed config that `to_command` accepts; its values are changed."""
        self._cfg = cfg
        self._content = checked_content(cfg)
        self._is_plain = not has_interpolation(OmegaConf.to_container(cfg))
        self._values: dict[str, tuple[list[str], Any] | None] = {}

    def command(self, overrides: Iterable[Override]) -> tuple[Point, LaunchOptions] | None:
        """The point and the options with these values; None if only composing can tell, or if one is not allowed."""
        content = dict(self._content)
        for override in overrides:
            text = str(override.input_line)
            if text not in self._values:
                self._values[text] = self._checked(override)
            found = self._values[text]
            if found is None:
                return None
            _set(content, *found)
        try:
            return from_checked(content)
        except ValueError:
            return None

    def _checked(self, override: Override) -> tuple[list[str], Any] | None:
        """The path of the key that `override` sets, and its value as the config has it; None if it is not plain."""
        is_change = override.type == OverrideType.CHANGE and override.package is None
        if not self._is_plain or not is_change or "${" in str(override.input_line):
            return None
        *groups, name = path = override.key_or_group.split(".")
        node: Any = self._cfg
        for group in groups:
            node = node.get(group) if isinstance(node, DictConfig) else None
        if not isinstance(node, DictConfig) or name not in node or isinstance(node[name], DictConfig):
            return None
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], self._cfg)
            value = node[name]
            if isinstance(value, DictConfig) or not is_allowed(node, name):
                return None
        except UserErrors:
            return None
        return path, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _set(content: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value in nested dicts, of which those on the path are copied, since other points share them."""
    *groups, name = path
    for group in groups:
        inner = dict(content[group])
        content[group] = inner
        content = inner
    content[name] = value
