"""Checks before any work whether the chosen tracker can be used. Fast: imports neither wandb nor tensorboard."""

import importlib.util

from vae_sweeps.tracker import account


def check(mode: str) -> None:
    """Raise ValueError if `mode` is online and there is no key, or tensorboard and the package is not installed."""
    if mode == "online":
        account.require_key("tracker.mode=online", ", or take auto")
    if mode == "tensorboard":
        require_tensorboard("tracker=tensorboard")


def require_tensorboard(what: str) -> None:
    """Raise ValueError, which begins with `what`, if the package is not installed."""
    spec = importlib.util.find_spec("tensorboard")
    if spec is None or spec.origin is None:  # a folder of this name has no origin
        raise ValueError(f"{what}: needs the package tensorboard; pip install 'vae-sweeps[tensorboard]'")
