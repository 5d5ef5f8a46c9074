"""The content of the dashboards, without a server."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces", reason="needs the extra dashboard")

from tests.conftest import ROOT
from vae_sweeps.evaluation.metrics.prdc import PRDC
from vae_sweeps.runs import catalogue
from vae_sweeps.tracker.board import Board
from vae_sweeps.tracker.dashboard import report, specification, workspace

GOLDEN = ROOT / "tests" / "golden" / "dashboard.json"
SWEPT = ("beta", "latent", "seed")
BOARD = Board("lab", "vae", "mnist5k-beta-latent-seed-0a1b2c", SWEPT, "classifier", "classifier", has_factors=True)

HISTORY = {"global_step", "epoch", "beta_nats", "lr", "time_s", "core_s", "gpu_s", "images_per_s", "val/kl_per_latent"}
HISTORY |= {f"{split}/{x}" for split in ("train", "val") for x in ("elbo", "log_px", "kl", "loss", "bits_per_dim")}
PICTURES = {f"pictures/{name}" for name in ("reconstructions", "samples", "interpolations", "traversal")}
SUMMARY = {f"test/{name}" for name in ("elbo", "log_px", "kl", "iwae", "active_units", "mi", "bits_per_dim")}
# W&B wraps the value of each outermost key.
CONFIG = {key: f"config:{key}.value" for key in SWEPT} | {"likelihood.sigma": "config:likelihood.value.sigma"}
SCORES = {f"fid/classifier/{x}" for x in catalogue.SAMPLES}
BALLS = {f"prdc/classifier/{name}/{x}" for name in PRDC._fields for x in catalogue.SAMPLES}
FACTORS = {f"factors/{x}" for x in ("mig", "dci_disentanglement", "dci_informativeness", "factorvae")}
SUMMARY |= SCORES | BALLS | FACTORS


def make_golden() -> str:
    return json.dumps(specification(BOARD), indent=1, ensure_ascii=False) + "\n"


def test_the_dashboards_are_those_of_the_golden_file() -> None:
    """After an intended change, remake the file with `python -m tests.tracker.test_dashboard`, and read its diff."""
    assert json.loads(make_golden()) == json.loads(GOLDEN.read_text())  # first, for pytest's diff
    assert make_golden() == GOLDEN.read_text()


def test_two_calls_give_equal_specifications_with_distinct_ids() -> None:
    first, second = specification(BOARD), specification(BOARD)
    assert first == second
    for dashboard in first.values():
        ids = [value for name, value in fields(dashboard) if name == "__id__"]
        assert len(ids) == len(set(ids)) > 8


@pytest.mark.parametrize("features", ["classifier", None])
@pytest.mark.parametrize("swept", [SWEPT, ("beta", "likelihood.sigma"), ("latent",), ("seed",), ()])
def test_panels_show_only_what_runs_have(swept: tuple[str, ...], features: str | None) -> None:
    """Lines come from the history, all others from the summary and from config keys that vary."""
    spec = specification(Board("lab", "vae", "s", swept, features, features, has_factors=True))
    lines, media, importance, rest = set(), set(), set(), set()
    for name, value in fields(spec):
        if name == "metrics":
            lines |= set(value)
        elif name == "mediaKeys":
            media |= set(value)
        elif name == "targetKey":
            importance.add(value)
        elif name in ("xAxis", "yAxis", "zAxis", "accessor"):
            rest.add(value)
    assert lines == {"train/elbo", "val/elbo", "val/log_px", "val/kl", "val/bits_per_dim"} <= HISTORY
    assert media == {"pictures/samples", "pictures/reconstructions"} <= PICTURES
    assert importance == {"test/elbo"} <= SUMMARY
    rest -= {"global_step", "_step"}  # _step: the library's default, in parts of a report that have no panels
    assert {key.removeprefix("summary:") for key in rest if key.startswith("summary:")} <= SUMMARY
    assert {key for key in rest if not key.startswith("summary:")} == {CONFIG[key] for key in swept}


@pytest.mark.parametrize(
    ("fid", "prdc", "has_factors"),
    [("classifier", None, False), (None, "classifier", False), (None, None, True), (None, None, False)],
)
def test_scores_have_panels_if_runs_have_them(fid: str | None, prdc: str | None, has_factors: bool) -> None:
    for dashboard in specification(Board("lab", "vae", "s", SWEPT, fid, prdc, has_factors)).values():
        shown = {str(value).removeprefix("summary:") for _, value in fields(dashboard) if isinstance(value, str)}
        assert SCORES & shown == (SCORES if fid else set())
        assert BALLS & shown == (BALLS if prdc else set())
        assert set(catalogue.names("factors")) & shown == (FACTORS if has_factors else set())


@pytest.mark.parametrize("sweep", ["plain", "a=b", "lr<=1 \"or\" 'so'", "back\\slash", "größe+2", "in {x}"])
def test_dashboards_show_the_runs_of_the_sweeps_group(sweep: str) -> None:
    spec = specification(Board("lab", "vae", sweep, SWEPT, None))
    for dashboard in spec.values():
        filters = [value for name, value in fields(dashboard) if name == "filters" and isinstance(value, dict)]
        assert filters
        for found in filters:
            [only] = found["filters"]
            assert only == {"key": {"section": "run", "name": "group"}, "op": "=", "value": sweep, "disabled": False}


def test_runs_of_different_seeds_are_drawn_as_one_and_compared_one_by_one() -> None:
    spec = specification(BOARD)
    together = [{"section": "config", "name": f"{key}.value"} for key in ("beta", "latent")]
    assert [value for name, value in fields(spec["workspace"]) if name == "grouping"] == [together]
    assert [value for name, value in fields(spec["report"]) if name == "grouping"] == [together] * 5 + [[]] * 4


def test_both_have_the_same_sections_and_the_report_says_what_to_look_for() -> None:
    spec = specification(BOARD)
    sections = [s["name"] for s in spec["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]]
    blocks = [b for b in spec["report"]["spec"]["blocks"] if b["type"] != "paragraph" or b["children"][0]["text"]]
    assert [block["type"] for block in blocks] == ["paragraph", *["heading", "paragraph", "panel-grid"] * len(sections)]
    assert [block["children"][0]["text"] for block in blocks if block["type"] == "heading"] == sections


def test_dashboards_have_the_entity_project_and_name_of_the_board() -> None:
    assert (workspace(BOARD).entity, workspace(BOARD).project, workspace(BOARD).name) == ("lab", "vae", BOARD.sweep)
    assert (report(BOARD).entity, report(BOARD).project, report(BOARD).title) == ("lab", "vae", f"Sweep {BOARD.sweep}")


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    for make in (workspace, report, specification):
        with pytest.raises(ValueError, match=r"dashboard: needs the extra of that name; pip install 'vae-sweeps\[dash"):
            make(BOARD)


def fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name and value of every object in `value`, from the outermost to the innermost."""
    for name, inner in value.items() if isinstance(value, dict) else (("", v) for v in value):
        if name:
            yield name, inner
        if isinstance(inner, dict | list):
            yield from fields(inner)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(make_golden())
