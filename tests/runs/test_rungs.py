"""Successive halving: which runs go on after a rung, decided from their rows alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.helpers.written_sweep import done
from vae_sweeps.runs.run_folder import STOPPED
from vae_sweeps.runs.rungs import Bracket, Halving, Rung, Stage, brackets_of, described, rungs_of
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.files import DamagedError

NAMES = tuple(f"run-{letter}" for letter in "abcdef")


def halving(epochs: Sequence[int] = (1, 2), metric: str = "val/elbo", factor: int = 2) -> Halving:
    return Halving(metric, factor, (Bracket(NAMES, tuple(epochs)),))


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """A sweep of six runs that have not begun."""
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add(NAMES, ["seed"])
    for run in sweep.runs():
        run.path.mkdir(parents=True)
    return sweep


Write = Callable[[Mapping[str, float], int], None]


@pytest.fixture
def write(sweep: SweepFolder) -> Write:
    """Write a row at the end of an epoch for each of the runs, named by their letters."""

    def rows(values: Mapping[str, float], epoch: int) -> None:
        for letter, value in values.items():
            with sweep.run(f"run-{letter}").rows.open("a") as file:
                file.write(json.dumps({"step": 10 * epoch - 5, "epoch": epoch - 0.5, "train/elbo": 0.0}) + "\n")
                file.write(
                    json.dumps({"step": 10 * epoch, "epoch": epoch, "val/elbo": value, "val/loss": value}) + "\n"
                )

    return rows


def stop(sweep: SweepFolder, letters: str) -> None:
    for letter in letters:
        sweep.run(f"run-{letter}").write_result(done(status=STOPPED))


def only(stages: Sequence[Stage]) -> tuple[str, Rung | None]:
    """The letters of the runs of the only stage, and its rung."""
    (stage,) = stages
    return "".join(run.name[-1] for run in stage.runs), stage.rung


def test_the_best_go_on_and_the_others_are_stopped_first(sweep, write) -> None:
    plan = halving()
    assert only(plan.next_stages(sweep)) == ("abcdef", Rung(1))
    write({"a": -9, "b": -3, "c": -7}, 1)
    assert only(plan.next_stages(sweep)) == ("def", Rung(1))
    write({"d": -2, "e": -8, "f": -1}, 1)
    assert only(plan.next_stages(sweep)) == ("ace", Rung(1, is_end=True))
    stop(sweep, "ace")
    assert only(plan.next_stages(sweep)) == ("bdf", Rung(2))
    write({"b": -1.5, "d": -1, "f": -0.5}, 2)
    assert only(plan.next_stages(sweep)) == ("bd", Rung(2, is_end=True))
    stop(sweep, "bd")
    assert only(plan.next_stages(sweep)) == ("f", None)
    sweep.run("run-f").write_result(done())
    assert plan.next_stages(sweep) == []


def test_a_decision_stays_whatever_happens_to_the_rows(sweep, write) -> None:
    write({letter: ord(letter) for letter in "abcdef"}, 1)
    assert only(halving().next_stages(sweep))[0] == "abc"
    for run in sweep.runs():
        run.rows.unlink()
    assert only(halving().next_stages(sweep))[0] == "abc"


@pytest.mark.parametrize("changed", [halving(metric="val/loss"), halving(factor=3), halving(epochs=(2,))])
def test_other_settings_decide_again(sweep, write, changed: Halving) -> None:
    write({letter: ord(letter) for letter in "abcdef"}, 1)
    halving().next_stages(sweep)
    assert only(changed.next_stages(sweep)) != only(halving().next_stages(sweep))


def test_a_lower_loss_is_better(sweep, write) -> None:
    write({letter: ord(letter) for letter in "abcdef"}, 1)
    assert only(halving(metric="val/loss").next_stages(sweep))[0] == "def"


def test_runs_without_a_number_do_not_go_on_and_nobody_waits_for_them(sweep, write) -> None:
    write({"a": 1.0, "b": float("nan"), "e": 2.0, "f": 3.0}, 1)
    sweep.run("run-b").write_result(done(status="diverged", step=7))
    sweep.run("run-c").write_failure("ValueError: why\n")
    assert only(halving().next_stages(sweep)) == ("d", Rung(1))
    sweep.run("run-d").write_result(done(status="diverged"))
    assert only(halving().next_stages(sweep)) == ("aef", Rung(2))  # half of six


def test_at_least_one_goes_on_and_is_not_compared_with_itself(sweep, write) -> None:
    plan = halving(epochs=(1, 2, 4), factor=100)
    write(dict.fromkeys("abcdef", 1.0), 1)
    assert only(plan.next_stages(sweep)) == ("bcdef", Rung(1, is_end=True))  # of equals, the first
    stop(sweep, "bcdef")
    assert only(plan.next_stages(sweep)) == ("a", None)


def test_a_run_that_was_stopped_before_can_win_among_more_runs(sweep, write) -> None:
    write({letter: ord(letter) for letter in "abcd"}, 1)
    few = Halving("val/elbo", 2, (Bracket(NAMES[:4], (1,)),))
    assert only(few.next_stages(sweep))[0] == "ab"
    stop(sweep, "ab")
    write({"e": 0.0, "f": 0.0}, 1)
    assert only(halving(epochs=(1,)).next_stages(sweep)) == ("ef", Rung(1, is_end=True))
    stop(sweep, "ef")
    assert only(halving(epochs=(1,)).next_stages(sweep)) == ("bcd", None)


def test_workers_read_what_the_launch_wrote_and_damage_is_named(sweep) -> None:
    assert Halving.read(sweep) is None
    halving().write(sweep)
    assert Halving.read(sweep) == halving()
    sweep.halving.write_bytes(sweep.halving.read_bytes().replace(b"val/elbo", b"val/loss"))
    with pytest.raises(DamagedError, match=r"halving\.json: damaged"):
        Halving.read(sweep)


def test_a_damaged_decision_is_named_and_made_again(sweep, write, caplog) -> None:
    write({letter: ord(letter) for letter in "abcdef"}, 1)
    before = only(halving().next_stages(sweep))
    (path,) = sweep.rungs.iterdir()
    for damaged in (path.read_bytes().replace(b"run-d", b"run-a"), path.read_bytes()[:50]):
        path.write_bytes(damaged)
        assert only(halving().next_stages(sweep)) == before
    assert f"{path}: damaged" in caplog.text
    assert len(sweep.all_rungs()) == 1


def test_a_stopped_run_can_be_opened_again_and_no_other(sweep) -> None:
    stop(sweep, "a")
    sweep.run("run-b").write_result(done())
    assert [sweep.run(f"run-{letter}").reopen() for letter in "abc"] == [True, False, True]
    assert [run.read_result() is None for run in sweep.runs()][:3] == [True, False, True]


def test_rungs_are_a_geometric_series_below_the_end() -> None:
    assert list(rungs_of(5, 3, 150)) == [5, 15, 45, 135]
    assert list(rungs_of(5, 3, 45)) == [5, 15]
    assert list(rungs_of(5, 3, 5)) == []


@pytest.mark.parametrize("num_brackets", [1, 2, 3, 4])
def test_brackets_divide_the_runs_and_each_begins_a_rung_later(num_brackets: int) -> None:
    names = [f"run-{k}" for k in range(143)]
    brackets = brackets_of(names, 1, 3, 81, num_brackets)
    assert sorted(name for bracket in brackets for name in bracket.runs) == sorted(names)
    assert [bracket.epochs[0] for bracket in brackets] == [3**i for i in range(num_brackets)]
    sizes = [len(bracket.runs) for bracket in brackets]
    assert sizes == sorted(sizes, reverse=True)
    assert brackets_of(names[::-1], 1, 3, 81, num_brackets)[-1].runs[::-1] == brackets[-1].runs  # at random, but fixed


def test_hyperbands_sizes() -> None:
    """Those of table 1 of Li et al. (2018), for eta = 3 and R = 81: 81, 34, 15, 8 and 5 configurations."""
    names = [f"run-{k}" for k in range(81 + 34 + 15 + 8 + 5)]
    assert [len(bracket.runs) for bracket in brackets_of(names, 1, 3, 82, 5)] == [81, 34, 15, 8, 5]


def test_rungs_in_words() -> None:
    plan = Halving("val/elbo", 3, brackets_of([f"run-{k}" for k in range(27)], 5, 3, 150, 1))
    assert described(plan.brackets[0], plan) == "27 points for 5 epochs, 9 for 15, 3 for 45, and 1 to the end"
