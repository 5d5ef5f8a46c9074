"""The table as it is printed for people and for programs."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.analysis.test_seeds import GRID, point, table_of
from vae_sweeps.analysis import columns, format, seeds, terminal


def many_columns() -> pd.DataFrame:
    """Twelve points with many metrics; one point failed."""
    generator = np.random.default_rng(0)
    names = [f"{split}_{name}" for split in ("test", "train", "val") for name in ("elbo", "log_px", "kl")]
    names += [
        "test_iwae",
        "test_psnr",
        "test_mi",
        "test_marginal_kl",
        "test_ssim",
        "probe_accuracy",
        "fid_random/prior",
    ]
    points = [
        point(f"beta={b}", f"seed={s}", metrics=dict(zip(names, generator.normal(size=16).tolist(), strict=True)))
        for b in (0, 0.5, 1, 2)
        for s in (0, 1, 2)
    ]
    return table_of(*points[:-1], point("beta=2", "seed=2", status="failed"))


def shown(frame: pd.DataFrame, width: int, *, color: bool = False, **options) -> str:
    """The output on a terminal of this width."""
    out = Console(width=width, force_terminal=True, color_system="standard" if color else None, file=io.StringIO())
    terminal.show(frame, ["beta", "seed"], out=out, **options)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def heading(text: str) -> list[str]:
    """The last line of the table's header."""
    return text.split("─")[0].splitlines()[-1].split()


@pytest.mark.parametrize("width", [40, 80, 120, 140])
def test_the_table_fits_the_terminal_and_lists_the_columns_left_out(width: int) -> None:
    frame = many_columns()
    for table, text in ((frame, shown(frame, width)), (means := seeds.over(frame), shown(means, width, over=["seed"]))):
        assert max(map(len, text.splitlines())) <= width
        assert heading(text)[0] == "beta"
        assert "elbo" in heading(text)
        left_out = re.search(r"^(\d+) more columns \(vae-sweeps", text, re.MULTILINE)
        assert left_out is not None
        to_show = set(columns.shown(table)) - set(columns.the_same(table))
        assert int(left_out[1]) + len(heading(text)) == len(to_show)


def test_a_wider_terminal_shows_more() -> None:
    frame = many_columns()
    counts = [len(heading(shown(frame, width))) for width in (40, 80, 120, 200)]
    assert counts == sorted(set(counts))


def test_numbers_are_aligned() -> None:
    frame = table_of(*(point(f"beta={b}", test_elbo=e) for b, e in ((0, -1234.5), (1, -9.0), (2, None))))
    rows = shown(frame, 80).split("─")[-1].splitlines()[1:4]
    expected = [["0", "-1,234.50"], ["1", "-9.00"], ["2", format.NOTHING]]
    assert [row.split()[:2] for row in rows] == expected
    assert len({row.index(cell) + len(cell) for row, (_, cell) in zip(rows, expected, strict=True)}) == 1


def test_means_and_their_errors_by_hand() -> None:
    """The median error has two significant digits; the only error is 2.6458."""
    text = shown(seeds.over(table_of(*GRID)), 100, over=["seed"])
    assert "2 rows, mean ± standard error over seed; data=mnist5k" in text
    assert [line.split()[:6] for line in text.splitlines()[4:6]] == [
        ["0", "3", "0", "-14.0", "±", "2.6"],
        ["1", "2", "1", "-4.0", "±", "0.0"],
    ]


@pytest.mark.parametrize(
    ("means", "errors", "expected"),
    [
        ([-101.26, 3.0], [1.24, 0.126], ["-101.3 ± 1.2", "3.0 ± 0.1"]),
        ([-101.26, 3.0], [12.4, np.nan], ["-101 ± 12", "3     "]),
        ([0.000312, 0.00021], [1.2e-5, 2.1e-6], ["0.000312 ± 0.000012", "0.000210 ± 0.000002"]),
        ([1.0, np.nan], [np.nan, np.nan], ["1.00", "–"]),
        ([0.123456, 0.5], [np.nan, np.nan], ["0.1235", "0.5000"]),
        ([2.0, 2.0], [0.0, 0.0], ["2.00 ± 0.00", "2.00 ± 0.00"]),
        ([], [], []),
    ],
)
def test_the_error_determines_the_number_of_digits(means: list, errors: list, expected: list[str]) -> None:
    assert format.means("test/elbo", means, errors) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("kid/random/prior", [0.00214, -0.0001], ["0.002140", "-0.000100"]),
        ("test/kl", [0.00314, None], ["0.003140", "–"]),
        ("test/elbo", [-1234.567, -0.1], ["-1,234.57", "-0.10"]),
        ("test/active_units", [3.0, 12.0], ["3", "12"]),
        ("test/active_units", [3.0, 2.5], ["3.00", "2.50"]),
        ("test/collapsed", [True, False, pd.NA], ["yes", "no", "–"]),
        ("beta", [0.0, 1e-7, 4.0], ["0", "1e-07", "4"]),
        ("likelihood.sigma", [0.5, "learned"], ["0.5", "learned"]),
        ("test/kl", [0.0, float("inf")], ["0.00", "inf"]),
    ],
)
def test_digits_of_a_column(name: str, values: list, expected: list[str]) -> None:
    assert format.cells(name, values) == expected


def test_columns_that_do_not_depend_on_the_seed_have_no_error() -> None:
    assert format.means("num_params", [1000.0, 1200.0], [0.0, 0.0]) == ["1,000", "1,200"]
    assert format.means("beta_nats", [0.01, 1.0], [0.0, 0.0]) == ["0.01", "1"]


def test_a_mean_over_fewer_points_shows_their_number() -> None:
    frame = seeds.over(
        table_of(*(point(f"seed={s}", test_elbo=-1.0 * s, test_iwae=None if s else -3.0) for s in range(3)))
    )
    row = shown(frame, 80, over=["seed"]).splitlines()[-3].split()
    assert "-3.00 (1)" in " ".join(row)


def test_names_in_brackets_are_shown_as_they_are() -> None:
    """Neither the table nor the line of shared values treats them as markup."""
    frame = table_of(point("arch.hidden=[7]", test_elbo=1.0), point("arch.hidden=[8,9]", test_elbo=2.0))
    frame["data"] = "[red]x[/red]"
    text = shown(frame, 80)
    assert "data=[red]x[/red]" in text
    assert "[8,9]" in text


def test_the_status_is_coloured_only_on_a_terminal() -> None:
    frame = many_columns()
    assert re.search("\x1b\\[31mfailed", shown(frame, 80, color=True))
    out = Console(file=io.StringIO())
    terminal.show(frame, ["beta"], out=out)
    assert isinstance(out.file, io.StringIO)
    assert "\x1b" not in out.file.getvalue()
    assert max(map(len, out.file.getvalue().splitlines())) <= 120


def test_chosen_columns_keep_their_order() -> None:
    assert heading(shown(many_columns(), 80, chosen=["test/kl", "seed", "run_id"])) == ["kl", "seed", "run_id"]


def test_a_number_in_doubt_is_marked_also_if_the_reasons_column_is_not_chosen() -> None:
    frame = pd.DataFrame({"beta": [0.1, 1.0], "test/iwae": [-150.0, -120.0], "test/iwae_dominated": [0.9, 0.0]})
    text = shown(frame, 80, chosen=["beta", "test/iwae"])
    assert "-150.00*" in text
    assert "-120.00*" not in text
    assert "* test/iwae: " in text


def test_a_program_reads_back_every_column_to_six_digits() -> None:
    frame = many_columns()
    frame["data"] = 'two words and "quotes"'
    text = terminal.plain(frame)
    assert len(text.splitlines()) == len(frame) + 1
    read = pd.read_csv(io.StringIO(text), sep=r"\s+", escapechar="\\")
    assert list(read) == list(frame)
    assert list(read["data"]) == list(frame["data"])
    assert list(read["test/collapsed"].isna()) == [True] * len(frame)
    numbers = [name for name in frame if frame[name].dtype == "float64"]
    np.testing.assert_allclose(read[numbers], frame[numbers], rtol=1e-5)


def test_a_table_without_points() -> None:
    frame = table_of(*GRID).iloc[:0]
    assert "0 points" in shown(frame, 80)
    assert terminal.plain(frame).split() == list(frame)
