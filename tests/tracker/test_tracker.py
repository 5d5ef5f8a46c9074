"""A run's form on W&B, and checks of key and server, without wandb."""

import socket
from dataclasses import fields
from pathlib import Path

import pytest

from tests.conftest import make_options, make_point
from tests.helpers.wandb_server import KEY, WandbServer
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.point import to_container
from vae_sweeps.config.schema import Point
from vae_sweeps.runs.pictures import Picture
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import account, address, view
from vae_sweeps.tracker.address import Place
from vae_sweeps.tracker.board import board_of

ROW = {
    "step": 55,
    "num_steps": 110,
    "epoch": 1.0,
    "val/elbo": -100.5,
    "train/loss": None,
    "val/kl_per_latent": [1, None],
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.under(tmp_path / "out", "mnist5k-mlp-bernoulli-beta0.01-latent10-seed0-0123456789ab")
    run.create(make_point("beta=0.01", "latent=10"), make_options(), [])
    return run


def test_a_key_is_found_where_wandb_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.here:8080/")
    assert account.base_url() == "http://wandb.here:8080"
    assert not account.has_key()
    netrc.write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert not account.has_key()  # that is another server's
    netrc.write_text(f"machine wandb.here\n  login user\n  password {KEY}\n")
    assert account.has_key()
    netrc.write_text("not a netrc at all {")
    assert not account.has_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert account.has_key()


def test_the_address_is_what_wandb_login_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    assert account.base_url() == "https://api.wandb.ai"
    (tmp_path / "settings").write_text("[default]\nbase_url = https://wandb.lab.org\n")
    assert account.base_url() == "https://wandb.lab.org"


def test_a_server_answers_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert account.answers()
    assert not account.answers()  # refused
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and says nothing
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert not account.answers()
    monkeypatch.setenv("WANDB_BASE_URL", "no address")
    assert not account.answers()


@pytest.mark.parametrize(
    ("overrides", "swept", "title"),
    [
        ((), (), "beta=1 latent=10"),
        (("beta=0.01", "latent=2"), ("beta", "latent"), "beta=0.01 latent=2"),
        (("arch=conv", "seed=3"), ("arch", "seed", "beta"), "arch=conv seed=3 beta=1 latent=10"),
        (
            ("likelihood=gaussian", "likelihood.sigma=learned"),
            ("likelihood.sigma",),
            "likelihood.sigma=learned beta=1 lat",
        ),
    ],
)
def test_a_title_has_the_swept_values(overrides: tuple[str, ...], swept: tuple[str, ...], title: str) -> None:
    assert view.title(to_container(make_point(*overrides)), swept).startswith(title)


def test_a_run_is_described_by_its_folders(run: RunFolder) -> None:
    sweep = SweepFolder.under(run.output_dir, "grid")
    sweep.add(["other", run.name], ["beta"])
    told = view.arguments(run, sweep, ["mine"], {"beta_nats": 0.01})
    assert (told["group"], told["job_type"], told["name"]) == ("grid", "train", "beta=0.01 latent=10")
    assert told["tags"] == ["mnist5k", "mlp", "bernoulli", "beta=0.01", "latent=10", "mine"]
    assert told["config"]["beta_nats"] == told["config"]["beta"] == 0.01
    assert set(told["config"]) == {f.name for f in fields(Point)} | {"beta_nats", "vae_sweeps"}
    assert not {f.name for f in fields(LaunchOptions)} & set(told["config"])
    assert told["config"]["vae_sweeps"] == {"run": run.name, "sweep": "grid", "swept": ["beta"], "place": 1}
    assert view.arguments(run, None, [], {})["group"] is None
    assert address.run_id(run, "") == "0123456789ab"
    assert address.run_id(run, "v2") == "0123456789ab-v2"


def test_a_board_shows_the_group_of_its_runs_also_where_the_folder_was_renamed(run: RunFolder) -> None:
    sweep = SweepFolder.under(run.output_dir, "grid")
    sweep.add([run.name], ["beta"])
    renamed = SweepFolder(sweep.path.rename(sweep.path.with_name("renamed")))
    assert board_of(renamed).sweep == view.arguments(run, renamed, [], {})["group"] == "grid"


def test_a_row_is_shown_without_what_is_no_number(run: RunFolder) -> None:
    shown = view.history_row(ROW)
    assert shown == {"global_step": 55, "epoch": 1.0, "val/elbo": -100.5, "val/kl_per_latent": [1]}
    assert "val/kl_per_latent" not in view.history_row(ROW | {"val/kl_per_latent": [None, None]})


def test_a_row_has_the_pictures_of_its_epoch_and_the_last_row_the_final_ones(run: RunFolder) -> None:
    for name in ("epoch-0001/samples", "samples", "latent_map", "curves"):
        (run.pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (run.pictures / f"{name}.png").touch()
    drawn = run.pictures / "epoch-0001" / "samples.png"
    assert view.pictures_of_row(run, ROW) == {"pictures/samples": Picture(drawn)}
    assert view.pictures_of_row(run, ROW | {"epoch": 0.5}) == {}
    assert set(view.pictures_of_row(run, ROW | {"step": 110})) == {"pictures/samples", "pictures/latent_map"}


def test_the_summary_is_the_results_columns_and_back(run: RunFolder) -> None:
    result = {
        "status": "done",
        "step": 3,
        "metrics": {"test/elbo": -1.5},
        "missing": {"a": "b"},
        "kl_per_latent": [1.0],
    }
    shown = view.summary(result)
    assert shown == {"status": "done", "step": 3, "test/elbo": -1.5}
    assert view.result_of(shown) == {**shown, "metrics": {"test/elbo": -1.5}}
    assert view.result_of({"train/elbo": 1.0}) is None  # it has not ended


def test_facts_about_another_run_on_wandb_are_dropped(run: RunFolder) -> None:
    assert address.read_link(run) == {}
    here = Place("me", "vae", "0123456789ab")
    address.write_link(run, here, sent_step=5)
    address.write_link(run, here, mode="online")
    assert address.read_link(run)["sent_step"] == 5
    assert address.place(run) == here
    address.write_link(run, Place("me", "vae", "0123456789ab-v2"))
    assert "sent_step" not in address.read_link(run)


def test_online_without_a_key_is_refused_before_training(refused) -> None:
    line = "tracker.mode=online: there is no key for https://api.wandb.ai; "
    line += "`wandb login`, or set WANDB_API_KEY, or take auto"
    assert refused("tracker.mode=online") == line
    assert refused("-m", "beta=0,1", "tracker.mode=online") == line


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("tracker=foo", "tracker=foo: must be one of none, tensorboard, wandb"),
        ("tracker.mode=foo", "tracker.mode=foo: must be one of auto, online, offline, none, tensorboard"),
        ("tracker.salt='a b'", "tracker.salt=a b: must be at most 20 letters, digits, - and _"),
        ("tracker.project=a/b", "tracker.project=a/b: must be a project name of at most 100 characters, without /"),
        ("tracker.key=abc", "tracker.key=abc: no such key; known: tracker.dir, tracker.entity, tracker.mode,"),
        ("pictures_every_epochs=0", "pictures_every_epochs=0: must be a whole number >= 1, or null"),
    ],
)
def test_a_mistake_is_one_line(refused, argument: str, line: str) -> None:
    assert refused(argument).startswith(line)


@pytest.mark.parametrize("key", ["tracker.mode=offline,none", "tracker=wandb,none", "tracker=tensorboard,none"])
def test_a_tracker_cannot_be_swept(refused, key: str) -> None:
    assert refused("-m", key) == f"{key.split('=')[0]}: must be one value; it applies to the whole sweep"
