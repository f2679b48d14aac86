"""What plasticity does: windows, distributions of weights, rates and rewards over updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from spikeloop.plasticity.rule import Correlation
from spikeloop.plot.style import COLOURS, FAINT, INK, paler, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def stdp_window(apart: ArrayLike, change: ArrayLike, fitted: Correlation | None = None, *, ax: Axes) -> Axes:
    """What one pair of spikes changes, over how long (s) after the arrival the target spiked, with a fitted window."""
    time, size = np.asarray(apart) * 1e3, np.asarray(change)
    ax.axhline(0, color=FAINT, linewidth=0.7)
    ax.axvline(0, color=FAINT, linewidth=0.7)
    ax.plot(time, size, ".", color=COLOURS[0], markersize=5)
    for side, number, colour in ((1, 0, COLOURS[1]), (-1, 1, COLOURS[2])):
        if fitted is not None:
            tau, amplitude = fitted.taus[number] * 1e3, fitted.amplitudes[number]
            along = np.linspace(0, abs(time).max(), 200)
            ax.plot(side * along, side * amplitude * np.exp(-along / tau), color=colour, linewidth=1.2)
            ax.text(side * tau, side * amplitude * 0.6, f"  {tau:.3g} ms  ", color=colour, fontsize=9,
                    ha="left" if side > 0 else "right")  # fmt: skip
    return tidy(ax, "Spike after arrival (ms)", "Change of weight")


def weight_distribution(weights: ArrayLike, predicted: float | None = None, *, ax: Axes) -> Axes:
    """A histogram of weights, with their mean and the one that a theory predicts, each labelled on its own side."""
    values = np.asarray(weights).ravel()
    ax.hist(values, bins=40, color=paler(COLOURS[0]), edgecolor=COLOURS[0], linewidth=0.5)
    lines = [(values.mean(), "mean", COLOURS[0], "-")]
    if predicted is not None:
        lines.append((predicted, "theory", COLOURS[1], "--"))
    for side, (at, name, colour, dash) in zip(("right", "left"), sorted(lines), strict=False):
        ax.axvline(at, color=colour, linewidth=1.6, linestyle=dash)
        ax.annotate(f" {name} {at:.3g} ", (at, 1.01), xycoords=("data", "axes fraction"), ha=side, va="bottom",
                    color=colour, fontsize=9)  # fmt: skip
    return tidy(ax, "Weight", "Synapses")


def over_updates(values: ArrayLike, name: str, goal: float | None = None, *, ax: Axes) -> Axes:
    """Values (U, N) over updates: median, the range of the middle 90 % and of all, with a goal at the side."""
    rows = np.asarray(values).reshape(len(np.asarray(values)), -1)
    update = np.arange(1, len(rows) + 1)
    for low, high, colour in ((0, 100, "#EDEDED"), (5, 95, paler(COLOURS[0]))):
        ax.fill_between(update, *np.percentile(rows, [low, high], axis=1), color=colour, linewidth=0)
    ax.plot(update, np.median(rows, axis=1), color=COLOURS[0], linewidth=1.6)
    if goal is not None:
        ax.axhline(goal, color=COLOURS[1], linewidth=1.2, linestyle="--")
        ax.annotate(f" {goal:.3g}", (1.0, goal), xycoords=("axes fraction", "data"), va="center",
                    color=COLOURS[1], fontsize=9, annotation_clip=False)  # fmt: skip
    return tidy(ax, "Update", name)


def weight_matrix(weights: ArrayLike, *, ax: Axes) -> Axes:
    """Weights (S, T) as an image, sources downwards."""
    ax.imshow(np.asarray(weights), cmap="Blues", aspect="auto", interpolation="nearest")
    ax.spines[:].set_visible(False)
    ax.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    ax.set_xlabel("Target", color=INK)
    ax.set_ylabel("Source", color=INK)
    return ax
