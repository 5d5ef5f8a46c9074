"""The sections of a sweep's dashboards: what each shows, and what to look for in it."""

from dataclasses import dataclass
from typing import Any

from vae_sweeps.runs import catalogue
from vae_sweeps.runs.catalogue import with_unit
from vae_sweeps.tracker.board import Board

# How many of the filtered runs W&B draws; its default is 10.
MAX_RUNS = 100


@dataclass(frozen=True)
class Section:
    """A section of both dashboards; `grouped` draws runs that differ only in the seed as one."""

    name: str
    look_for: str
    panels: list[Any]
    grouped: bool = True


def library() -> tuple[Any, Any]:
    """The modules for workspaces and for reports. Raises ValueError without the extra `dashboard`."""
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError as error:
        raise ValueError("dashboard: needs the extra of that name; pip install 'vae-sweeps[dashboard]'") from error
    return ws, wr


def sections(board: Board) -> list[Section]:
    """The sections of both dashboards, in order; each call makes new panels, because a report sets their layout."""
    _, wr = library()
    keys = grouping(board) or board.swept
    columns = {key: wr.Config(key) for key in board.swept}
    metrics = ["test/elbo", "test/kl", "test/active_units"]
    metrics += [f"fid/{board.features}/prior"] if board.features else []
    columns |= {catalogue.label(name): wr.SummaryMetric(name) for name in metrics}
    return [
        Section(
            "ELBO and its terms",
            "Look for curves that have flattened (the training was long enough), and for a training ELBO that keeps "
            "rising while the validation ELBO falls: that is overfitting. A KL near 0 means that the latents carry "
            "nothing about the image. A band spans the lowest and highest of what a line averages, such as seeds.",
            [
                _line("train/elbo", "ELBO, training"),
                _line("val/elbo", "ELBO, validation"),
                _line("val/log_px", "Reconstruction: log p(x|z), validation"),
                _line("val/kl", "KL to the prior, validation"),
                _line("val/bits_per_dim", "Bound in bits per dimension, validation"),
            ],
        ),
        Section(
            "Rate and distortion",
            "Look for the curve that the runs trace: a larger KL (rate) buys a higher log p(x|z), that is, a lower "
            "distortion, and a larger beta moves a run to the left. A run below the curve is worse at its rate.",
            [
                _scatter(
                    (f"rate = {with_unit('test/kl')}", wr.SummaryMetric("test/kl")),
                    (f"minus distortion = {with_unit('test/log_px')}", wr.SummaryMetric("test/log_px")),
                    _first("beta", keys),
                )
            ],
        ),
        *([_fid_section(board.features, keys)] if board.features and keys else []),
        *([_prdc_section(board.prdc_features, keys)] if board.prdc_features and keys else []),
        *([_factors_section(keys)] if board.has_factors else []),
        Section(
            "All choices at once",
            "Follow the lines from the choices on the left to the numbers on the right: look for a choice whose lines "
            "all end high or all end low, and for latents beyond the number of active units, which are unused.",
            [
                wr.ParallelCoordinatesPlot(
                    title="From choices to results, test split",
                    columns=[wr.ParallelCoordinatesPlotColumn(key, display_name=name) for name, key in columns.items()],
                )
            ],
            grouped=False,
        ),
        Section(
            "Which choice matters",
            "Look for the longest bars: what the test ELBO depends on most. The sign of a correlation says which way.",
            [wr.ParameterImportancePlot(with_respect_to="test/elbo")],
            grouped=False,
        ),
        Section(
            "Runs side by side",
            "Look for what differs between two runs whose results differ: only such rows are shown.",
            [wr.RunComparer(diff_only="split")],
            grouped=False,
        ),
        Section(
            "Pictures",
            "Look for blurred reconstructions (the rate is too low), and for samples that are worse than the "
            "reconstructions: the latents of real images then lie where the prior seldom samples.",
            # The library has no panel for the histogram val/kl_per_latent; W&B shows it on the run's page.
            [
                wr.MediaBrowser(title="Samples from the prior", media_keys=["pictures/samples"], num_columns=3),
                wr.MediaBrowser(title="Reconstructions", media_keys=["pictures/reconstructions"], num_columns=3),
            ],
            grouped=False,
        ),
    ]


def _fid_section(features: str, keys: tuple[str, ...]) -> Section:
    """FID against the number of latents, or against the first swept key if all runs have the same number."""
    _, wr = library()
    across = _first("latent", keys)
    colour = _first("beta", tuple(key for key in keys if key != across))
    scores = [f"fid/{features}/{samples}" for samples in catalogue.SAMPLES]
    return Section(
        "FID",
        f"Lower is better; the numbers have no unit, and compare only within the same features ({features}). Look for "
        "where the reconstructions stop improving, and for samples from a mixture fitted to the latents that beat "
        "samples from the prior: the prior fits the latents badly.",
        [
            _scatter(
                (str(across), wr.Config(across)),
                (catalogue.label(score), wr.SummaryMetric(score)),
                colour,
                log_x=True if across == "latent" else None,
            )
            for score in scores
        ],
    )


def _prdc_section(features: str, keys: tuple[str, ...]) -> Section:
    """Precision against recall, and density against coverage, of each kind of images."""
    _, wr = library()
    colour = _first("beta", keys)

    def axis(name: str, samples: str) -> tuple[str, Any]:
        column = f"prdc/{features}/{name}/{samples}"
        return catalogue.label(column), wr.SummaryMetric(column)

    return Section(
        "Precision and recall",
        f"Upper right is better; the numbers compare only within the same features ({features}). Look for a high "
        "precision with a low recall: samples that are blurred, or show only some kinds of images. Training images do "
        f"not get 1 either, but what a run's summary has as prdc/{features}/precision/{catalogue.FLOOR} and so on.",
        [
            _scatter(axis(across, samples), axis(up, samples), colour)
            for across, up in (("recall", "precision"), ("coverage", "density"))
            for samples in catalogue.SAMPLES
        ],
    )


def _factors_section(keys: tuple[str, ...]) -> Section:
    """Four metrics of disentanglement against the reconstruction; the table on W&B has the others."""
    _, wr = library()
    names = ("mig", "dci_disentanglement", "dci_informativeness", "factorvae")
    return Section(
        "Factors of variation",
        "Upper right is better: latents that separate the factors, and good reconstructions. Look for what a larger "
        "beta gains in the one and costs in the other. Scores of seeds differ much, so compare means over several.",
        [
            _scatter(
                (with_unit("test/log_px"), wr.SummaryMetric("test/log_px")),
                (catalogue.label(f"factors/{name}"), wr.SummaryMetric(f"factors/{name}")),
                _first("beta", keys),
            )
            for name in names
        ],
    )


def _line(metric: str, title: str) -> Any:
    _, wr = library()
    return wr.LinePlot(
        title=title,
        x="global_step",
        y=[metric],
        title_x="optimiser steps",
        title_y=with_unit(metric),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MAX_RUNS,
    )


def _scatter(x: tuple[str, Any], y: tuple[str, Any], colour: str | None, **more: Any) -> Any:
    """One point per run or group of runs. The plot's title names the axes, because the library cannot label them."""
    _, wr = library()
    title = f"x: {x[0]}; y: {y[0]}" + (f"; colour: {colour}" if colour else "")
    return wr.ScatterPlot(title=title, x=x[1], y=y[1], z=wr.Config(colour) if colour else None, **more)


def _first(wanted: str, keys: tuple[str, ...]) -> str | None:
    return wanted if wanted in keys else next(iter(keys), None)


def grouping(board: Board) -> tuple[str, ...]:
    """All swept keys but the seed; grouping by fewer would average over runs that differ in more than the seed."""
    return tuple(key for key in board.swept if key != "seed")
