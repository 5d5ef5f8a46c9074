"""docs/numbers.md is up to date with the catalogue, and describes every metric."""

import runpy

from tests.conftest import ROOT
from vae_sweeps.runs.catalogue import METRICS

PAGE = (ROOT / "docs" / "numbers.md").read_text()
SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_numbers_page"))


def test_the_page_is_up_to_date() -> None:
    assert SCRIPT["page"]() == PAGE, "run docs/make_numbers_page"


def test_the_page_has_every_metric_and_says_what_it_is() -> None:
    assert {metric.group for metric in METRICS} == set(SCRIPT["GROUPS"])
    for metric in METRICS:
        assert f"| `{metric.name.replace('/*/', '/FEATURES/')}` |" in PAGE
        assert metric.about.endswith(".")
