"""A stand-in for a GPU: a device of PyTorch beside the CPU, whose kernels are those of the CPU.

Its tensors cannot be mixed with those of the CPU, and NumPy cannot read them, so code that forgets to move something
fails here as it does on a GPU. The numbers are those of the CPU, to the bit. `watched` counts what a GPU would start,
and what the program would wait for. It takes the place that PyTorch keeps for other packages' devices, `privateuseone`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "standin"

aten = torch.ops.aten
# These return numbers, or tensors whose size depends on numbers.
_NUMBERS = {aten._local_scalar_dense, aten.equal, aten.is_nonzero}
_OF_UNKNOWN_SIZE = {aten.nonzero, aten.masked_select, aten._unique2}
_COPIES = {aten.copy_, aten._to_copy}


@dataclass
class Watched:
    """The operations that a GPU would start, in order, and those for which the program would wait.

    Copies to and from the CPU are among the latter, though a GPU copies pinned memory on its own.
    """

    started: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Recorded:
    """An operation of a graph, on tensors of the CPU: each replay runs it on the same ones."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor | None]  # None for an argument that the operation returns

    def run(self) -> None:
        found = self.function(*self.args, **self.kwargs)
        for result, new in zip(self.results, _tensors_in(found), strict=True):
            if result is not None:
                result.copy_(new)


# Older versions of PyTorch have no devices that are written in Python.
IS_POSSIBLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")

_watchers: list[Watched] = []
_graph: list[_Recorded] | None = None
_most_bytes = math.inf


class Generator(torch.Generator):
    """In place of `torch.Generator`, which knows no generators of the stand-in: always one of the CPU."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        return super().__new__(cls)


class _OnDevice(Tensor):
    """A tensor of the stand-in, which holds one of the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "_OnDevice":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.shape, **layout, device=f"{NAME}:0")  # type: ignore[attr-defined]
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{NAME}: {self.held}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            return func.decompose(*args, **kwargs)  # as PyTorch does itself outside of inference mode
        if func.overloadpacket in _COPIES:
            return _copied(func, args, kwargs)
        return _computed(func, args, kwargs)


def _held(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.held if isinstance(value, _OnDevice) else value


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    operation = func.overloadpacket
    tensors = _tensors_in((args, kwargs))
    if any(tensor.dim() and not isinstance(tensor, _OnDevice) for tensor in tensors):  # single numbers may be mixed
        raise RuntimeError(f"{func}: expected all tensors to be on {NAME}, but found some on cpu")
    for watcher in _watchers:
        if operation in _NUMBERS | _OF_UNKNOWN_SIZE:
            watcher.waits.append(str(func))
        elif not func.is_view and operation not in (aten.detach, aten._unsafe_view):
            watcher.started.append(str(func))
    found = _run(func, tree_map(_held, args), tree_map(_held, kwargs))
    if operation in _NUMBERS:
        return found
    for tensor in _tensors_in(found):
        if tensor.nbytes > _most_bytes:
            raise torch.OutOfMemoryError(f"{NAME} out of memory: {func} needs {tensor.nbytes} bytes")
    # In inference mode, too, a view of an ordinary tensor is an ordinary one.
    is_inference = args[0].is_inference() if func.is_view else torch.is_inference_mode_enabled()
    with torch.inference_mode(is_inference):
        found = tree_map(lambda leaf: _OnDevice(leaf) if isinstance(leaf, Tensor) else leaf, found)
        return found if is_inference and func.is_view else return_and_correct_aliasing(func, args, kwargs, found)


def _tensors_in(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on tensors of the CPU, or only record it while a graph is captured."""
    if _graph is None or func.is_view:
        return func(*args, **kwargs)
    if func.overloadpacket in _NUMBERS | _OF_UNKNOWN_SIZE:
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")

    # On copies, since nothing is computed yet.
    args_now, kwargs_now = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, (args, kwargs))
    found, given = func(*args_now, **kwargs_now), set(map(id, _tensors_in((args_now, kwargs_now))))
    results = [None if id(tensor) in given else tensor for tensor in _tensors_in(found)]
    _graph.append(_Recorded(func, args, kwargs, results))
    return found


def captured(compute: Callable[[], None]) -> Callable[[], None]:
    """As a CUDA graph: what `compute` starts is only recorded, and run by each call of the function returned.

    A replay reads and writes the same tensors, and passes the same numbers, as when it was recorded.
    """
    global _graph
    _graph = graph = []
    try:
        compute()
    finally:
        _graph = None

    def replay() -> None:
        for watcher in _watchers:
            watcher.started.append("graph")
        for recorded in graph:
            recorded.run()

    return replay


def _copied(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    is_in_place = func.overloadpacket is aten.copy_
    source = args[1] if is_in_place else args[0]
    target = args[0].device if is_in_place else torch.device(kwargs.get("device") or source.device)
    is_to_device, is_from_device = target.type == NAME, isinstance(source, _OnDevice)
    for watcher in _watchers:
        (watcher.started if is_to_device and is_from_device else watcher.waits).append(str(func))
    if _graph is not None and not (is_to_device and is_from_device):
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
    found = _run(func, tree_map(_held, args), tree_map(_held, kwargs))
    if is_in_place:
        return args[0]
    return _OnDevice(found) if is_to_device else found


_library: list[torch.library.Library] = []


@contextlib.contextmanager
def in_use() -> Iterator[torch.device]:
    """The stand-in, which is made when it is first used, and which programs can use as a GPU in this block."""
    device, of_cpu = _device(), torch.Generator
    torch.Generator = Generator  # type: ignore[misc]
    try:
        # PyTorch's threads for gradients serve the devices that there were at the first gradient of the process.
        with torch.autograd.set_multithreading_enabled(False):
            yield device
    finally:
        torch.Generator = of_cpu  # type: ignore[misc]


def _device() -> torch.device:
    if not _library:
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        library = torch.library.Library("aten", "IMPL")

        def empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
            return _OnDevice(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))

        def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
            return _OnDevice(torch.empty_strided(size, stride, dtype=dtype))

        def eye(n: int, *, dtype: Any = None, **_: Any) -> Tensor:
            return _OnDevice(torch.eye(n, dtype=dtype))

        def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
            if _graph is not None:
                raise RuntimeError("aten._copy_from: operation not permitted when stream is capturing")
            for watcher in _watchers:
                watcher.waits.append("aten._copy_from")
            _held(target).copy_(_held(source))
            return target

        library.impl("empty.memory_format", empty, "PrivateUse1")
        library.impl("empty_strided", empty_strided, "PrivateUse1")
        library.impl("eye", eye, "PrivateUse1")  # PyTorch's own resizes a tensor
        library.impl("_copy_from", copy_from, "PrivateUse1")  # of torch.tensor
        _library.append(library)
    return torch.device(NAME, 0)


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """What the stand-in does in this block."""
    watcher = Watched()
    _watchers.append(watcher)
    try:
        yield watcher
    finally:
        _watchers.remove(watcher)


@contextlib.contextmanager
def limited(num_bytes: float) -> Iterator[None]:
    """Operations whose result is larger than `num_bytes` raise `torch.OutOfMemoryError` in this block."""
    global _most_bytes
    _most_bytes = num_bytes
    try:
        yield
    finally:
        _most_bytes = math.inf
