"""The networks that are timed: what a command would train, and the same network as entries that any library can build.

An entry is a list of a kind and its arguments: linear (in, out); conv (in, out, kernel, stride, bias), padded by
(kernel - 1) // 2; deconv (in, out, kernel, bias), its mirror image of stride 2; from_point (in, out, [h, w], bias), a
transposed convolution of one pixel; norm (channels), batch normalisation; reshape (c, h, w); flatten; and activations.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.schema import Point
from vae_sweeps.data.load import load_dataset

Entry = list[Any]


@dataclass(frozen=True)
class Case:
    """A network and its images: [N,C,H,W] of one side; the overrides are those of a command."""

    name: str
    overrides: tuple[str, ...]
    side: int = 28
    num_images: int = 3500

    @property
    def point(self) -> Point:
        return compose_command(list(self.overrides))[0]


_OWN = (
    "likelihood=gaussian",
    "likelihood.sigma=1",
    "objective=elbo",
    "beta=1",
    "posterior=logvar",
    "arch.init=pytorch",
)
_RATES = ("optim.lr=0.0001", "optim.lr_decay_per_epoch=1")  # with a larger one, some seeds of celeba_tf1 diverge
# The number of images is a multiple of the batch size, so that no batch is smaller. The presets' networks on larger
# images have a smaller batch than the presets, 16 instead of 64: a step of 27 points would take a minute.
CASES = [
    Case("784-100-100-10", ("arch.hidden=[100,100]", "latent=10", "batch_size=64"), num_images=54 * 64),
    Case("784-500-500-20", ("arch.hidden=[500,500]", "latent=20", "batch_size=150"), num_images=23 * 150),
    Case("mnist_conv", ("experiment=mnist_conv", "posterior=logvar"), num_images=3500),
    Case(
        "celeba_conv_narrow",
        ("experiment=celeba_conv_narrow", *_OWN, *_RATES, "batch_size=16"),
        side=64,
        num_images=128,
    ),
    Case("celeba_tf1", ("experiment=celeba_tf1", *_OWN, *_RATES, "batch_size=16"), side=128, num_images=64),
]


def images_of(case: Case) -> np.ndarray:
    """Digits of `mnist5k`, or random colours in 8 x 8 blocks, smoothed: uint8 [N,C,H,W]."""
    if case.side == 28:
        digits = load_dataset(compose_command([])[0].data).images["train"]
        return digits[: case.num_images].numpy()
    blocks = torch.rand(case.num_images, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(blocks, (case.side, case.side), mode="bilinear").mul(255).byte().numpy()


def specification(case: Case, images: Path, device: str = "cpu") -> dict[str, Any]:
    """What a peer needs to know; `images` is the file of the images, and `device` is cpu or cuda."""
    point = case.point
    shape = (1 if case.side == 28 else 3, case.side, case.side)
    make = _mlp if "hidden" in point.arch else _conv
    encoder, num_features, decoder = make(point, shape)
    is_bernoulli = point.likelihood["_target_"].endswith("Bernoulli")
    return {
        "overrides": list(case.overrides),
        "images": str(images),
        "device": device,
        "precision": "fp32",
        "encoder": encoder,
        "features": num_features,
        "latent": point.latent,
        "decoder": decoder,
        "likelihood": "bernoulli" if is_bernoulli else "gaussian",
        "constant": 0.0 if is_bernoulli else -0.5 * math.prod(shape) * math.log(2 * math.pi),
        "batch_size": point.batch_size,
        "lr": point.optim.lr,
        "shape": shape,
        "pixel_range": list(point.data.get("pixel_range", [0, 1])),
    }


def _activation(point: Point) -> Entry:
    name = point.arch["activation"]
    return [name, point.arch["negative_slope"]] if name == "leaky_relu" else [name]


def _dense(widths: list[int], activation: Entry) -> list[Entry]:
    return [entry for a, b in pairwise(widths) for entry in (["linear", a, b], activation)]


def _mlp(point: Point, shape: tuple[int, int, int]) -> tuple[list[Entry], int, list[Entry]]:
    hidden, act = list(point.arch["hidden"]), _activation(point)
    encoder = [["flatten"], *_dense([math.prod(shape), *hidden], act)]
    decoder = _dense([point.latent, *reversed(hidden), math.prod(shape)], act)[:-1]
    return encoder, hidden[-1], decoder


def _conv(point: Point, shape: tuple[int, int, int]) -> tuple[list[Entry], int, list[Entry]]:
    """As `vae_sweeps.models.conv` builds it; without max pooling and other outputs."""
    arch, act, (num_in, height, width) = point.arch, _activation(point), shape
    channels, kernel, has_norm = list(arch["channels"]), arch["kernel"], arch["batch_norm"]
    norm = (lambda c: [["norm", c]]) if has_norm else (lambda c: [])
    encoder: list[Entry] = []
    for a, b in pairwise([num_in, *channels]):
        encoder += [["conv", a, b, kernel, 2, not has_norm], *norm(b), act]
    size = [height // 2 ** len(channels), width // 2 ** len(channels)]
    num_flat, dense, last_conv = channels[-1] * math.prod(size), list(arch["dense"]), arch["last_conv"]
    encoder += [["flatten"], *_dense([num_flat, *dense], act)]
    mirrored = [*reversed(channels), *([channels[0]] if last_conv else [])]
    out = list(arch["decoder_channels"] or mirrored)
    decoder = _dense([point.latent, *reversed(dense)], act)
    last = [point.latent, *reversed(dense)][-1]
    if arch["start"] == "transposed":
        decoder += [["from_point", last, out[0], size, not has_norm]]
    else:
        decoder += [["linear", last, out[0] * math.prod(size)], ["reshape", out[0], *size]]
    if arch["start"] != "linear":
        decoder += [*norm(out[0]), act]
    pairs = list(pairwise(out if last_conv else [*out, num_in]))
    for i, (a, b) in enumerate(pairs):
        is_image = not last_conv and i == len(pairs) - 1
        used = (arch["last_kernel"] or kernel) if i == len(pairs) - 1 else kernel
        decoder += [["deconv", a, b, used, not has_norm or is_image]]
        decoder += [] if is_image else [*norm(b), act]
    if last_conv:
        decoder += [["conv", out[-1], num_in, last_conv, 1, True]]
    decoder += [] if arch["output"] == "identity" else [[arch["output"]]]
    return encoder, [num_flat, *dense][-1], decoder
