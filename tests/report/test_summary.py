"""The sentences at the top of the report, the marks of the best values, and how each point was made."""

import shlex
from pathlib import Path

import pytest

from tests.conftest import make_options, make_point
from tests.helpers import report_runs
from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.identity import identifying_content
from vae_sweeps.config.keys import as_typed, dotted
from vae_sweeps.config.point import to_container
from vae_sweeps.report import contents, page, recipe, summary
from vae_sweeps.report.contents import Contents
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder


def read(sweep: SweepFolder) -> Contents:
    return contents.read([sweep])


def sentences(content: Contents) -> list[str]:
    return ["".join(part.text for part in sentence) for sentence in summary.of(content)]


def targets(content: Contents) -> list[str]:
    return [part.target for sentence in summary.of(content) for part in sentence if part.target]


def test_each_sentence_names_the_best_of_the_table_and_leads_to_it(tmp_path) -> None:
    content = read(report_runs.make_sweep(tmp_path))
    said = sentences(content)
    assert said[0] == "All 8 points are done."
    means = content.means
    for start, column, is_best in (
        ("Highest validation ELBO (nats per image): ", "val/elbo", means["val/elbo"].max()),
        ("Highest test bound of log p(x) (nats per image): ", "test/iwae", means["test/iwae"].max()),
    ):
        (sentence,) = [text for text in said if text.startswith(start)]
        row = means[column].tolist().index(is_best)
        assert f"{is_best:.2f} ± " in sentence
        assert sentence.endswith(f" with beta={means['beta'][row]:g} latent={means['latent'][row]}.")
        assert f"#run/{means['run'][row]}" in targets(content)
    assert any(
        text.startswith("Lowest FID") and text.endswith(" with beta=0 latent=4, and of 1 more.") for text in said
    )
    html = page.render(content)
    for target in targets(content):
        assert f'href="{target}"' in html


def test_what_has_not_ended_and_what_ignores_its_latents_is_said(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, num_seeds=1)
    first, second, *_ = sweep.runs()
    metrics = first.read_result()["metrics"] | {"test/active_units": 0}  # type: ignore[index]
    first.write_result(report_runs.result(0, 2, 0, metrics=metrics))
    second.result.unlink()
    second.write_failure("ValueError: why")
    content = read(sweep)
    assert sentences(content)[0] == "Of 4 points: 3 done, 1 failed."
    assert targets(content)[0] == "#missing"
    assert sentences(content)[-1] == f"No latent is active in 1 point: {content.runs[first.name].label}."


def test_elbos_of_other_likelihoods_are_not_compared(tmp_path) -> None:
    runs = [report_runs.make_run(tmp_path, 1, 2), report_runs.make_run(tmp_path, 0, 2)]
    runs += [report_runs.make_run(tmp_path, 1, 4, 0, "likelihood=gaussian")]
    runs += [report_runs.make_run(tmp_path, 0, 4, 0, "likelihood=gaussian")]
    for run, (beta, latent) in zip(runs, ((1, 2), (0, 2), (1, 4), (0, 4)), strict=True):
        found = report_runs.metrics(beta, latent, 0) | {"test/bits_per_dim": 0.5}
        run.write_result(report_runs.result(beta, latent, 0, metrics=found))
    content = read(report_runs.sweep_of(tmp_path, "two", runs, ["beta", "latent", "likelihood"]))
    said = sentences(content)
    for likelihood, best in (("bernoulli", "beta=1 latent=2"), ("gaussian", "beta=1 latent=4")):
        (sentence,) = [text for text in said if text.startswith("Highest validation ELBO") and likelihood in text]
        assert f" among likelihood={likelihood}: " in sentence
        assert best in sentence
    assert summary.best_rows(content.table, "val/elbo") == []


def test_points_of_other_data_are_not_compared(tmp_path) -> None:
    runs = [report_runs.make_run(tmp_path, beta, 2, seed) for seed in (0, 1) for beta in (0, 1)]
    for k, run in enumerate(runs):
        report_runs.change_config(run, "binarize_seed: 0", f"binarize_seed: {k // 2}")
        run.write_result(report_runs.result(k % 2, 2, k // 2))
    content = read(report_runs.sweep_of(tmp_path, "two", runs, ["beta", "data.binarize_seed"]))
    assert [summary.best_rows(content.table, name) for name in ("val/elbo", "fid/classifier/prior")] == [[], []]
    said = [text for text in sentences(content) if text.startswith("Highest validation ELBO")]
    assert [f"among data.binarize_seed={k}: " in text for k, text in enumerate(said)] == [True, True]


def test_best_values_follow_the_direction_of_their_metric(tmp_path) -> None:
    frame = read(report_runs.make_sweep(tmp_path, latents=[2, 4, 8], num_seeds=1)).table
    latents = frame["latent"].tolist()
    assert [latents[row] for row in summary.best_rows(frame, "fid/classifier/prior")] == [8, 8]
    (row,) = summary.best_rows(frame, "test/elbo")
    assert frame["test/elbo"].tolist()[row] == frame["test/elbo"].max()
    assert summary.best_rows(frame, "test/kl") == []  # neither direction is better
    frame.loc[row, "status"] = "diverged"
    assert row not in summary.best_rows(frame, "test/elbo")


@pytest.fixture
def made(tmp_path: Path) -> list[RunFolder]:
    """Two points as a launch makes them, of which the code of the second was changed."""
    folders = []
    for beta, diff in ((0, ""), (0.5, "diff --git a/x b/x\n+1\n")):
        overrides = [f"beta={beta}", "arch.hidden=[20,30]", "sweep=two", "optim.lr=0.01"]
        point = make_point(*overrides)
        run = RunFolder.under(tmp_path, f"mnist5k-mlp-beta{beta}-latent10-seed0-00ff")
        run.create(point, make_options(), overrides, diff)
        run.write_result(report_runs.result(beta, 10, 0))
        folders.append(run)
    return folders


def test_a_recipe_has_the_whole_config_and_its_command_trains_the_same_point(made, tmp_path) -> None:
    content = read(report_runs.sweep_of(tmp_path, "two", made, ["beta"]))
    found = recipe.of(content)
    for run in made:
        own = found.of_runs[run.name]
        point = run.read_point()
        whole = {key: as_typed(value) for key, value in dotted(to_container(point)).items()}
        shown = found.shared | own.config
        assert shown.items() <= whole.items()
        assert set(shown) >= set(dotted(identifying_content(point)))
        assert list(own.config) == ["beta"]
        assert found.shared["optim.lr"] == "0.01"
        command = shlex.split(own.command)
        assert command[:2] == ["python", "launch.py"]
        assert compose_command(command[2:])[0] == run.read_point()
        assert own.about["commit"] == "0123abc"
        assert own.about["training"] == "30.0 min"
    assert [found.of_runs[run.name].diff for run in made] == [None, 0]
    assert found.diffs == ["diff --git a/x b/x\n+1\n"]


def test_a_report_of_one_point_has_its_whole_config(made, tmp_path) -> None:
    content = read(report_runs.sweep_of(tmp_path, "one", made[:1], []))
    found = recipe.of(content)
    assert found.shared == {}
    assert set(found.of_runs[made[0].name].config) >= set(dotted(identifying_content(made[0].read_point())))
