"""Enter Hydra: what `python launch.py` and `vae-sweeps launch` do."""

import sys

import hydra
from omegaconf import DictConfig

from vae_sweeps.config import compose
from vae_sweeps.launch import door, entry, where

# Keys that other programs spell as options. Hydra rejects options that it does not know.
_SPELLINGS = {"--dry-run": "dry_run=true"}


@hydra.main(version_base="1.3", config_path=str(compose.CONF), config_name="config")
def _main(cfg: DictConfig) -> None:
    """Train the point that `cfg` describes. With -m, Hydra calls the sweeper and the launcher instead."""
    entry.launch_one(cfg)


def start() -> None:
    """Launch what the arguments of this process describe, and exit."""
    sys.argv = [where.quoted(_SPELLINGS.get(argument, argument)) for argument in sys.argv]
    compose.register_schemas()
    door.run_main(_main)
