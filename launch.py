"""Train one point, or with -m a sweep of them: `python launch.py -m beta=0,0.01,1 latent=2,10,128`."""

import hydra
from omegaconf import DictConfig

from vae_sweeps import launching

launching.register_schemas()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Train the point that `cfg` describes; with -m Hydra hands the grid to the launcher instead."""
    launching.launch_one(cfg)


if __name__ == "__main__":
    launching.through_the_door(main)
