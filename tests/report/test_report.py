"""The content of the report, without a browser: numbers, escaping, size, and missing content."""

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from tests.conftest import ended_command
from tests.helpers import report_runs
from vae_sweeps.report import contents, facts, page, scatter
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """A parsed page: its scripts by id or run, all addresses, and the text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag if tag in ("script", "style") else self._inside
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside is None:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        return next(json.loads(text) for about, text in self.scripts if about.get("id") == "data")

    @property
    def points(self) -> dict[str, dict[str, Any]]:
        blocks = [json.loads(text) for about, text in self.scripts if about.get("class") == "point"]
        return {block["run"]: block for block in blocks}


def report(*sweeps: SweepFolder) -> Page:
    return Page(page.render(contents.read(sweeps)))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return report_runs.make_sweep(tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def whole(sweep) -> Page:
    return report(sweep)


def test_the_page_shows_what_was_run_and_its_cost(whole) -> None:
    for words in ("grid", "python launch.py -m beta=0,1 latent=2,4", "8 done", "mnist5k, fingerprint 0123456789abcdef"):
        assert words in whole.text
    # Eight points of half an hour each on two devices, and 0.1 h of evaluation each.
    assert "8.8 device-hours: training 8.0 h, evaluation 48.0 min" in whole.text
    assert "What is missing" not in whole.text


def test_the_page_has_no_external_addresses(whole) -> None:
    assert whole.addresses
    assert all(address.startswith("#") for address in whole.addresses)
    assert "link" not in whole.tags


def test_the_table_has_all_points_and_the_means_over_seeds(sweep, whole) -> None:
    content = contents.read([sweep])
    points, means = whole.data["tables"]["points"], whole.data["tables"]["means over seeds"]
    assert points["runs"] == list(content.table["run"])
    assert len(means["runs"]) == 4
    elbo = next(column for column in points["columns"] if column["name"] == "test/elbo")
    np.testing.assert_allclose(elbo["numbers"], content.table["test/elbo"], rtol=1e-5)
    elbo = next(column for column in means["columns"] if column["name"] == "test/elbo")
    # Seeds 0 and 1 differ by 1.5 nats: the standard error of two numbers is half their distance.
    assert all(text.endswith("± 0.75") for text in elbo["texts"])


def test_plotly_accepts_every_view(whole) -> None:
    figures = whole.data["figures"]
    assert list(figures) == [
        "heat-map",
        "curves",
        "rate-distortion",
        "fid",
        "prdc",
        "factors",
        "parallel",
        "importance",
    ]
    shown = [(view["data"], view["layout"]) for views in figures.values() for view in views]
    layouts = whole.data["point_layouts"]
    shown += [(point[name], layouts[name]) for point in whole.points.values() for name in ("curves", "kl")]
    for data, layout in shown:
        assert data
        go.Figure(data, layout)  # raises on unknown properties


def test_names_and_reasons_are_escaped_everywhere(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, num_seeds=1)
    report_runs.rename(sweep, "<script>alert(0)</script>")
    run = sweep.runs()[0]
    run.result.unlink()
    run.failure.write_text(f"Traceback\nValueError: {ATTACK}\n")
    report_runs.change_config(run, "activation: relu", f"activation: '{ATTACK}'")
    html = page.render(contents.read([sweep]))
    parsed = Page(html)
    assert "<script>alert(0)</script>" in parsed.text
    assert parsed.text.count(ATTACK) >= 1
    assert parsed.points[run.name]["failure"].endswith(f"{ATTACK}\n")
    assert "arch.activation" in parsed.text
    assert "img" not in parsed.tags
    plain = report(report_runs.make_sweep(tmp_path / "plain", num_seeds=1))
    assert len(parsed.scripts) == len(plain.scripts)
    assert "alert(" not in "".join(text for about, text in parsed.scripts if about.get("type") != "application/json")


def test_markup_in_a_value_is_escaped_for_plotly(tmp_path) -> None:
    runs = []
    for activation in ("<b>relu</b>", "tanh"):
        runs.append(report_runs.make_run(tmp_path, 1, 2, len(runs)))
        runs[-1].write_result(report_runs.result(1, 2, 0))
        report_runs.change_config(runs[-1], "activation: relu", f"activation: {activation}")
    sweep = report_runs.sweep_of(tmp_path, "markup", runs, ["arch.activation"])
    figure = scatter.rate_distortion(contents.read([sweep]))
    assert figure is not None
    shown = json.dumps(figure.views[0].data)
    assert "&lt;b&gt;relu" in shown
    assert "<b>relu" not in shown


def test_a_sweep_without_finished_points_shows_its_curves_and_states_this(tmp_path) -> None:
    run = report_runs.make_run(tmp_path, 1, 2)
    other = report_runs.make_run(tmp_path, 0, 2)
    report_runs.delete(other.pictures)
    other.rows.unlink()
    parsed = report(report_runs.sweep_of(tmp_path, "young", [run, other], ["beta"]))
    assert "No point is finished yet" in parsed.text
    assert "Not finished: 2 pending" in parsed.text
    assert list(parsed.data["figures"]) == ["curves"]
    assert parsed.points[run.name]["curves"]
    assert parsed.points[other.name]["curves"] == []
    assert parsed.points[other.name]["images"] == {}


def test_an_unfinished_run_shows_its_newest_pictures(tmp_path) -> None:
    run = report_runs.make_run(tmp_path, 1, 2)
    report_runs.delete(run.pictures)
    for epoch in (1, 9, 50):
        report_runs.draw(run.epoch_pictures(epoch))
    (run.epoch_pictures(50) / "samples.png").unlink()  # as if drawing had just begun
    parsed = report(report_runs.sweep_of(tmp_path, "young", [run], []))
    assert parsed.points[run.name]["epoch"] == 9
    assert set(parsed.points[run.name]["images"]) == {"samples", "reconstructions", "traversal"}


def test_numbers_in_doubt_have_a_star_and_a_reason_and_headings_say_what_they_are(tmp_path, whole) -> None:
    sweep = report_runs.make_sweep(tmp_path, betas=(0,), latents=(2,))
    first, second = sweep.runs()
    for run, dominated in ((first, 0.9), (second, 0.0)):
        result = run.read_result()
        assert result is not None
        result["metrics"]["test/iwae_dominated"] = dominated
        run.write_result(result)
    found = report(sweep)
    columns = {column["name"]: column for column in found.data["tables"]["points"]["columns"]}
    assert sorted(text[-1] for text in columns["test/iwae"]["texts"]) == [" ", "*"]
    assert columns["test/elbo"]["about"].startswith("log p(x|z) - KL at beta = 1")
    assert columns["test/elbo"]["about"].endswith("(Kingma & Welling 2014, eq. 3)")
    assert found.text.count("* test/iwae: one weight dominates") == 1
    assert "one weight dominates" not in whole.text


def test_one_point_has_a_report(tmp_path) -> None:
    parsed = report(report_runs.make_sweep(tmp_path, betas=(1,), latents=(2,), num_seeds=1))
    assert list(parsed.data["figures"]) == ["curves", "rate-distortion", "fid", "prdc", "factors"]
    assert len(parsed.points) == 1


@pytest.mark.slow
def test_a_point_links_to_some_of_many_seeds(tmp_path) -> None:
    """All links of all points would make the page of 1,000 seeds 80 MB larger."""
    parsed = report(report_runs.make_sweep(tmp_path, betas=(1,), latents=(2,), num_seeds=53))
    linked = {name: [seed["run"] for seed in point["seeds"]] for name, point in parsed.points.items()}
    for name, point in parsed.points.items():
        assert name not in linked[name]
        assert (len(set(linked[name])), point["num_more_seeds"]) == (50, 2)
    assert {run for runs in linked.values() for run in runs} == set(parsed.points)


def test_a_sweep_without_points_has_a_report(tmp_path) -> None:
    parsed = report(report_runs.sweep_of(tmp_path, "empty", [], []))
    assert "no points" in parsed.text
    assert parsed.points == {}


def test_sections_without_data_are_omitted_and_others_stay(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, num_seeds=1)
    for i, run in enumerate(sweep.runs()):
        result = run.read_result()
        assert result is not None
        kept = {k: v for k, v in result["metrics"].items() if not k.startswith(("fid/", "prdc/", "factors/"))}
        kept["test/psnr"] = math.nan
        if i == 0:
            kept["test/kl"] = kept["test/elbo"] = math.inf
        run.write_result(result | {"metrics": kept, "missing": {"fid/classifier/prior": "no labels"}})
    parsed = report(sweep)
    assert list(parsed.data["figures"]) == ["heat-map", "curves", "rate-distortion", "parallel"]
    assert "fid/classifier/prior: no labels (4 points)" in parsed.text
    assert "test/psnr" not in [column["name"] for column in parsed.data["tables"]["points"]["columns"]]
    z = parsed.data["figures"]["heat-map"][0]["data"][0]["z"]
    assert z[0][0] is None
    assert z[1][1] is not None


def test_a_run_folder_deleted_by_hand_is_named(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, num_seeds=1)
    gone, half, *rest = sweep.runs()
    report_runs.delete(gone.path)
    report_runs.delete(half.pictures)
    parsed = report(sweep)
    assert gone.name in parsed.text
    assert list(parsed.points) == [run.name for run in (half, *rest)]
    assert parsed.points[half.name]["images"] == {}
    assert parsed.data["figures"]["heat-map"]


def test_failed_and_diverged_points_are_named_with_their_reasons(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, num_seeds=1)
    failed, diverged, *_ = sweep.runs()
    failed.result.unlink()
    failed.failure.write_text("Traceback\n  ...\nOutOfMemoryError: 3 GiB\n")
    diverged.write_result(report_runs.result(0, 4, 0, status="diverged", step=7, metrics={}))
    content = contents.read([sweep])
    assert [(t.run, t.state, t.reason) for t in facts.troubles(content)] == [
        (failed.name, "failed", "OutOfMemoryError: 3 GiB"),
        (diverged.name, "diverged", "at step 7"),
    ]
    parsed = report(sweep)
    assert "beta=0 latent=2" in parsed.text
    assert parsed.points[failed.name]["failure"].startswith("Traceback")


@pytest.mark.slow
def test_the_whole_page_stays_below_its_size_limit(tmp_path, monkeypatch) -> None:
    sweep = report_runs.make_sweep(tmp_path, betas=range(10), latents=(2,), num_seeds=1)
    free = len(page.render(contents.read([sweep])).encode())
    limit = free - 200_000
    monkeypatch.setattr(page, "_MAX_BYTES", limit)
    monkeypatch.setattr(page, "_LEAST_PICTURES_BYTES", 0)
    assert len(page.render(contents.read([sweep])).encode()) <= limit


def test_the_command_writes_into_the_sweeps_folder(sweep, capsys) -> None:
    ended = ended_command(capsys, "report", sweep.path)
    assert (ended.code, ended.out, ended.err) == (0, f"{sweep.path / 'report.html'}\n", "")
    assert "grid" in Page(sweep.report.read_text()).text


def test_several_sweeps_are_one_report_and_shared_runs_count_once(tmp_path, capsys) -> None:
    first = report_runs.make_sweep(tmp_path, "first", betas=(0, 1), num_seeds=1)
    second = report_runs.make_sweep(tmp_path / "other", "second", betas=(2,), num_seeds=1)
    moved = [RunFolder.under(tmp_path, run.name) for run in second.runs()]
    for run, there in zip(second.runs(), moved, strict=True):
        run.path.rename(there.path)
    report_runs.sweep_of(tmp_path, "second", [*moved, *first.runs()[:2]], ["beta", "latent"])
    ended = ended_command(capsys, "report", "first", "second", "--output-dir", tmp_path)
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'report.html'}\n")
    parsed = Page((tmp_path / "report.html").read_text())
    assert "first, second" in parsed.text
    assert len(parsed.points) == 6
    assert parsed.data["figures"]["heat-map"][0]["data"][0]["y"] == ["0", "1", "2"]


def test_each_mistake_gives_a_one_line_error(tmp_path, capsys) -> None:
    sweep = report_runs.make_sweep(tmp_path, betas=(1,), latents=(2,), num_seeds=1)
    ended = ended_command(capsys, "report", "nothing", "--output-dir", tmp_path)
    assert ended.code == 2
    assert re.fullmatch(r"error: nothing: no such sweep; .*grid\n", ended.err)
    place = tmp_path / "no" / "such.html"
    ended = ended_command(capsys, "report", sweep.path, "--html", place)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert str(place) in ended.err
