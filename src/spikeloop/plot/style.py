"""What all pictures share: a canvas, colours, axes without clutter.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any kind of colour vision can
tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#222222"
FAINT = "#8A8A8A"


def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 3.6), **layout: Any
) -> tuple[Figure, Any]:
    """A new figure of `size` inches and its axes, without a window. Further options as in `Figure.subplots`."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **layout)


def save(figure: Figure, path: str | Path) -> Path:
    """Writes the figure; the name's ending chooses the format. Returns the path."""
    figure.savefig(path, dpi=200, facecolor="white")
    return Path(path)


def paler(colour: str) -> tuple[float, float, float]:
    """The colour of a field that dots of ``colour`` lie on."""
    red, green, blue = (0.32 * part + 0.68 for part in to_rgb(colour))
    return red, green, blue


def tidy(ax: Axes, xlabel: str, ylabel: str) -> Axes:
    """Names the axes and takes away what is no data."""
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    return ax
