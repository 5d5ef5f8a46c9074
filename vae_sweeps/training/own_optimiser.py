"""Any optimiser of `torch.optim`, or of the user's own, for K models."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vae_sweeps.config.schema import Optim
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.models.stacking import slots

# Those of torch.optim that treat each number of a tensor alone, so that models can share a tensor.
_ELEMENTWISE = frozenset(
    ("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
)


def may_share(optim: Optim) -> bool:
    """Whether models with this optimiser can be stacked in one tensor."""
    if optim.algorithm != "custom":
        return True
    package, _, name = str(optim.custom["_target_"]).rpartition(".")
    return name in _ELEMENTWISE and (package == "torch.optim" or package.startswith("torch.optim."))


def check(optim: Optim) -> None:
    """Try a step of an optimiser of the user's own. Raises ValueError, in one line, if it cannot be used."""
    if optim.algorithm != "custom":
        return
    weight = nn.Parameter(torch.ones(1, 2, 2))
    found = _made([weight], optim)
    target = optim.custom["_target_"]
    if not isinstance(found, torch.optim.Optimizer):
        raise ValueError(
            f"optim.custom._target_={target}: must be a torch.optim.Optimizer; it is {type(found).__name__}"
        )
    weight.grad = torch.ones_like(weight)
    try:
        found.step()
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"optim.custom._target_={target}: a step raised {reason}; must be an optimiser whose step() needs "
            "gradients only, not a function that computes the loss again"
        ) from error


class OwnOptimiser:
    """An optimiser for each model, whose parameters are views of the stacked tensors."""

    def __init__(self, module: nn.Module, settings: Sequence[Optim]) -> None:
        self._parameters, num_models = dict(module.named_parameters()), len(settings)
        self._views: list[dict[str, Tensor]] = [
            {name: slots(p.detach(), num_models)[k : k + 1] for name, p in self._parameters.items()}
            for k in range(num_models)
        ]
        self._optimisers = [_made(list(v.values()), optim) for v, optim in zip(self._views, settings, strict=True)]

    def load(self, k: int, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set the state of model k, with the shapes of a VAE of one model."""
        for kind, of_parameters in moments.items():
            for name, value in of_parameters.items():
                view = self._views[k][name]
                self._optimisers[k].state[view][kind] = _padded(value, view)

    def of_point(self, k: int, alone: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Copy the state of model k to the CPU; numbers, such as counts of steps, become tensors."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, view in self._views[k].items():
            for kind, value in self._optimisers[k].state.get(view, {}).items():
                tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.tensor(float(value))
                if tensor.shape == view.shape:
                    like = alone[name]
                    tensor = tensor[0][tuple(slice(0, n) for n in like.shape)].reshape(like.shape)
                found.setdefault(kind, {})[name] = tensor.clone()
        return found

    def step(self, rates: Sequence[float]) -> None:
        """Update the parameters that have gradients."""
        grads = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        stacked = {name: slots(grad, len(rates)) for name, grad in grads.items()}
        for k, (views, optimiser) in enumerate(zip(self._views, self._optimisers, strict=True)):
            for name, view in views.items():
                view.grad = stacked[name][k : k + 1] if name in stacked else None
            for group in optimiser.param_groups:
                group["lr"] = rates[k]
            optimiser.step()


def _padded(value: Tensor, view: Tensor) -> Tensor:
    """A kept tensor in the shape of the parameter's view [1,...], with zeros as padding; counts stay on the CPU."""
    if not value.dim():
        return view.new_full(view.shape, value.item()) if view.dim() == 2 and view.numel() == 1 else value.clone()
    padded = torch.zeros_like(view, dtype=value.dtype)
    padded[0][tuple(slice(0, n) for n in value.shape)].copy_(value)
    return padded


def _made(parameters: list[Any], optim: Optim) -> Any:
    make = instantiate_target({**optim.custom, "_partial_": True})
    try:
        return make(parameters, lr=optim.lr)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"optim.custom._target_={optim.custom['_target_']}: raised {reason}") from error
