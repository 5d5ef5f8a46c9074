"""The catalogue has every metric once, and no other module lists metrics."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from tests.conftest import ROOT, make_dataset, make_options, make_point
from tests.helpers.training import runs_of
from vae_sweeps.analysis import dtypes
from vae_sweeps.analysis.notebook import with_gaussian_columns
from vae_sweeps.data import Factors, dataset
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.evaluation.parts import PARTS
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.about import ABOUT
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter

CPU = torch.device("cpu")
POINT = make_point("arch.hidden=[8]", "latent=2")
EVALUATION = make_options("evaluation=full", "evaluation/features=random").evaluation


@pytest.fixture(scope="module")
def images() -> dataset.Dataset:
    """Images large enough for SSIM, with labels and factors, and more of them than features."""
    bare = make_dataset((1, 12, 12), (200, 20, 100))
    numbers = {split: torch.arange(len(x)) for split, x in bare.images.items()}
    classes = {split: torch.stack([n % 3, n // 3 % 4], 1) for split, n in numbers.items()}
    labels = {split: n % 3 for split, n in numbers.items()}
    return replace(bare, labels=labels, factors=Factors(("shape", "scale"), (3, 4), classes))


@pytest.fixture(scope="module")
def model(images: dataset.Dataset) -> Model:
    return from_state(POINT, new_start(POINT, images.image_shape).model, images.image_shape)


@pytest.fixture(scope="module")
def outputs(images: dataset.Dataset, model: Model) -> ModelOutputs:
    features = build_features(EVALUATION.features, images)
    return ModelOutputs(model, Reference(images, EVALUATION, features, CPU))


def group(column: str) -> str | None:
    metric = catalogue.find(column)
    return metric and metric.group


@pytest.mark.parametrize("part", PARTS)
def test_each_part_of_an_evaluation_computes_the_metrics_of_its_group(outputs: ModelOutputs, part: str) -> None:
    found = PARTS[part](outputs)
    assert found.missing == {}
    assert {group(column) for column in found.metrics} == {part}
    known = {name.replace("/*/", "/random/") for name in catalogue.names(part)}
    assert set(found.metrics) == known


def test_rows_of_training_hold_only_metrics_of_the_catalogue(images: dataset.Dataset, in_folders) -> None:
    pack = Pack(runs_of([POINT], in_folders(1), images), images.image_shape, CPU)
    writer = RowWriter(pack, images, EVALUATION)
    (row,) = writer.averages(writer.schedule.steps_per_epoch, torch.zeros(1, 3, 1))
    assert {group(column) for column in row} == {"elbo", "rows"}
    assert set(catalogue.names("rows")) <= set(row)


def test_columns_computed_for_plots_are_in_the_catalogue() -> None:
    columns = ["beta_nats", "sigma", *(f"{split}/{term}" for split in catalogue.SPLITS for term in ("log_px", "kl"))]
    before = pd.DataFrame({name: [-9.0 if name.endswith("log_px") else 1.0] for name in columns})
    added = set(with_gaussian_columns(before, 4)) - set(before)
    assert {group(column) for column in added} == {"plots"}
    assert added == set(catalogue.names("plots")) - {"distortion"}


def test_every_metric_has_one_entry_with_a_label_and_the_unit_that_its_name_says() -> None:
    names = [metric.name for metric in catalogue.METRICS]
    assert len(names) == len(set(names))
    labels = [metric.label for metric in catalogue.METRICS]
    assert len(labels) == len(set(labels))
    assert all(labels)
    for metric in catalogue.METRICS:
        if metric.name.split("/")[-1] in (*catalogue.TERMS, "iwae", "iwae_se", "mi", "marginal_kl", "best_elbo"):
            assert metric.unit == catalogue.NATS
        if metric.name.endswith("_s"):
            assert metric.unit.endswith("s")
        if metric.group in ("fid", "kid") or metric.format == "count":
            assert metric.unit == ""


def test_every_metric_says_in_a_few_sentences_what_it_is() -> None:
    for metric in catalogue.METRICS:
        assert metric.about.endswith("."), metric.name
        assert 20 < len(metric.about) < 500, metric.name
        assert not metric.source.endswith("."), metric.name
    names = {metric.name for metric in catalogue.METRICS}
    used = {name if name in ABOUT else name.partition("/")[2] for name in names}
    assert used == set(ABOUT)  # no text is left over


def test_a_metric_is_doubted_by_a_column_of_the_table() -> None:
    doubts = [metric.doubt for metric in catalogue.METRICS if metric.doubt is not None]
    assert {doubt.column for doubt in doubts} == {"test/mi_at_limit", "test/iwae_dominated"}
    assert {doubt.column for doubt in doubts} <= set(catalogue.in_table([]))


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("fid", FrechetInceptionDistance),
        ("kid", KernelInceptionDistance),
        ("test/psnr", PeakSignalNoiseRatio),
        ("test/ssim", StructuralSimilarityIndexMeasure),
    ],
)
def test_the_better_direction_is_that_of_torchmetrics(name: str, peer: type) -> None:
    columns = [f"{name}/classifier/{samples}" for samples in catalogue.SAMPLES] if name in ("fid", "kid") else [name]
    for column in columns:
        metric = catalogue.find(column)
        assert metric is not None
        assert metric.better == ("higher" if peer.higher_is_better else "lower")  # type: ignore[attr-defined]


def test_the_floor_of_a_score_has_no_better_direction() -> None:
    for score in ("fid", "kid"):
        floor = catalogue.find(f"{score}/classifier/{catalogue.FLOOR}")
        assert floor is not None
        assert floor.better is None


@pytest.mark.parametrize("column", ["beta", "latent", "fid", "fid/a", "fid/a/b", "fid/a/prior/se", "test/elbo/se", ""])
def test_other_columns_are_not_found_and_keep_their_names(column: str) -> None:
    assert catalogue.find(column) is None
    assert catalogue.label(column) == catalogue.with_unit(column) == column


@pytest.mark.parametrize(
    ("column", "label", "with_unit"),
    [
        ("test/elbo", "test ELBO (nats per image)", "test/elbo (nats per image)"),
        ("fid/elbo/prior", "FID of prior samples (elbo features)", "fid/elbo/prior"),
        ("kid/prior/prior", "KID of prior samples (prior features)", "kid/prior/prior"),
        ("val/bits_per_dim", "validation bits per dimension", "val/bits_per_dim (bits per dimension)"),
        ("time_s", "time (s)", "time_s (s)"),
        ("test/active_units", "test active units", "test/active_units"),
    ],
)
def test_a_label_has_the_unit_once(column: str, label: str, with_unit: str) -> None:
    assert (catalogue.label(column), catalogue.with_unit(column)) == (label, with_unit)


def test_a_table_has_fid_before_kid_by_features_and_the_floor_last() -> None:
    expected = [
        f"{score}/{features}/{samples}"
        for score in ("fid", "kid")
        for features in ("a", "b")
        for samples in (*catalogue.SAMPLES, catalogue.FLOOR)
    ]
    columns = catalogue.in_table(reversed([*expected, "test/elbo", "beta", "fid/a/unknown"]))
    assert [name for name in columns if name.startswith(("fid/", "kid/"))] == expected
    assert len(columns) == len(set(columns))
    assert "beta" not in columns
    assert columns == [name for name in columns if group(name) not in ("rows", "plots")]


def test_metrics_are_averaged_if_their_columns_are_numbers() -> None:
    for metric in catalogue.METRICS:
        column = dtypes.column(metric.name, [None, None])
        assert metric.is_averaged == pd.api.types.is_numeric_dtype(column), metric.name


def test_splits_are_those_of_the_data() -> None:
    assert catalogue.SPLITS == dataset.SPLITS


def literals(path: Path) -> Iterator[tuple[int, set[object]]]:
    """The constants that each tuple, list, set or dict at the top level of a module holds, with its line."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
                items = node.keys if isinstance(node, ast.Dict) else node.elts
                yield node.lineno, {item.value for item in items if isinstance(item, ast.Constant)}


def test_no_other_module_keeps_a_list_of_metrics_kinds_of_images_or_pictures() -> None:
    metrics = {*(metric.name for metric in catalogue.METRICS), *catalogue.TERMS}
    kinds, runs = set(catalogue.SAMPLES), ROOT / "vae_sweeps" / "runs"
    for path in set((ROOT / "vae_sweeps").rglob("*.py")) - {runs / "catalogue.py", runs / "about.py"}:
        for line, found in literals(path):
            is_list = len(found & metrics) > 1 or found >= kinds or len(found & set(catalogue.PICTURES)) > 1
            assert not is_list, f"{path.relative_to(ROOT)}:{line} lists {found}; ask vae_sweeps.runs.catalogue"
