"""The check at the start of each notebook: it returns the usable rows, or says in one sentence what is missing."""

import numpy as np
import pandas as pd
import pytest

from vae_sweeps.analysis.notebook import gaussian_log_px, require, with_gaussian_columns

TABLE = pd.DataFrame(
    {
        "status": ["done", "done", "diverged"],
        "beta": [0.5, 2.0, 4.0],
        "latent": [10, 10, 2],
        "test/kl": [30.0, 10.0, np.nan],
        "fid/random/prior": [3.0, np.nan, np.nan],
        "test/mi": [np.nan, np.nan, 3.0],
    }
)
COMMAND = "python launch.py -m beta=0,1"


def test_finished_rows_are_returned() -> None:
    found = require(TABLE, COMMAND, varies=["beta"], columns=["test/kl", "fid/"])
    pd.testing.assert_frame_equal(found, TABLE.head(2))


@pytest.mark.parametrize(
    ("varies", "columns", "lacks"),
    [
        (["latent"], [], "several values of latent"),  # of finished points
        (["arch.hidden", "beta"], [], "several values of arch.hidden"),
        ([], ["test/kl", "test/mi"], "numbers in test/mi"),
        ([], ["kid/"], "numbers in kid/..."),
        (["latent"], ["test/iwae"], "several values of latent, numbers in test/iwae"),
    ],
)
def test_the_error_names_what_is_missing_and_a_command(varies: list[str], columns: list[str], lacks: str) -> None:
    with pytest.raises(ValueError, match=r"^this sweep of 3 points lacks") as refused:
        require(TABLE, COMMAND, varies, columns)
    assert str(refused.value) == f"this sweep of 3 points lacks {lacks}; run {COMMAND}"


@pytest.mark.parametrize("rows", [TABLE[2:], TABLE[:0]])
def test_a_sweep_with_nothing_finished_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=f"^this sweep of {len(rows)} points lacks finished points; run "):
        require(rows, COMMAND)


def test_the_best_sigma_is_best() -> None:
    """No other sigma gives the same networks a better ELBO."""
    sigma, squared_error, kl, num_pixels = np.array([0.1, 0.3]), np.array([20.0, 35.0]), np.array([12.0, 5.0]), 784
    log_px = gaussian_log_px(squared_error, sigma, num_pixels)
    columns = {
        f"{split}/{name}": v for split in ("train", "val", "test") for name, v in (("kl", kl), ("log_px", log_px))
    }
    table = pd.DataFrame({"beta_nats": [4.0, 1.0], "sigma": sigma, **columns})
    found = with_gaussian_columns(table, num_pixels)
    assert found["train/level"].tolist() == pytest.approx([0.04, 0.09])
    assert found["test/squared_error"].tolist() == pytest.approx(squared_error)
    best = found["test/best_sigma"].to_numpy()
    for factor in (0.9, 1.0, 1.1):
        elbo = gaussian_log_px(squared_error, factor * best, num_pixels) - kl
        assert ((found["test/best_elbo"] - elbo).to_numpy() > (-1e-9 if factor == 1 else 1)).all()
    assert (found["test/best_elbo"].to_numpy() > log_px - kl).all()
