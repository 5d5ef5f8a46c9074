"""The optimisers of a pack: PyTorch's own updates, with the settings of each model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from vae_sweeps.config.schema import Optim
from vae_sweeps.models.stacking import put_point, slots, take_point
from vae_sweeps.training.own_optimiser import OwnOptimiser

Moments = dict[str, dict[str, Tensor]]

# What each algorithm keeps for each parameter, zero at first.
KEPT = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
    "rmsprop": ("square_avg", "momentum_buffer"),
}


class Optimiser(Protocol):
    """Updates the parameters of K models."""

    def load(self, k: int, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set what model k has kept, by its name and the parameter's, with the shapes of a VAE of one model."""
        ...

    def of_point(self, k: int, alone: dict[str, Tensor]) -> Moments:
        """Copy what model k has kept to the CPU, with the shapes of `alone`, the tensors of a VAE of one model."""
        ...

    def step(self, rates: Sequence[float]) -> None:
        """Update the parameters that have gradients; `rates` are the K learning rates of this step."""
        ...


def new_optimiser(module: nn.Module, settings: Sequence[Optim], step: int) -> Optimiser:
    """The optimiser of K models, which share an algorithm, as if `step` steps had been taken."""
    if settings[0].algorithm == "custom":
        return OwnOptimiser(module, settings)
    return StackedOptimiser(module, settings, step)


def zero_moments(settings: Optim, parameters: Mapping[str, Tensor]) -> Moments:
    """The moments of one model before the first step. Those of an optimiser of the user's own are empty."""
    kept = KEPT.get(settings.algorithm, ())
    return {kind: {name: torch.zeros_like(p.detach()) for name, p in parameters.items()} for kind in kept}


@dataclass
class _Slice:
    """Neighbouring models with equal settings: views of the parameters, and of what is kept for them."""

    models: range
    settings: Optim
    parameters: dict[str, Tensor]
    moments: Moments
    steps: dict[str, Tensor]
    rate: float | Tensor


class StackedOptimiser:
    """Adam, AdamW, SGD with momentum or RMSprop of K models, whose settings may differ.

    It calls PyTorch's kernels once for each run of neighbours with equal settings, on their slices of the stacked
    tensors. The class `torch.optim.Adam` would import PyTorch's compiler, which costs each process more than 2 s; the
    functions that it calls do not.

    On a GPU, learning rates are numbers of single precision in its memory: `prepare` writes them there, and `update`,
    which may be captured in a CUDA graph, reads them.
    """

    def __init__(self, module: nn.Module, settings: Sequence[Optim], step: int) -> None:
        self._settings, self._parameters = list(settings), dict(module.named_parameters())
        self.moments: Moments = zero_moments(settings[0], self._parameters)
        self._count = step
        self._slices: list[_Slice] = []
        self._rates: list[float] = []

    def load(self, k: int, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        for kind, alone in moments.items():
            put_point(self.moments[kind], k, len(self._settings), dict(alone))

    def of_point(self, k: int, alone: dict[str, Tensor]) -> Moments:
        return {
            kind: take_point(moments, k, len(self._settings), {name: alone[name] for name in moments})
            for kind, moments in self.moments.items()
        }

    def state(self) -> list[Tensor]:
        """All tensors that `update` changes, besides the parameters."""
        moments = [moment for by_name in self.moments.values() for moment in by_name.values()]
        return moments + [steps for part in self._slices for steps in part.steps.values()]

    def step(self, rates: Sequence[float]) -> None:
        self.prepare(rates)
        self.update()

    def prepare(self, rates: Sequence[float]) -> bool:
        """Set the learning rates of the next update, and count it.

        Returns whether that update calls other kernels than the one before, since other models have equal rates.
        """
        is_new = False
        if rates != self._rates:
            self._rates = list(rates)
            is_new = self._cut()
            for part in self._slices:
                self._set_rate(part, rates[part.models.start])
        self._count += 1
        return is_new

    @torch.no_grad()
    def update(self) -> None:
        """Update the parameters that have gradients, at the learning rates that were prepared."""
        grads = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        num_models = len(self._settings)
        of_models = grads if len(self._slices) == 1 else {n: slots(g, num_models) for n, g in grads.items()}
        for part in self._slices:
            first, last = part.models.start, part.models.stop
            own = grads if of_models is grads else {name: grad[first:last] for name, grad in of_models.items()}
            _UPDATES[part.settings.algorithm](part, own)

    def _cut(self) -> bool:
        """Cut the models into runs of equal settings and learning rates; returns whether the cuts have changed."""
        runs = groupby(range(len(self._rates)), key=lambda k: (_numbers_of(self._settings[k]), self._rates[k]))
        cuts = [range(members[0], members[-1] + 1) for members in (list(run) for _, run in runs)]
        if cuts == [part.models for part in self._slices]:
            return False
        self._slices = [self._slice(models) for models in cuts]
        return True

    def _slice(self, models: range) -> _Slice:
        return _Slice(
            models,
            self._settings[models.start],
            {name: self._part(p, models) for name, p in self._parameters.items()},
            {kind: {name: self._part(m, models) for name, m in by.items()} for kind, by in self.moments.items()},
            # Each call of a kernel counts its own steps.
            {name: torch.tensor(float(self._count), device=p.device) for name, p in self._parameters.items()},
            0.0,
        )

    def _set_rate(self, part: _Slice, rate: float) -> None:
        like = next(iter(self._parameters.values()))
        if not takes_rates_on_device(part.settings, like):
            part.rate = rate
        elif isinstance(part.rate, Tensor):
            part.rate.fill_(rate)
        else:
            part.rate = torch.full((), rate, device=like.device)

    def _part(self, tensor: Tensor, models: range) -> Tensor:
        num_models = len(self._settings)
        return tensor if len(models) == num_models else slots(tensor, num_models)[models.start : models.stop]


def takes_rates_on_device(optim: Optim, parameter: Tensor) -> bool:
    """Whether an update reads its learning rate from the memory of the parameters' device.

    PyTorch's fused kernels for GPUs do, in single precision.
    """
    is_gpu = parameter.device.type not in ("cpu", "mps")
    return is_gpu and parameter.dtype == torch.float32 and optim.algorithm in ("adam", "adamw", "sgd")


def _numbers_of(optim: Optim) -> tuple[Any, ...]:
    """What an update depends on, besides the learning rate."""
    return (*optim.betas, optim.eps, optim.weight_decay, optim.momentum, optim.nesterov, optim.alpha)


def _adam(part: _Slice, grads: Mapping[str, Tensor]) -> None:
    """Kingma & Ba 2015; with decoupled weight decay Loshchilov & Hutter 2019."""
    optim = part.settings
    adam(
        [part.parameters[name] for name in grads],
        list(grads.values()),
        [part.moments["exp_avg"][name] for name in grads],
        [part.moments["exp_avg_sq"][name] for name in grads],
        [],
        [part.steps[name] for name in grads],
        fused=True,
        amsgrad=False,
        beta1=optim.betas[0],
        beta2=optim.betas[1],
        lr=part.rate,  # type: ignore[arg-type]
        weight_decay=optim.weight_decay,
        decoupled_weight_decay=optim.algorithm == "adamw",
        eps=optim.eps,
        maximize=False,
    )


def _sgd(part: _Slice, grads: Mapping[str, Tensor]) -> None:
    """Sutskever et al. 2013, as PyTorch writes it: v = momentum v + g; w -= lr v, or lr (g + momentum v)."""
    optim = part.settings
    buffers = [part.moments["momentum_buffer"][name] if optim.momentum else None for name in grads]
    sgd(
        [part.parameters[name] for name in grads],
        list(grads.values()),
        buffers,
        fused=True,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
        lr=part.rate,  # type: ignore[arg-type]
        dampening=0.0,
        nesterov=optim.nesterov,
        maximize=False,
    )


def _rmsprop(part: _Slice, grads: Mapping[str, Tensor]) -> None:
    """Hinton's lecture 6e of 2012, with momentum."""
    optim = part.settings
    rmsprop(
        [part.parameters[name] for name in grads],
        list(grads.values()),
        [part.moments["square_avg"][name] for name in grads],
        [],
        [part.moments["momentum_buffer"][name] for name in grads] if optim.momentum else [],
        [part.steps[name] for name in grads],
        foreach=True,
        lr=part.rate,  # type: ignore[arg-type]
        alpha=optim.alpha,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
        centered=False,
    )


_UPDATES: dict[str, Callable[[_Slice, Mapping[str, Tensor]], None]] = {
    "adam": _adam,
    "adamw": _adam,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
}
