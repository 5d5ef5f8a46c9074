"""PyTorch without vae_sweeps: the products alone, a loop written for speed, and an ensemble by `torch.func.vmap`."""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as launch.py does, for all contestants

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks.peers.serving import Contestant, Stepper, serve
from benchmarks.peers.torch_device import computing, memory_of, set_precision, waiting_for


def layer(kind: str, *args: Any, has_statistics: bool = True) -> nn.Module:
    """The module of one entry of a case's encoder or decoder; `benchmarks.cases` describes the entries."""
    match kind, args:
        case "linear", (a, b):
            return nn.Linear(a, b)
        case "conv", (a, b, kernel, stride, bias):
            return nn.Conv2d(a, b, kernel, stride, (kernel - 1) // 2, bias=bias)
        case "deconv", (a, b, kernel, bias):
            padding = (kernel - 1) // 2
            return nn.ConvTranspose2d(a, b, kernel, 2, padding, 2 - kernel + 2 * padding, bias=bias)
        case "from_point", (a, b, size, bias):
            return nn.Sequential(nn.Unflatten(1, (a, 1, 1)), nn.ConvTranspose2d(a, b, size, bias=bias))
        case "norm", (channels,):
            return nn.BatchNorm2d(channels, track_running_stats=has_statistics)
        case "reshape", shape:
            return nn.Unflatten(1, tuple(shape))
        case "leaky_relu", (slope,):
            return nn.LeakyReLU(slope)
    return {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh, "flatten": nn.Flatten}[kind]()


class VAE(nn.Module):
    """One VAE; calling it with x [B,C,H,W] and eps [B,L] gives the loss, -ELBO in nats per image without constants."""

    def __init__(self, case: dict[str, Any], *, has_statistics: bool = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*(layer(*entry, has_statistics=has_statistics) for entry in case["encoder"]))
        self.heads = nn.Linear(case["features"], 2 * case["latent"])
        self.decoder = nn.Sequential(*(layer(*entry, has_statistics=has_statistics) for entry in case["decoder"]))
        self.is_bernoulli = case["likelihood"] == "bernoulli"

    def terms(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x|z), without constants, and KL: [B] each."""
        mu, logvar = self.heads(self.encoder(x)).chunk(2, -1)
        out = self.decoder(mu + (0.5 * logvar).exp() * eps).flatten(1)
        if self.is_bernoulli:
            nll = F.binary_cross_entropy_with_logits(out, x.flatten(1), reduction="none").sum(-1)
        else:
            nll = 0.5 * (out - x.flatten(1)).square().sum(-1)
        return nll, 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(-1)

    def forward(self, x: Tensor, eps: Tensor) -> Tensor:
        nll, kl = self.terms(x, eps)
        return (nll + kl).mean()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def batches(case: dict[str, Any], images: np.ndarray) -> Iterator[Tensor]:
    """Endless shuffled batches of images that are on the device, converted as they are read."""
    pixels, size, (low, high) = torch.from_numpy(images).to(case["device"]), case["batch_size"], case["pixel_range"]
    while True:
        order = torch.randperm(len(pixels), device=pixels.device)
        for start in range(0, len(pixels) - size + 1, size):
            yield pixels[order[start : start + size]].float().mul_((high - low) / 255).add_(low)


def tight_loop(
    case: dict[str, Any],
    images: np.ndarray,
    made_faster: Callable[[VAE], Callable[[Tensor, Tensor], Tensor]] = lambda model: model,
) -> Contestant:
    """One model in plain modules, with the fused Adam; `made_faster` returns the function that computes its loss."""
    model = VAE(case).to(case["device"])
    loss_of = made_faster(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=case["lr"], fused=True)
    drawn = batches(case, images)

    def advance() -> Tensor:
        eps = torch.randn(case["batch_size"], case["latent"], device=case["device"])
        with computing(case):
            loss = loss_of(next(drawn), eps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return Stepper(advance, count(model), wait=waiting_for(case))


def ensemble(case: dict[str, Any], images: np.ndarray, k: int) -> Contestant:
    """K models by vmap over `functional_call`, as PyTorch's tutorial on ensembles has it, with one fused Adam."""
    models = [VAE(case, has_statistics=False).to(case["device"]) for _ in range(k)]
    params, buffers = stack_module_state(models)
    base = VAE(case, has_statistics=False).to("meta")
    optimiser = torch.optim.Adam(params.values(), lr=case["lr"], fused=True)
    drawn = batches(case, images)

    def loss_of(params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, eps: Tensor) -> Tensor:
        return functional_call(base, (params, buffers), (x, eps))

    gradients = vmap(grad_and_value(loss_of), in_dims=(0, 0, None, 0))

    def advance() -> Tensor:
        eps = torch.randn(k, case["batch_size"], case["latent"], device=case["device"])
        with computing(case):
            grads, losses = gradients({name: p.detach() for name, p in params.items()}, buffers, next(drawn), eps)
        for name, parameter in params.items():
            parameter.grad = grads[name]
        optimiser.step()
        return losses.detach().mean()

    return Stepper(advance, count(models[0]), wait=waiting_for(case))


def bare_products(case: dict[str, Any], k: int) -> Contestant:
    """Only the products and convolutions of a step of k models, forward and backward: a lower bound for any program.

    All models have the same batch, so their first layers are one product; the others are batched products and grouped
    convolutions.
    """
    model, calls = VAE(case).to(case["device"]), list[Callable[[], Any]]()
    dtype = torch.bfloat16 if case["precision"] == "bf16" else torch.float32

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        is_first = not calls
        x, g = inputs[0].detach().to(dtype), torch.randn_like(output, dtype=dtype)
        weight = module.weight.detach().to(dtype)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        if isinstance(module, nn.Linear):
            mm = torch.mm if is_first or k == 1 else torch.bmm
            if is_first:
                weight, g = weight.repeat(k, 1), g.repeat(1, k)
            elif k > 1:
                x, weight, g = (of_one.repeat(k, 1, 1) for of_one in (x, weight, g))
            calls.append(lambda: (mm(x, weight.mT), mm(g.mT, x), None if is_first else mm(g, weight)))
            return
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        x = x if is_first else x.repeat(1, k, 1, 1)
        weight, g = weight.repeat(k, 1, 1, 1), g.repeat(1, k, 1, 1)
        transposed, wanted = isinstance(module, nn.ConvTranspose2d), [not is_first, True, False]
        num_groups = 1 if is_first else k
        setting = (module.stride, module.padding, module.dilation, transposed, module.output_padding, num_groups)

        def both() -> None:
            torch.ops.aten.convolution(x, weight, None, *setting)
            torch.ops.aten.convolution_backward(g, x, weight, None, *setting, wanted)

        calls.append(both)

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(remember)
    with torch.no_grad():
        size, device = case["batch_size"], case["device"]
        model(torch.rand(size, *case["shape"], device=device), torch.randn(size, case["latent"], device=device))

    def advance() -> float:
        with torch.no_grad():
            for call in calls:
                call()
        return math.nan

    return Stepper(advance, count(model), wait=waiting_for(case))


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Contestant:
    torch.manual_seed(0)
    set_precision(case)
    if name == "vmap":
        return ensemble(case, images, k)
    if name == "bare":
        return bare_products(case, k)
    assert k == 1, "one model"
    return tight_loop(case, images)


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # as vae_sweeps and JAX do
    serve(make, memory_of)
