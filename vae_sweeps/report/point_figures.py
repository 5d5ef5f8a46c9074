"""The figures of one point: its learning curves, and the KL of each latent."""

from typing import Any

from vae_sweeps.analysis.style import USED_NATS
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Run
from vae_sweeps.report.curves import FEW, kept, room
from vae_sweeps.runs import catalogue

# Two splits in three panels, for the ELBO and its two terms.
_SPLITS = {"train": figures.COLOUR_OF_ONE, "val": "#e8743b"}
_PANELS = dict(zip(catalogue.TERMS, ("", "2", "3"), strict=True))


def curves(run: Run, num_points: int) -> list[dict[str, Any]]:
    """The traces of one of `num_points` points for the panels of `CURVES_LAYOUT`; empty if it has no rows yet."""
    traces = []
    for name, panel in _PANELS.items():
        for split, colour in _SPLITS.items():
            if (curve := run.rows.curves.get(f"{split}/{name}")) is None:
                continue
            indices = kept(len(curve.steps), room(num_points))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines" if len(curve.steps) > FEW else "lines+markers",
                    "name": split,
                    "legendgroup": split,
                    "showlegend": name == "elbo",
                    "x": curve.steps[indices].tolist(),
                    "y": figures.rounded(curve.values[indices]),
                    "xaxis": f"x{panel}",
                    "yaxis": f"y{panel}",
                    "line": {"color": colour, "width": 1.6, "dash": "solid" if split == "train" else "dash"},
                }
            )
    return traces


CURVES_LAYOUT = {
    "grid": {"rows": 3, "columns": 1, "pattern": "independent", "ygap": 0.3},
    **{f"yaxis{panel}": {"title": {"text": name}} for name, panel in _PANELS.items()},
    "xaxis3": {"title": {"text": "step"}},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
}


def kl_bars(run: Run) -> list[dict[str, Any]]:
    """The trace of the KL of each latent, largest first; empty until the point is done."""
    kl = run.result.get("kl_per_latent") or []
    order = sorted((i for i, nats in enumerate(kl) if nats is not None), key=lambda i: -kl[i])
    if not order:
        return []
    used = [figures.COLOUR_OF_ONE if kl[i] > USED_NATS else figures.INK for i in order]
    bars = {
        "type": "bar",
        "x": list(map(str, order)),
        "y": figures.rounded(kl[i] for i in order),
        "hovertemplate": "latent %{x}: %{y:.3f} nats<extra></extra>",
        "marker": {"color": used},
    }
    return [bars]


KL_LAYOUT = {
    "xaxis": {"title": {"text": "latent, largest KL first"}, "type": "category"},
    "yaxis": {"title": {"text": "KL (nats per image)"}},
    "bargap": 0.1,
}
