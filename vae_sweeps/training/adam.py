"""Adam (Kingma & Ba 2015), with PyTorch's fused kernel."""

import torch
from torch import nn
from torch.optim.adam import adam

from vae_sweeps.config.schema import Optim


class Adam:
    """Adam with the settings `optim` and zero moments, as if `step` steps had been taken.

    It takes the same steps as `torch.optim.Adam(..., fused=True)`. That class would import PyTorch's compiler, which
    costs each process more than 2 s; the function that it calls does not. `exp_avg` and `exp_avg_sq` are the moments by
    parameter name, and `lr` may be set.
    """

    def __init__(self, module: nn.Module, optim: Optim, step: int) -> None:
        self.lr = optim.lr
        self._optim, self._parameters = optim, dict(module.named_parameters())
        self.exp_avg = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._steps = {name: torch.tensor(float(step), device=p.device) for name, p in self._parameters.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have gradients."""
        grads = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        adam(
            [self._parameters[name] for name in grads],
            list(grads.values()),
            [self.exp_avg[name] for name in grads],
            [self.exp_avg_sq[name] for name in grads],
            [],
            [self._steps[name] for name in grads],
            fused=True,
            amsgrad=False,
            beta1=self._optim.betas[0],
            beta2=self._optim.betas[1],
            lr=self.lr,
            weight_decay=self._optim.weight_decay,
            eps=self._optim.eps,
            maximize=False,
        )
