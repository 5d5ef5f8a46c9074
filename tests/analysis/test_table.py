"""The table of runs: its columns and their dtypes."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import make_point
from tests.helpers.written_sweep import DIVERGED, ELBO, FULL, RUNS, SWEPT, done, write_sweep
from vae_sweeps.analysis import table, terminal
from vae_sweeps.config.point import to_container
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.logs import console


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return write_sweep(tmp_path_factory.mktemp("out"))


def test_the_table_of_these_runs(sweep: SweepFolder) -> None:
    found = vae_sweeps.results(sweep.path)
    assert [name.split("-")[3] for name in found["run"]] == list("zyxwvu")
    assert list(found["status"]) == ["done", "done", "done", "diverged", "diverged", "interrupted"]
    assert list(found["beta"]) == [1, 4, 0.1, 1e38, 0, 1e-7]
    assert list(found["likelihood.sigma"]) == [1.0, "learned", 0.5, "optimal", 2.0, 1.0]
    assert list(found["data.pixel_range"]) == ["[0,1]"] * len(RUNS)
    assert list(found["optim.betas"]) == ["[0.9,0.999]"] * 3 + ["[0,0.5]"] + ["[0.9,0.999]"] * 2
    assert list(found["arch.hidden"])[2] == "[]"
    assert list(found["optim.clip_norm"])[4] == 5
    assert list(found["steps"]) == [pd.NA] * 5 + [10]
    assert list(found["seed"])[5] == 9007199254740993
    assert found[["val/elbo", "train/elbo"]].notna().to_numpy().sum(axis=0).tolist() == [3, 3]
    assert found["kid/random-bbb/prior"].notna().tolist() == [False, True, *[False] * 4]
    dtypes = {name: str(dtype) for name, dtype in found.dtypes.items()}
    for name in ("beta", "optim.clip_norm", "optim.lr", "sigma", "beta_nats", "time_s", "test/active_units", "test/mi"):
        assert dtypes[name] == "float64", name
    assert {dtypes[name] for name in ("latent", "seed")} == {"int64"}
    assert {dtypes[name] for name in ("steps", "epochs", "step", "num_params")} == {"Int64"}
    assert (dtypes["test/collapsed"], dtypes["likelihood.sigma"]) == ("boolean", "object")


def record(config: dict[str, Any], result: dict[str, Any] | None = None) -> table.Record:
    content = table._flat(to_container(make_point("data=mnist5k")))
    status = "pending" if result is None else result["status"]
    return table.Record(f"run-{config.get('seed', 0)}", content | config, status, result)


@pytest.mark.parametrize("results", [[None], [None, done(ELBO | FULL)], [done(), done(ELBO | FULL)], [DIVERGED, None]])
def test_dtypes_do_not_depend_on_what_is_missing(results: list[dict[str, Any] | None]) -> None:
    found = table.table_of([record({"seed": k}, result) for k, result in enumerate(results)])
    floats = [name for name in found if "/" in name or name in ("beta_nats", "sigma", "time_s", "images_per_s")]
    booleans = ("test/collapsed", "test/mi_at_limit")
    assert {str(found[name].dtype) for name in floats if name not in booleans} == {"float64"}
    others = ("seed", "latent", "step", "num_params", "test/collapsed")
    assert [str(found[name].dtype) for name in others] == ["int64", "int64", "Int64", "Int64", "boolean"]


@pytest.mark.parametrize(
    ("key", "values", "dtype", "expected"),
    [
        ("beta", [1, 2], "float64", [1.0, 2.0]),
        ("epochs", [1, None], "Int64", [1, pd.NA]),
        ("optim.clip_norm", [None, None], "float64", None),
        ("data.seed", [0, 0.5], "float64", [0.0, 0.5]),  # a dataset of the user
        ("arch.batch_norm", [True, False], "bool", [True, False]),
        ("arch.own", [1, 2], "float64", [1.0, 2.0]),
        ("arch.own", [1, "auto"], "object", [1.0, "auto"]),
        ("arch.own", [True, None], "boolean", [True, pd.NA]),
        ("arch.own", [[1.0, 2], [1, {"a": 1.0, "b": None}]], "str", ["[1,2]", "[1,{a:1,b:null}]"]),
    ],
)
def test_dtypes_of_config_columns(key: str, values: list[Any], dtype: str, expected: list[Any] | None) -> None:
    found = table.table_of([record({key: v}) for v in values], [key])[key]
    assert pd.api.types.is_string_dtype(found.dtype) if dtype == "str" else str(found.dtype) == dtype
    assert found.isna().to_numpy().all() if expected is None else list(found) == expected


def test_equal_numbers_do_not_vary() -> None:
    found = table.table_of([record({"likelihood.sigma": 1}), record({"likelihood.sigma": 1.0})])
    assert "likelihood.sigma" not in found


def test_keys_that_only_some_points_have_are_columns_where_they_vary() -> None:
    points = ["arch=conv arch.kernel=3", "arch=conv arch.kernel=4", "arch=mlp", "arch=mlp"]
    records = [
        table.Record(f"run-{k}", table._flat(to_container(make_point("data=mnist5k", *words.split()))), "pending", None)
        for k, words in enumerate(points)
    ]
    found = table.table_of(records)
    assert found["arch.kernel"].to_list() == [3, 4, pd.NA, pd.NA]
    assert str(found["arch.kernel"].dtype) == "Int64"
    assert not {"arch.hidden", "arch.channels", "arch._target_"} & set(found)


@pytest.mark.parametrize(
    ("targets", "column"),
    [(("one.mlp", "one.conv"), False), (("one.mlp", "other.mlp"), True)],
)
def test_targets_are_columns_if_their_names_are_ambiguous(targets: tuple[str, str], column: bool) -> None:
    found = table.table_of([record({"arch._target_": target}) for target in targets])
    assert ("arch._target_" in found) == column


def test_groups_within_groups_are_columns() -> None:
    found = table._flat({"seed": 1, "arch": {"a": {"b": 1, "c": {}}}, "data": {"root": "/"}, "beta_nats": 3})
    assert found == {"seed": 1, "arch.a.b": 1, "arch.a.c": {}}


def test_no_runs() -> None:
    assert table.table_of([]).empty


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_missing_numbers_are_printed_and_written(sweep: SweepFolder, tmp_path: Path, ending: str, capsys) -> None:
    found = vae_sweeps.results(sweep.path)
    terminal.show(found, SWEPT, out=console)
    path = tmp_path / f"table.{ending}"
    table.to_file(found, path)
    if ending == "csv":
        assert pd.read_csv(path)["step"].tolist()[:5] == [350, 350, 350, 7, 350]
        return
    read = pd.read_parquet(path)
    assert list(read["likelihood.sigma"]) == ["1.0", "learned", "0.5", "optimal", "2.0", "1.0"]
    read["likelihood.sigma"] = found["likelihood.sigma"]
    pd.testing.assert_frame_equal(read, found)
