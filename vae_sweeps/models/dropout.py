"""Dropout under `torch.func.vmap`, with masks that were drawn outside, one for each model."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Call(NamedTuple):
    """A call of one of PyTorch's dropouts in training, on a tensor of this shape."""

    function: Callable[..., Tensor]
    shape: torch.Size
    p: float

    def drawn(self, like: Tensor) -> Tensor:
        """The factors, 0 or 1/(1-p), that the call draws from the global generators."""
        return self.function(like.new_ones(self.shape), self.p, True)


class Masks:
    """The calls of dropout that a module makes for inputs of certain shapes, and the masks to use in their place."""

    def __init__(self) -> None:
        self._calls: dict[Any, list[Call]] = {}

    def has_dropout(self, module: nn.Module) -> bool:
        return any(isinstance(part, _MODULES) for part in module.modules())

    def calls(self, key: Any, run: Callable[[], None]) -> list[Call]:
        """The calls that `run` makes, which are the same for every `key`."""
        if key not in self._calls:
            recorder = _Recorder()
            with recorder:
                run()
            self._calls[key] = recorder.calls
        return self._calls[key]

    @contextlib.contextmanager
    def applied(self, masks: list[Tensor]) -> Iterator[None]:
        """Multiply by `masks`, in order, wherever dropout is called in this block."""
        if not masks:
            yield
            return
        with _Player(masks):
            yield


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[Tensor, float, bool]:
    """Input, p and whether it is training, of a call of dropout."""
    given = dict(zip(("input", "p", "training"), args, strict=False)) | (kwargs or {})
    return given["input"], given.get("p", 0.5), given.get("training", True)


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FUNCTIONS:
            tensor, p, is_training = _arguments(args, kwargs)
            if is_training:
                self.calls.append(Call(func, tensor.shape, p))
        return func(*args, **(kwargs or {}))


class _Player(TorchFunctionMode):
    def __init__(self, masks: list[Tensor]) -> None:
        super().__init__()
        self._masks = iter(masks)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FUNCTIONS:
            tensor, _, is_training = _arguments(args, kwargs)
            return tensor * next(self._masks) if is_training else tensor
        return func(*args, **(kwargs or {}))
