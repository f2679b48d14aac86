"""The windows of a twin's correlation sensors, synapse by synapse, beside what they are.

    python benchmarks/twin_window.py --chips 0 1 2 3 4 [--picture]

Pairs of spikes at many distances, read by the plasticity processor after some and after all of them; a line of the
table for each chip and sensor. --picture writes docs/images/twin_stdp_window.png for the first chip.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop import LIF, Events, Network, OnChip, Population, Projection, Record, run
from spikeloop.chip import correlation
from spikeloop.chip.calibrate import Calibration
from spikeloop.chip.sensing import sensors_of
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.chip.twin import EVERYTHING, Twin
from spikeloop.plasticity import Correlation, Plasticity, View
from spikeloop.plot.style import COLOURS, FAINT, canvas, paler, save, tidy

Float = NDArray[np.float64]
LINES = 8
"""Lines that fire a neuron together: no single event can."""
TAU, AMPLITUDE = 5e-3, 1 / 256
COUNTS = (25, 100)
"""Pairs after which sensors are read: strong ones would be full after all."""
FIRST, EVERY = 40e-3, 100e-3
USABLE = 112 / 128
"""Of the full range: sensors are less than full, though their converters differ."""
VISIBLE = 6 / 128
"""Of the full range: what the reading at the shortest distance has to be, ten times the converter's noise."""
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "twin_stdp_window.png"
SIDES = ("causal", "anticausal")


@dataclass(frozen=True, eq=False)
class Windows:
    """Of the synapses of one line to N neurons: what was found, (2, N), NaN where nothing could be, and what they are.

    amplitude, of the full range and per pair; tau in seconds.  apart: (P, N), seconds from one event of a pair to the
    other.  change: (2, P, N), by one pair, NaN where the sensor was full, or not all pairs were its own.
    """

    amplitude: Float
    tau: Float
    true_amplitude: Float
    true_tau: Float
    apart: Float
    change: Float

    @property
    def found(self) -> NDArray[np.bool_]:
        """(2, N): which could be fitted."""
        return np.isfinite(self.tau)


def read(view: View) -> None:
    """Look at the sensors, change nothing."""
    for name in SIDES:
        view.record(name, np.asarray(getattr(view, name)))


def window_network(neurons: int, calls: Sequence[float]) -> Network:
    """A line whose synapses are looked at, and others that make the neurons fire."""
    watched = Plasticity(read, w_max=0.3, period=list(calls), sensor=Correlation(TAU, AMPLITUDE))
    neuron = LIF(10e-3, 6e-3, refractory=25e-3)
    return Network(
        {"test": Population(1), "trigger": Population(LINES), "cells": Population(neurons, neuron)},
        [
            Projection("test", "cells", torch.full((1, neurons), 0.02), plasticity=watched),
            Projection("trigger", "cells", torch.full((LINES, neurons), 1.0)),
        ],
    )


def pairs(distance: Float, count: int) -> tuple[Events, Events]:
    """``count`` pairs in each sample, the test line ``distance`` (seconds, one a sample) before the trigger."""
    at = FIRST + EVERY * np.arange(count)
    test = [torch.from_numpy(at - each) for each in distance]
    trigger = torch.from_numpy(np.repeat(at, LINES))
    units = torch.arange(LINES, dtype=torch.int32).repeat(count)
    return (
        Events.from_lists(test, [torch.zeros(count, dtype=torch.int32)] * len(test), 1),
        Events.from_lists([trigger] * len(test), [units] * len(test), LINES),
    )


def measure(chip: Twin, neurons: int = 64, points: int = 12, calibration: Calibration | None = None) -> Windows:
    """The windows of a chip's synapses, as codes of ``calibration`` have its neurons fire: when is seen from spikes."""
    away = np.linspace(1e-3, 14e-3, points)
    distance = np.concatenate([away, -away])
    calls = [FIRST + EVERY * (count - 0.5) for count in COUNTS]
    net = window_network(neurons, calls)
    test, trigger = pairs(distance, COUNTS[-1])
    record = run(
        net, {"test": test, "trigger": trigger}, calls[-1], substrate=OnChip(chip, calibration=calibration), number=1
    )
    delays = [_delays(record, sample, neurons) for sample in range(2 * points)]
    first, mean, last = (np.stack(each) + distance[:, None] for each in zip(*delays, strict=True))  # (2 P, N)
    apart, change = np.abs(mean), np.full((2, 2 * points, neurons), np.nan)
    for side, name in enumerate(SIDES):
        reading = record.recorded["test_to_cells"][name].value[:, :, 0].numpy()
        change[side] = np.where(first > 0 if side == 0 else last < 0, _of_one_pair(reading), np.nan)
    fits = [[_fit(apart[:, n], change[side, :, n]) for n in range(neurons)] for side in range(2)]
    return Windows(*np.moveaxis(np.array(fits), 2, 0), *_true(chip, net, calibration), apart, change)


def _delays(record: Record, sample: int, neurons: int) -> tuple[Float, Float, Float]:
    """(neurons,) each: how long after the trigger they fire, at first, on average and at last; NaN where not always."""
    spikes = record.spikes["cells"][sample]
    unit, late = spikes.unit.numpy(), (spikes.time.detach().numpy() - FIRST) % EVERY
    first, last = np.full(neurons, np.inf), np.full(neurons, -np.inf)
    np.minimum.at(first, unit, late)
    np.maximum.at(last, unit, late)
    number = np.bincount(unit, minlength=neurons)
    always = np.where(number == COUNTS[-1], 1.0, np.nan)
    return always * first, np.bincount(unit, late, neurons) / np.maximum(number, 1), always * last


def _of_one_pair(reading: Float) -> Float:
    """(B, N) from readings (C, B, N) after `COUNTS`: by the last one before the sensor was full; else NaN."""
    change = np.full(reading.shape[1:], np.nan)
    for each, count in zip(reading, COUNTS, strict=True):
        change = np.where(each <= USABLE, each / count, change)
    return change


def _fit(apart: Float, change: Float) -> tuple[float, float]:
    r"""Amplitude and time constant, least squares of :math:`\eta e^{-t / \tau}`; NaN where too little is to be seen.

    Readings have noise of one size, so all that are not full count, those of 0, too.
    """
    use = np.isfinite(change)
    time, size = apart[use], change[use]
    if len(time) < 4 or size.max() * COUNTS[-1] < VISIBLE:
        return np.nan, np.nan
    taus = TAU * np.geomspace(0.1, 10.0, 400)
    shape = np.exp(-time / taus[:, None])
    height = shape @ size / (shape**2).sum(1)
    best = int(np.argmin(((size - height[:, None] * shape) ** 2).sum(1)))
    if best in (0, len(taus) - 1):
        return np.nan, np.nan
    return float(height[best]), float(taus[best])


def _true(chip: Twin, net: Network, calibration: Calibration | None) -> tuple[Float, Float]:
    """(2, N): amplitudes, of the full range, and time constants that the chip's synapses have."""
    setup = setup_of(net, Wish(chip, 1000.0, 1, calibration, strict=False, cache=True))
    synapse = setup.placement.synapse
    flat, sensors = synapse["test_to_cells"].ravel(), sensors_of(net, synapse, 1000.0)
    assert sensors is not None
    steps, tau = correlation.windows(sensors, chip.seed, chip.pattern().strengths)
    return steps[:, flat] / correlation.FULL, tau[:, flat] * 1000.0


def rows_of(chip: Twin, windows: Windows, seconds: float) -> list[str]:
    """A row of the table for each sensor."""
    rows: list[str] = []
    for side, name in enumerate(SIDES):
        found = windows.found[side]
        heard = np.isfinite(windows.change[side]).sum(0) >= 4
        unseen = [(~found & heard).sum(), (~found & ~heard).sum()]
        parts = [f"{found.sum()} of {len(found)}", *map(str, unseen)]
        for value, true, nominal in (
            (windows.amplitude, windows.true_amplitude, AMPLITUDE), (windows.tau, windows.true_tau, TAU)
        ):  # fmt: skip
            ratio = np.log(value[side, found] / true[side, found])
            parts += [
                f"{np.exp(np.median(np.log(value[side, found] / nominal))):.2f}",
                f"{np.log(value[side, found]).std():.2f}", f"{np.log(true[side]).std():.2f}",
                f"{100 * np.expm1(np.median(ratio)):+.1f} %", f"{100 * np.median(np.abs(np.expm1(ratio))):.1f} %",
            ]  # fmt: skip
        rows.append(f"| {chip!r} | {name} | {' | '.join(parts)} | {seconds:.0f} |")
    return rows


HEAD = (
    "| chip | sensor | fitted | too weak | neuron fails "
    "| amplitude/target | spread (log) | of all | off, median | error, median "
    "| time constant/target | spread (log) | of all | off, median | error, median | seconds |"
)


def draw(windows: Windows, path: Path = IMAGE) -> None:
    """The windows of many synapses, and what was found of them beside what they are."""
    figure, (left, *right) = canvas(1, 3, (10.5, 3.4), width_ratios=(1.5, 1, 1))
    left.axhline(0, color=FAINT, linewidth=0.7)
    left.axvline(0, color=FAINT, linewidth=0.7)
    time = np.linspace(0, 14, 100)
    for side, sign in enumerate((1, -1)):
        for n in np.flatnonzero(windows.found[side]):
            size = windows.amplitude[side, n] * np.exp(-time * 1e-3 / windows.tau[side, n])
            left.plot(sign * time, 1e3 * sign * size, color=paler(COLOURS[side]), linewidth=0.6)
        order = np.argsort(windows.true_amplitude[side])
        for n in order[[len(order) // 4, 3 * len(order) // 4]]:
            left.plot(sign * 1e3 * windows.apart[:, n], 1e3 * sign * windows.change[side, :, n], ".",
                      color=COLOURS[side], markersize=4)  # fmt: skip
        size = AMPLITUDE * np.exp(-time * 1e-3 / TAU)
        left.plot(sign * time, 1e3 * sign * size, color="black", linewidth=1.2, linestyle="--")
    left.annotate("asked for", (1.2, 1e3 * AMPLITUDE * 0.78), xytext=(30, 40), textcoords="offset points", fontsize=9,
                  arrowprops={"arrowstyle": "-", "linewidth": 0.7})  # fmt: skip
    tidy(left, "Spike after arrival (ms)", "Change by one pair (1/1000)")
    for ax, name, scale, value, true in zip(
        right, ("Amplitude (1/1000)", "Time constant (ms)"), (1e3, 1e3), (windows.amplitude, windows.tau),
        (windows.true_amplitude, windows.true_tau), strict=True,
    ):  # fmt: skip
        for side, colour in enumerate(COLOURS[:2]):
            ax.plot(scale * true[side], scale * value[side], ".", color=colour, markersize=4, label=SIDES[side])
        ends = scale * np.array([true.min(), true.max()])
        ax.plot(ends, ends, color=FAINT, linewidth=0.7)
        ax.set_xscale("log")
        ax.set_yscale("log")
        tidy(ax, f"{name}, of the sensor", "Found")
    right[0].legend(frameon=False, fontsize=9, loc="upper left", handletextpad=0.1)
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", type=int, default=[7])
    parser.add_argument("--picture", action="store_true")
    given = parser.parse_args(arguments)
    print(HEAD, "|" + "---|" * (HEAD.count("|") - 1), sep="\n")
    for chip in (Twin(given.chips[0], ideal=EVERYTHING), *map(Twin, given.chips)):
        began = time.perf_counter()
        windows = measure(chip)
        print(*rows_of(chip, windows, time.perf_counter() - began), sep="\n", flush=True)
        if given.picture and chip == Twin(given.chips[0]):
            draw(windows)


if __name__ == "__main__":
    main()
