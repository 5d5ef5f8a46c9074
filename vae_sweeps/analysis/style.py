"""What all plots share: colours, thresholds, and functions that make figures and style axes.

This module avoids pyplot, which keeps global state and may need a screen.
"""

import io
import textwrap
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vae_sweeps.system.files import write_whole

# The eight colours of Okabe & Ito (2008), one of Tol's and a grey; colour-blind readers can distinguish them.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000", "#882255", "#999999",
)  # fmt: skip
BLUE, VERMILION = COLOURS[0], COLOURS[5]
SCALE = colormaps["viridis"]
INK, FAINT_INK, RULE, EDGE = "#222222", "#666666", "#dddddd", "#888888"
START = 0.1  # the first fraction of the steps, which a curve's y-limits ignore
USED_NATS = 0.01  # a latent whose KL is larger is drawn as used
NO_KL_NATS = 1e-3  # the lower end of a log scale of the KL; below it, the posterior equals the prior
NUM_ISO_LINES = 7  # lines of equal ELBO in the rate-distortion plane
_TITLE_CHARACTERS_PER_INCH = 11


def new_figure(width: float, height: float, title: str) -> Figure:
    """Make a figure of `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(_TITLE_CHARACTERS_PER_INCH * width)), color=INK, fontsize=12)
    return figure


def style(axes: Axes, label: str) -> None:
    axes.set_title(label, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(EDGE)
    axes.tick_params(color=EDGE, labelcolor=INK, labelsize=9)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def say(axes: Axes, text: str) -> None:
    """Show `text` on axes that have no values."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT_INK)
    axes.set_yticks([])


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, completely or not at all."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)  # savefig would lay the figure out twice, a third of its time
    write_whole(path, content.getvalue())
