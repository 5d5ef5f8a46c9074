"""Sweeps of variational autoencoders, trained together in packs, with numbers in nats."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_sweeps.loading import load
    from vae_sweeps.table import results

__all__ = ["load", "results"]


def __getattr__(name: str) -> Any:
    # Lazily, so that the command line need not wait for torch and pandas.
    if name == "results":
        from vae_sweeps.table import results

        return results
    if name == "load":
        from vae_sweeps.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
