"""Options of convolutional networks compared with torch.nn, and the distributions of initial weights."""

import math

import pytest
import torch
from torch import nn

from tests.conftest import make_point
from vae_sweeps.models import layers, stacking
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.convolutional import conv
from vae_sweeps.models.init import initialise_layers
from vae_sweeps.models.stacking import put_point
from vae_sweeps.system.rng import generator
from vae_sweeps.training.pack import new_start

CONV = ["arch=conv", "arch.channels=[4,6]", "arch.kernel=3", "latent=3"]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_from_point_of_one_model_equals_torchs_transposed_convolution(bias: bool) -> None:
    ours, theirs = (
        layers.FromPoint(1, 5, 3, (4, 4), bias=bias).double(),
        nn.ConvTranspose2d(5, 3, 4, bias=bias).double(),
    )
    ours.load_state_dict({name: tensor[None] for name, tensor in theirs.state_dict().items()})
    z = random(7, 5)
    torch.testing.assert_close(ours(z[None]), theirs(z[:, :, None, None]), rtol=1e-12, atol=1e-12)


def test_from_point_stacks_its_models_as_channels() -> None:
    pack = layers.FromPoint(3, 2, 4, (2, 3), bias=True)
    initialise_layers(pack, generator("test"))
    z = torch.randn(3, 5, 2)
    for k in range(3):
        alone = layers.FromPoint(1, 2, 4, (2, 3), bias=True)
        alone.load_state_dict({name: stacking.slots(tensor, 3)[k] for name, tensor in pack.state_dict().items()})
        torch.testing.assert_close(pack(z)[:, 4 * k : 4 * k + 4], alone(z[k : k + 1]))


POOLED = [*CONV, "arch.downsampling=max_pool", "arch.dense=[7]"]


def test_max_pooling_is_a_convolution_that_keeps_the_size_and_a_maximum_over_2x2() -> None:
    point, shape = make_point(*POOLED), (2, 8, 12)
    vae = build_vae([point], shape)
    vae.load_state_dict(new_start(point, shape).model)
    weights = dict(vae.encoder.named_parameters())
    x = torch.rand(5, *shape)
    given = x
    for i in (0, 1):
        x = nn.functional.conv2d(x, weights[f"convs.{i}.weight"], weights[f"convs.{i}.bias"], padding=1).relu()
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    expected = (x.flatten(1) @ weights["dense.maps.0.weight"][0] + weights["dense.maps.0.bias"][0]).relu()
    torch.testing.assert_close(vae.encoder(given)[0], expected, rtol=1e-5, atol=1e-6)


def test_max_pooling_needs_an_odd_kernel() -> None:
    with pytest.raises(ValueError, match=r"^arch\.kernel=4: must be odd with arch\.downsampling=max_pool[^\n]*$"):
        build_vae([make_point(*POOLED, "arch.kernel=4")], (1, 8, 8))


def test_means_lie_in_the_range_of_the_output_function() -> None:
    z = 100 * torch.randn(1, 50, 3)
    for arch in (["arch=mlp"], CONV):
        for output, low, high in (("tanh", -1, 1), ("sigmoid", 0, 1)):
            point = make_point(*arch, "latent=3", "likelihood=gaussian", f"arch.output={output}")
            vae = build_vae([point], (1, 8, 8))
            put_point(vae.state_dict(), 0, 1, new_start(point, (1, 8, 8)).model)
            mean = vae.likelihood.mean(vae.decode(z))  # type: ignore[operator]
            assert low <= mean.min().item() < low + 0.4 * (high - low)
            assert high - 0.4 * (high - low) < mean.max().item() <= high


def test_the_slope_applies_only_to_leaky_relu() -> None:
    x = torch.tensor([-2.0, 3.0])
    assert layers.activation_function("leaky_relu", 0.2)(x).tolist() == pytest.approx([-0.4, 3.0])
    assert layers.activation_function("leaky_relu")(x).tolist() == pytest.approx(nn.LeakyReLU()(x).tolist())
    assert layers.activation_function("relu", 0.2)(x).tolist() == [0.0, 3.0]


def start_of(start: str, **options: object) -> dict[str, torch.Tensor]:
    networks = conv(
        num_models=1,
        image_shape=(1, 8, 8),
        latent=3,
        channels=[4, 6],
        kernel=4,
        batch_norm=True,
        activation="relu",
        start=start,
        **options,  # type: ignore[arg-type]
    )
    return dict(networks.decoder.named_parameters())


def test_the_parameters_of_each_decoder_start() -> None:
    """A dense start is normalised, a linear one is not, and a transposed one has no bias before its normalisation."""
    assert "norms.0.weight" in start_of("dense")
    assert "linear.bias" in start_of("dense")
    assert "norms.0.weight" not in start_of("linear")
    assert "norms.1.weight" in start_of("linear")
    transposed = start_of("transposed")
    assert transposed["linear.weight"].shape == (1, 3, 6, 2, 2)
    assert "linear.bias" not in transposed
    last = start_of("dense", last_conv=3)
    assert last["convs.1.weight"].shape == (4, 4, 4, 4)
    assert last["convs.2.weight"].shape == (1, 4, 3, 3)
    assert "convs.1.bias" not in last
    assert "convs.2.bias" in last


def test_the_decoders_channels_and_the_kernel_of_its_last_transposed_convolution_can_be_given() -> None:
    given = start_of("linear", decoder_channels=[5, 7, 9], last_kernel=3, last_conv=1)
    assert given["linear.weight"].shape == (1, 3, 5 * 2 * 2)
    shapes = [given[f"convs.{i}.weight"].shape for i in range(3)]
    assert shapes == [(5, 7, 4, 4), (7, 9, 3, 3), (1, 9, 1, 1)]
    assert start_of("transposed", last_kernel=3)["convs.1.weight"].shape == (4, 1, 3, 3)
    mirrored = start_of("dense", decoder_channels=[6, 4])
    assert {n: w.shape for n, w in mirrored.items()} == {n: w.shape for n, w in start_of("dense").items()}


@pytest.mark.parametrize(("last_conv", "num"), [(None, 2), (3, 3)])
def test_the_decoder_needs_channels_for_each_of_its_images(last_conv: int | None, num: int) -> None:
    for wrong in (num - 1, num + 1):
        with pytest.raises(ValueError, match=rf"^arch\.decoder_channels=\[[^\n]*: must have {num} entries[^\n]*$"):
            start_of("dense", decoder_channels=[4] * wrong, last_conv=last_conv)


LAYERS = {  # a layer of many weights, its fan_in and its fan_out, counted as PyTorch does
    "linear": (lambda: layers.Linear(1, 100, 300), 100, 300),
    "conv": (lambda: layers.Conv2d(1, 20, 60, 5, stride=2, bias=True), 20 * 25, 60 * 25),
    "transposed": (lambda: layers.ConvTranspose2d(1, 60, 20, 5, stride=2, bias=True), 20 * 25, 60 * 25),
    "from_point": (lambda: layers.FromPoint(1, 60, 20, (5, 5), bias=True), 20 * 25, 60 * 25),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_standard_deviations_of_initial_weights(kind: str) -> None:
    make, fan_in, fan_out = LAYERS[kind]
    cut = 0.87962566  # standard deviation of a standard normal that is cut at 2
    expected = {
        "pytorch": (1 / (3 * fan_in)) ** 0.5,
        "he": (2 / fan_in) ** 0.5,
        "xavier": (2 / (fan_in + fan_out)) ** 0.5,
        "truncated_normal": cut / fan_in**0.5,
    }
    for init, deviation in expected.items():
        layer = make()
        initialise_layers(layer, generator("test"), init)
        weight = layer.weight.detach().flatten().double()
        tolerance = 5 * (1 / weight.numel()) ** 0.5
        assert weight.std().item() == pytest.approx(deviation, rel=tolerance), init
        assert abs(weight.mean().item()) < tolerance * deviation, init
        assert layer.bias is not None
        assert (layer.bias == 0).all() == (init != "pytorch")
        if init == "truncated_normal":
            assert weight.abs().max().item() <= 2 / math.sqrt(fan_in) + 1e-6


@pytest.mark.parametrize("init", ["he", "xavier", "truncated_normal"])
def test_heads_are_drawn_like_the_layers(init: str) -> None:
    point = make_point("arch.hidden=[400]", "latent=50", f"arch.init={init}")
    start = new_start(point, (1, 4, 4)).model
    variance = {"he": 2 / 400, "xavier": 2 / 450, "truncated_normal": 0.87962566**2 / 400}[init]
    assert start["heads.weight"].std().item() == pytest.approx(variance**0.5, rel=5 / 40_000**0.5)
    assert (start["heads.bias"] == 0).all()


def test_a_posterior_of_kind_sigma_may_output_negative_values_or_zero() -> None:
    """sigma = |s|, and a floor of 1e-10 inside the logarithm of its square."""
    vae = build_vae([make_point("posterior=sigma", "arch.hidden=[]", "latent=3")], (1, 2, 2)).double()
    vae.heads.bias.data[0, 0, 1] = torch.tensor([-0.5, 0.0, 2.0])
    q = vae.encode(torch.zeros(1, 1, 2, 2, dtype=torch.float64))
    assert q.sigma.flatten().tolist() == [0.5, 0.0, 2.0]
    assert q.log_sigma.flatten().tolist() == pytest.approx([math.log(0.5), math.log(1e-5), math.log(2)], abs=1e-9)
