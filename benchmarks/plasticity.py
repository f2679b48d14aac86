"""What is published of plasticity, in full size on Ideal, with numbers.

    python benchmarks/plasticity.py [--positions 100] [--epochs 300] [--pictures]

Runs the examples stdp_window, stdp_fixed_point (its docstring derives the theory) and homeostasis in full, learns Pong
(`spikeloop.apps.pong`), and times sensors and rules. Written to results/plasticity.md; --pictures also writes
docs/images/plasticity_*.png.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import commit, machine

from spikeloop import LIF, Events, Network, Population, Projection, plot, run
from spikeloop.apps.pong import Pong, learn
from spikeloop.plasticity import AdditiveSTDP, Plasticity

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "results" / "plasticity.md"
IMAGES = ROOT / "docs" / "images"


def main(arguments: Sequence[str]) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--pictures", action="store_true")
    given = parser.parse_args(arguments)
    rows = [*window(given.pictures), *fixed_point(given.pictures), *homeostasis(given.pictures)]
    rows += [
        pong(given.positions, given.epochs, given.pictures),
        *(speed(*sizes) for sizes in ((100, 100), (256, 512))),
    ]
    lines = ["# Plasticity on Ideal", "", f"{machine()}, commit {commit()}.", "", "| what | found | expected | took |",
             "|---|---|---|---|", *rows, ""]  # fmt: skip
    TABLE.write_text("\n".join(lines))
    print("\n".join(lines))


def example(name: str, pictures: bool) -> tuple[dict[str, Any], float]:
    """The names of an example, run in full, and how long it took."""
    os.environ["MPLBACKEND"] = "Agg"
    here, began = Path.cwd(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            names = runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        finally:
            os.chdir(here)
        took = time.perf_counter() - began
        if pictures:
            shutil.copy(Path(folder) / f"{name}.png", IMAGES / f"plasticity_{name}.png")
    return names, took


def window(pictures: bool) -> list[str]:
    """Amplitudes and time constants of the window, from pairs."""
    names, took = example("stdp_window", pictures)
    found, sensor = names["found"], names["sensor"]
    sides = ("causal", "anticausal")
    return [
        row(f"STDP window, {side}", f"{found.taus[k] * 1e3:.3f} ms, {found.amplitudes[k]:.3e}",
            f"{sensor.taus[k] * 1e3:.3f} ms, {sensor.amplitudes[k]:.3e}", took)
        for k, side in enumerate(sides)
    ]  # fmt: skip


def fixed_point(pictures: bool) -> list[str]:
    """The mean of the weights that multiplicative STDP leaves."""
    names, took = example("stdp_fixed_point", pictures)
    return [row("multiplicative STDP, mean weight", f"{names['late'].mean():.4f}", f"{names['theory']:.4f}", took)]


def homeostasis(pictures: bool) -> list[str]:
    """Rates of 512 unlike neurons, before and after."""
    names, took = example("homeostasis", pictures)
    early, late, goal = names["early"], names["late"], names["target"] / names["period"]
    mean = f"{late.mean():.2f} / s (at first {early.mean():.2f})"
    spread = f"{late.std() / late.mean():.1%} (at first {early.std() / early.mean():.0%})"
    return [
        row("homeostasis of 512 neurons, rate", mean, f"{goal:g} / s", took),
        row("spread of rates over neurons", spread, "small", took),
    ]


def pong(positions: int, epochs: int, pictures: bool) -> str:
    """Mean expected reward at the end, as a share of the largest."""
    began = time.perf_counter()
    game = Pong(positions)
    learning = learn(game, epochs)
    took = time.perf_counter() - began
    if pictures:
        figure, (left, right) = plot.canvas(1, 2, (9.0, 3.6))
        plot.over_updates(learning.reward[:, None], "Mean expected reward / largest", 0.75, ax=left).set_xlabel("Epoch")
        plot.weight_matrix(learning.weight, ax=right)
        plot.save(figure, IMAGES / "plasticity_pong.png")
    model = epochs * positions * game.period
    return row(
        f"Pong, {positions} positions, {epochs} epochs, mean expected reward ({model / 1000:.1f} s of a chip's time)",
        f"{learning.reward[-10:].mean():.3f}", ">= 0.75", took,
    )  # fmt: skip


def speed(sources: int, targets: int) -> str:
    """Synaptic pairs and calls per second of additive STDP."""
    rng = np.random.default_rng(0)
    drive = Events.from_trains([[np.sort(rng.uniform(0, 1, 20)) for _ in range(sources)]])
    rule = Plasticity(AdditiveSTDP(), w_max=1.0, period=10e-3)
    weight = torch.full((sources, targets), 10 / sources)
    net = Network(
        {"input": Population(sources), "output": Population(targets, LIF(10e-3, 5e-3, refractory=2e-3))},
        [Projection("input", "output", weight, plasticity=rule)],
    )
    run(net, drive, 1.0)
    taken, record = [], None
    for _ in range(5):
        began = time.perf_counter()
        record = run(net, drive, 1.0)
        taken.append(time.perf_counter() - began)
    assert record is not None
    met = len(drive.time) * targets + len(record.spikes["output"].time) * sources
    took = float(np.median(taken))
    return row(
        f"{sources} x {targets} synapses, 1 s, 100 calls", f"{met / 1e6:.1f} M meetings of event and synapse", "", took
    )


def row(what: str, found: str, expected: str, took: float) -> str:
    """A line of the table."""
    return f"| {what} | {found} | {expected} | {took:.1f} s |"


if __name__ == "__main__":
    main(sys.argv[1:])
