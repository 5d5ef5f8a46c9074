"""Every control of the figures, driven in a real Chromium: what is chosen in one place is chosen in all."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.helpers import report_runs
from tests.helpers.report_pages import Open, column
from vae_sweeps.report import contents, page

pytestmark = pytest.mark.slow

BETAS, LATENTS = (0, 0.1, 0.2, 0.3, 1), (2, 4)
OUTLIER = -99999.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of ten points with two seeds each, of which the first has a very low ELBO."""
    folder = tmp_path_factory.mktemp("out")
    sweep = report_runs.make_sweep(folder, betas=BETAS, latents=LATENTS)
    for seed, run in enumerate(sweep.runs()[:2]):
        metrics = report_runs.metrics(0, 2, seed) | {"test/elbo": OUTLIER}
        run.write_result(report_runs.result(0, 2, seed, metrics=metrics))
    for epoch in (1, 5):
        report_runs.draw(sweep.runs()[0].epoch_pictures(epoch), epoch)
    return page.write(contents.read([sweep]), folder / "report.html")


def test_samples_are_shown_as_they_were_earlier_in_training(report, open_page: Open) -> None:
    opened = open_page(report)
    opened.evaluate("location.hash = toRun(DATA.first_runs[0])")
    figure = opened.locator("#point-pictures figure").filter(has_text="samples")
    shown = {}
    for place, title in enumerate(("samples (epoch 1)", "samples (epoch 5)", "samples")):
        figure.get_by_label("samples during training").fill(str(place))
        expect(figure.locator("figcaption")).to_have_text(title)
        shown[title] = figure.get_by_alt_text(title, exact=True).get_attribute("src")
    assert len(set(shown.values())) == 3
    opened.evaluate("location.hash = toRun(DATA.first_runs[1])")
    expect(opened.locator("#point-pictures figure").first).to_be_visible()
    expect(opened.get_by_label("samples during training")).to_have_count(0)


def plot(opened: Page, key: str, what: str = "data"):
    """Show a figure, and return what plotly has of it."""
    place = opened.locator("#explore-plot" if key == "explore" else f"[data-plot={key}]")
    place.evaluate("(place) => place.scrollIntoView({ behavior: 'instant', block: 'center' })")
    expect(place.locator(".main-svg").first).to_be_visible()  # WebGL without a GPU is slow
    return place.evaluate(f"(place) => place.{what}")


def fade(opened: Page) -> dict[str, bool]:
    """Which runs the curves show faded."""
    return {t["meta"]: t.get("opacity", 1) < 1 for t in plot(opened, "curves") if t.get("meta") and t["mode"] != "none"}


def drag(opened: Page, share: float) -> None:
    """Draw a box over the right part of the explored plot."""
    area = opened.locator("#explore-plot .nsewdrag").first
    area.hover(position={"x": 5, "y": 5})  # waits until the page above it has been drawn
    box = area.bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + share * box["width"], box["y"] + 2)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=5)
    opened.mouse.up()


def select_box(opened: Page, share: float) -> None:
    opened.locator("#explore-plot").evaluate("(place) => Plotly.relayout(place, { dragmode: 'select' })")
    drag(opened, share)


def test_an_outlier_is_marked_at_the_edge_until_the_whole_range_is_asked_for(report, open_page: Open) -> None:
    opened = open_page(report)
    (cells,) = plot(opened, "heat-map")
    assert cells["zmin"] > OUTLIER
    assert [text.endswith(" ▼") for row in cells["text"] for text in row] == [True] + [False] * 9
    section = opened.locator("#heat-map")
    expect(section.locator("[data-note]")).to_contain_text("1 beyond the scale")
    section.get_by_label("whole range").check()
    (cells,) = plot(opened, "heat-map")
    assert cells["zmin"] == OUTLIER
    assert not any(text.endswith("▼") for row in cells["text"] for text in row)
    expect(section.locator("[data-note]")).to_be_empty()


def test_the_explored_columns_are_those_of_the_table(report, open_page: Open) -> None:
    opened = open_page(report)
    opened.locator("#explore-x").select_option("test/kl")
    opened.locator("#explore-y").select_option("fid/classifier/prior")
    opened.locator("#explore-colour").select_option("latent")
    traces = plot(opened, "explore")
    assert [trace["name"] for trace in traces] == ["latent=2", "latent=4"]
    drawn = sorted((x, y) for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True))
    means = opened.evaluate("DATA.tables['means over seeds'].columns")
    values = {one["name"]: one["numbers"] for one in means if one["is_number"]}
    assert drawn == sorted(zip(values["test/kl"], values["fid/classifier/prior"], strict=True))
    opened.locator("#explore-log-x").check()
    assert plot(opened, "explore", "layout.xaxis.type") == "log"
    opened.locator("#explore-y").select_option("test/elbo")
    expect(opened.locator("#explore-log-y")).to_be_disabled()  # it has negative values
    expect(opened.locator("#explore-note")).to_contain_text("1 beyond the scale")
    opened.locator("#explore-colour").select_option("fid/classifier/prior")
    (trace,) = plot(opened, "explore", "data.slice(0, 1)")
    assert len(set(trace["marker"]["color"])) == len(LATENTS)


def test_a_box_chooses_points_in_all_parts_of_the_page(report, open_page: Open) -> None:
    opened = open_page(report)
    opened.locator("#explore-x").select_option("latent")
    plot(opened, "explore")
    select_box(opened, 0.5)  # the larger latent size
    expect(opened.locator("#selection span")).to_have_text("5 of 10 chosen")
    expect(opened.locator("#table-count")).to_have_text("10 of 20")
    assert set(column(opened, "latent")) == {"4"}
    faded = fade(opened)
    assert sorted(faded.values()) == [False] * 5 + [True] * 5
    assert all(is_faded == ("latent2" in run) for run, is_faded in faded.items())
    (cells,) = plot(opened, "heat-map")
    assert [[z is None for z in row] for row in cells["z"]] == [[True, False]] * 5
    assert len(plot(opened, "parallel")[0]["line"]["color"]) == 5
    assert opened.locator("[data-samples].faded").count() == 5
    chosen = sum(len(t["selectedpoints"]) for t in plot(opened, "rate-distortion") if t.get("selectedpoints"))
    assert chosen == 5
    opened.get_by_role("button", name="show all").click()
    expect(opened.locator("#selection")).to_be_hidden()
    expect(opened.locator("#table-count")).to_have_text("20 of 20")
    assert not any(fade(opened).values())


def test_a_zoom_stays_when_points_are_chosen_and_goes_with_the_axis(report, open_page: Open) -> None:
    opened = open_page(report)
    plot(opened, "explore")
    drag(opened, 0.5)
    zoomed = plot(opened, "explore", "layout.xaxis.range")
    opened.get_by_label("filter beta").fill("=1")
    expect(opened.locator("#selection span")).to_have_text("2 of 10 chosen")
    assert plot(opened, "explore", "layout.xaxis.range") == zoomed
    assert plot(opened, "explore", "layout.xaxis.autorange") is False
    opened.locator("#explore-x").select_option("test/kl")
    assert plot(opened, "explore", "layout.xaxis.autorange") is True


def test_the_tables_filters_choose_points_too(report, open_page: Open) -> None:
    opened = open_page(report)
    opened.get_by_label("filter beta").fill("=1")
    expect(opened.locator("#selection span")).to_have_text("2 of 10 chosen")
    assert sorted(fade(opened).values()) == [False] * 2 + [True] * 8
    opened.get_by_role("button", name="show all").click()
    expect(opened.get_by_label("filter beta")).to_have_value("")
    expect(opened.locator("#table-count")).to_have_text("20 of 20")


def test_a_range_on_an_axis_chooses_points_and_stays_marked(report, open_page: Open) -> None:
    opened = open_page(report)
    plot(opened, "parallel")
    mark = "(place) => Plotly.restyle(place, { 'dimensions[1].constraintrange': [[[0.5, 1.5]]] })"  # the second latent
    opened.locator("[data-plot=parallel]").evaluate(mark)
    expect(opened.locator("#selection span")).to_have_text("5 of 10 chosen")
    assert set(column(opened, "latent")) == {"4"}
    assert plot(opened, "parallel", "data[0].dimensions[1].constraintrange")
    opened.get_by_role("button", name="show all").click()
    expect(opened.locator("#table-count")).to_have_text("20 of 20")
    assert plot(opened, "parallel", "data[0].dimensions[1].constraintrange") is None


def test_curves_run_by_epochs_or_hours_and_can_be_smoothed(report, open_page: Open) -> None:
    opened = open_page(report)
    by_step = [trace for trace in plot(opened, "curves") if trace.get("meta")]
    section = opened.locator("#curves")
    for unit, factor in (("epoch", 1 / report_runs.STEPS_PER_EPOCH), ("hours", report_runs.STEP_S / 3600)):
        section.get_by_label("by").select_option(unit)
        for before, after in zip(by_step, [t for t in plot(opened, "curves") if t.get("meta")], strict=True):
            assert after["x"] == pytest.approx([step * factor for step in before["x"]])
            assert after["y"] == before["y"]
    section.get_by_label("by").select_option("step")
    section.get_by_label("smoothed").fill("0.5")
    lines = [trace for trace in plot(opened, "curves") if trace.get("meta") and trace["mode"].startswith("lines")]
    raw, smooth = lines[:2]
    assert raw["opacity"] < 1
    first, second = raw["y"][:2]
    assert smooth["y"][:2] == pytest.approx([first, (0.25 * first + 0.5 * second) / 0.75])


def test_no_button_sends_the_figure_elsewhere(report, open_page: Open) -> None:
    opened = open_page(report)
    plot(opened, "explore")
    titles = opened.locator("#explore-plot .modebar-btn").evaluate_all("(all) => all.map((one) => one.dataset.title)")
    assert {"Save as SVG", "Save as PNG", "Box Select", "Lasso Select"} <= set(titles)
    assert not any("hare" in title or "loud" in title for title in titles)
