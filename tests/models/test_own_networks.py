"""A user's own networks and likelihoods: ordinary modules of one model, the same alone and in a pack."""

import random
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.conftest import make_dataset, make_point
from tests.helpers import own_parts
from tests.helpers.training import train_points
from vae_sweeps.config import trust
from vae_sweeps.config.schema import Point
from vae_sweeps.launch.packing import limit_of, pack_key
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.size import num_params
from vae_sweeps.models.trial import trial
from vae_sweeps.training.pack import Pack, new_start

SHAPE = (1, 8, 8)
PARTS = "tests.helpers.own_parts"


@pytest.fixture(autouse=True)
def _trusted() -> Iterator[None]:
    names = [name for name in vars(own_parts) if not name.startswith("_")]
    with trust.allowing(f"{PARTS}.{name}" for name in names):
        yield


def own_point(*overrides: str, encoder: str = "Encoder", decoder: str = "Decoder", precision: str = "fp64") -> Point:
    return make_point(
        *("arch=custom", f"arch.encoder._target_={PARTS}.{encoder}", f"arch.decoder._target_={PARTS}.{decoder}"),
        *("latent=2", "steps=6", "batch_size=16", f"precision={precision}", *overrides),
    )


def trained(points: list[Point], in_folders, name: str) -> list[dict[str, torch.Tensor]]:
    pack, _ = train_points(points, in_folders(len(points), name), make_dataset())
    return [pack.model_state(k) for k in range(len(points))]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-9), ("fp32", 1e-4)])
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="residual"),
        pytest.param(("+arch.encoder.dropout=0.5",), id="dropout"),
        pytest.param(
            ("likelihood=custom", f"likelihood._target_={PARTS}.StudentT", "+likelihood.df=3"), id="likelihood"
        ),
        pytest.param(("likelihood=custom", f"likelihood._target_={PARTS}.TwoPerPixel", "arch=mlp"), id="two per pixel"),
    ],
)
def test_points_in_a_pack_equal_those_alone(overrides, precision: str, tolerance: float, in_folders) -> None:
    if "arch=mlp" in overrides:
        points = [make_point(*overrides, "steps=6", "batch_size=16", f"precision={precision}", f"seed={s}", "latent=2",
                             "arch.hidden=[4]") for s in (0, 1, 2)]  # fmt: skip
    else:
        points = [own_point(*overrides, f"seed={seed}", f"beta={seed}", precision=precision) for seed in (0, 1, 2)]
    assert len({pack_key(point) for point in points}) == 1
    assert limit_of(points[0], SHAPE, 1e9) > 1
    together = trained(points, in_folders, "pack")
    for k, point in enumerate(points):
        (alone,) = trained([point], in_folders, f"alone{k}-")
        assert_same(alone, together[k], tolerance)


def test_weights_are_a_function_of_the_seed_alone() -> None:
    starts = []
    for seed in (0, 1, 0):
        torch.manual_seed(len(starts))
        random.seed(len(starts))
        np.random.seed(len(starts))
        starts.append(new_start(own_point(f"seed={seed}"), SHAPE).model)
    assert_same(starts[0], starts[2], 0)
    weight = "encoder.copies.module.layers.0.weight"
    assert not torch.equal(starts[0][weight], starts[1][weight])
    assert "encoder.copies.module.offset" in starts[0]  # also what a module does not save was drawn


def test_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
    new_start(own_point("+arch.encoder.dropout=0.5", encoder="Noisy"), SHAPE)
    trial(own_point("+arch.encoder.dropout=0.5", encoder="Noisy"), SHAPE)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    after = np.random.get_state(legacy=False)
    assert np.array_equal(after["state"]["key"], before[2]["state"]["key"])


@pytest.mark.parametrize(
    ("encoder", "overrides", "reason"),
    [
        ("Encoder", ["+arch.encoder.batch_norm=true"], "whole batch"),
        ("Noisy", [], "random numbers"),
        ("Branching", [], "item"),
    ],
)
def test_what_cannot_share_a_pack_trains_alone_and_is_repeatable(encoder, overrides, reason, in_folders) -> None:
    points = [own_point(*overrides, f"seed={seed}", encoder=encoder) for seed in (0, 1)]
    assert reason in trial(points[0], SHAPE).why_alone
    assert [limit_of(point, SHAPE, 1e9) for point in points] == [1, 1]
    once = trained(points[:1], in_folders, "once")
    again = trained(points[:1], in_folders, "again")
    assert_same(once[0], again[0], 0)


def test_dropout_drops_and_differs_between_points_and_steps() -> None:
    points = [own_point("+arch.encoder.dropout=0.5", f"seed={seed}") for seed in (0, 1)]
    assert trial(points[0], SHAPE).is_random
    start = new_start(points[0], SHAPE)
    vae = build_vae(points, SHAPE).double().train()
    from vae_sweeps.models.copies import begin_step
    from vae_sweeps.models.stacking import put_point

    for k in (0, 1):
        put_point(vae.state_dict(), k, 2, start.model)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    found = {}
    for step in (0, 1):
        begin_step(vae, [0, 1], step)
        found[step] = vae.encoder(x)
    assert not torch.equal(found[0][0], found[0][1])
    assert not torch.equal(found[0][0], found[1][0])
    begin_step(vae, [0, 1], 0)
    assert torch.equal(vae.encoder(x), found[0])
    vae.eval()
    assert torch.equal(vae.encoder(x)[0], vae.encoder(x)[1])


def test_points_of_other_architectures_or_latent_sizes_do_not_share_a_pack() -> None:
    widths = {pack_key(own_point(f"+arch.encoder.width={width}")) for width in (2, 3)}
    latents = {pack_key(own_point(f"latent={latent}")) for latent in (2, 3)}
    likelihoods = {
        pack_key(own_point("likelihood=custom", f"likelihood._target_={PARTS}.StudentT", f"+likelihood.df={sigma}"))
        for sigma in (2, 3)
    }
    assert len(widths) == len(latents) == len(likelihoods) == 2


def test_one_function_may_return_both_networks() -> None:
    of_pair = new_start(own_point("+arch.encoder.width=2", "+arch.decoder.width=2"), SHAPE).model
    of_one = new_start(
        make_point("arch=custom", f"arch._target_={PARTS}.both", "+arch.width=2", "latent=2"), SHAPE
    ).model
    assert_same(of_pair, of_one, 0)


def test_the_number_of_weights_is_that_of_the_modules() -> None:
    encoder, decoder = own_parts.both(SHAPE, 2)
    heads = 2 * 2 * (3 * 4 + 1)
    expected = sum(p.numel() for module in (encoder, decoder) for p in module.parameters()) + heads
    assert num_params(own_point(), SHAPE) == expected


MISTAKES = {
    "NaN": ({"encoder": "NotANumber"}, "arch.encoder: returned NaN or infinity"),
    "NaN in training": ({"encoder": "NotANumberInTraining"}, "a training step of your own parts: log_px has NaN"),
    "a wrong shape": ({"encoder": "NotFlat"}, "must return features [B,F]"),
    "too few outputs": ({"decoder": "TooFew"}, "must return 64 numbers per image"),
    "an error": ({"encoder": "Raises"}, "arch.encoder: raised RuntimeError"),
    "an abstract class": ({"encoder": "Abstract"}, "is an abstract class: depth must be defined"),
    "no module": ({"encoder": "not_a_module"}, "must be an nn.Module; it is str"),
    "no such name": ({"encoder": "PARTS"}, "cannot be imported: there is no PARTS"),
    "a key that it does not have": ({"encoder": "Encoder", "key": "+arch.encoder.wdith=3"}, "wdith"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_an_own_part_is_one_line(mistake: str) -> None:
    names, expected = MISTAKES[mistake]
    names = dict(names)
    key = [names.pop("key")] if "key" in names else []
    with trust.allowing([f"{PARTS}.PARTS"]), pytest.raises(ValueError, match=re.escape(expected)) as refused:
        trial(own_point(*key, **names), SHAPE)
    assert "\n" not in str(refused.value)


def test_a_pack_resumes_with_dropout_to_the_bit(in_folders) -> None:
    point = own_point("+arch.encoder.dropout=0.5", "steps=4")
    dataset, folders = make_dataset(), in_folders(2, "parts")
    whole, _ = train_points([point, point], in_folders(2, "whole"), dataset)
    from vae_sweeps.training.loop import TrainOptions

    steps = iter([False, True])
    train_points([point, point], folders, dataset, options=TrainOptions(should_stop=lambda: next(steps)))
    resumed, _ = train_points([point, point], folders, dataset)
    assert isinstance(resumed, Pack)
    assert_same(whole.model_state(1), resumed.model_state(1), 0)
