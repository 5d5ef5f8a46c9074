"""The stand-in for W&B's server, as the real client sees it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.wandb_server import WandbServer

# wandb keeps the first server it met for the life of a process, so each client is a process of its own. Of these
# times wandb takes the whole seconds only: 0.1 would mean its defaults of 2 s and more.
PRELUDE = """
import json, sys, numpy, wandb
lean = wandb.Settings(x_disable_stats=True, x_disable_meta=True, x_save_requirements=False, console="off", silent=True,
                      disable_git=True, disable_code=True, x_disable_machine_info=True, init_timeout=30,
                      finish_timeout=30, x_transaction_log_flush_interval=1.0, x_file_stream_transmit_interval=1,
                      x_file_stream_retry_wait_max_seconds=1, x_graphql_retry_wait_max_seconds=1)
def start(id="one", **more):
    return wandb.init(entity="team", project="vae", id=id, resume="allow", reinit="create_new", settings=lean, **more)
def log(run, steps):
    for k in steps:
        run.log({"v": k, "inner": {"w": -k}}, step=k, commit=True)
"""

Client = Callable[..., str]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server
    assert server.unknown == []


@pytest.fixture
def environment(server: WandbServer, tmp_path: Path) -> dict[str, str]:
    folders = dict.fromkeys(("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"), str(tmp_path))
    return os.environ | folders | server.environment()


@pytest.fixture
def client(environment: dict[str, str]) -> Client:
    """Run a script that uses wandb; returns its output, or its error."""

    def run(script: str, **variables: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-c", PRELUDE + script],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return ended.stdout if ended.returncode == 0 else ended.stderr

    return run


def logged(server: WandbServer, run_id: str = "one") -> list[dict[str, Any]]:
    """The rows without W&B's clocks."""
    return [{k: v for k, v in row.items() if k not in ("_timestamp", "_runtime")} for row in server.run(run_id).history]


def expected(*steps: int) -> list[dict[str, Any]]:
    return [{"_step": k, "v": k, "inner": {"w": -k}} for k in steps]


@pytest.mark.slow
def test_online_resumed_and_read_back(server: WandbServer, client: Client) -> None:
    out = client("""
run = start(name="beta 4", group="sweep", job_type="train", tags=["vae", "fast"], config={"model": {"latent": 2}})
log(run, range(4))
run.log({"grid": wandb.Image(numpy.zeros((4, 4), dtype="uint8")), "nan": float("nan")}, step=4)
run.mark_preempting()
run.finish(exit_code=75)
print(wandb.Api().run("team/vae/one").state)
run = start()
print(run.starting_step, run.resumed)
log(run, range(3, 7))
run.finish()
run = wandb.Api().run("team/vae/one")
print(json.dumps([run.name, run.state, run.group, run.tags, run.config, run.lastHistoryStep, run.summary["v"]]))
print([row["_step"] for row in run.scan_history()], [row["v"] for row in run.scan_history(keys=["v"])])
run.tags.append("late")
run.update()
""")
    told = out.splitlines()
    assert told[:2] == ["preempted", "5 True"], out
    assert json.loads(told[2]) == ["beta 4", "finished", "sweep", ["vae", "fast"], {"model": {"latent": 2}}, 6, 6]
    assert told[3] == "[0, 1, 2, 3, 4, 5, 6] [0, 1, 2, 3, 5, 6]"  # no row has 4, and what came again is dropped

    run = server.run("one")
    assert (run.entity, run.project, run.name, run.group, run.job_type) == ("team", "vae", "beta 4", "sweep", "train")
    assert (run.state, run.exit_code, run.num_preempting) == ("finished", 0, 1)
    assert run.tags == ["vae", "fast", "late"]
    assert run.config == {"model": {"latent": 2}}
    assert run.summary["inner"] == {"w": -6}
    assert [name for name in run.uploads if name.startswith("media/images/grid_4") and run.uploads[name] > 50]
    rows = logged(server)
    assert rows[:4] + rows[5:] == expected(0, 1, 2, 3, 5, 6)
    assert rows[4]["nan"] == "NaN"


def test_offline_then_synced(server: WandbServer, client: Client, tmp_path: Path, environment: dict[str, str]) -> None:
    client('run = start(mode="offline", tags=["later"]); log(run, range(3)); run.finish(exit_code=1)')
    assert server.runs == {}
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(folder)], env=environment, check=True, timeout=60)
    assert logged(server) == expected(0, 1, 2)
    assert (server.run("one").state, server.run("one").tags) == ("failed", ["later"])


def test_runs_are_found_by_filters_and_in_pages(server: WandbServer, client: Client) -> None:
    for k in range(120):
        run = server.find_or_make("team", "vae", f"r{k:03d}")
        run.group, run.tags, run.state = f"g{k % 2}", ["all", f"t{k % 3}"], "finished" if k < 60 else "running"
        run.raw_config = {"beta": {"value": k}, "_wandb": {"value": {}}}
    server.find_or_make("team", "another", "elsewhere")
    out = client("""
api = wandb.Api()
def count(filters): return len(api.runs("team/vae", filters=filters))
print(json.dumps([run.id for run in api.runs("team/vae")]))
print(count({"group": "g0"}), count({"name": {"$in": ["r001", "r119", "no"]}}), count({"tags": "t1"}),
      count({"$or": [{"group": "g1"}, {"tags": {"$in": ["t0"]}}]}), count({"state": "running", "group": "g0"}),
      count({"$and": [{"tags": "t1"}, {"name": "r004"}]}), count({"group": "none"}))
print(sum(run.config["beta"] for run in api.runs("team/vae", filters={"group": "g1"}, lazy=False, per_page=7)))
print(next(api.runs("team/vae", order="-created_at")).config)
try: len(api.runs("team/unheard-of"))
except ValueError as error: print(error)
""")
    ids, counts, total, last, error = out.splitlines()
    assert json.loads(ids) == [f"r{k:03d}" for k in range(120)]
    assert counts == "60 2 40 80 30 1 0"
    assert int(total) == sum(range(1, 120, 2))
    assert last == "{'beta': 119}"
    assert error == "Could not find project unheard-of"
    assert server.asked.count("Run") == 1, "a full listing needs no request per run, a lazy one needs it"


def test_wrong_key_is_refused(server: WandbServer, client: Client) -> None:
    assert "user is not logged in" in client("start()", WANDB_API_KEY="wrong" * 8)
    assert server.runs == {}


@pytest.mark.slow
def test_temporary_errors_change_nothing(server: WandbServer, client: Client) -> None:
    server.fail("graphql")
    server.heal()
    server.fail("file_stream", status=500, times=1)
    server.fail("graphql", status=503, times=1, delay_s=0.1)
    server.fail("storage", status=None, delay_s=0.1)
    client("run = start(); log(run, range(5)); run.finish()")
    assert logged(server) == expected(*range(5))
    assert server.run("one").state == "finished"


@pytest.mark.slow
def test_restart_at_the_same_address(server: WandbServer, environment: dict[str, str]) -> None:
    script = PRELUDE + "run = start(); log(run, range(3)); input(); log(run, range(3, 6)); run.finish()"
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE)
    end = time.monotonic() + 30
    while "one" not in server.runs or len(server.run("one").history) < 3:
        assert time.monotonic() < end
        time.sleep(0.02)
    url = server.url
    server.stop()
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    time.sleep(0.3)
    assert process.poll() is None
    server.start()
    assert process.wait(timeout=60) == 0
    assert server.url == url
    assert logged(server) == expected(*range(6))


def test_reports_and_workspaces_are_kept(server: WandbServer, client: Client) -> None:
    out = client("""
import wandb_workspaces.reports.v2 as wr, wandb_workspaces.workspaces as ws
report = wr.Report(entity="team", project="vae", title="Sweep", blocks=[wr.PanelGrid(
    runsets=[wr.Runset(entity="team", project="vae")], panels=[wr.LinePlot(x="Step", y=["v"])])]).save()
report.title = "Sweep 2"
report.save()
print(wr.Report.from_url(report.url).title, [found.display_name for found in wandb.Api().reports("team/vae")])
space = ws.Workspace(entity="team", project="vae", name="Board",
                     sections=[ws.Section(name="loss", panels=[wr.LinePlot(y=["v"])])]).save()
print(ws.Workspace.from_url(space.url).sections[0].name)
""")
    assert out.splitlines() == ["Sweep 2 ['Sweep 2']", "loss"], out
    report, board = server.views
    assert (report["type"], report["displayName"], report["entityName"]) == ("runs", "Sweep 2", "team")
    assert (board["type"], board["displayName"]) == ("project-view", "Board")
    assert report["spec"]["blocks"]
    assert board["spec"]["section"]["panelBankConfig"]["sections"][0]["name"] == "loss"
