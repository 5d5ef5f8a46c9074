"""Hydra's config store and the composition of a point outside `launch.py`."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from vae_sweeps.config import to_point
from vae_sweeps.schema import GROUP_SCHEMAS, Point

_CONF = Path(__file__).resolve().parent.parent / "conf"


def register_schemas() -> None:
    """Tell Hydra the types of all keys; conf/*.yaml names these schemas in its defaults."""
    store = ConfigStore.instance()
    store.store(name="point_schema", node=Point)
    for (group, name), schema in GROUP_SCHEMAS.items():
        store.store(group=group, name=name, node=schema)


def compose_point(overrides: Sequence[str]) -> Point:
    """The point that `overrides` of conf/ describe. Raises ValueError, or Hydra's errors, as `launch.py` would."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    OmegaConf.set_struct(cfg, False)
    return to_point(cfg)
