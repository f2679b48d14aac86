"""Plasticity on twins: windows of their correlation sensors, homeostasis of 512 neurons, where weights settle, Pong.

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
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.chip.tasks import sensors_of
from spikeloop.chip.twin import EVERYTHING, Twin
from spikeloop.plasticity import Correlation, Plasticity, View
from spikeloop.plasticity.rules import Homeostasis, MultiplicativeSTDP

Float = NDArray[np.float64]
STEP = 32
"""Cycles of 8 ns of the engine's steps; the twin's default is 1."""
TICK = 8e-6
"""Model seconds of a cycle."""
LINES = 8
"""Lines that fire a neuron together: no single event can."""
TAU, AMPLITUDE = 5e-3, 1 / 256
LEAST, MOST = 3.0, 120.0
"""Steps of a reading between which it is used for a fit; the noise is half a step, and 127 is the largest."""


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
            [_fit(np.abs(fired[:, n] + distance), reading[:, n], distance, kind, count) for n in range(neurons)]
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


def _fit(distance: Float, reading: Float, given: Float, kind: int, count: int) -> tuple[float, float]:
    """Amplitude and time constant from samples on the sensor's side that it can tell: neither saturated nor hardly more
    than its noise, which is the same for all readings; NaN where fewer than four are left, or they do not fall."""
    side = (given > 0) if kind == correlation.CAUSAL else (given < 0)
    side &= (reading > LEAST / correlation.FULL) & (reading < MOST / correlation.FULL)
    if side.sum() < 4:
        return np.nan, np.nan
    slope, height = np.polyfit(distance[side], np.log(reading[side]), 1, w=reading[side])
    return (float(np.exp(height)) / count, float(-1 / slope)) if slope < 0 else (np.nan, np.nan)


def written(chip: Twin, neurons: int) -> tuple[Float, Float]:
    """(2, neurons) each: amplitudes and time constants that the synapses of `window` have by the fixed pattern."""
    net = window_network(neurons, 1.0)
    setup = setup_of(net, Wish(chip, 1000.0, 1, None, False, True))
    pattern, sensors = chip.pattern(), sensors_of(net, 1000.0)
    assert sensors is not None
    place = setup.placement.synapse["test_to_cells"][0, 0]
    steps, tau = correlation.windows(sensors, pattern.seed, pattern.strengths)
    return steps[:, place] / correlation.FULL, tau[:, place] * 1000.0


def show_window(chip: Twin, neurons: int = 256) -> str:
    """A row of the table."""
    began, chip = time.perf_counter(), replace(chip, step=STEP)
    found, true = window(chip, neurons), written(chip, neurons)
    good = np.isfinite(found[0]) & (found[1] > 0)
    parts = [f"{good.mean():.0%}"]
    for value, given, nominal in zip(found, true, (AMPLITUDE, TAU), strict=True):
        ratio, off = np.log(value[good] / nominal), np.log(value[good] / given[good])
        parts.append(f"{np.exp(np.median(ratio)):.3f} | {ratio.std():.2f} | {np.log(given / nominal).std():.2f}")
        parts.append(f"{np.exp(np.median(off)):.3f} | {off.std():.3f}")
    return f"| {chip!r} | {' | '.join(parts)} | {time.perf_counter() - began:.0f} |"


def homeostasis(chip: Twin, neurons: int = 512, updates: int = 100, target: int = 6) -> str:
    """512 neurons, each with the same 32 lines, come to one rate."""
    began, period = time.perf_counter(), 160 * STEP * TICK  # 41 ms: the processor needs 29 us of chip time for 32 rows
    chip = replace(chip, step=STEP)
    random = torch.Generator().manual_seed(0)
    rule = Plasticity(Homeostasis(target), w_max=0.9, period=period, sensor=None)
    neuron = LIF(6e-3, 6e-3, refractory=1e-3)
    net = Network(
        {"input": Population(32), "cells": Population(neurons, neuron)},
        [Projection("input", "cells", torch.rand(32, neurons, generator=random) * 0.25, plasticity=rule)],
    )
    count, duration = int(32 * 200 * updates * period), updates * period
    drive = Events.from_lists([torch.rand(count, generator=random, dtype=torch.float64) * duration],
                              [torch.randint(0, 32, (count,), generator=random)], 32)  # fmt: skip
    record = run(net, drive, duration, substrate=OnChip(chip), number=1)
    spikes = record.spikes["cells"]
    rate = [
        torch.bincount(spikes.unit[(spikes.time >= low) & (spikes.time < low + over * period)], minlength=neurons)
        / over
        for low, over in ((0.0, 1), (duration / 2, 10), (duration - 10 * period, 10))
    ]
    shown = " | ".join(f"{each.mean():.2f} ± {each.std():.2f}" for each in rate)
    return f"| {chip!r} | {target} | {shown} | {record.cost.chip_time:.2g} | {time.perf_counter() - began:.0f} |"


def multiplicative(chip: Twin, updates: int = 300, rate: float = 6.0) -> str:
    """Uncorrelated lines: weights settle where causal and anticausal changes cancel, each synapse's by its own sensors.

    They come to rest within 1 / (rate (causal + anticausal)) calls, about 16; the first quarter is left out.
    """
    began, period, sources, neurons = time.perf_counter(), 80 * STEP * TICK, 20, 20
    random, chip = torch.Generator().manual_seed(0), replace(chip, step=STEP)

    def kernel(view: View) -> None:
        read(view)
        MultiplicativeSTDP(rate, rate)(view)

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
    name, late = "input_to_cells", slice(updates // 4, None)
    record = run(net, drive, duration, substrate=OnChip(chip), observe=Observe(history={name}), number=1)
    weight = record.history[name].value[late, 0].numpy().mean(0) / 0.6
    causal, anticausal = (record.recorded[name][each].value[late, 0].numpy().mean(0) for each in
                          ("causal", "anticausal"))  # fmt: skip
    there = causal + anticausal > 0  # of a neuron that is silent nothing is sensed
    predicted = causal[there] / (causal + anticausal)[there]
    together = causal.sum() / (causal + anticausal).sum()
    off = weight[there] - predicted
    return (
        f"| {chip!r} | {predicted.mean():.3f} | {weight[there].mean():.3f} | "
        f"{100 * (weight[there].mean() / predicted.mean() - 1):+.1f} % | {predicted.std():.3f} | {off.std():.3f} | "
        f"{together:.3f} | {time.perf_counter() - began:.0f} |"
    )


def pong(chip: Twin, positions: int = 100, epochs: int = 300) -> str:
    """Learning Pong by reward-modulated correlations: mean expected reward, of the largest, epoch by epoch."""
    began, used = time.perf_counter(), time.process_time()
    game = Pong(positions, noise=(15 / 64, 2 / 64), cooled=300, winners=True)
    learning = learn(game, epochs, OnChip(replace(chip, step=STEP)))
    np.save(f"pong_{chip.seed}{'_ideal' if chip.ideal else ''}.npy", learning.reward)
    shown = " | ".join(f"{learning.reward[at - 10 : at].mean():.3f}" for at in (epochs // 3, 2 * epochs // 3, epochs))
    return (
        f"| {chip!r} | {shown} | {learning.reward[-1]:.3f} | {epochs * positions * game.period / 1000:.3g} | "
        f"{time.perf_counter() - began:.0f} | {time.process_time() - used:.0f} |"
    )


TABLES: dict[str, tuple[Callable[[Twin], str], str]] = {
    "window": (
        show_window,
        "| chip | fitted | amplitude: found/target | spread (log) | pattern's spread | found/pattern | spread (log) "
        "| time constant: found/target | spread (log) | pattern's spread | found/pattern | spread (log) | seconds |",
    ),
    "homeostasis": (
        homeostasis,
        "| chip | target | before the first | middle 10 | last 10 updates | chip seconds | seconds |",
    ),
    "multiplicative": (
        multiplicative,
        "| chip | theory, mean over synapses | found | off | theory, spread over synapses | found - theory, spread | "
        "theory of one mean sensor | seconds |",
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
    parser.add_argument("--real", action="store_true", help="leave out the chip without imperfections")
    given = parser.parse_args(arguments)
    for name in given.tables:
        show, head = TABLES[name]
        print(head, "|" + "---|" * (head.count("|") - 1), sep="\n")
        ideal = [] if given.real else [Twin(given.chips[0], ideal=EVERYTHING)]
        for chip in (*ideal, *map(Twin, given.chips)):
            print(show(chip), flush=True)


if __name__ == "__main__":
    main()
