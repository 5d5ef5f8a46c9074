"""The catalogue of metrics: each one's label, unit, better direction, format and order, and when it is in doubt.

The table, the terminal, the plots, the report and the dashboards on W&B read it, and so does the evaluation, for the
kinds of images that scores such as FID compare.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vae_sweeps.config.keys import did_you_mean
from vae_sweeps.runs.about import about

NATS = "nats per image"
SPLITS = ("train", "val", "test")
TERMS = ("elbo", "log_px", "kl")  # elbo = log_px - kl
# Parts of the evaluation that compare features of images.
SCORES = ("fid", "kid", "prdc")
# Images of the model that scores compare with test images. The floor compares training images with test images.
SAMPLES = {"prior": "prior samples", "reconstruction": "reconstructions", "mixture": "mixture samples"}
FLOOR = "floor"
# Pictures in a run's folder, the most important first. Learning curves and the KL per latent are plots, not pictures.
PICTURES = (
    "samples", "reconstructions", "traversal", "latent_traversals", "interpolations", "latent_map",
    "mutual_information", "neighbours",
)  # fmt: skip

# Which values of a metric of the user's own are better.
DIRECTIONS = ("lower", "higher")
_EXTRA = "extra/"


@dataclass(frozen=True)
class Doubt:
    """When a number is not to be relied on: if the table's `column` of the same row is above `limit`, and why."""

    column: str
    limit: float
    why: str


_OF_MI = Doubt("test/mi_at_limit", 0, "near ln N, the number of test images limits it, not the model")
_OF_MARGINAL = Doubt("test/mi_at_limit", 0, "too large, as I(x; z) is near ln N; see test/marginal_kl_lower and _upper")
_OF_IWAE = Doubt("test/iwae_dominated", 0.2, "one weight dominates in over a fifth of the images; may be far too low")


@dataclass(frozen=True)
class Metric:
    """A column of the results table or of metrics.jsonl, or a quantity that plots compute from them.

    In the name of a score, such as FID, `*` stands for the name of the features.
    """

    name: str
    label: str
    unit: str  # "" for a count, a share or any other pure number
    better: Literal["higher", "lower"] | None  # None if neither direction is better
    # The part of the evaluation that computes it; or "run" or "cost" (from the result itself), "rows" (only in
    # metrics.jsonl) or "plots" (computed for a plot).
    group: str
    dtype: str = "float64"  # of a column of the table
    # "count": without decimals if all values are whole; "setting": as typed in a config.
    format: Literal["number", "count", "setting"] = "number"
    decimals: int | None = None  # None: two, or more if all values are small
    interest: int | None = None  # rank of importance, the lowest first; None if rarely of interest
    is_headline: bool = False  # whether the report's table shows it initially
    is_goal: bool = False  # whether a report says which point has the best value
    is_log: bool = False  # whether it is drawn on a log axis
    repeats: str | None = None  # the config key whose value it equals in most sweeps
    doubt: Doubt | None = None  # when tables mark its values

    @property
    def about(self) -> str:
        """What it is, what it is not, and how large its error is."""
        return about(self.name).text

    @property
    def source(self) -> str:
        """The paper and equation or section that defines it, "" if there is none."""
        return about(self.name).source

    @property
    def is_nonnegative(self) -> bool:
        """Whether no value lies below 0, so that no axis needs to."""
        return (
            self.format == "count"
            or self.group in ("fid", "prdc", "factors", "neighbours", "cost")
            or self.name.endswith(("/kl", "_se", "/iwae_ess", "/squared_error"))
        )

    @property
    def is_averaged(self) -> bool:
        """Whether it can be averaged over seeds: numbers can, and booleans, whose average is a share."""
        return self.dtype != "object"


_SPLIT = {"train": "train", "val": "validation", "test": "test"}  # as labels name them


def _terms(split: str, interest: tuple[int, int, int], is_headline: bool = False) -> list[Metric]:
    terms = [
        Metric(f"{split}/elbo", f"{_SPLIT[split]} ELBO", NATS, "higher", "elbo", is_goal=split == "val"),
        Metric(f"{split}/log_px", f"{_SPLIT[split]} log p(x|z)", NATS, "higher", "elbo"),
        Metric(f"{split}/kl", f"{_SPLIT[split]} rate KL", NATS, None, "elbo"),
    ]
    return [replace(term, interest=n, is_headline=is_headline) for term, n in zip(terms, interest, strict=True)]


def _scores(
    name: str, label: str, better: Literal["higher", "lower"], interest: int, is_headline: bool = False
) -> list[Metric]:
    group = name.split("/")[0]
    scores = [
        Metric(f"{name}/{kind}", f"{label} of {words}", "", better, group, is_goal=is_headline and kind == "prior")
        for kind, words in SAMPLES.items()
    ]
    floor = Metric(f"{name}/{FLOOR}", f"{label} of training images", "", None, group)  # does not depend on the model
    return [replace(metric, interest=interest, is_headline=is_headline) for metric in (*scores, floor)]


def _of_rows(split: str) -> list[Metric]:
    return [
        Metric(f"{split}/loss", f"{_SPLIT[split]} loss", "units of the objective", "lower", "rows"),
        Metric(f"{split}/bits_per_dim", f"{_SPLIT[split]} bits per dimension", "bits per dimension", "lower", "rows"),
    ]


def _of_plots(split: str) -> list[Metric]:
    return [
        Metric(f"{split}/squared_error", f"{_SPLIT[split]} squared error", "sum over pixels", "lower", "plots"),
        Metric(f"{split}/best_sigma", f"{_SPLIT[split]} best σ for the error", "", None, "plots"),
        Metric(f"{split}/best_elbo", f"{_SPLIT[split]} ELBO with the best σ", NATS, "higher", "plots"),
    ]


# In the order of the table's columns.
METRICS = (
    Metric(
        "beta_nats", "β of the loss in nats", "", None, "run",
        format="setting", interest=5, is_log=True, repeats="beta",
    ),
    Metric(
        "sigma", "σ of the likelihood", "", None, "run",
        decimals=4, interest=6, is_log=True, repeats="likelihood.sigma",
    ),
    Metric(
        "scale", "scale of the likelihood", "", None, "run",
        decimals=4, interest=6, is_log=True, repeats="likelihood.scale",
    ),
    Metric("num_params", "parameters", "", None, "run", "Int64", "count"),
    *_terms("train", (17, 17, 17)),
    *_terms("val", (16, 16, 16)),
    *_terms("test", (1, 3, 4), is_headline=True),
    Metric("test/elbo_se", "test standard error of the ELBO", NATS, "lower", "elbo", interest=12),
    Metric(
        "test/bits_per_dim", "test bits per dimension", "bits per dimension", "lower", "elbo",
        decimals=4, interest=12,
    ),
    Metric("test/active_units", "test active units", "", None, "elbo", format="count", interest=8, is_headline=True),
    Metric(
        "test/iwae", "test bound of log p(x)", NATS, "higher", "likelihood",
        interest=2, is_headline=True, is_goal=True, doubt=_OF_IWAE,
    ),
    Metric("test/iwae_se", "test standard error of the bound of log p(x)", NATS, "lower", "likelihood", interest=12),
    Metric("test/iwae_ess", "test effective number of importance samples", "", "higher", "likelihood", interest=12),
    Metric(
        "test/iwae_dominated", "share of test images with one dominating weight", "", "lower", "likelihood",
        decimals=3, interest=12,
    ),
    Metric("test/mi", "test I(x; z), a lower bound", NATS, None, "latent_space", interest=12, doubt=_OF_MI),
    Metric("test/mi_at_limit", "test I(x; z) near ln N", "", None, "latent_space", "boolean", interest=13),
    Metric(
        "test/marginal_kl", "test KL(q(z) || p(z)), an upper bound that falls with N", NATS, "lower", "latent_space",
        interest=12, doubt=_OF_MARGINAL,
    ),
    Metric("test/marginal_kl_lower", "lower bound of KL(q(z) || p(z))", NATS, "lower", "latent_space", interest=12),
    Metric("test/marginal_kl_upper", "upper bound of KL(q(z) || p(z))", NATS, "lower", "latent_space", interest=12),
    Metric("test/collapsed", "test collapse", "", "lower", "latent_space", "boolean", interest=12),
    Metric("test/psnr", "test PSNR", "dB", "higher", "reconstruction", interest=10),
    Metric("test/ssim", "test SSIM", "", "higher", "reconstruction", decimals=4, interest=12),
    Metric(
        "probe/accuracy", "accuracy of a linear probe on μ", "", "higher", "latent_space",
        decimals=4, interest=9, is_headline=True,
    ),
    Metric(
        "probe/samples", "accuracy of a linear probe on samples z", "", "higher", "latent_space",
        decimals=4, interest=9,
    ),
    Metric("probe/pixels", "accuracy of a linear probe on pixels", "", None, "latent_space", decimals=4, interest=13),
    Metric("neighbour/distance", "distance of samples to training images", "", None, "neighbours", interest=14),
    Metric(
        "neighbour/ratio", "distance of samples to training images, of that of test images", "", None, "neighbours",
        decimals=3, interest=14,
    ),
    Metric("factors/mig", "MIG", "", "higher", "factors", decimals=3, interest=7, is_headline=True, is_goal=True),
    Metric("factors/sap", "SAP", "", "higher", "factors", decimals=3, interest=12),
    Metric("factors/dci_disentanglement", "DCI disentanglement", "", "higher", "factors", decimals=3, interest=9),
    Metric("factors/dci_completeness", "DCI completeness", "", "higher", "factors", decimals=3, interest=12),
    Metric("factors/dci_informativeness", "DCI informativeness", "", "higher", "factors", decimals=3, interest=9),
    Metric("factors/factorvae", "FactorVAE score", "", "higher", "factors", decimals=3, interest=12),
    Metric("factors/betavae", "beta-VAE score", "", "higher", "factors", decimals=3, interest=12),
    Metric("factors/modularity", "modularity", "", "higher", "factors", decimals=3, interest=12),
    *_scores("fid/*", "FID", "lower", interest=7, is_headline=True),
    *_scores("kid/*", "KID", "lower", interest=11),
    *_scores("prdc/*/precision", "precision", "higher", interest=11),
    *_scores("prdc/*/recall", "recall", "higher", interest=11),
    *_scores("prdc/*/density", "density", "higher", interest=12),
    *_scores("prdc/*/coverage", "coverage", "higher", interest=12),
    Metric("step", "steps", "", None, "cost", "Int64", "count"),
    Metric("time_s", "time", "s", "lower", "cost", decimals=1, interest=15, is_headline=True),
    Metric("gpu_s", "GPU time", "GPU s", "lower", "cost", decimals=1),
    Metric("core_s", "CPU core time", "core s", "lower", "cost", decimals=1),
    Metric("images_per_s", "training speed", "images per s", "higher", "cost", decimals=0),
    Metric("git_commit", "commit", "", None, "cost", "object"),
    *_of_rows("train"),
    *_of_rows("val"),
    Metric("val/kl_per_latent", "KL of each latent", NATS, None, "rows", "object"),
    Metric("distortion", "distortion −log p(x|z)", NATS, "lower", "plots"),
    Metric("train/level", "βσ²", "", None, "plots", is_log=True),
    *(metric for split in SPLITS for metric in _of_plots(split)),
)  # fmt: skip
_BY_NAME = {metric.name: metric for metric in METRICS}
# The units and directions of the user's own metrics, from the results that this process has read, by `extra/<name>`.
_DECLARED: dict[str, Mapping[str, Any]] = {}


def declare(result: Mapping[str, Any]) -> None:
    """Take the units and directions of the user's own metrics from a result, which names them in `evaluated`."""
    _DECLARED.update((part, about) for part, about in result.get("evaluated", {}).items() if part.startswith(_EXTRA))


def _own_metric(column: str) -> Metric:
    about = _DECLARED.get("/".join(column.split("/")[:2]), {})
    better = about.get("direction")
    label = column.removeprefix(_EXTRA).replace("/", " ")
    return Metric(
        column, label, str(about.get("unit") or ""), better if better in DIRECTIONS else None, "extra", interest=9
    )


def find(column: str) -> Metric | None:
    """The metric in this column, such as `test/elbo` or `fid/classifier/prior`, or None if it is not a metric."""
    if column.startswith(_EXTRA):
        return _own_metric(column)
    features = features_of(column)
    return _BY_NAME.get(column if features is None else column.replace(f"/{features}/", "/*/", 1))


def features_of(column: str) -> str | None:
    """The name of the features that the column's score compares, or None for other columns."""
    score, *rest = column.split("/", 2)
    return rest[0] if len(rest) == 2 and score in SCORES and f"{score}/*/{rest[1]}" in _BY_NAME else None


def names(*groups: str) -> list[str]:
    """The names of these groups' metrics, in the order of the table."""
    return [metric.name for metric in METRICS if metric.group in groups]


def in_table(present: Iterable[str]) -> list[str]:
    """The columns of metrics in a table, in order.

    Scores, grouped by their features, and metrics of the user's own are there only if `present`.
    """
    order = [metric.name for metric in METRICS if metric.group not in ("rows", "plots")]
    present = list(present)
    scores = [column for column in present if features_of(column) is not None]
    scores += [column for column in present if column.startswith(_EXTRA)]

    def place(column: str) -> tuple[int, str, int]:
        metric, features = find(column), features_of(column)
        assert metric is not None
        if column.startswith(_EXTRA):
            return order.index("step") - 1, column, 0
        position = order.index(metric.name)
        if features is None:
            return position, "", position
        return order.index(names(metric.group)[0]), features, position

    return sorted({name for name in order if "*" not in name} | set(scores), key=place)


def number_of(result: Mapping[str, Any] | None, column: str) -> float | None:
    """The value of a column of the table in a result; None if it has none, or it is not finite."""
    value = None if result is None else result.get("metrics", {}).get(column, result.get(column))
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def of_table(column: str) -> Metric:
    """The metric in a column of the table. Raises ValueError, with the names of such columns, if there is none."""
    metric = find(column)
    if metric is None or metric.group in ("rows", "plots") or "*" in column:
        known = [metric.name for metric in METRICS if metric.group not in ("rows", "plots") and metric.better]
        raise ValueError(f"{column}: no such column; {did_you_mean(column, known)}")
    return metric


def label(column: str) -> str:
    """The axis label of a metric, with its unit; the column's name if it is not a metric."""
    metric = find(column)
    if metric is None:
        return column
    if (features := features_of(column)) is not None:
        return f"{metric.label} ({features} features)"
    is_complete = not metric.unit or metric.label.endswith(f" {metric.unit}")
    return metric.label if is_complete else f"{metric.label} ({metric.unit})"


def with_unit(column: str) -> str:
    """The column's name with its unit: `test/elbo (nats per image)`."""
    metric = find(column)
    return f"{column} ({metric.unit})" if metric is not None and metric.unit else column


def by_interest(columns: Iterable[str]) -> list[str]:
    """Those of `columns` that have an `interest`, the most important first."""
    metrics = ((column, find(column)) for column in columns)
    ranked = [(m.interest, column) for column, m in metrics if m is not None and m.interest is not None]
    return [column for _, column in sorted(ranked, key=lambda pair: pair[0])]
