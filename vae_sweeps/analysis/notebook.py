"""What the notebooks in analysis/ share: a check that the sweep fits, and columns for Gaussian likelihoods."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd


def require(table: pd.DataFrame, command: str, varies: Sequence[str] = (), columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the finished rows of `table`; require numbers in `columns` and several values of each key in `varies`.

    A column name that ends in / means any column with this prefix. Raises ValueError if the table lacks something; the
    error shows the `command` that makes a suitable sweep.
    """
    done = table.loc[table["status"] == "done"].reset_index(drop=True)
    missing = [] if len(done) else ["finished points"]
    missing += [f"several values of {key}" for key in varies if key not in done or len(set(done[key].dropna())) < 2]
    present = [name for name in map(str, done.columns) if len(done[name].dropna())]
    missing += [
        f"numbers in {name}{'...' if name.endswith('/') else ''}" for name in columns if not _is_in(name, present)
    ]
    if missing:
        raise ValueError(f"this sweep of {len(table)} points lacks {', '.join(missing)}; run {command}")
    return done


def _is_in(column: str, names: Sequence[str]) -> bool:
    return any(name.startswith(column) if column.endswith("/") else name == column for name in names)


def with_gaussian_columns(table: pd.DataFrame, num_pixels: int) -> pd.DataFrame:
    """Add columns that make finished points with a Gaussian likelihood comparable across values of sigma.

    `train/level` is beta sigma^2, which alone determines the optimum of training. `{split}/squared_error` is summed
    over the pixels. `{split}/best_sigma` is the optimal sigma for this error, the root of its mean over the pixels
    (Rybkin et al. 2021, eq. 8), and `{split}/best_elbo` is the ELBO of the same networks with this sigma.
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
    """Compute the Gaussian log p(x|z) in nats from a squared error summed over the pixels."""
    variance = np.square(sigma)
    return -np.asarray(squared_error) / (2 * variance) - num_pixels / 2 * np.log(2 * math.pi * variance)


def gaussian_squared_error(log_px: npt.ArrayLike, sigma: npt.ArrayLike, num_pixels: int) -> np.ndarray:
    """Compute the squared error, summed over the pixels, from a Gaussian log p(x|z) in nats."""
    variance = np.square(sigma)
    return -2 * variance * (np.asarray(log_px) + num_pixels / 2 * np.log(2 * math.pi * variance))
