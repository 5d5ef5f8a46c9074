"""Layers of one model equal torch.nn's; a convolutional decoder restores the size of the images."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import make_point
from vae_sweeps.config.schema import Point
from vae_sweeps.models import layers, stacking
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.init import initialise_layers
from vae_sweeps.models.size import num_flops, num_params
from vae_sweeps.models.stacking import put_point, take_point
from vae_sweeps.models.vae import initialise
from vae_sweeps.system.rng import generator
from vae_sweeps.training.pack import new_start

KERNELS = [2, 3, 4, 5]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conv_point(channels: list[int], kernel: int) -> Point:
    point = make_point("arch=conv", "latent=3")
    return replace(point, arch={**point.arch, "channels": channels, "kernel": kernel})


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_linear_of_one_model_equals_torchs() -> None:
    ours, theirs = layers.Linear(1, 5, 3).double(), nn.Linear(5, 3).double()
    put = {"weight": theirs.weight.T[None], "bias": theirs.bias[None, None]}
    ours.load_state_dict(put)
    x = random(4, 5)
    same(ours(x), theirs(x)[None])
    same(ours(x[None]), theirs(x)[None])


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_convolutions_of_one_model_equal_torchs(kernel, bias, size) -> None:
    padding = (kernel - 1) // 2
    ours = layers.Conv2d(1, 3, 4, kernel, stride=2, bias=bias).double()
    theirs = nn.Conv2d(3, 4, kernel, stride=2, padding=padding, bias=bias).double()
    ours.load_state_dict(theirs.state_dict())
    x = random(2, 3, *size)
    halved = ours(x)
    same(halved, theirs(x))
    assert halved.shape[2:] == (size[0] // 2, size[1] // 2)

    back = layers.ConvTranspose2d(1, 4, 3, kernel, stride=2, bias=bias).double()
    theirs_back = nn.ConvTranspose2d(
        4, 3, kernel, stride=2, padding=padding, output_padding=kernel % 2, bias=bias
    ).double()
    back.load_state_dict(theirs_back.state_dict())
    same(back(halved), theirs_back(halved))
    assert back(halved).shape == x.shape


def test_the_transposed_convolution_is_the_convolutions_transpose() -> None:
    """<conv x, y> = <x, transposed y> for equal weights."""
    for kernel in KERNELS:
        conv = layers.Conv2d(1, 3, 4, kernel, stride=2, bias=False).double()
        transposed = layers.ConvTranspose2d(1, 4, 3, kernel, stride=2, bias=False).double()
        conv.weight.data.copy_(random(*conv.weight.shape))
        transposed.weight.data.copy_(conv.weight)
        x, y = random(2, 3, 8, 6), random(2, 4, 4, 3, seed=1)
        assert (conv(x) * y).sum().item() == pytest.approx((x * transposed(y)).sum().item(), rel=1e-10)


def test_batch_norm_of_one_model_equals_torchs_with_its_running_statistics() -> None:
    ours, theirs = layers.BatchNorm2d(1, 4).double(), nn.BatchNorm2d(4).double()
    for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        b.data.copy_(random(4))
        a.data.copy_(b)
    for seed in range(3):
        x = 3 * random(5, 4, 3, 3, seed=seed) + 1
        same(ours(x), theirs(x))
        assert theirs.running_mean is not None
        assert theirs.running_var is not None
        same(ours.running_mean, theirs.running_mean)
        same(ours.running_var, theirs.running_var)
    ours.eval()
    theirs.eval()
    before = ours.running_mean.clone()
    x = random(5, 4, 3, 3, seed=9)
    same(ours(x), theirs(x))
    assert torch.equal(ours.running_mean, before)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("shape", "channels"),
    [((1, 28, 28), [4, 6]), ((3, 8, 8), [2, 3, 4]), ((1, 6, 10), [5]), ((2, 16, 8), [1, 2, 1]), ((1, 2, 2), [3])],
)
def test_the_decoder_restores_the_size_of_the_images(shape, channels, kernel) -> None:
    points = [conv_point(channels, kernel)] * 2
    pack = build_vae(points, shape)
    x = torch.rand(2, *shape)
    features = pack.encoder(x)
    assert features.shape == (2, 2, math.prod(shape[1:]) // 4 ** len(channels) * channels[-1])
    assert pack.decode(pack.encode(x).mu).shape == (2, 2, math.prod(shape))


@pytest.mark.parametrize(
    ("size", "channels"), [((28, 28), [1, 1, 1]), ((28, 21), [1, 1]), ((7, 7), [1]), ((3, 5), [1, 1, 1])]
)
def test_the_error_for_sides_that_cannot_be_halved_suggests_sides_that_can(size, channels) -> None:
    point = conv_point(channels, 4)
    with pytest.raises(ValueError, match=re.escape(f"arch.channels={channels}")) as raised:
        build_vae([point], (1, *size))
    message = str(raised.value)
    assert "\n" not in message
    assert f"{size[0]}x{size[1]}" in message
    offered = re.search(r"such as ([\d, ]+);", message)
    assert offered is not None
    for side in map(int, offered[1].split(", ")):
        assert build_vae([point], (1, side, side)).num_models == 1


def fan_ins(shape: Sequence[int], hidden: int, latent: int) -> dict[str, int]:
    """The fan_in of each parameter of an MLP, for PyTorch's bound 1/sqrt(fan_in): the inputs of its linear map."""
    num_pixels = math.prod(shape)
    names = {"encoder.layers.maps.0": num_pixels, "heads": hidden, "decoder.maps.0": latent, "decoder.maps.1": hidden}
    return {f"{name}.{kind}": fan_in for name, fan_in in names.items() for kind in ("weight", "bias")}


CONV_FAN_INS = {  # channels times kernel^2; a transposed convolution counts its output channels
    "encoder.convs.0": 1 * 16,
    "encoder.convs.1": 20 * 16,
    "heads": 30 * 4,
    "decoder.linear": 5,
    "decoder.convs.0": 20 * 16,
    "decoder.convs.1": 1 * 16,
}


@pytest.mark.parametrize("arch", ["mlp", "conv"])
def test_initial_weights_fill_pytorchs_bounds(arch) -> None:
    if arch == "mlp":
        point, bounds = make_point("arch.hidden=[40]", "latent=5"), fan_ins((1, 8, 8), 40, 5)
    else:
        point = make_point("arch=conv", "arch.channels=[20,30]", "latent=5")
        bounds = {f"{n}.{kind}": fan_in for n, fan_in in CONV_FAN_INS.items() for kind in ("weight", "bias")}
    start = new_start(point, (1, 8, 8))
    assert start.model.keys() == bounds.keys()
    for name, weight in start.model.items():
        bound = bounds[name] ** -0.5
        assert weight.abs().max().item() <= bound * (1 + 1e-6), name
        if weight.numel() >= 100:  # uniform: 5 standard errors of the standard deviation a/sqrt(3)
            assert weight.abs().max().item() > 0.9 * bound, name
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=5 * (0.2 / weight.numel()) ** 0.5), name


def test_bounds_of_initial_weights_equal_those_of_torchs_layers() -> None:
    """The largest of thousands of weights agrees with torch's, for each kind of layer."""
    for ours, theirs in (
        (layers.Linear(1, 30, 200), nn.Linear(30, 200)),
        (layers.Conv2d(1, 8, 50, 4, stride=2, bias=True), nn.Conv2d(8, 50, 4)),
        (layers.ConvTranspose2d(1, 50, 8, 4, stride=2, bias=True), nn.ConvTranspose2d(50, 8, 4)),
    ):
        initialise_layers(ours, generator("test"))
        assert ours.weight.abs().max().item() == pytest.approx(theirs.weight.abs().max().item(), rel=0.01)


PACKS = {
    "mlp": ["arch.hidden=[9,7]", "likelihood=gaussian", "likelihood.sigma=learned"],
    "conv": ["arch=conv", "arch.channels=[3,4]", "arch.batch_norm=true"],
}


@pytest.mark.parametrize("arch", PACKS)
def test_a_points_weights_are_the_same_in_any_pack(arch) -> None:
    """They are drawn from its seed, enter and leave a pack unchanged, and give the same outputs as outside a pack."""
    shape = (1, 8, 8)
    points = [replace(make_point(*PACKS[arch]), latent=n, seed=s) for n, s in ((2, 0), (5, 1), (3, 0))]
    pack, x = build_vae(points, shape).double(), torch.rand(6, *shape, dtype=torch.float64)
    starts = [new_start(point, shape).model for point in points]
    for k, start in enumerate(starts):
        put_point(pack.state_dict(), k, len(points), start)
    for k, start in enumerate(starts):
        taken = take_point(pack.state_dict(), k, len(points), start)
        for name, tensor in start.items():
            assert torch.equal(taken[name].float(), tensor), name
    for k, (point, start) in enumerate(zip(points, starts, strict=True)):
        alone = build_vae([point], shape).double()
        put_point(alone.state_dict(), 0, 1, start)
        mu = alone.encode(x).mu
        same(pack.encode(x).mu[k, :, : point.latent], mu[0])
        padded = torch.zeros(len(points), 6, 5, dtype=torch.float64)
        padded[k, :, : point.latent] = mu[0]
        same(pack.decode(padded)[k], alone.decode(mu)[0])


def test_initial_weights_depend_only_on_the_seed_and_the_architecture() -> None:
    point = make_point("arch.hidden=[9]", "latent=3")
    start = new_start(point, (1, 8, 8)).model
    others = [replace(point, beta=7.0), replace(point, precision="fp64"), replace(point, batch_size=3)]
    for other in others:
        assert all(torch.equal(new_start(other, (1, 8, 8)).model[name], start[name]) for name in start)
    reseeded = new_start(replace(point, seed=1), (1, 8, 8)).model
    assert not any(torch.equal(reseeded[name], start[name]) for name in start)


def test_models_of_a_pack_are_independent() -> None:
    """The gradient of one model's output is zero in every other model's weights."""
    for overrides in PACKS.values():
        points = [replace(make_point(*overrides), seed=seed) for seed in range(3)]
        pack = build_vae(points, (1, 8, 8))
        for k, point in enumerate(points):
            put_point(pack.state_dict(), k, 3, new_start(point, (1, 8, 8)).model)
        pack.decode(pack.encode(torch.rand(4, 1, 8, 8)).mu)[1].square().sum().backward()
        for name, parameter in pack.named_parameters():
            if parameter.grad is not None:
                parts = stacking.slots(parameter.grad, 3)
                assert (parts[[0, 2]] == 0).all(), name
                assert (parts[1] != 0).any(), name


@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 64, 64)])
@pytest.mark.parametrize("arch", ["mlp", "conv", "mlp_without_layers"])
def test_num_flops_equals_what_torch_counts(arch: str, image_shape: tuple[int, int, int]) -> None:
    chosen = ["arch=mlp", "arch.hidden=[]"] if arch == "mlp_without_layers" else [f"arch={arch}"]
    point = make_point(*chosen, "latent=7")
    vae = build_vae([point], image_shape)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        vae.decode(vae.encode(torch.zeros(1, *image_shape)).mu)
    assert num_flops(point, image_shape) == counter.get_total_flops()


def test_num_params_equals_a_count_by_hand() -> None:
    encoder = 784 * 100 + 100 + 100 * 100 + 100
    heads = 2 * (100 * 10 + 10)
    decoder = 10 * 100 + 100 + 100 * 100 + 100 + 100 * 784 + 784
    assert num_params(make_point("arch.hidden=[100,100]", "latent=10"), (1, 28, 28)) == encoder + heads + decoder
    learned = make_point("arch.hidden=[100,100]", "latent=10", "likelihood=gaussian", "likelihood.sigma=learned")
    assert num_params(learned, (1, 28, 28)) == encoder + heads + decoder + 1


def test_initialise_accepts_only_single_models() -> None:
    with pytest.raises(AssertionError):
        initialise(build_vae([make_point(), make_point("seed=1")], (1, 8, 8)), generator("test"))
