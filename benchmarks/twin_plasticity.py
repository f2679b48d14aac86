"""Plasticity on twins: homeostasis of 512 neurons, where weights settle, and Pong; windows: twin_window.py.

    python benchmarks/twin_plasticity.py homeostasis multiplicative pong --chips 0 1 2 3 4

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

from spikeloop import LIF, Events, Network, Observe, OnChip, Population, Projection, run
from spikeloop.apps.pong import Pong, learn
from spikeloop.chip.twin import EVERYTHING, Twin
from spikeloop.plasticity import Correlation, Plasticity, View
from spikeloop.plasticity.rules import Homeostasis, MultiplicativeSTDP

Float = NDArray[np.float64]
TAU = 5e-3
STEP = 32
"""Cycles of 8 ns of the engine's steps in Pong; the twin's default is 1."""


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
    game = Pong(positions, noise=(20 / 64, 2 / 64), cooled=300, target=2.0, winners=True, ambition=0.1)
    learning = learn(game, epochs, OnChip(replace(chip, step=STEP)))
    shown = " | ".join(f"{learning.reward[at - 10 : at].mean():.3f}" for at in (epochs // 3, 2 * epochs // 3, epochs))
    return (
        f"| {chip!r} | {shown} | {learning.reward[-1]:.3f} | {epochs * positions * game.period / 1000:.3g} | "
        f"{time.perf_counter() - began:.0f} | {time.process_time() - used:.0f} |"
    )


TABLES: dict[str, tuple[Callable[[Twin], str], str]] = {
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
