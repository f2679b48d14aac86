"""Plasticity on twins: the windows of their sensors, homeostasis of 512 neurons, where weights settle, and Pong.

    python benchmarks/twin_plasticity.py window homeostasis multiplicative pong --chips 0 1 2 3 4

Each prints a table; seconds are this machine's, chip seconds the chip's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop import LIF, Events, Network, Observe, OnChip, Population, Projection, Record, run
from spikeloop.apps.pong import Pong, learn
from spikeloop.chip import correlation
from spikeloop.chip.twin import EVERYTHING, Twin
from spikeloop.plasticity import Correlation, Plasticity, View
from spikeloop.plasticity.rules import Homeostasis, MultiplicativeSTDP

Float = NDArray[np.float64]
LINES = 8
"""Lines that fire a neuron together: no single event can."""
TAU, AMPLITUDE = 5e-3, 1 / 256
STEP = 32
"""Cycles of 8 ns of the engine's steps in Pong; the twin's default is 1."""


def read(view: View) -> None:
    """Look at the sensors, change nothing."""
    view.record("causal", np.asarray(view.causal))
    view.record("anticausal", np.asarray(view.anticausal))


def window_network(neurons: int, end: float) -> Network:
    """A line whose synapses are looked at, and others that make the neurons fire."""
    watched = Plasticity(read, w_max=0.3, period=[end], sensor=Correlation(TAU, AMPLITUDE))
    neuron = LIF(10e-3, 6e-3, refractory=25e-3)
    return Network(
        {"test": Population(1), "trigger": Population(LINES), "cells": Population(neurons, neuron)},
        [
            Projection("test", "cells", torch.full((1, neurons), 0.02), plasticity=watched),
            Projection("trigger", "cells", torch.full((LINES, neurons), 1.0)),
        ],
    )


def pairs(distance: Float, count: int, every: float) -> tuple[Events, Events]:
    """``count`` pairs in each sample, the test line ``distance`` (seconds, one a sample) before the trigger."""
    at = 40e-3 + every * np.arange(count)
    test = [torch.from_numpy(at - each) for each in distance]
    trigger = torch.from_numpy(np.repeat(at, LINES))
    units = torch.arange(LINES, dtype=torch.int32).repeat(count)
    return (
        Events.from_lists(test, [torch.zeros(count, dtype=torch.int32)] * len(test), 1),
        Events.from_lists([trigger] * len(test), [units] * len(test), LINES),
    )


def window(chip: Twin, neurons: int = 64, count: int = 100, points: int = 12) -> tuple[Float, Float]:
    """(2, neurons) each, causal and anticausal: amplitudes, of the full range, and time constants that were found."""
    distance = np.concatenate([np.linspace(1e-3, 14e-3, points), -np.linspace(1e-3, 14e-3, points)])
    every = 100e-3
    duration = 60e-3 + count * every
    test, trigger = pairs(distance, count, every)
    net = window_network(neurons, duration)
    record = run(net, {"test": test, "trigger": trigger}, duration, substrate=OnChip(chip), number=1)
    fired = np.array([_mean_delay(record, sample, count, every) for sample in range(len(distance))])
    found = []
    for kind, name in enumerate(("causal", "anticausal")):
        reading = record.recorded["test_to_cells"][name].value[0].numpy()[:, 0]
        found.append(
            [_fit(np.abs(fired[:, n] + distance), reading[:, n] / count, kind, distance) for n in range(neurons)]
        )
    amplitude, tau = np.moveaxis(np.array(found), 2, 0)
    return amplitude, tau


def _mean_delay(record: Record, sample: int, count: int, every: float) -> Float:
    """(neurons,): how long after the trigger they fire."""
    spikes = record.spikes["cells"][sample]
    late = (spikes.time.detach().numpy() - 40e-3) % every
    size = record.spikes["cells"].size
    number = np.bincount(spikes.unit.numpy(), minlength=size)
    return np.bincount(spikes.unit.numpy(), late, size) / np.maximum(number, 1)


def _fit(distance: Float, reading: Float, kind: int, given: Float) -> tuple[float, float]:
    """Amplitude and time constant, weighted as counts are, from samples on the sensor's side that it can see."""
    side = (given > 0 if kind == correlation.CAUSAL else given < 0) & (reading > 0)
    if side.sum() < 4:
        return np.nan, np.nan
    slope, height = np.polyfit(distance[side], np.log(reading[side]), 1, w=np.sqrt(reading[side]))
    return float(np.exp(height)), float(-1 / slope)


def show_window(chip: Twin) -> str:
    """A row of the table."""
    began = time.perf_counter()
    amplitude, tau = window(chip)
    parts = []
    for value, nominal in ((amplitude, AMPLITUDE), (tau, TAU)):
        good = np.isfinite(value) & (value > 0)
        parts.append(f"{np.median(value[good]) / nominal:.3f} | {np.log(value[good] / nominal).std():.2f}")
    return f"| {chip!r} | {' | '.join(parts)} | {time.perf_counter() - began:.0f} |"


def homeostasis(chip: Twin, neurons: int = 512, updates: int = 100, target: int = 6) -> str:
    """512 neurons, each with the same 32 lines, come to one rate."""
    began, period = time.perf_counter(), 40e-3  # the processor needs 29 us of chip time for 32 rows
    random = torch.Generator().manual_seed(0)
    rule = Plasticity(Homeostasis(target), w_max=0.9, period=period, sensor=None)
    neuron = LIF(6e-3, 6e-3, refractory=1e-3)
    net = Network(
        {"input": Population(32), "cells": Population(neurons, neuron)},
        [Projection("input", "cells", torch.rand(32, neurons, generator=random) * 0.1, plasticity=rule)],
    )
    count, duration = int(32 * 200 * updates * period), updates * period
    drive = Events.from_lists([torch.rand(count, generator=random, dtype=torch.float64) * duration],
                              [torch.randint(0, 32, (count,), generator=random)], 32)  # fmt: skip
    record = run(net, drive, duration, substrate=OnChip(chip), number=1)
    spikes = record.spikes["cells"]
    rate = [
        torch.bincount(spikes.unit[(spikes.time >= low) & (spikes.time < low + n * period)], minlength=neurons) / n
        for low, n in ((0.0, 1), (0.0, 10), (duration / 2, 10), (duration - 10 * period, 10))
    ]
    near = ((rate[-1] - target).abs() <= 1).double().mean()
    shown = " | ".join(f"{each.mean():.2f} ± {each.std():.2f}" for each in rate)
    seconds = f"{record.cost.chip_time:.2g} | {time.perf_counter() - began:.0f}"
    return f"| {chip!r} | {target} | {shown} | {near:.1%} | {seconds} |"


def multiplicative(chip: Twin, updates: int = 240) -> str:
    """Uncorrelated lines: each weight settles where the changes by its own two sensors cancel.

    The sensors of a chip differ, so what is predicted is the mean of c+ / (c+ + c-) over synapses, each with its own
    readings, and not that ratio of their means ("pooled"), which unlike windows move. 6 % of the way is made in one
    update: the first half of them is left out.
    """
    began, period, sources, neurons = time.perf_counter(), 20e-3, 20, 20
    random = torch.Generator().manual_seed(0)

    def kernel(view: View) -> None:
        view.record("causal", np.asarray(view.causal))
        view.record("anticausal", np.asarray(view.anticausal))
        MultiplicativeSTDP(6.0, 6.0)(view)

    rule = Plasticity(kernel, w_max=0.6, period=period, sensor=Correlation(TAU, 1 / 128))
    neuron = LIF(6e-3, 6e-3, refractory=2e-3)
    net = Network(
        {"input": Population(sources), "cells": Population(neurons, neuron)},
        [Projection("input", "cells", torch.full((sources, neurons), 0.2), plasticity=rule)],
    )
    duration = updates * period
    count = int(sources * 60 * duration)
    drive = Events.from_lists([torch.rand(count, generator=random, dtype=torch.float64) * duration],
                              [torch.randint(0, sources, (count,), generator=random)], sources)  # fmt: skip
    name = "input_to_cells"
    record = run(net, drive, duration, substrate=OnChip(chip), observe=Observe(history={name}), number=1)
    late = record.history[name].value[updates // 2 :, 0].numpy().mean(0) / 0.6  # (S, T)
    causal, anticausal = (record.recorded[name][each].value.numpy()[updates // 2 :, 0].mean(0)
                          for each in ("causal", "anticausal"))  # fmt: skip
    seen = causal + anticausal > 0
    own = causal[seen] / (causal + anticausal)[seen]
    pooled = causal.mean() / (causal + anticausal).mean()
    return (
        f"| {chip!r} | {own.mean():.3f} ± {own.std():.3f} | {late[seen].mean():.3f} ± {late[seen].std():.3f} | "
        f"{100 * (late[seen].mean() / own.mean() - 1):+.1f} % | {np.corrcoef(own, late[seen])[0, 1]:.3f} | "
        f"{seen.mean():.1%} | {pooled:.3f} | {time.perf_counter() - began:.0f} |"
    )


def pong(chip: Twin, positions: int = 100, epochs: int = 300) -> str:
    """Learning Pong by reward-modulated correlations: mean expected reward, of the largest, epoch by epoch."""
    began, used = time.perf_counter(), time.process_time()
    game = Pong(positions, noise=(15 / 64, 2 / 64), cooled=300, winners=True)
    learning = learn(game, epochs, OnChip(replace(chip, step=STEP)))
    shown = " | ".join(f"{learning.reward[at - 10 : at].mean():.3f}" for at in (epochs // 3, 2 * epochs // 3, epochs))
    return (
        f"| {chip!r} | {shown} | {learning.reward[-1]:.3f} | {epochs * positions * game.period / 1000:.3g} | "
        f"{time.perf_counter() - began:.0f} | {time.process_time() - used:.0f} |"
    )


TABLES: dict[str, tuple[Callable[[Twin], str], str]] = {
    "window": (
        show_window,
        "| chip | amplitude/target | spread (log) | time constant/target | spread (log) | seconds |",
    ),
    "homeostasis": (
        homeostasis,
        "| chip | target | first update | first 10 | middle 10 | last 10 | within 1 of it | chip seconds | seconds |",
    ),
    "multiplicative": (
        multiplicative,
        "| chip | predicted ± over synapses | found ± over synapses | off | correlation | seen | pooled | seconds |",
    ),
    "pong": (
        pong,
        "| chip | epochs 91-100 | 191-200 | 291-300 | last | chip seconds | seconds | of a core |",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--chips", nargs="+", type=int, default=[7])
    given = parser.parse_args(arguments)
    for name in given.tables:
        show, head = TABLES[name]
        print(head, "|" + "---|" * (head.count("|") - 1), sep="\n")
        for chip in (Twin(given.chips[0], ideal=EVERYTHING), *map(Twin, given.chips)):
            print(show(chip), flush=True)


if __name__ == "__main__":
    main()
