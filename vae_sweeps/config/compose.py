"""Hydra's composition of points: many for a sweep, or one outside `launch.py`."""

import pickle
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from vae_sweeps.config.keys import GROUP_SCHEMAS, Command
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.point import to_command
from vae_sweeps.config.schema import Point
from vae_sweeps.system.files import ROOT

# In a wheel inside the package; in a checkout beside it.
CONF = next(folder for folder in (ROOT / "vae_sweeps" / "conf", ROOT / "conf") if folder.is_dir())


def register_schemas() -> None:
    """Tell Hydra the types of all keys; conf/*.yaml names these schemas in its defaults."""
    store = ConfigStore.instance()
    store.store(name="command_schema", node=Command)
    for (group, name), schema in GROUP_SCHEMAS.items():
        store.store(group=group, name=name, node=schema)


def compose_command(overrides: Sequence[str]) -> tuple[Point, LaunchOptions]:
    """What `overrides` of conf/ describe. Raises ValueError, or Hydra's errors, as `launch.py` would."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    OmegaConf.set_struct(cfg, False)
    return to_command(cfg)


def compose_sweep(
    config_loader: ConfigLoader,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    bases: dict[tuple[str, ...], bytes] | None = None,
) -> Iterator[DictConfig]:
    """The config of every point of a sweep, as `config_loader.load_sweep_config` would give it, without `hydra`.

    That takes 100 ms a point. Here each distinct choice of groups is composed once, and values are applied to
    copies of it by Hydra's own code, as it does itself after composing the groups. Who calls this several times with
    one `config` can pass the same dict of `bases` each time, so that what was composed once is kept.
    """
    assert isinstance(config_loader, ConfigLoaderImpl)
    parser = OverridesParser.create(config_loader=config_loader)
    parsed = {text: parser.parse_override(text) for text in dict.fromkeys(o for job in job_overrides for o in job)}
    chooses = {text: _chooses_group(config_loader, override) for text, override in parsed.items()}
    bases = {} if bases is None else bases  # pickled: read again, they are a copy in a third of deepcopy's time
    for job in job_overrides:
        groups = tuple(text for text in job if chooses[text])
        if groups not in bases:
            base = config_loader.load_sweep_config(config, list(groups))
            with open_dict(base):
                del base["hydra"]
            bases[groups] = pickle.dumps(base)
        cfg = pickle.loads(bases[groups])
        ConfigLoaderImpl._apply_overrides_to_config([parsed[text] for text in job if not chooses[text]], cfg)
        OmegaConf.set_struct(cfg, False)
        yield cfg


def _chooses_group(config_loader: ConfigLoaderImpl, override: Override) -> bool:
    """Whether the override belongs to the defaults list, by the rule of Hydra's own `create_defaults_list`."""
    return config_loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
