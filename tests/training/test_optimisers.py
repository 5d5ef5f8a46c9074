"""Each model of a pack takes the steps that PyTorch's optimiser takes with its settings, on it alone."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import make_dataset, make_point
from tests.helpers.checkpoints import tensors_of
from tests.helpers.training import train_points
from vae_sweeps.config import trust
from vae_sweeps.config.schema import Optim
from vae_sweeps.launch.packing import keys_apart, limit_of, pack_key
from vae_sweeps.models.layers import Linear
from vae_sweeps.models.stacking import take_point
from vae_sweeps.runs import checkpoint
from vae_sweeps.training import own_optimiser
from vae_sweeps.training.loop import TrainOptions
from vae_sweeps.training.optimisers import StackedOptimiser, new_optimiser
from vae_sweeps.training.rates import learning_rate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPE = (1, 8, 8)
NADAM = {"_target_": "torch.optim.NAdam", "momentum_decay": 0.01}


def optim(algorithm: str = "adam", **settings: Any) -> Optim:
    defaults = make_point().optim
    return replace(defaults, algorithm=algorithm, **settings)


def pytorch(settings: Optim, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The class of PyTorch with the same settings."""
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.algorithm in ("adam", "adamw"):
        kind = torch.optim.Adam if settings.algorithm == "adam" else torch.optim.AdamW
        return kind(parameters, betas=tuple(settings.betas), eps=settings.eps, fused=True, **common)  # type: ignore[arg-type]
    if settings.algorithm == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=settings.nesterov, **common)
    if settings.algorithm == "rmsprop":
        return torch.optim.RMSprop(
            parameters, alpha=settings.alpha, eps=settings.eps, momentum=settings.momentum, **common
        )
    return torch.optim.NAdam(parameters, lr=settings.lr, momentum_decay=0.01)


SETTINGS = {
    "adam": [optim(), optim(lr=0.1), optim(betas=[0.5, 0.7], eps=1e-3), optim(weight_decay=0.3)],
    "adamw": [optim("adamw", weight_decay=0.3), optim("adamw", lr=0.1), optim("adamw", lr=0.1, betas=[0.1, 0.2])],
    "sgd": [
        optim("sgd", lr=0.01),
        optim("sgd", lr=0.1, momentum=0.9),
        optim("sgd", lr=0.1, momentum=0.9, nesterov=True),
        optim("sgd", lr=0.1, momentum=0.5, weight_decay=0.2),
    ],
    "rmsprop": [optim("rmsprop"), optim("rmsprop", alpha=0.5, eps=1e-3), optim("rmsprop", momentum=0.9, lr=0.01)],
    "custom": [optim("custom", custom=NADAM), optim("custom", custom=NADAM, lr=0.1)],
}


def gradients(parameters: dict[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    return {name: torch.randn(p.shape, generator=draw, dtype=p.dtype).to(DEVICE) for name, p in parameters.items()}


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_each_model_takes_the_steps_of_pytorchs_class(algorithm: str) -> None:
    settings = SETTINGS[algorithm]
    num_models, draw = len(settings), torch.Generator().manual_seed(0)
    stacked = nn.ModuleDict({"used": Linear(num_models, 5, 3), "unused": Linear(num_models, 2, 2)}).to(
        DEVICE, torch.double
    )
    stacked.register_parameter("number", nn.Parameter(torch.zeros(num_models, dtype=torch.double, device=DEVICE)))
    with torch.no_grad():
        for parameter in stacked.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.double))
    parameters: dict[str, Tensor] = dict(stacked.named_parameters())
    alone_shapes = {name: p.detach()[: len(p) // num_models] for name, p in parameters.items()}
    alone = [
        {name: nn.Parameter(t.to(DEVICE)) for name, t in take_point(parameters, k, num_models, alone_shapes).items()}
        for k in range(num_models)
    ]
    classes = [pytorch(one, list(own.values())) for one, own in zip(settings, alone, strict=True)]
    with trust.allowing([NADAM["_target_"]]):
        ours = new_optimiser(stacked, settings, 0)
    before = parameters["unused.weight"].detach().clone()
    for step in range(4):
        rates = [one.lr * (1 + step * (k % 2)) for k, one in enumerate(settings)]
        grads = gradients({name: p for name, p in parameters.items() if "unused" not in name}, draw)
        for name, grad in grads.items():
            parameters[name].grad = grad
        for k, (own, theirs) in enumerate(zip(alone, classes, strict=True)):
            mine = take_point(grads, k, num_models, {name: alone_shapes[name] for name in grads})
            for name, grad in mine.items():
                own[name].grad = grad.to(DEVICE)
            theirs.param_groups[0]["lr"] = rates[k]
            theirs.step()
        ours.step(rates)
    for k, own in enumerate(alone):
        for name, tensor in take_point(parameters, k, num_models, alone_shapes).items():
            torch.testing.assert_close(tensor, own[name].detach().cpu(), rtol=1e-12, atol=1e-12)
    assert torch.equal(parameters["unused.weight"], before)


def test_equal_settings_take_the_steps_of_one_optimiser_to_the_bit() -> None:
    layers = [Linear(3, 5, 3), Linear(3, 5, 3)]
    draw = torch.Generator().manual_seed(0)
    theirs = torch.optim.Adam(layers[1].parameters(), fused=True)
    ours = StackedOptimiser(layers[0], [optim()] * 3, 0)
    for _ in range(3):
        for name, grad in gradients(dict(layers[0].named_parameters()), draw).items():
            for layer in layers:
                dict(layer.named_parameters())[name].grad = grad.cpu()
        ours.step([1e-3] * 3)
        theirs.step()
    assert all(torch.equal(a, b) for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True))


MIXED = {
    "adam": [[], ["optim.lr=0.01", "optim.clip_norm=0.5"], ["optim.lr_schedule=cosine", "latent=3"],
             ["optim.lr_warmup_epochs=1", "optim.lr_schedule=cosine", "optim.lr_changes=step"],
             ["optim.lr_decay_per_epoch=0.5", "optim.weight_decay=0.1", "optim.betas=[0.5,0.6]", "optim.eps=0.001"]],
    "adamw": [[], ["optim.lr=0.01", "optim.weight_decay=0.5"], ["optim.lr_schedule=cosine", "optim.clip_norm=1"]],
    "sgd": [[], ["optim.momentum=0.5", "optim.clip_norm=10"], ["optim.nesterov=true", "optim.lr_decay_per_epoch=0.9"]],
    "rmsprop": [[], ["optim.momentum=0.5", "latent=4"],
                ["optim.alpha=0.5", "optim.lr_changes=step", "optim.lr_decay_per_epoch=0.5"]],
    "custom": [[], ["optim.lr=0.01"], ["optim.lr_schedule=cosine"]],
}  # fmt: skip


@pytest.mark.parametrize("algorithm", MIXED)
def test_points_with_other_numbers_share_a_pack_and_equal_those_alone(algorithm: str, in_folders) -> None:
    own = [f"optim.custom._target_={NADAM['_target_']}", "+optim.custom.momentum_decay=0.01"]
    common = ["arch.hidden=[6]", "latent=2", "steps=12", "batch_size=16", "precision=fp64", f"optim={algorithm}"]
    common += own if algorithm == "custom" else []
    points = [make_point(*common, *numbers, f"seed={i}") for i, numbers in enumerate(MIXED[algorithm])]
    assert len({pack_key(point) for point in points}) == 1
    dataset = make_dataset()
    with trust.allowing([NADAM["_target_"]]):
        together, _ = train_points(points, in_folders(len(points), "pack"), dataset)
        for k, point in enumerate(points):
            alone, _ = train_points([point], in_folders(1, f"alone{k}-"), dataset)
            for name, tensor in alone.model_state(0).items():
                torch.testing.assert_close(together.model_state(k)[name], tensor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("algorithm", MIXED)
def test_a_pack_resumes_to_the_bit(algorithm: str, in_folders) -> None:
    own = [f"optim.custom._target_={NADAM['_target_']}", "+optim.custom.momentum_decay=0.01"]
    common = ["arch.hidden=[6]", "latent=2", "steps=6", "batch_size=16", f"optim={algorithm}"]
    common += own if algorithm == "custom" else []
    points = [make_point(*common, *numbers, f"seed={i}") for i, numbers in enumerate(MIXED[algorithm])]
    dataset, whole, parts = make_dataset(), in_folders(len(points), "whole"), in_folders(len(points), "parts")
    with trust.allowing([NADAM["_target_"]]):
        train_points(points, whole, dataset)
        asked = iter([False, False, True])
        train_points(points, parts, dataset, options=TrainOptions(should_stop=lambda: next(asked)))
        assert checkpoint.available(parts[0])[0].step == 3
        train_points(points, parts, dataset)
    for one, other in zip(whole, parts, strict=True):
        a, b = (tensors_of(checkpoint.available(folder)[0]) for folder in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_rates_follow_their_formulas() -> None:
    spe, total = 10, 100
    rates = {
        name: [learning_rate(optim(lr=2.0, **keys), step, spe, total) for step in range(total)]
        for name, keys in {
            "constant": {"lr_schedule": "constant"},
            "exponential": {"lr_decay_per_epoch": 0.5},
            "by step": {"lr_decay_per_epoch": 0.5, "lr_changes": "step"},
            "cosine": {"lr_schedule": "cosine", "lr_end": 0.1, "lr_changes": "step"},
            "warm": {"lr_schedule": "constant", "lr_warmup_epochs": 0.5},
        }.items()
    }
    assert rates["constant"] == [2.0] * total
    for step in range(total):
        assert rates["exponential"][step] == 2.0 * 0.5 ** (step // spe)
        assert rates["by step"][step] == pytest.approx(2.0 * 0.5 ** (step / spe), rel=1e-12)
        cosine = 0.2 + 1.8 * (1 + math.cos(math.pi * step / total)) / 2
        assert rates["cosine"][step] == pytest.approx(cosine, rel=1e-12)
        assert rates["warm"][step] == pytest.approx(2.0 * min(1, (step + 1) / 5), rel=1e-12)


def test_cosine_equals_pytorchs_scheduler() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=20, eta_min=0.03)
    settings = optim(lr=0.3, lr_schedule="cosine", lr_changes="step", lr_end=0.1)
    for step in range(20):
        assert learning_rate(settings, step, 5, 20) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-9)
        sgd.step()
        scheduler.step()


def test_what_keeps_points_apart_is_named() -> None:
    points = [make_point("optim=sgd"), make_point("arch.hidden=[3]"), make_point("beta=2", "optim.lr=1")]
    assert keys_apart(points) == ["arch.hidden", "optim.algorithm"]
    assert keys_apart([points[2], make_point("arch.init=he", "optim.clip_norm=1")]) == []


def test_an_optimiser_that_couples_the_numbers_of_a_tensor_trains_one_point_at_a_time() -> None:
    keys = ["optim=custom", "optim.custom._target_=torch.optim.Adafactor"]
    assert limit_of(make_point(*keys), SHAPE, 1e9) == 1
    assert limit_of(make_point("optim=custom", "optim.custom._target_=torch.optim.RAdam"), SHAPE, 1e9) > 1


@pytest.mark.parametrize(
    ("target", "expected"),
    [("torch.optim.LBFGS", "a step raised TypeError"), ("torch.nn.Linear", "raised TypeError|must be a torch.optim")],
)
def test_what_is_no_optimiser_of_gradients_is_refused(target: str, expected: str) -> None:
    with trust.allowing([target]), pytest.raises(ValueError, match=expected):
        own_optimiser.check(make_point("optim=custom", f"optim.custom._target_={target}").optim)
