"""The table: its dtypes, and the same table from W&B."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import make_options, make_point
from tests.helpers.wandb_server import WandbServer
from vae_sweeps.analysis import table, terminal
from vae_sweeps.config.point import to_container
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files
from vae_sweeps.system.logs import console
from vae_sweeps.tracker import view

ELBO = {f"{split}/{name}": -90.1 - k / 3 for k, split in enumerate(("train", "val", "test")) for name in ("elbo", "kl")}
ELBO |= {f"{split}/log_px": -80.0 for split in ("train", "val", "test")}
SCORES = {f"{score}/random/{s}": 1e-3 / 7 for score in ("fid", "kid") for s in ("prior", "reconstruction", "floor")}
FULL = {"test/iwae": -88.0, "test/collapsed": False, "test/active_units": 3, "probe/accuracy": 0.1 + 0.2, **SCORES}


def done(metrics: Mapping[str, Any] = ELBO, weights: str | None = None, **more: Any) -> dict[str, Any]:
    """A result as it is written at the end of a run."""
    about = {"weights": weights, "accuracy": None, "num_images": 100}
    return {
        "status": "done",
        "step": 350,
        "beta_nats": 1.0,
        "sigma": None,
        "num_params": 84_164,
        "time_s": 2.0,
        "images_per_s": 35_000 / 3,
        "pack_size": 4,
        "git_commit": "0123abc-dirty",
        "finished_at": files.now(),
        "metrics": dict(metrics),
        "evaluated": {"elbo": {"seed": 0}},
        "evaluation_s": {"elbo": 0.25},
        "missing": {"test/ssim": "images of 8x8 are smaller than the window of 11x11"},
        **({"features": {"random": about}} if weights else {}),
        **more,
    }


DIVERGED = done(status="diverged", step=7, git_commit=None)
del DIVERGED["metrics"]
GAUSSIAN = ("likelihood=gaussian", "likelihood.sigma=")
# The points of a sweep in order: overrides, and how the point ended, if it did.
RUNS: list[tuple[tuple[str, ...], dict[str, Any] | None]] = [
    (("beta=1", "latent=2", f"{GAUSSIAN[1]}1"), done(ELBO | FULL, weights="aaa", sigma=1.0)),
    (
        ("beta=4", "latent=2", f"{GAUSSIAN[1]}learned"),
        done(ELBO | FULL, weights="bbb", sigma=0.1 / 3, time_s=0.1 + 0.7),
    ),
    (("beta=0.1", "latent=4", f"{GAUSSIAN[1]}0.5", "arch.hidden=[]"), done({**ELBO, "test/collapsed": True})),
    (("beta=1e38", "latent=10", f"{GAUSSIAN[1]}optimal", "optim.betas=[0,0.5]"), DIVERGED),
    (("beta=0", "latent=2", f"{GAUSSIAN[1]}2", "optim.clip_norm=5"), done(dict.fromkeys(ELBO), status="diverged")),
    (("beta=1e-7", "latent=3", f"{GAUSSIAN[1]}1", "steps=10", "seed=9007199254740993"), None),
]
SWEPT = ["beta", "likelihood.sigma", "optim.lr", "data.pixel_range"]

# As tracker/feed.py does, with rows of training ahead of what the result says.
SEND = """
import sys, wandb
from pathlib import Path
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import address, view

lean = wandb.Settings(x_disable_stats=True, x_disable_meta=True, x_save_requirements=False, console="off", silent=True,
                      disable_git=True, disable_code=True, x_disable_machine_info=True)
sweep = SweepFolder(Path(sys.argv[1]))
output_dir = sweep.output_dir
runs = []
for folder in reversed(sweep.runs()):  # their order is the sweep's, not that of W&B
    result = folder.read_result()
    more = view.arguments(folder, sweep, ["a"], view.facts_of(result))
    run = wandb.init(entity="team", project="vae", id=address.run_id(folder, ""), resume="allow", reinit="create_new",
                     settings=lean, dir=output_dir, **more)
    run.define_metric("global_step")
    run.define_metric("*", step_metric="global_step")
    row = {"train/elbo": float("nan"), "train/loss": 1.5, "val/elbo": -1.0, "val/log_px": -1, "time_s": 0.5, "epoch": 1}
    row |= {"val/kl_per_latent": wandb.Histogram([0.1, 0.2]), "global_step": 7}
    run.log(row, step=7, commit=True)
    runs.append((folder, run, result))
for folder, run, result in runs:
    if result is not None:
        run.summary.update(view.summary(result))
    elif not folder.failure.exists():
        run.mark_preempting()
    run.finish(exit_code=0 if result is not None and result["status"] == "done" else 1)
stranger = wandb.init(entity="team", project="vae", id="stranger", group="others", reinit="create_new", settings=lean,
                      dir=output_dir, config={"seed": 3})
stranger.finish()
"""
FETCH = """
import pickle, sys
import vae_sweeps
found = {}
for path, group in pickle.loads(bytes.fromhex(sys.argv[2])):
    try:
        found[path, group] = vae_sweeps.results.from_wandb(path, group=group)
    except ValueError as error:
        found[path, group] = str(error)
open(sys.argv[1], "wb").write(pickle.dumps(found))
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """The sweep as run folders."""
    output_dir = tmp_path_factory.mktemp("out")
    names = []
    for k, (overrides, result) in enumerate(RUNS):
        names.append(f"mnist5k-mlp-gaussian-{'zyxwvu'[k]}-00000000000{k}")
        run = RunFolder.under(output_dir, names[-1])
        run.create(make_point("data=mnist5k", GAUSSIAN[0], *overrides), make_options(), [])
        if result is not None:
            run.write_result(result)
        else:
            run.checkpoint.touch()
    sweep = SweepFolder.under(output_dir, "grid")
    sweep.add(names, SWEPT)
    return sweep


@pytest.fixture(scope="module")
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server
    assert server.unknown == []


def run_client(server: WandbServer, folder: Path, script: str, *arguments: object, **variables: str) -> None:
    folders = dict.fromkeys(("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"), str(folder))
    environment = os.environ | folders | server.environment() | variables
    command = [sys.executable, "-c", script, *map(str, arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def fetch(server: WandbServer, folder: Path, *asked: tuple[str, str | None], **variables: str) -> list[Any]:
    """Read tables from W&B, or the messages of ValueErrors."""
    run_client(server, folder, FETCH, folder / "found", pickle.dumps(asked).hex(), **variables)
    found = pickle.loads((folder / "found").read_bytes())
    return [found[request] for request in asked]


@pytest.fixture(scope="module")
def sent(server: WandbServer, sweep: SweepFolder, tmp_path_factory: pytest.TempPathFactory) -> WandbServer:
    folder = tmp_path_factory.mktemp("wandb")
    run_client(server, folder, SEND, sweep.path)
    assert len(server.runs) == len(RUNS) + 1
    return server


def test_wandb_gives_back_the_same_table(sent: WandbServer, sweep: SweepFolder, tmp_path: Path) -> None:
    here = vae_sweeps.results(sweep.path)
    of_group, of_project, *errors = fetch(
        sent, tmp_path, ("team/vae", "grid"), ("team/vae", None), ("team/vae", "no"), ("team/unheard", "grid")
    )
    pd.testing.assert_frame_equal(of_group, here, check_exact=True)
    pd.testing.assert_frame_equal(of_project, here, check_exact=True)
    assert errors == [
        "team/vae: no runs of group no; groups: grid",
        "team/unheard: Could not find project unheard",
    ]
    (wrong_key,) = fetch(sent, tmp_path, ("team/vae", "grid"), WANDB_API_KEY="wrong" * 8)
    assert wrong_key.startswith("team/vae: the key is refused")


def test_the_table_of_these_runs(sweep: SweepFolder) -> None:
    """The content of the table that the test above compares."""
    found = vae_sweeps.results(sweep.path)
    assert [name.split("-")[3] for name in found["run"]] == list("zyxwvu")
    assert list(found["status"]) == ["done", "done", "done", "diverged", "diverged", "preempted"]
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


def test_runs_come_in_pages(sent: WandbServer, sweep: SweepFolder, tmp_path: Path) -> None:
    folder = sweep.runs()[0]
    for k in range(120):
        run = sent.find_or_make("team", "large", f"large{k:03d}")
        content = view.arguments(folder, None, [], {})["config"]
        own = {"run": f"mnist5k-{k:03d}", "sweep": "large", "swept": ["seed"], "place": k // 2}
        content |= {"seed": 120 - k, "vae_sweeps": own}
        run.raw_config = {name: {"value": value} for name, value in content.items()}
        run.group, run.state = "large", ["running", "crashed", "preempting", "preempted", "killed"][k % 5]
    before = len(sent.asked)
    (found,) = fetch(sent, tmp_path, ("team/large", "large"))
    assert sent.asked[before:].count("Runs") == 2
    assert "Run" not in sent.asked[before:]
    assert len(sent.asked) - before < 10
    assert list(found["seed"]) == list(range(120, 0, -1))
    assert list(found["status"][:5]) == ["running", "failed", "preempted", "preempted", "pending"]


@pytest.mark.parametrize(
    ("path", "key", "url", "line"),
    [
        ("vae", "k" * 40, "http://127.0.0.1:9", "vae: must be entity/project"),
        ("team/", "k" * 40, "http://127.0.0.1:9", "team/: must be entity/project"),
        ("a/b", "", "http://127.0.0.1:9", "a/b: there is no key for http://127.0.0.1:9; `wandb login`, or set "),
        ("a/b", "k" * 40, "http://127.0.0.1:9", "a/b: http://127.0.0.1:9 does not answer"),
    ],
)
def test_wandb_errors_are_one_line(path: str, key: str, url: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("NETRC", "/dev/null")
    with pytest.raises(ValueError, match=r"^\S+: ") as raised:
        vae_sweeps.results.from_wandb(path, group="grid")
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


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
