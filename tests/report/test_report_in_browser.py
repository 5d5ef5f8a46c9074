"""The report opened from a file in a real Chromium, without network access.

The tests save screenshots in build/report.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import ROOT, launch
from tests.helpers import report_runs
from tests.helpers.report_pages import WIDE, Open, column, number
from vae_sweeps.report import contents, page
from vae_sweeps.report.rows import NO_ROWS
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

SCREENSHOTS = ROOT / "build" / "report"
PHONE = 400  # px

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real, tiny sweep."""
    output_dir = tmp_path_factory.mktemp("out")
    tiny = ["arch.hidden=[16]", "steps=30", "evaluation.iwae_samples=2", f"output_dir={output_dir}", "sweep=tiny"]
    ended = launch("-m", "beta=0,1", "latent=2,4", "seed=0,1", *tiny)
    assert (ended.returncode, ended.stderr) == (0, "")
    return SweepFolder.under(output_dir, "tiny").report


def draw_all(opened: Page) -> None:
    """Scroll to each figure, since a figure is drawn when it comes into view."""
    for place in opened.locator("[data-plot]").all():
        place.scroll_into_view_if_needed()
        expect(place.locator(".main-svg").first).to_be_visible()
    for picture in opened.locator("[data-samples]").all():
        picture.scroll_into_view_if_needed()
        expect(picture.locator("img")).to_be_visible()


@pytest.mark.parametrize(("width_px", "scheme"), list(itertools.product((WIDE, PHONE), ("light", "dark"))))
def test_everything_is_drawn_at_any_width(report, open_page: Open, width_px, scheme) -> None:
    opened = open_page(report, width_px, color_scheme=scheme)
    expect(opened.locator("h1")).to_have_text("tiny")
    draw_all(opened)
    assert (
        opened.evaluate("document.documentElement.scrollWidth") <= width_px
    )  # the page itself scrolls only vertically
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened.evaluate("scrollTo(0, 0)")
    opened.screenshot(path=SCREENSHOTS / f"{width_px}px-{scheme}.png", full_page=True)
    opened.locator("[data-samples]").first.click()
    expect(opened.locator("#point-curves .main-svg").first).to_be_visible()
    opened.screenshot(path=SCREENSHOTS / f"{width_px}px-{scheme}-point.png")


def test_a_heading_sorts_up_and_down(report, open_page: Open) -> None:
    opened = open_page(report)
    heading = opened.locator("#points-table th", has=opened.get_by_role("button", name="elbo"))
    before = column(opened, "test/elbo")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert column(opened, "test/elbo") == sorted(before, key=number)
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert column(opened, "test/elbo") == sorted(before, key=number, reverse=True)
    assert len(set(before)) == len(before) == 8


def test_filters_accept_words_and_comparisons(report, open_page: Open) -> None:
    opened = open_page(report)
    elbo = column(opened, "test/elbo")
    bound = sum(sorted(map(number, elbo))[4:6]) / 2
    opened.get_by_label("filter test/elbo").fill(f"< {bound}")
    expect(opened.locator("#table-count")).to_have_text("5 of 8")
    assert all(number(text) < bound for text in column(opened, "test/elbo"))
    opened.get_by_label("filter test/elbo").fill("")
    opened.get_by_label("filter latent").fill("=2")
    assert column(opened, "latent") == ["2"] * 4
    opened.get_by_label("Search").fill("no such point")
    expect(opened.locator("#table-count")).to_have_text("0 of 8")


def test_rows_can_be_means_over_seeds_and_all_columns_can_be_shown(report, open_page: Open) -> None:
    opened = open_page(report)
    num_columns = opened.locator("#points-table thead tr:first-child th").count()
    opened.get_by_label("all columns").check()
    assert opened.locator("#points-table thead tr:first-child th").count() > num_columns
    opened.get_by_label("Rows").select_option("means over seeds")
    expect(opened.locator("#table-count")).to_have_text("4 of 4")
    assert column(opened, "n") == ["2"] * 4
    assert all("±" in text for text in column(opened, "test/elbo"))


def test_the_heat_map_shows_the_chosen_metric(report, open_page: Open) -> None:
    opened = open_page(report)
    place = opened.locator("[data-plot=heat-map]")
    place.scroll_into_view_if_needed()
    expect(place.locator(".main-svg").first).to_be_visible()
    shown = "document.querySelector('[data-plot=heat-map]').data[0].z"
    before = opened.evaluate(shown)
    opened.get_by_label("Show").first.select_option("test/kl")
    expect(place).to_contain_text("test/kl (nats per image)")
    after = opened.evaluate(shown)
    assert before != after
    view = opened.evaluate("DATA.figures['heat-map'].find((view) => view.name === 'test/kl').data[0].z")
    assert after == view


def test_a_cell_opens_its_point_and_back_restores_the_scroll_position(report, open_page: Open) -> None:
    opened = open_page(report)
    cell = opened.locator("[data-samples]").last
    cell.scroll_into_view_if_needed()
    where, run = opened.evaluate("scrollY"), cell.get_attribute("data-samples")
    cell.click()
    dialog = opened.locator("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.locator("h2")).to_have_text("beta=1 latent=4 seed=0")
    expect(dialog.locator("#point-curves .main-svg").first).to_be_visible()
    expect(dialog.locator("#point-kl .main-svg").first).to_be_visible()
    assert dialog.locator("img").count() >= 4
    assert opened.evaluate("[...document.querySelectorAll('dialog img')].every((image) => image.naturalWidth > 100)")
    expect(dialog.locator("#point-left-out")).to_contain_text(str(run))
    dialog.get_by_role("link", name="1", exact=True).click()  # the other seed
    expect(dialog.locator("h2")).to_have_text("beta=1 latent=4 seed=1")
    opened.go_back()
    expect(dialog.locator("h2")).to_have_text("beta=1 latent=4 seed=0")
    opened.go_back()
    expect(dialog).to_be_hidden()
    assert opened.evaluate("scrollY") == where


@pytest.mark.parametrize("way", ["Close", "Escape"])
def test_a_point_can_be_closed_by_button_and_by_key(report, open_page: Open, way) -> None:
    opened = open_page(report)
    opened.locator("#points-table tbody a").first.click()
    expect(opened.locator("dialog")).to_be_visible()
    if way == "Close":
        opened.get_by_role("button", name=way).click()
    else:
        opened.keyboard.press(way)
    expect(opened.locator("dialog")).to_be_hidden()
    assert opened.evaluate("location.hash") == ""


def test_a_point_can_be_linked_to(report, open_page: Open, tmp_path) -> None:
    run = SweepFolder(report.parent).runs()[3]
    opened = open_page(report)
    opened.goto(f"{report.as_uri()}#run/{run.name}")
    expect(opened.locator("dialog h2")).to_have_text("beta=0 latent=4 seed=1")


def test_a_click_in_a_figure_opens_the_point(report, open_page: Open) -> None:
    opened = open_page(report)
    place = opened.locator("[data-plot=heat-map]")
    place.scroll_into_view_if_needed()
    box = place.locator(".nsewdrag").bounding_box()
    assert box is not None
    opened.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    expect(opened.locator("dialog h2")).to_have_text("beta=0 latent=4 seed=0")


def test_printing_draws_all_figures_and_the_whole_table(report, open_page: Open) -> None:
    opened = open_page(report, color_scheme="dark")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened.evaluate(
        "addEventListener('beforeprint', () => window.printed = document.querySelectorAll('.main-svg').length)"
    )
    opened.pdf(path=SCREENSHOTS / "print.pdf", format="A4")
    assert opened.evaluate("window.printed") >= 5
    assert opened.evaluate(
        "[...document.querySelectorAll('[data-samples]')].every((cell) => cell.querySelector('img'))"
    )


def test_a_name_that_is_a_script_is_shown_and_not_run(open_page: Open, tmp_path) -> None:
    attack = "<script>document.title = 'taken'</script>"
    sweep = report_runs.make_sweep(tmp_path, num_seeds=1)
    report_runs.rename(sweep, attack)
    run = sweep.runs()[0]
    run.result.unlink()
    run.failure.write_text(f"ValueError: </script>{attack}")
    opened = open_page(page.write(contents.read([sweep]), tmp_path / "report.html"))
    expect(opened.locator("h1")).to_have_text(attack)
    expect(opened.locator(".troubles")).to_contain_text(attack)
    opened.locator(".troubles a").click()
    expect(opened.locator("#point-failure")).to_contain_text(attack)
    expect(opened).to_have_title(attack)


def test_a_thousand_points_are_shown_a_page_at_a_time(open_page: Open, tmp_path) -> None:
    file = tmp_path / "report.html"
    four = contents.read([report_runs.make_sweep(tmp_path, num_seeds=1)])
    file.write_text(page.render(repeated(four, 250)))
    opened = open_page(file)
    expect(opened.locator("#points-table tbody tr")).to_have_count(100)
    expect(opened.locator("#table-count")).to_have_text("1000 of 1000, 1 to 100 shown")
    opened.get_by_role("button", name="next").click()
    expect(opened.locator("#table-count")).to_have_text("1000 of 1000, 101 to 200 shown")
    opened.get_by_label("filter latent").fill("> 2001")
    expect(opened.locator("#table-count")).to_have_text("200 of 1000, 101 to 200 shown")
    opened.locator("#points-table th", has=opened.get_by_role("button", name="latent")).get_by_role("button").click()
    assert column(opened, "latent")[-1] == "2494"


def repeated(content: contents.Contents, num: int) -> contents.Contents:
    """Repeat the points of `content` `num` times, with latent sizes that grow by ten, without curves and pictures."""

    def of(frame: pd.DataFrame) -> pd.DataFrame:
        copies = [frame.assign(run=frame["run"] + f"-{i}", latent=frame["latent"] + 10 * i) for i in range(num)]
        return pd.concat(copies, ignore_index=True)

    table = of(content.table)
    runs = {
        f"{name}-{i}": replace(run, rows=NO_ROWS, folder=RunFolder(run.folder.path / "none"))
        for i in range(num)
        for name, run in content.runs.items()
    }
    return replace(
        content, table=table, means=of(content.means), runs=runs, groups={run: [run] for run in table["run"]}
    )
