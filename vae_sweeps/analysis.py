"""How the notebooks of analysis/ begin: with what they need of a sweep's table, or a sentence that says what to run."""

from collections.abc import Sequence

import pandas as pd


def require(table: pd.DataFrame, command: str, varies: Sequence[str] = (), columns: Sequence[str] = ()) -> pd.DataFrame:
    """The finished rows of `table`, which has numbers in `columns` and several values of each of `varies`.

    A column that ends in / stands for all that begin with it. Raises ValueError, with the `command` that makes such a
    sweep, if something is not there.
    """
    done = table[table["status"] == "done"].reset_index(drop=True)
    missing = [] if len(done) else ["finished points"]
    missing += [f"several values of {key}" for key in varies if key not in done or done[key].nunique() < 2]
    there = [name for name in map(str, done.columns) if done[name].notna().any()]
    missing += [
        f"numbers in {name}{'...' if name.endswith('/') else ''}" for name in columns if not _is_in(name, there)
    ]
    if missing:
        raise ValueError(
            f"this sweep of {len(table)} points has no {', no '.join(missing)}; make one that does: {command}"
        )
    return done


def _is_in(column: str, there: Sequence[str]) -> bool:
    return any(name.startswith(column) if column.endswith("/") else name == column for name in there)
