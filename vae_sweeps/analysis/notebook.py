"""How the notebooks of analysis/ begin: with what they need of a sweep's table, or a sentence that says what to run."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd


def require(table: pd.DataFrame, command: str, varies: Sequence[str] = (), columns: Sequence[str] = ()) -> pd.DataFrame:
    """The finished rows of `table`, which has numbers in `columns` and several values of each of `varies`.

    A column that ends in / stands for all that begin with it. Raises ValueError, with the `command` that makes such a
    sweep, if something is not there.
    """
    done = table.loc[table["status"] == "done"].reset_index(drop=True)
    missing = [] if len(done) else ["finished points"]
    missing += [f"several values of {key}" for key in varies if key not in done or len(set(done[key].dropna())) < 2]
    there = [name for name in map(str, done.columns) if len(done[name].dropna())]
    missing += [
        f"numbers in {name}{'...' if name.endswith('/') else ''}" for name in columns if not _is_in(name, there)
    ]
    if missing:
        raise ValueError(f"this sweep of {len(table)} points lacks {', '.join(missing)}; one that has them: {command}")
    return done


def _is_in(column: str, there: Sequence[str]) -> bool:
    return any(name.startswith(column) if column.endswith("/") else name == column for name in there)


def with_gaussian_columns(table: pd.DataFrame, num_pixels: int) -> pd.DataFrame:
    """Finished points with a Gaussian likelihood, and what of them does not depend on the sigma that they were given.

    `train/level` is beta sigma^2, which alone decides where training leads; `{split}/squared_error` is summed over the
    pixels; `{split}/best_sigma` is the sigma that it asks for, the root of its mean over the pixels (Rybkin et al.
    2021, eq. 8), and `{split}/best_elbo` the ELBO that the same networks have with it.
    """
    sigma = np.asarray(table["sigma"], float)
    added = {"train/level": np.asarray(table["beta_nats"], float) * sigma**2}
    for split in ("train", "val", "test"):
        squared_error = gaussian_squared_error(np.asarray(table[f"{split}/log_px"], float), sigma, num_pixels)
        best_sigma = np.sqrt(squared_error / num_pixels)
        best_elbo = gaussian_log_px(squared_error, best_sigma, num_pixels) - np.asarray(table[f"{split}/kl"], float)
        names = ("squared_error", "best_sigma", "best_elbo")
        added |= {f"{split}/{name}": v for name, v in zip(names, (squared_error, best_sigma, best_elbo), strict=True)}
    return table.assign(**added)


def gaussian_log_px(squared_error: npt.ArrayLike, sigma: npt.ArrayLike, num_pixels: int) -> np.ndarray:
    """The Gaussian likelihood's log p(x|z) in nats of a squared error that is summed over the pixels."""
    variance = np.square(sigma)
    return -np.asarray(squared_error) / (2 * variance) - num_pixels / 2 * np.log(2 * math.pi * variance)


def gaussian_squared_error(log_px: npt.ArrayLike, sigma: npt.ArrayLike, num_pixels: int) -> np.ndarray:
    """The squared error, summed over the pixels, that a Gaussian log p(x|z) in nats stands for."""
    variance = np.square(sigma)
    return -2 * variance * (np.asarray(log_px) + num_pixels / 2 * np.log(2 * math.pi * variance))
