"""Train one point, or with -m a sweep of them: `python launch.py -m beta=0,0.01,1 latent=2,10,128`."""

import os

# Before torch is imported: by default its threads wait for each other by spinning for long, which on a machine where
# anything else runs starves the very thread they wait for (measured at K = 9 beside two busy processes on two cores:
# 101 ms a step and point, 6 ms with this; on a quiet machine no difference was seen).
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import hydra
from omegaconf import DictConfig

from vae_sweeps.config import compose
from vae_sweeps.launch import door, entry

compose.register_schemas()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Train the point that `cfg` describes; with -m Hydra hands the grid to the launcher instead."""
    entry.launch_one(cfg)


if __name__ == "__main__":
    door.through_the_door(main)
