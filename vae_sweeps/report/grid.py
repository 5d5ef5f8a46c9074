"""Arrange the points in a grid of two swept keys, with one grid for each combination of the other keys."""

from dataclasses import dataclass

from vae_sweeps.analysis.format import cell
from vae_sweeps.report.contents import Contents, is_sparse, label
from vae_sweeps.report.figures import choices


@dataclass(frozen=True)
class Places:
    """The grids; `rows` and `columns` are the formatted values of the keys `down` and `across`.

    For each combination of the other keys, `slices` maps (row, column) to a row number in the table of means.
    """

    down: str
    across: str
    rows: list[str]
    columns: list[str]
    slices: dict[str, dict[tuple[int, int], int]]

    def used(self, name: str) -> tuple[list[int], list[int]]:
        """The rows and the columns of a slice that have a point."""
        return sorted({row for row, _ in self.slices[name]}), sorted({column for _, column in self.slices[name]})


def of(contents: Contents) -> Places | None:
    """Place beta down and latent across; if one of them does not vary, use another key that does.

    None if most places would be empty, as those of random samples.
    """
    means, others = contents.means, [key for key in contents.group_keys if key not in ("beta", "latent")]
    across = "latent" if "latent" in contents.keys or not others else others.pop()
    down = "beta" if "beta" in contents.keys or not others else others.pop()
    rows, columns = choices(down, means[down]), choices(across, means[across])
    row_of, column_of = ({text: i for i, text in enumerate(texts)} for texts in (rows, columns))
    slices: dict[str, dict[tuple[int, int], int]] = {}
    keys = list(dict.fromkeys([down, across, *others]))
    for i, row in enumerate(means.loc[:, keys].to_dict("records")):
        place = row_of[cell(down, row[down])], column_of[cell(across, row[across])]
        slices.setdefault(label(row, others), {}).setdefault(place, i)
    places = Places(down, across, rows, columns, slices)
    num_cells = sum(len(rows) * len(columns) for rows, columns in map(places.used, slices))
    return None if is_sparse(len(means), num_cells) else places
