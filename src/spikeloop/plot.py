"""Pictures of events, membranes and training. The only file that imports matplotlib (extra `cli`).

Every function draws on the axes it is given and returns them; seconds are shown as milliseconds. Colours are those of
Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any kind of colour vision can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spikeloop.errors import CannotObserve, OutOfRange, SpikeloopError, UnknownPopulation
from spikeloop.events import Events
from spikeloop.record import Record

try:
    from matplotlib.colors import ListedColormap, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
except ImportError as _missing:
    raise SpikeloopError(
        "spikeloop.plot needs matplotlib, which is not installed", todo='pip install "spikeloop[cli]"'
    ) from _missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#222222"
FAINT = "#8A8A8A"

__all__ = ["canvas", "decision_map", "learning_curve", "membrane", "raster", "save"]


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


def raster(events: Events, sample: int = 0, *, ax: Axes, colour: str = INK) -> Axes:
    """The spikes of one sample: time in ms to the right, unit upwards, one stroke per spike."""
    rows = _rows(events, sample)
    time, unit = events.time[rows].detach().numpy() * 1e3, events.unit[rows].numpy()
    height = float(np.clip(100.0 / max(events.size, 1), 3.0, 9.0))
    ax.plot(time, unit, linestyle="", marker="|", markersize=height, markeredgewidth=1.0, color=colour, clip_on=False)
    ax.set_ylim(-0.5, max(events.size, 1) - 0.5)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return _tidy(ax, "Time (ms)", "Unit")


def membrane(record: Record, population: str, sample: int = 0, *, ax: Axes, threshold: float | Tensor = 1.0) -> Axes:
    """The sampled membranes of one sample, with the threshold dashed and a stroke above it for every spike.

    The population must have been observed: `run(..., observe=Observe(membrane={population: 0.2e-3}))`. `threshold` is
    one potential or one per neuron; populations that do not spike show none.
    """
    time, unit, value = _trace(record, population, sample)
    colours = [COLOURS[column % len(COLOURS)] for column in range(len(unit))]
    for column, colour in enumerate(colours):
        ax.plot(time, value[:, column], color=colour, linewidth=1.3, label=str(int(unit[column])))
    if population in record.spikes:
        level = _per_neuron(threshold, unit)
        _spike_strokes(
            ax,
            record.spikes[population],
            sample,
            dict(zip(unit.tolist(), zip(level, colours, strict=True), strict=True)),
        )
        for height in sorted(set(level)):
            ax.axhline(height, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    if 1 < len(unit) <= len(COLOURS):
        ax.legend(
            title=population, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, title_fontsize=8
        )
    ax.set_xlim(0.0, record.duration * 1e3)
    return _tidy(ax, "Time (ms)", "Membrane")


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
    return _tidy(ax, "Epoch", "Error (%)")


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
    palette = ListedColormap(["#DDDDDD", *(_paler(colour) for colour in colours)])
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
    return _tidy(ax, "x", "y")


def _rows(events: Events, sample: int) -> slice:
    if not 0 <= sample < len(events):
        raise OutOfRange(f"sample {sample} does not exist", where="plot", expected=f"0 to {len(events) - 1}")
    return slice(int(events.start[sample]), int(events.start[sample + 1]))


def _trace(record: Record, population: str, sample: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (T,) in ms, units (M,) and values (T, M) of one sample."""
    samples = record.membrane.get(population)
    if samples is None:
        known = population in record.spikes or population in record.count or population in record.peak
        if not known and record.spikes:
            raise UnknownPopulation(f"no population {population!r} in this record", expected=", ".join(record.spikes))
        raise CannotObserve(
            f"the membrane of {population!r} was not sampled",
            todo=f"run(..., observe=Observe(membrane={{{population!r}: 0.2e-3}}))",
        )
    if not 0 <= sample < len(samples.value):
        raise OutOfRange(f"sample {sample} does not exist", where="plot", expected=f"0 to {len(samples.value) - 1}")
    time = samples.time if samples.time.dim() == 1 else samples.time[sample]
    return time.numpy() * 1e3, samples.unit.numpy(), samples.value[sample].detach().numpy()


def _per_neuron(threshold: float | Tensor, unit: np.ndarray) -> list[float]:
    given = torch.as_tensor(threshold).detach()
    return [float(given)] * len(unit) if given.dim() == 0 else [float(given[index]) for index in unit.tolist()]


def _spike_strokes(ax: Axes, events: Events, sample: int, neurons: Mapping[int, tuple[float, str]]) -> None:
    rows = _rows(events, sample)
    bottom, top = ax.get_ylim()
    height = 0.14 * max(top - bottom, max((level for level, _ in neurons.values()), default=1.0) - bottom)
    for time, unit in zip(events.time[rows].tolist(), events.unit[rows].tolist(), strict=True):
        if unit in neurons:
            level, colour = neurons[unit]
            ax.vlines(time * 1e3, level, level + height, color=colour, linewidth=1.3)


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


def _paler(colour: str) -> tuple[float, float, float]:
    red, green, blue = (0.32 * part + 0.68 for part in to_rgb(colour))
    return red, green, blue


def _tidy(ax: Axes, xlabel: str, ylabel: str) -> Axes:
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    return ax
