"""Compose configs with Hydra: all points of a sweep, or a single command outside `launch.py`."""

import pickle
from collections.abc import Iterator, Sequence
from functools import cache

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
from vae_sweeps.config.template import Template
from vae_sweeps.system.files import ROOT

# In a wheel, conf/ is inside the package; in a checkout, next to it.
CONF = next(folder for folder in (ROOT / "vae_sweeps" / "conf", ROOT / "conf") if folder.is_dir())


@cache
def register_schemas() -> None:
    """Register the schemas with Hydra, once; the defaults lists of conf/*.yaml refer to them by name."""
    store = ConfigStore.instance()
    store.store(name="command_schema", node=Command)
    for (group, name), schema in GROUP_SCHEMAS.items():
        store.store(group=group, name=name, node=schema)


def compose_command(overrides: Sequence[str]) -> tuple[Point, LaunchOptions]:
    """Compose a command from `overrides`. Raises ValueError, or Hydra's errors, for a mistake in them."""
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
    """Yield the config of every point of a sweep, equal to `config_loader.load_sweep_config` without the key `hydra`.

    Hydra's method takes 100 ms per point. This function composes each distinct choice of groups once, and then applies
    the values to copies of it with Hydra's own code, just as Hydra does after it has composed the groups. A caller
    that composes several times with one `config` can pass the same dict of `bases` each time to keep what was composed.
    """
    assert isinstance(config_loader, ConfigLoaderImpl)
    parser = OverridesParser.create(config_loader=config_loader)
    parsed = {text: parser.parse_override(text) for text in dict.fromkeys(o for job in job_overrides for o in job)}
    chooses = {text: _chooses_group(config_loader, override) for text, override in parsed.items()}
    bases = {} if bases is None else bases  # pickled, since unpickling takes a third of the time of deepcopy
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


def compose_points(
    config_loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> Iterator[tuple[Point, LaunchOptions]]:
    """Yield what `to_command` makes of each config that `compose_sweep` yields.

    The points of a sweep differ in a few plain values. So one point is composed for each choice of groups and of keys,
    and each value is checked once (`Template`), which takes a hundredth of the time. A point that this cannot describe
    is composed alone, and so is one with a mistake, whose error is then the same as without other points.
    """
    assert isinstance(config_loader, ConfigLoaderImpl)
    parser = OverridesParser.create(config_loader=config_loader)
    parsed = {text: parser.parse_override(text) for text in dict.fromkeys(o for job in job_overrides for o in job)}
    chooses = {text: _chooses_group(config_loader, override) for text, override in parsed.items()}
    bases: dict[tuple[str, ...], bytes] = {}
    templates: dict[tuple[str, ...], Template] = {}
    for job in job_overrides:
        kind = tuple(text if chooses[text] else parsed[text].get_key_element() for text in job)
        known = templates.get(kind)
        command = known and known.command(parsed[text] for text in job if not chooses[text])
        if command is None:
            (cfg,) = compose_sweep(config_loader, config, [job], bases)
            command = to_command(cfg)
            if known is None:
                templates[kind] = Template(cfg)
        yield command


def _chooses_group(config_loader: ConfigLoaderImpl, override: Override) -> bool:
    """Whether the override chooses a group, by the same rule as Hydra's `create_defaults_list`."""
    return config_loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
