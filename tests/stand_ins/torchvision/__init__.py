"""Stands where torchvision would: torch-fidelity and torchmetrics import names of it that FID does not use.

torchvision has no build on the package index for a torch without CUDA, so the tests of Inception go without it.
"""

import sys
from types import ModuleType


class _Anything(ModuleType):
    """A module where every name is a class of nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


for _name in ("datasets", "models", "transforms"):
    sys.modules[f"{__name__}.{_name}"] = _Anything(f"{__name__}.{_name}")
    globals()[_name] = sys.modules[f"{__name__}.{_name}"]
