"""How training went, and what was learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from spikeloop.plot.style import COLOURS, INK, paler, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(metrics: Sequence[Mapping[str, Any]], *, ax: Axes) -> Axes:
    """Errors in per cent over epochs, on a logarithmic axis, each line named at its end.

    `metrics` are the lines of a run folder's `metrics.jsonl`: `epoch`, `accuracy` and, where there was a validation
    set, `validation_accuracy`, both between 0 and 1.
    """
    ends: list[tuple[float, float, str, str]] = []
    for key, name, colour in (("accuracy", "training", COLOURS[0]), ("validation_accuracy", "validation", COLOURS[1])):
        points = [(line["epoch"], line.get(key)) for line in metrics]
        known = [(epoch, 1.0 - value) for epoch, value in points if epoch is not None and value is not None]
        if known:
            epoch, error = np.array(known).T
            error = 100.0 * _lifted(error)
            marker = "o" if len(known) == 1 else ""
            ax.plot(epoch + 1, error, color=colour, linewidth=1.6, marker=marker)
            ends.append((epoch[-1] + 1, error[-1], f"{name} {100.0 * (1.0 - known[-1][1]):.1f} %", colour))
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    ax.set_axisbelow(True)
    _name_ends(ax, ends)
    return tidy(ax, "Epoch", "Error (%)")


def decision_map(
    classify: Callable[[Tensor], Tensor],
    *,
    ax: Axes,
    points: Tensor | None = None,
    labels: Tensor | None = None,
    resolution: int = 200,
) -> Axes:
    """The class that `classify` gives every point of the unit square, and `points` (N, 2) coloured by their labels.

    `classify` turns (N, 2) coordinates into (N,) classes, -1 (silent) is grey. Points on a field of another class are
    mistakes; they are ringed.
    """
    field = _field(classify, resolution)
    count = max(int(field.max()), int(labels.max()) if labels is not None and len(labels) else 0) + 1
    colours = [COLOURS[index % len(COLOURS)] for index in range(max(count, 1))]
    palette = ListedColormap(["#DDDDDD", *(paler(colour) for colour in colours)])
    ax.imshow(
        field + 1,
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap=palette,
        vmin=-0.5,
        vmax=len(colours) + 0.5,
        interpolation="nearest",
    )
    if points is not None and labels is not None:
        wrong = (classify(points) != labels).numpy()
        x, y = points.numpy().T
        ax.scatter(x, y, s=7, c=[colours[int(label)] for label in labels], linewidths=0)
        ax.scatter(x[wrong], y[wrong], s=34, facecolors="none", edgecolors=INK, linewidths=0.9)
    ax.set_aspect("equal")
    ax.set_xticks([0, 0.5, 1])
    ax.set_yticks([0, 0.5, 1])
    return tidy(ax, "x", "y")


def accuracy_bars(results: Mapping[str, Mapping[str, Sequence[float]]], *, ax: Axes) -> Axes:
    """Accuracies in per cent, by task and then by kind: a bar up to the mean, which is written into it, a dot for each.

    ``{"Yin-Yang": {"software": [0.975], "transferred": [0.6, 0.7], "in the loop": [0.95, 0.96]}}``: the numbers are
    those of several chips or seeds, between 0 and 1. Kinds have the same colour in all tasks.
    """
    kinds = list(dict.fromkeys(kind for task in results.values() for kind in task))
    width = 0.8 / max(len(kinds), 1)
    for number, kind in enumerate(kinds):
        shift, named = (number - (len(kinds) - 1) / 2) * width, False
        for place, task in enumerate(results.values()):
            if len(values := 100.0 * np.asarray(task.get(kind, ()), np.float64)):
                colour = COLOURS[number % len(COLOURS)]
                _accuracy_bar(ax, place + shift, values, 0.88 * width, colour, None if named else kind)
                named = True
    ax.set_xticks(range(len(results)), list(results))
    ax.set_ylim(0.0, 102.0)
    ax.set_yticks(range(0, 101, 25))
    ax.tick_params(axis="x", length=0)
    if kinds:
        ax.legend(frameon=False, fontsize=9, ncols=len(kinds), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return tidy(ax, "", "Accuracy (%)")


def _accuracy_bar(ax: Axes, x: float, values: np.ndarray, width: float, colour: str, label: str | None) -> None:
    ax.bar(x, values.mean(), width, color=paler(colour), label=label)
    ax.plot([x - width / 2, x + width / 2], [values.mean()] * 2, color=colour, linewidth=2.0, solid_capstyle="butt")
    if len(values) > 1:
        spread = np.linspace(-0.25, 0.25, len(values)) * width
        ax.plot(x + spread, values, linestyle="", marker="o", markersize=3.5, color=colour)
    ax.annotate(f"{values.mean():.1f}", (x, 0), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9)


def _lifted(error: np.ndarray) -> np.ndarray:
    """Zero errors moved to half of the smallest other one: a logarithmic axis has no zero."""
    positive = error[error > 0]
    return np.where(error > 0, error, 0.5 * positive.min() if positive.size else 1e-3)


def _name_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Names the lines at their last point, moved apart vertically where they would overlap."""
    bottom, top = ax.get_ylim()
    gap = math.log(top / bottom) * 0.08
    heights = [math.log(end[1]) for end in ends]
    if len(heights) == 2 and abs(heights[0] - heights[1]) < gap:
        middle, sign = sum(heights) / 2, 1.0 if heights[0] >= heights[1] else -1.0
        heights = [middle + sign * gap / 2, middle - sign * gap / 2]
    for (epoch, _, name, colour), height in zip(ends, heights, strict=True):
        ax.annotate(
            name,
            (epoch, math.exp(height)),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def _field(classify: Callable[[Tensor], Tensor], resolution: int) -> np.ndarray:
    centre = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return classify(torch.stack([x.flatten(), y.flatten()], dim=1)).reshape(resolution, resolution).numpy()
