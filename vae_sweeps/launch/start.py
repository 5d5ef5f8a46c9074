"""Enter Hydra: what `python launch.py` and `vae-sweeps launch` do."""

import sys

import hydra
from omegaconf import DictConfig

from vae_sweeps.config import compose
from vae_sweeps.launch import door, entry, spellings
from vae_sweeps.system import before_torch


@hydra.main(version_base="1.3", config_path=str(compose.CONF), config_name="config")
def _main(cfg: DictConfig) -> None:
    """Train the point that `cfg` describes. With -m, Hydra calls the sweeper and the launcher instead."""
    entry.launch_one(cfg)


def start() -> None:
    """Launch what the arguments of this process describe, and exit."""
    before_torch.prepare()
    command = sys.argv
    sys.argv = [command[0], *spellings.for_hydra(command[1:])]
    compose.register_schemas()
    door.run_main(_main, command)
