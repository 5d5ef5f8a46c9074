"""Several sweeps on one page."""

from tests.helpers import report_runs
from vae_sweeps.report import contents, grid, page


def test_two_sweeps_on_one_page_are_told_apart_and_have_no_empty_cells(tmp_path) -> None:
    first = report_runs.make_sweep(tmp_path, "first", betas=(0, 1), latents=(2, 4), num_seeds=1)
    second = report_runs.make_sweep(tmp_path, "second", betas=(0.5,), latents=(3, 5), num_seeds=1)
    shared = first.runs()[0]
    both = report_runs.sweep_of(tmp_path, "both", [shared, *second.runs()], report_runs.SWEPT)
    content = contents.read([first, both])
    of_runs = dict(zip(content.table["run"], content.table["sweep"], strict=True))
    assert of_runs == {
        **{run.name: "first" for run in first.runs()[1:]},
        **{run.name: "both" for run in second.runs()},
        shared.name: "first, both",
    }
    assert "sweep" in content.group_keys
    places = grid.of(content)
    assert places is not None
    assert {name: len(cells) for name, cells in places.slices.items()} == {
        "sweep=first": 3,
        "sweep=first, both": 1,
        "sweep=both": 2,
    }
    rows, columns = places.used("sweep=both")
    assert ([places.rows[r] for r in rows], [places.columns[c] for c in columns]) == (["0.5"], ["3", "5"])
    assert page.render(content).count("data-samples=") == 6
    assert "sweep" not in contents.read([first]).table
