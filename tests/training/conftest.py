"""A fixture of the tests that train as a job does."""

import pytest

from vae_sweeps.analysis import run_plots, style


@pytest.fixture
def no_curves(monkeypatch) -> None:
    """Do not draw curves: Matplotlib takes as long as everything else."""
    monkeypatch.setattr(run_plots, "learning_curves", lambda rows, title, is_log: None)
    monkeypatch.setattr(style, "save", lambda figure, path: None)
