"""Steps that are captured as graphs give the bits of their operations, and are started by one call each."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.conftest import make_dataset, make_point
from tests.gpu.test_numbers import rows_of, tensors_of
from tests.helpers import stand_in_device
from tests.helpers.small_jobs import slow, stop_after
from tests.helpers.training import runs_of, train_points
from tests.training.test_packs import ARCHS, LIKELIHOODS, MIXED
from vae_sweeps.config.schema import Point
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training import graphs, loop
from vae_sweeps.training.graphs import Capture, GraphedSteps
from vae_sweeps.training.loop import TrainOptions
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.steps import Steps

OFF = TrainOptions(graphs="off")
# 76 images in batches of 16: the last batch of each of the four epochs has 12.
DATASET = make_dataset(sizes=(76, 24, 24))
COMMON = ["steps=20", "batch_size=16", "log_every_steps=7"]
OTHERS = ("continuous_bernoulli", "discretized_logistic", "laplace")
CASES = {
    **ARCHS,
    **{f"{name} likelihood": overrides for name, overrides in LIKELIHOODS.items()},
    **{f"{name} likelihood": [f"likelihood={name}"] for name in OTHERS},
    "clipped": ["optim.clip_norm=1"],
    "warm-up of beta": ["objective.warmup_epochs=1.5"],
    "cycles of beta": ["objective.schedule=cyclical", "objective.cycles=2"],
    "free bits": ["objective.free_bits=0.1"],
    "capacity": ["objective.capacity_gamma=10", "objective.capacity_end=3", "objective.capacity_steps=9"],
    "squared error": ["likelihood=gaussian", "objective=mse"],
    "means over pixels": ["objective=pixel_mean"],
    "towers": [*ARCHS["conv_bn"], "towers=2"],
    "decay of the rate": ["optim.lr_decay_per_epoch=0.5"],
    "cosine in each step": ["optim.lr_schedule=cosine", "optim.lr_changes=step"],
    "adamw": ["optim=adamw"],
    "sgd": ["optim=sgd"],
    "bf16": ["precision=bf16"],
}
QUICK = ["conv_bn"]


@pytest.fixture
def graphed(device, is_gpu, monkeypatch: pytest.MonkeyPatch) -> list[GraphedSteps]:
    """Trainings use graphs, also on the stand-in; the list has their steps."""
    made = []

    def new_steps(pack, dataset, schedule, asked: str) -> Steps:
        if asked == "off":
            return Steps(pack, dataset, schedule)
        assert graphs.why_not(pack) == ""
        capture = partial(graphs.captured_by_cuda, device) if is_gpu else stand_in_device.captured
        made.append(GraphedSteps(pack, dataset, schedule, capture))
        return made[-1]

    monkeypatch.setattr(loop, "new_steps", new_steps)
    return made


def points_of(name: str) -> list[Point]:
    point = make_point(*CASES[name], *COMMON)
    rates = (1e-3, 3e-3, 3e-3)
    return [replace(point, **own, optim=replace(point.optim, lr=lr)) for own, lr in zip(MIXED, rates, strict=True)]


def assert_same_bits(one: list[RunFolder], other: list[RunFolder]) -> None:
    for folder, expected in zip(one, other, strict=True):
        found = tensors_of(folder)
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors_of(expected).items())
        assert rows_of(folder) == rows_of(expected)


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in CASES if name not in QUICK))])
def test_a_graph_gives_the_bits_of_its_operations(name, device, is_gpu, graphed, in_folders) -> None:
    if name == "bf16" and not is_gpu:
        pytest.skip("PyTorch's autocast knows no stand-in")
    points = points_of(name)
    with_graphs, without = in_folders(3, "with"), in_folders(3, "without")
    train_points(points, with_graphs, DATASET, device=device)
    train_points(points, without, DATASET, device=device, options=OFF)
    (steps,) = graphed
    assert steps.is_captured
    assert_same_bits(with_graphs, without)


@pytest.mark.parametrize("more", slow({"resident": False}, {"binarize": "dynamic"}))
def test_batches_that_are_made_outside_of_the_graph(more, device, graphed, in_folders) -> None:
    points, dataset = points_of("mlp"), replace(DATASET, **more)
    with_graphs, without = in_folders(3, "with"), in_folders(3, "without")
    train_points(points, with_graphs, dataset, device=device)
    train_points(points, without, dataset, device=device, options=OFF)
    assert graphed[0].is_captured
    assert_same_bits(with_graphs, without)


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(device, graphed, in_folders) -> None:
    points, whole, parts = points_of("conv_bn"), in_folders(3, "whole"), in_folders(3, "parts")
    train_points(points, whole, DATASET, device=device)
    train_points(points, parts, DATASET, device=device, options=TrainOptions(should_stop=stop_after(9)))
    train_points(points, parts, DATASET, device=device)
    assert [steps.is_captured for steps in graphed] == [True] * 3
    assert_same_bits(parts, whole)


@pytest.mark.slow
def test_it_is_captured_again_when_other_models_have_equal_rates(device, graphed, monkeypatch, in_folders) -> None:
    """The rates of two models are equal in the first epoch only, so later they are updated by separate operations."""
    point = make_point(*ARCHS["mlp"], *COMMON, "latent=3")
    captures, checked = [], GraphedSteps._checked
    monkeypatch.setattr(GraphedSteps, "_checked", lambda steps: captures.append(steps) or checked(steps))
    optims = [replace(point.optim, lr_decay_per_epoch=decay) for decay in (1.0, 0.5)]
    points = [replace(point, optim=optim, seed=seed) for seed, optim in enumerate(optims)]
    with_graphs, without = in_folders(2, "with"), in_folders(2, "without")
    train_points(points, with_graphs, DATASET, device=device)
    train_points(points, without, DATASET, device=device, options=OFF)
    (steps,) = graphed
    assert captures == [steps, steps]
    assert steps.is_captured
    assert_same_bits(with_graphs, without)


def test_a_step_is_started_by_one_call(stand_in, monkeypatch, in_folders) -> None:
    dataset, started = make_dataset(sizes=(3000, 24, 24)), {}
    capture = stand_in_device.captured
    monkeypatch.setattr(loop, "new_steps", lambda pack, data, schedule, _: GraphedSteps(pack, data, schedule, capture))
    for num_steps in (20, 50):
        points = [make_point(*ARCHS["mlp"], f"steps={num_steps}", "batch_size=16", f"seed={k}") for k in range(3)]
        with stand_in_device.watched() as watched:
            train_points(points, in_folders(3, f"{num_steps}-"), dataset, device=stand_in)
        started[num_steps] = watched
    assert len(started[50].waits) == len(started[20].waits)
    assert Counter(started[50].started) - Counter(started[20].started) == {"graph": 30}


def broken(capture: Capture, device: torch.device) -> Capture:
    """Graphs that repeat nothing."""

    def captured(compute: Callable[[], None]) -> Callable[[], None]:
        capture(compute)
        return lambda: None

    return captured


def waiting(capture: Capture, device: torch.device) -> Capture:
    """Graphs of steps that read a number of the device, which no graph can."""
    number = torch.ones(1, device=device)
    return lambda compute: capture(lambda: (compute(), number.item())[0])


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (broken, "its numbers differ from those of the operations themselves"),
        pytest.param(waiting, "not permitted when stream is", marks=pytest.mark.slow),
    ],
)
def test_a_graph_that_is_wrong_is_not_used(spoilt, said, device, is_gpu, monkeypatch, in_folders, caplog) -> None:
    capture = spoilt(partial(graphs.captured_by_cuda, device) if is_gpu else stand_in_device.captured, device)
    points, with_graphs, without = points_of("conv_bn"), in_folders(3, "with"), in_folders(3, "without")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "new_steps", lambda pack, data, schedule, _: GraphedSteps(pack, data, schedule, capture))
        train_points(points, with_graphs, DATASET, device=device)
    (warning,) = (record.message for record in caplog.records)
    assert "a step could not be captured" in warning
    assert said in warning
    train_points(points, without, DATASET, device=device, options=OFF)
    assert_same_bits(with_graphs, without)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["precision=fp64"], "the optimiser reads its learning rates on the CPU"),
        (["optim=rmsprop"], "the optimiser reads its learning rates on the CPU"),
        ([], ""),
    ],
)
def test_what_cannot_be_captured_is_named(overrides, reason, stand_in, in_folders) -> None:
    points = [make_point(*ARCHS["mlp"], *overrides, "latent=2")]
    pack = Pack(runs_of(points, in_folders(1), DATASET), DATASET.image_shape, stand_in)
    assert graphs.why_not(pack).startswith(reason)
    assert bool(graphs.why_not(pack)) == bool(reason)
