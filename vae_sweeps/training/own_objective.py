"""A loss of the user's own."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from vae_sweeps.config.schema import Objective
from vae_sweeps.config.targets import instantiate_target, located
from vae_sweeps.models.vae import Terms


def function_of(objective: Objective) -> Callable[[Terms, int, Tensor], Tensor] | None:
    """The user's loss as a function of the terms, the step (from 0) and beta [K,1]; None if there is none.

    The user's function `f(terms, step, **keys)` returns the loss of each image, [...,B] like `terms.log_px` and
    `terms.kl`, in its own units; `terms.kl_per_latent` is [...,B,L]. If it has an argument `beta`, it gets the point's,
    which objective.schedule may change with the step. Each model is in a row of its own, so a function of the last
    dimension, or of each image, computes them all.
    """
    if not objective.custom:
        return None
    function = instantiate_target({**objective.custom, "_partial_": True})
    takes_beta = "beta" in inspect.signature(located(objective.custom["_target_"])).parameters

    def loss(terms: Terms, step: int, beta: Tensor) -> Tensor:
        return function(terms, step, beta=beta) if takes_beta else function(terms, step)

    return loss


def check(objective: Objective) -> None:
    """Try the user's loss on random terms. Raises ValueError, in one line, if it cannot be trained with."""
    loss = function_of(objective)
    if loss is None:
        return
    target = objective.custom["_target_"]
    draw = torch.Generator().manual_seed(0)
    log_px = -torch.rand(2, 3, generator=draw).add(1).requires_grad_()
    kl = torch.rand(2, 3, 4, generator=draw).add(1).requires_grad_()
    try:
        found = loss(Terms(log_px, kl.sum(-1), kl), 0, torch.ones(2, 1))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"objective.custom._target_={target}: raised {reason}") from error
    if not isinstance(found, Tensor) or found.shape != (2, 3):
        shown = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"objective.custom._target_={target}: returned {shown} for terms of 2 models and 3 images, [2, 3]; must "
            "return the loss of each model and image"
        )
    if not found.isfinite().all() or not found.requires_grad:
        raise ValueError(f"objective.custom._target_={target}: must return finite numbers that depend on the terms")
    others = torch.autograd.grad(found[0].sum(), (log_px, kl), allow_unused=True)
    if any(grad is not None and grad[1].any() for grad in others):
        raise ValueError(f"objective.custom._target_={target}: the loss of one model depends on the terms of another")
