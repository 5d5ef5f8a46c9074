"""Event files hold what the run folders hold, once, as TensorBoard itself reads them."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("tensorboard", reason="needs the extra tensorboard")

from tests.conftest import ended_command, launch, make_options, make_point, start_launch, wait_until
from tests.helpers import event_files
from tests.helpers.small_jobs import SMALL, stop_after, train_pack
from vae_sweeps.config.schema import Point
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import event_writer
from vae_sweeps.tracker.link import linked
from vae_sweeps.tracker.messages import hparams

# Rows after 3, 5, 6, 9, 10, ... steps, as an epoch has 5; pictures after the first epoch and at the end.
OVERRIDES = [*SMALL, "steps=13", "pictures_at_epochs=[1]", "pictures.num_samples=8", "pictures.num_reconstructions=8"]
POINTS = [make_point(*OVERRIDES, "beta=0.01", "latent=2"), make_point(*OVERRIDES, "beta=1", "latent=3")]
TRACKED = make_options("tracker=tensorboard")


def new_sweep(output_dir: Path, points: Sequence[Point] = POINTS) -> SweepFolder:
    """A sweep over beta and latent, with run folders that are not trained yet."""
    sweep = SweepFolder.under(output_dir, "grid")
    sweep.add([f"run{k}-00000000000{k}" for k in range(len(points))], ["beta", "latent"])
    for run, point in zip(sweep.runs(), points, strict=True):
        run.create(point, TRACKED, [])
    return sweep


def train_live(sweep: SweepFolder, points: Sequence[Point] = POINTS, num_steps: int = 0) -> None:
    """Train as a job with tracker=tensorboard does, until the end or until it is told to stop."""
    with linked(TRACKED.tracker, sweep) as link:
        link.begin({run: {} for run in sweep.runs()})
        should_stop = stop_after(num_steps) if num_steps else lambda: False
        train_pack(points, sweep.runs(), link=link, checkpoint_every_s=0, should_stop=should_stop)
        link.ended(sweep.runs())


def content(sweep: SweepFolder) -> dict[Path, bytes]:
    """The event files that are not empty; those that were replaced are. A job may be writing them."""
    found = {}
    for folder, _, names in os.walk(sweep.tensorboard):  # passes over folders that vanish meanwhile, as leases do
        for name in names:
            with suppress(FileNotFoundError):
                found[Path(folder, name)] = Path(folder, name).read_bytes()
    return {path: found[path] for path in sorted(found) if found[path]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """A sweep that was trained with tracker=tensorboard. Tests must not change it."""
    sweep = new_sweep(tmp_path_factory.mktemp("live"))
    train_live(sweep)
    return sweep


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """A sweep that was trained without a tracker."""
    sweep = new_sweep(tmp_path)
    train_pack(POINTS, sweep.runs())
    return sweep


def test_each_run_has_the_numbers_histograms_and_pictures_of_its_folder(live: SweepFolder) -> None:
    for run, point in zip(live.runs(), POINTS, strict=True):
        events = event_files.read(live.tensorboard, run)
        event_files.assert_same(events, run)
        assert [e.step for e in events.Images("pictures/samples")] == [5, 13]
        assert event_files.hparams(events) == {"beta": point.beta, "latent": point.latent}
        assert event_files.status(events) == hparams.STATUS_SUCCESS
        assert f"beta: {point.beta}\nlatent: {point.latent}\n" in event_files.config(events)
    names = {path.name for path in live.tensorboard.iterdir()}
    assert names == {"beta=0.01 latent=2 000000000000", "beta=1 latent=3 000000000001"}


def test_files_written_live_are_those_that_are_written_from_the_folders(live: SweepFolder, sweep: SweepFolder) -> None:
    before = content(live)
    assert event_writer.write(live.runs(), live) == event_writer.Written(0, 2, {})
    assert content(live) == before
    assert event_writer.write(sweep.runs(), sweep) == event_writer.Written(2, 0, {})
    for run, other in zip(sweep.runs(), live.runs(), strict=True):
        event_files.assert_same(event_files.read(sweep.tensorboard, run), run)
        shown, expected = (event_files.read(s.tensorboard, r) for s, r in ((sweep, run), (live, other)))
        assert event_files.timeless(shown) == event_files.timeless(expected)


def test_interrupted_and_resumed_is_uninterrupted(live: SweepFolder, tmp_path: Path) -> None:
    sweep = new_sweep(tmp_path)
    train_live(sweep, num_steps=8)
    for run in sweep.runs():
        events = event_files.read(sweep.tensorboard, run)
        event_files.assert_same(events, run)
        assert [e.step for e in events.Scalars("train/elbo")] == [3, 5, 6]
    before = content(sweep)
    train_live(sweep)
    for path, continued in content(sweep).items():
        assert continued.startswith(before[path])
    for run, other in zip(sweep.runs(), live.runs(), strict=True):
        events = event_files.read(sweep.tensorboard, run)
        event_files.assert_same(events, run)
        assert event_files.timeless(events) == event_files.timeless(event_files.read(live.tensorboard, other))


def test_rows_that_training_may_roll_back_are_left_out(tmp_path: Path) -> None:
    sweep = new_sweep(tmp_path)
    train_pack(POINTS, sweep.runs(), should_stop=stop_after(8))
    run, _ = sweep.runs()
    covered = run.rows.read_bytes()
    run.rows.write_bytes(covered + covered.splitlines(keepends=True)[-1].replace(b'"step": 6', b'"step": 9'))
    event_writer.write([run], sweep)
    events = event_files.read(sweep.tensorboard, run)
    assert [e.step for e in events.Scalars("train/elbo")] == [3, 5, 6]


@pytest.mark.parametrize("num_bytes", [0, 100, -1, -5000])
def test_a_file_that_a_kill_or_a_full_disk_has_cut_short_is_written_anew(sweep: SweepFolder, num_bytes: int) -> None:
    event_writer.write(sweep.runs(), sweep)
    path, whole = next(iter(content(sweep).items()))
    path.write_bytes(whole[:num_bytes])
    assert event_writer.write(sweep.runs(), sweep) == event_writer.Written(1, 1, {})
    assert len(content(sweep)) == 2
    for run in sweep.runs():
        event_files.assert_same(event_files.read(sweep.tensorboard, run), run)


def test_a_run_that_is_evaluated_or_trained_again_replaces_its_events(sweep: SweepFolder) -> None:
    event_writer.write(sweep.runs(), sweep)
    evaluated, trained = sweep.runs()
    result = evaluated.read_result()
    assert result is not None
    evaluated.write_result(result | {"metrics": result["metrics"] | {"test/iwae": -7.5}})
    trained.result.unlink()
    for file in (trained.rows, trained.checkpoint, trained.previous_checkpoint):
        file.unlink(missing_ok=True)
    train_pack([POINTS[1]], [trained])
    assert event_writer.write(sweep.runs(), sweep) == event_writer.Written(2, 0, {})
    assert len(content(sweep)) == 2
    for run in sweep.runs():
        event_files.assert_same(event_files.read(sweep.tensorboard, run), run)
    assert event_files.read(sweep.tensorboard, evaluated).Scalars("trained/test/iwae")[0].value == -7.5


def test_a_tensorboard_that_has_read_the_earlier_file_forgets_it(sweep: SweepFolder) -> None:
    run, _ = sweep.runs()
    event_writer.write([run], sweep)
    events = event_files.read(sweep.tensorboard, run)
    result = run.read_result()
    assert result is not None
    run.write_result(result | {"metrics": result["metrics"] | {"test/iwae": -7.5}})
    event_writer.write([run], sweep)
    event_files.assert_same(events.Reload(), run)


def test_a_run_gets_another_name_where_more_keys_are_swept(sweep: SweepFolder) -> None:
    event_writer.write(sweep.runs(), sweep)
    sweep.add([], ["arch.hidden", "data"])
    event_writer.write(sweep.runs(), sweep)
    names = {path.name for path in sweep.tensorboard.iterdir()}
    start = "arch.hidden=_9 data=mnist5k"
    assert names == {f"{start} beta=0.01 latent=2 000000000000", f"{start} beta=1 latent=3 000000000001"}
    shown = event_files.hparams(event_files.read(sweep.tensorboard, sweep.runs()[0]))
    assert shown == {"arch.hidden": "[9]", "data": "mnist5k", "beta": 0.01, "latent": 2}


def test_values_of_a_key_that_takes_text_too_are_text_in_all_runs(tmp_path: Path) -> None:
    points = [make_point(*SMALL, "likelihood=gaussian", f"likelihood.sigma={sigma}") for sigma in ("0.1", "learned")]
    sweep = new_sweep(tmp_path, points)
    sweep.add([], ["likelihood.sigma"])
    event_writer.write(sweep.runs(), sweep)
    shown = [event_files.hparams(event_files.read(sweep.tensorboard, run)) for run in sweep.runs()]
    assert [values["likelihood.sigma"] for values in shown] == ["0.1", "learned"]


def test_a_run_that_diverged_is_a_failure_and_shows_its_rows(tmp_path: Path) -> None:
    points = [make_point(*OVERRIDES, "beta=1e38", "optim.lr=1e30")]
    sweep = new_sweep(tmp_path, points)
    train_pack(points, sweep.runs())
    (run,) = sweep.runs()
    assert (run.read_result() or {})["status"] == "diverged"
    event_writer.write([run], sweep)
    events = event_files.read(sweep.tensorboard, run)
    assert event_files.status(events) == hparams.STATUS_FAILURE
    assert "trained/step" in events.Tags()["scalars"]
    assert event_writer.write([run], sweep) == event_writer.Written(0, 1, {})


def test_event_files_that_cannot_be_written_cost_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = new_sweep(tmp_path)
    sweep.tensorboard.write_text("not a folder")
    train_live(sweep)
    assert [(run.read_result() or {})["status"] for run in sweep.runs()] == ["done", "done"]
    (line,) = [line for line in caplog.messages if "missing" in line]
    assert line.startswith("TensorBoard is missing data of 2 of 2 runs (")
    assert line.endswith(f"to write the rest: vae-sweeps tensorboard grid --output-dir {tmp_path}")


def test_the_command_writes_says_what_shows_them_and_does_nothing_twice(sweep: SweepFolder, capsys) -> None:
    for said in ("2 written, 0 were up to date", "0 written, 2 were up to date"):
        ended = ended_command(capsys, "tensorboard", "grid", "--output-dir", sweep.output_dir)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out == f"2 runs: {said}\ntensorboard --logdir {sweep.tensorboard}\n"


def test_a_run_outside_a_sweep_has_its_event_file_in_its_folder(sweep: SweepFolder, capsys) -> None:
    run: RunFolder = sweep.runs()[0]
    ended = ended_command(capsys, "tensorboard", run.path)
    assert ended.out == f"1 run: 1 written, 0 were up to date\ntensorboard --logdir {run.tensorboard}\n"
    event_files.assert_same(event_files.read(run.tensorboard, run), run)


def test_without_the_package_one_line_says_what_to_install(refused, sweep: SweepFolder, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = "needs the package tensorboard; pip install 'vae-sweeps[tensorboard]'"
    assert refused("tracker=tensorboard") == f"tracker=tensorboard: {line}"
    ended = ended_command(capsys, "tensorboard", "grid", "--output-dir", sweep.output_dir)
    assert (ended.code, ended.err) == (2, f"error: tensorboard: {line}\n")


GRID = ["-m", "beta=0.01,1", "latent=2,5", "arch.hidden=[16]", "evaluation=none", "sweep=grid"]
LONG = [*GRID, "steps=2500", "log_every_steps=50", "checkpoint_every_s=0.5", "pictures_every_epochs=20"]


@pytest.mark.slow
def test_a_launch_that_is_killed_and_goes_on_has_the_events_of_one_without_a_tracker(tmp_path: Path, capsys) -> None:
    live, later = (SweepFolder.under(tmp_path / name, "grid") for name in ("live", "later"))
    arguments = [*LONG, "tracker=tensorboard", f"output_dir={live.output_dir}"]
    for stop in (signal.SIGKILL, signal.SIGINT):
        before = content(live)
        process = start_launch(*arguments)
        wait_until(lambda before=before: num_longer(content(live), before) == 4, process)
        process.send_signal(stop)
        process.communicate(timeout=180)
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"TensorBoard: tensorboard --logdir {live.tensorboard}\n" in done.stdout
    assert launch(*LONG, "tracker=none", f"output_dir={later.output_dir}").returncode == 0
    for sweep, num_written in ((live, 0), (later, 4)):
        ended = ended_command(capsys, "tensorboard", "grid", "--output-dir", sweep.output_dir)
        assert ended.out.startswith(f"4 runs: {num_written} written, {4 - num_written} were up to date\n")
    for run, other in zip(live.runs(), later.runs(), strict=True):
        shown, expected = (event_files.read(s.tensorboard, r) for s, r in ((live, run), (later, other)))
        event_files.assert_same(shown, run)
        event_files.assert_same(expected, other)
        assert event_files.timeless(shown) == event_files.timeless(expected)


def num_longer(now: dict[Path, bytes], before: dict[Path, bytes]) -> int:
    """How many of the files have got rows since; the start of a file is shorter."""
    return sum(len(data) > len(before.get(path, b"")) + 5000 for path, data in now.items())
