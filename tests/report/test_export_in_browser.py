"""What a report's table and figures are saved and copied as, in a real Chromium."""

from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import expect

from tests.helpers import report_runs
from tests.helpers.report_pages import Open, column, number
from vae_sweeps.report import contents, page

pytestmark = pytest.mark.slow


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return page.write(contents.read([report_runs.make_sweep(tmp_path)]), tmp_path / "report.html")


def test_the_table_is_saved_and_copied_as_it_is_shown(report, open_page: Open, tmp_path) -> None:
    """CSV is read back by pandas; the text that was copied is pasted into a field."""
    opened = open_page(report)
    opened.get_by_label("filter latent").fill("=2")
    names = opened.locator("#points-table thead tr:first-child th").evaluate_all(
        "all => all.slice(1).map(th => th.dataset.column)"
    )
    with opened.expect_download() as saved:
        opened.get_by_role("button", name="Save", exact=True).click()
    path = tmp_path / saved.value.suggested_filename
    saved.value.save_as(path)
    assert path.name == "grid.csv"
    read = pd.read_csv(path)
    assert list(read.columns) == names
    assert [number(text) for text in column(opened, "test/elbo")] == read["test/elbo"].tolist()

    opened.get_by_label("Save or copy as").select_option("LaTeX")
    opened.get_by_role("button", name="Copy").click()
    expect(opened.locator("#table-said")).to_have_text("copied")
    opened.evaluate("document.body.append(Object.assign(document.createElement('textarea'), { id: 'paste' }))")
    opened.locator("#paste").press("Control+v")
    pasted = opened.locator("#paste").input_value()
    lines = pasted.splitlines()
    heads = next(line for line in lines if line.endswith(r"\\")).strip(" \\").split(" & ")
    assert heads == [name.replace("_", r"\_") for name in names]
    assert sum(line.endswith(r"\\") for line in lines) == 1 + len(read)
    assert lines[1].startswith(r"\begin{tabular}{")
    assert lines[-1] == r"\end{tabular}"

    opened.get_by_label("Save or copy as").select_option("Markdown")
    with opened.expect_download() as saved:
        opened.get_by_role("button", name="Save", exact=True).click()
    saved.value.save_as(path)
    rows = [line.strip("|").split("|") for line in path.read_text().splitlines()]
    assert {len(row) for row in rows} == {len(names)}
    assert len(rows) == 2 + len(read)


@pytest.mark.parametrize(
    ("title", "ending", "start"), [("Save as SVG", "svg", b"<svg"), ("Save as PNG", "png", b"\x89PNG")]
)
def test_a_figure_is_saved_as_a_picture(report, open_page: Open, tmp_path, title, ending, start) -> None:
    opened = open_page(report)
    plot = opened.locator("[data-plot='heat-map']")
    plot.scroll_into_view_if_needed()
    expect(plot.locator(".main-svg").first).to_be_visible()
    plot.hover()
    with opened.expect_download() as saved:
        plot.locator(f"[data-title='{title}']").click()
    path = tmp_path / "picture"
    saved.value.save_as(path)
    assert saved.value.suggested_filename == f"grid heat-map.{ending}"
    assert path.read_bytes().startswith(start)
