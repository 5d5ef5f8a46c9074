"""A training step of the user's own networks or likelihood, tried before anything is written."""

import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vae_sweeps.config.schema import Point
from vae_sweeps.models.build import build_vae, has_own_likelihood, has_own_networks
from vae_sweeps.models.copies import begin_step
from vae_sweeps.models.precision import DTYPES
from vae_sweeps.models.stacking import point_view, put_point
from vae_sweeps.models.vae import VAE, elbo_terms, initialise
from vae_sweeps.system.rng import generator

_NUM_IMAGES = 4
# The largest difference between a model in a pack and alone, relative to the largest number of its tensor.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


@dataclass(frozen=True)
class Trial:
    """What a trial step has found about a point's own parts.

    `why_alone` is why such points cannot share a pack, "" if they can. `mixes_images` is whether an image's terms
    depend on the other images of its batch, and `is_random` whether the networks draw random numbers in training.
    """

    why_alone: str = ""
    mixes_images: bool = False
    is_random: bool = False


_found: dict[str, Trial] = {}


def trial(point: Point, image_shape: tuple[int, int, int]) -> Trial:
    """Try the point's own parts on a few random images. Raises ValueError, in one line, if they cannot be trained."""
    if not has_own_networks(point.arch) and not has_own_likelihood(point.likelihood):
        return Trial()
    parts = [point.arch, point.likelihood, point.latent, point.posterior, point.precision, image_shape]
    key = json.dumps([*parts, list(point.data.get("pixel_range", [0, 1]))], sort_keys=True)
    if key not in _found:
        _found[key] = _try(point, image_shape)
    return _found[key]


@dataclass(frozen=True)
class _Step:
    """The terms of a step, and all tensors that it computes or changes, by name."""

    log_px: Tensor
    tensors: dict[str, Tensor]


def _try(point: Point, image_shape: tuple[int, int, int]) -> Trial:
    dtype = DTYPES[point.precision]
    low, high = point.data.get("pixel_range", (0.0, 1.0))
    draw = generator("trial")
    levels = torch.randint(0, 256, (_NUM_IMAGES, *image_shape), generator=draw)
    x = (levels / 255 * (high - low) + low).to(dtype)
    points = [replace(point, seed=seed) for seed in (point.seed, point.seed + 1)]
    alone = [_new(one, image_shape, dtype) for one in points]
    starts = [{name: tensor.clone() for name, tensor in vae.state_dict().items()} for vae in alone]
    eps = torch.randn(2, _NUM_IMAGES, point.latent, generator=draw, dtype=dtype)
    steps = [_step(vae, [one], x, eps[k : k + 1]) for k, (vae, one) in enumerate(zip(alone, points, strict=True))]
    _check(steps[0])
    is_random = _differs(alone[0], points[0], starts[0], x, eps[:1])
    mixes = not is_random and _mixes(alone[0], points[0], starts[0], x, eps[:1])
    if mixes:  # a bias before batch norm has no gradient but rounding, which Adam turns into other weights in a pack
        return Trial("they compute with the whole batch, as batch norm does", mixes, is_random)
    why_alone = _why_alone(points, image_shape, starts, steps, x, eps)
    if why_alone and is_random:
        why_alone = "they draw random numbers themselves; in packs only nn.Dropout does, as it does alone"
    return Trial(why_alone, mixes, is_random)


def _new(point: Point, image_shape: tuple[int, int, int], dtype: torch.dtype) -> VAE:
    vae = build_vae([point], image_shape)
    initialise(vae, generator("weights", point.seed))
    return vae.to(dtype).train()


def _step(vae: VAE, points: list[Point], x: Tensor, eps: Tensor, step: int = 0) -> _Step:
    begin_step(vae, [point.seed for point in points], step)
    try:
        terms = elbo_terms(vae, x, eps)
        vae.zero_grad()
        (terms.kl - terms.log_px).sum().backward()
    except Exception as error:
        words = " ".join(str(error).split())
        raise ValueError(f"a training step of your own parts raised {type(error).__name__}: {words}") from error
    grads = {f"gradient of {name}": p.grad for name, p in vae.named_parameters() if p.grad is not None}
    found = {"log_px": terms.log_px.detach(), "kl": terms.kl.detach(), **grads, **dict(vae.named_buffers())}
    return _Step(terms.log_px.detach(), {name: tensor.detach().clone() for name, tensor in found.items()})


def _check(step: _Step) -> None:
    if step.log_px.shape != (1, _NUM_IMAGES):
        raise ValueError(
            f"likelihood: log_prob returned {list(step.log_px.shape[1:])} for {_NUM_IMAGES} images; "
            f"must return log p(x|z) of each image, [{_NUM_IMAGES}]"
        )
    for name, tensor in step.tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"a training step of your own parts: {name} has NaN or infinity, with initial weights")


def _again(vae: VAE, start: dict[str, Tensor]) -> VAE:
    vae.load_state_dict(start)
    return vae


def _differs(vae: VAE, point: Point, start: dict[str, Tensor], x: Tensor, eps: Tensor) -> bool:
    """Whether a step with other random numbers has other terms."""
    first = _step(_again(vae, start), [point], x, eps)
    second = _step(_again(vae, start), [point], x, eps, step=1)
    return not torch.equal(first.log_px, second.log_px) or not torch.equal(first.tensors["kl"], second.tensors["kl"])


def _mixes(vae: VAE, point: Point, start: dict[str, Tensor], x: Tensor, eps: Tensor) -> bool:
    """Whether the first images have other terms without the others."""
    whole = _step(_again(vae, start), [point], x, eps)
    half = _step(_again(vae, start), [point], x[:2], eps[:, :2])
    pairs = ((whole.tensors[name][:, :2], half.tensors[name]) for name in ("log_px", "kl"))
    return not all(_is_close(a, b) for a, b in pairs)


def _why_alone(
    points: list[Point],
    image_shape: tuple[int, int, int],
    starts: list[dict[str, Tensor]],
    steps: list[_Step],
    x: Tensor,
    eps: Tensor,
) -> str:
    """Why two models cannot train in one pack as they do alone, "" if they can."""
    try:
        pack = build_vae(points, image_shape).to(x.dtype).train()
        state = pack.state_dict()
        for k, start in enumerate(starts):
            put_point(state, k, len(points), start)
        together = _step(pack, points, x, eps)
    except ValueError as error:
        return _first_sentence(str(error))
    for k, step in enumerate(steps):
        for name, tensor in step.tensors.items():
            if name not in together.tensors:
                return f"in a pack there is no {name}"
            found = together.tensors[name]
            if not _is_close(point_view(found, k, len(points), tensor.shape), tensor):
                return f"in a pack its {name} would be another one"
    return ""


def _is_close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
    return bool((a - b).abs().le(_TOLERANCE.get(b.dtype, 1e-3) * scale).all())


def _first_sentence(text: str) -> str:
    short = text.removeprefix("a training step of your own parts raised ").split(". ")[0]
    return short if len(short) <= 160 else f"{short[:157]}..."
