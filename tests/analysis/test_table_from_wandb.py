"""The table from W&B, which is the same as that of the run folders."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vae_sweeps
from tests.helpers.wandb_server import WandbServer
from tests.helpers.written_sweep import RUNS, write_sweep
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import view

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
    return write_sweep(tmp_path_factory.mktemp("out"))


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert list(found["status"][:5]) == ["running", "failed", "interrupted", "interrupted", "pending"]


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
