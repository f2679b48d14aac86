"""Spikes and membranes over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spikeloop.errors import CannotObserve, OutOfRange, UnknownPopulation
from spikeloop.events import Events
from spikeloop.plot.style import COLOURS, FAINT, INK, tidy
from spikeloop.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def raster(events: Events, sample: int = 0, *, ax: Axes, colour: str = INK) -> Axes:
    """The spikes of one sample: time in ms to the right, unit upwards, one stroke per spike."""
    rows = _rows(events, sample)
    time, unit = events.time[rows].detach().numpy() * 1e3, events.unit[rows].numpy()
    height = float(np.clip(100.0 / max(events.size, 1), 3.0, 9.0))
    ax.plot(time, unit, linestyle="", marker="|", markersize=height, markeredgewidth=1.0, color=colour, clip_on=False)
    ax.set_ylim(-0.5, max(events.size, 1) - 0.5)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return tidy(ax, "Time (ms)", "Unit")


def membrane(record: Record, population: str, sample: int = 0, *, ax: Axes, threshold: float | Tensor = 1.0) -> Axes:
    """The sampled membranes of one sample, with the threshold dashed and a stroke above it for every spike.

    The population must have been observed: `run(..., observe=Observe(membrane={population: 0.2e-3}))`. `threshold` is
    one potential or one per neuron; populations that do not spike show none. What a chip sampled is drawn as dots, with
    a thin line only to guide the eye.
    """
    time, unit, value = _trace(record, population, sample)
    colours = [COLOURS[column % len(COLOURS)] for column in range(len(unit))]
    on_chip = record.lowering is not None
    style: dict[str, Any] = {"marker": "o", "markersize": 3.2, "linewidth": 0.7} if on_chip else {"linewidth": 1.3}
    for column, colour in enumerate(colours):
        ax.plot(time, value[:, column], color=colour, label=str(int(unit[column])), **style)
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
    return tidy(ax, "Time (ms)", "Membrane")


def traces(record: Record, places: Sequence[str], sample: int = 0, neuron: int = 0, *, ax: Axes) -> Axes:
    """The membranes of one neuron in several places, "population.compartment", each in a colour of its own.

    All of them must have been observed.
    """
    for number, place in enumerate(places):
        time, unit, value = _trace(record, place, sample)
        column = np.flatnonzero(unit == neuron)
        if not len(column):
            expected = f"one of {', '.join(map(str, unit))}"
            raise OutOfRange(f"neuron {neuron} of {place!r} was not sampled", where="plot", expected=expected)
        ax.plot(time, value[:, column[0]], color=COLOURS[number % len(COLOURS)], linewidth=1.3, label=place)
    ax.legend(loc="upper right", frameon=False, fontsize=8)
    return tidy(ax, "Time (ms)", "Membrane")


def _rows(events: Events, sample: int) -> slice:
    if not 0 <= sample < len(events):
        raise OutOfRange(f"sample {sample} does not exist", where="plot", expected=f"0 to {len(events) - 1}")
    return slice(int(events.start[sample]), int(events.start[sample + 1]))


def _trace(record: Record, population: str, sample: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (T,) in ms, units (M,) and values (T, M) of one sample."""
    samples = record.membrane.get(population)
    if samples is None:
        name = population.partition(".")[0]
        known = name in record.spikes or name in record.count or name in record.peak
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
