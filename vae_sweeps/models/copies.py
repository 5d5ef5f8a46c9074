"""An ordinary module of one model as K models at once, by `torch.func`."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from vae_sweeps.models.dropout import Masks
from vae_sweeps.system.rng import seeded


class Copies(nn.Module):
    """K copies of a module that computes one model.

    With K = 1 the module runs as it is, so it may do whatever PyTorch can. With K > 1 its parameters and buffers
    [n,...] become [K*n,...] (numbers become [K]), and `torch.func.vmap` runs the K copies in one set of kernels. What
    it draws in training is a function of each model's seed and the step, the same alone and in a pack.
    """

    def __init__(self, module: nn.Module, num_models: int) -> None:
        super().__init__()
        self.num_models = num_models
        self.seeds, self.step = [0] * num_models, 0  # see `begin_step`
        self._shapes = {f"module.{name}": tensor.shape for name, tensor in _tensors(module).items()}
        # Not a submodule: its own tensors are never used.
        self._one = [_Caller(module if num_models == 1 else copy.deepcopy(module).to("meta"))]
        self.module = module
        self._masks = Masks()
        for owner in module.modules():
            owner._non_persistent_buffers_set.clear()  # what was drawn for them must be in checkpoints
        if num_models > 1:
            _stack(module, num_models)

    def begin_step(self, seeds: Sequence[int], step: int) -> None:
        """Set what the random numbers of the next call in training are a function of."""
        self.seeds, self.step = list(seeds), step

    def call(self, method: str, *inputs: Any, is_shared: Sequence[bool]) -> Tensor:
        """The method's result for each model, stacked, [K,...]; inputs that are not shared have K in front."""
        if self.num_models == 1:
            own = [x if shared else x[0] for x, shared in zip(inputs, is_shared, strict=True)]
            if not self.training:
                return self._one[0](method, *own).unsqueeze(0)
            with seeded("own", self.seeds[0], self.step, method, device=inputs[0].device):
                return self._one[0](method, *own).unsqueeze(0)
        views = {name: tensor.view(self.num_models, *self._shapes[name]) for name, tensor in _tensors(self).items()}
        if self._one[0].training != self.training:
            self._one[0].train(self.training)

        def one(tensors: dict[str, Tensor], masks: list[Tensor], *inputs: Any) -> Tensor:
            with self._masks.applied(masks):
                return functional_call(self._one[0], tensors, (method, *inputs))

        masks = self._drawn_masks(method, views, inputs, is_shared) if self.training else []
        in_dims = (0, 0, *(None if shared else 0 for shared in is_shared))
        return vmap(one, in_dims)(views, masks, *inputs)

    def _drawn_masks(
        self, method: str, views: dict[str, Tensor], inputs: Sequence[Any], is_shared: Sequence[bool]
    ) -> list[Tensor]:
        """The masks [K,...] of each dropout of this call, in order, drawn as each model alone draws them."""

        def run_first() -> None:
            own = [x if shared else x[0] for x, shared in zip(inputs, is_shared, strict=True)]
            with torch.no_grad(), seeded("own", self.seeds[0], self.step, method, device=inputs[0].device):
                first = {name: view[0].clone() for name, view in views.items()}
                functional_call(self._one[0], first, (method, *own))

        if not self._masks.has_dropout(self.module):
            return []
        key = (method, *(tuple(x.shape) for x in inputs))
        calls = self._masks.calls(key, run_first)
        drawn = []
        for seed in self.seeds:
            with seeded("own", seed, self.step, method, device=inputs[0].device):
                drawn.append([call.drawn(inputs[0]) for call in calls])
        return [torch.stack(masks) for masks in zip(*drawn, strict=True)]


def begin_step(model: nn.Module, seeds: Sequence[int], step: int) -> None:
    """Set, in all `Copies` of a model, what the random numbers of a training step are a function of."""
    for module in model.modules():
        if isinstance(module, Copies):
            module.begin_step(seeds, step)


class _Caller(nn.Module):
    """Calls any method of a module, since `functional_call` calls only `forward`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, method: str, *inputs: Any) -> Any:
        return self.module(*inputs) if method == "forward" else getattr(self.module, method)(*inputs)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; shared ones once."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _stack(module: nn.Module, num_models: int) -> None:
    """Give each parameter and buffer room for K models; what the module shares stays shared."""
    stacked: dict[int, Any] = {}

    def of(tensor: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        if id(tensor) not in stacked:
            size = (num_models * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else (num_models,)
            stacked[id(tensor)] = make(torch.zeros(size, dtype=tensor.dtype, device=tensor.device))
        return stacked[id(tensor)]

    for owner in module.modules():
        for name, parameter in list(owner._parameters.items()):
            if parameter is not None:
                needs = parameter.requires_grad
                owner._parameters[name] = of(parameter, lambda t, needs=needs: nn.Parameter(t, needs))  # type: ignore[assignment]
        for name, buffer in list(owner._buffers.items()):
            if buffer is not None:
                owner._buffers[name] = of(buffer, lambda t: t)
