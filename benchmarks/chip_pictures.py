"""Pictures of a chip's twin and of what it does: docs/images/chip_*.png, and the bars of results/twin.jsonl.

python benchmarks/chip_pictures.py --chip 7                # a minute
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from spikeloop import LIF, EventProp, Every, Experiment, Network, Observe, OnChip, Twin, feedforward, plot, run
from spikeloop.chip.calibrate import as_it_is, calibrate
from spikeloop.chip.calibration import MEASURED, default_target
from spikeloop.chip.configuration import WEIGHT_MAX
from spikeloop.chip.mac import HEIGHT
from spikeloop.chip.mac_calibrate import calibrate_columns, curves
from spikeloop.chip.mismatch import Quantity
from spikeloop.chip.schedule import Matrix, partition
from spikeloop.data import YinYang, loader
from spikeloop.loss import first_spike_cross_entropy

ROOT = Path(__file__).parent
IMAGES, LINES = ROOT.parent / "docs" / "images", ROOT / "results" / "twin.jsonl"
ROWS, TASKS = 5, {"yin-yang": "Yin-Yang", "mnist": "MNIST 16x16", "fashion-mnist": "Fashion-MNIST 16x16"}
LABELS = (
    ("leak (CADC steps)", 1.0), ("reset (CADC steps)", 1.0), ("threshold (CADC steps)", 1.0), ("tau_mem (us)", 1e6),
    ("tau_syn (us)", 1e6), ("PSP of a code, exc. (steps)", 1.0), ("PSP of a code, inh. (steps)", 1.0),
    ("refractory (us)", 1e6),
)  # fmt: skip
"""Of the rows of `MEASURED`: what they are called here, and how many of that unit are one of theirs."""


def pattern(twin: Twin, path: Path) -> None:
    """Fixed patterns of the circuits, before any calibration."""
    made = twin.pattern()
    strengths = made.strengths
    maps = {
        "leak (CADC steps)": strengths.leak.uncalibrated * made.normal(Quantity.LEAK),
        "threshold (CADC steps)": strengths.threshold.uncalibrated * made.normal(Quantity.THRESHOLD),
        "tau_mem (factor)": np.exp(strengths.tau_mem.uncalibrated * made.normal(Quantity.TAU_MEM)),
        "gain of excitation (factor)": np.exp(strengths.gain.uncalibrated * made.normal(Quantity.GAIN_EXCITATORY)),
    }
    figure, axes = plot.canvas(len(maps), size=(6.4, 6.0), sharex=True)
    for (name, values), ax in zip(maps.items(), axes, strict=True):
        plot.array_map(values, ax=ax, name=name).set_xlabel("Column" if ax is axes[-1] else "")
    plot.save(figure, path)


def calibration(twin: Twin, path: Path) -> None:
    """What a calibration makes of the neurons."""
    target = default_target()
    before, after = as_it_is(twin, target), calibrate(twin, target)
    figure, axes = plot.canvas(2, 4, size=(10.4, 5.0))
    for row, (field, (name, unit), ax) in enumerate(zip(MEASURED, LABELS, axes.flat, strict=True)):
        sides = (unit * each.measured[row] for each in (before, after))
        plot.before_after(*sides, ax=ax, name=name, target=unit * float(getattr(target, field)[0]))
    plot.save(figure, path)


def columns(twin: Twin, path: Path) -> None:
    """Results of the array as a multiplier over products, column by column, before and after their calibration."""
    codes = (("nominal codes", None), ("calibrated", calibrate_columns(twin).columns))
    steps = np.arange(-60, 61, 2)
    figure, axes = plot.canvas(1, 2, size=(9.6, 4.0), sharey=True)
    for (name, given), ax in zip(codes, axes, strict=True):
        plot.transfer_curves(HEIGHT * 15 * steps, curves(twin, steps.tolist(), given), ax=ax, name=name)
    axes[1].set_ylabel("")
    plot.save(figure, path)


def trained(twin: Twin, hidden: int) -> tuple[Network, OnChip]:
    """A network after a short training in the loop, and where that was."""
    torch.manual_seed(0)
    net, place = feedforward([5, hidden, 3], LIF(tau_mem=10e-3, tau_syn=5e-3)), OnChip(twin, rows_per_input=ROWS)
    lab = Experiment(net, duration=60e-3, substrate=place, rule=EventProp())
    opt = torch.optim.Adam(net.parameters(), 5e-3)
    for drive, label in loader(YinYang("train", size=3000), 50, shuffle=True):
        opt.zero_grad()
        first_spike_cross_entropy(lab(drive).spikes["output"], label).backward()
        opt.step()
    return net, place


def weights(twin: Twin, path: Path) -> None:
    """Codes of the weights after a short training in the loop, by projection."""
    net, place = trained(twin, 120)
    figure, axes = plot.canvas(2, size=(6.4, 5.0))
    for (name, codes), ax in zip(place.weight_codes(net).items(), axes, strict=True):
        rows = ROWS if net.projections[name].source == "input" else 1
        plot.weight_codes(codes, ax=ax, most=rows * WEIGHT_MAX).set_ylabel(f"Synapses, {name.replace('_', ' ')}")
    axes[0].set_xlabel("")
    plot.save(figure, path)


def activity(twin: Twin, path: Path) -> None:
    """Spikes and the samples of the column ADC after a short training in the loop."""
    net, place = trained(twin, 60)
    drive = YinYang("test").events[:1]
    with torch.no_grad():
        busy = run(net, drive, 60e-3, substrate=place, number=0).spikes["hidden"].count[0].argsort(descending=True)[:3]
        observe = Observe({"hidden": Every(place.period, neurons=busy.tolist())})
        record = run(net, drive, 60e-3, substrate=place, number=0, observe=observe)
    figure, (top, bottom) = plot.canvas(2, size=(6.4, 5.0), sharex=True, height_ratios=[1, 1.6])
    plot.raster(record.spikes["hidden"], ax=top).set(xlabel="", ylabel="hidden")
    plot.membrane(record, "hidden", ax=bottom)
    plot.save(figure, path)


def bars(path: Path) -> None:
    """Software, transferred, in the loop, by task, from what benchmarks/twin.py has written."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    results: dict[str, dict[str, list[float]]] = {}
    for name, title in TASKS.items():
        soft, loop = (
            [x for x in lines if (x["experiment"], x["way"]) == (name, way)] for way in ("software", "looped")
        )
        if soft and loop:
            kinds = {"software": [x["test"] for x in soft], "transferred": [x["transferred"] for x in soft]}
            results[title] = kinds | {"in the loop": [x["test"] for x in loop]}
    if results:
        figure, ax = plot.canvas(size=(2.0 + 2.2 * len(results), 3.4))
        plot.accuracy_bars(results, ax=ax)
        plot.save(figure, path)


def schedule(path: Path) -> None:
    """The layers of docs/ann.md on one chip, which is too small for all of them."""
    sizes = {"convolution": (100, 20, 25), "hidden": (500, 128, 1), "output": (128, 10, 1)}
    figure, ax = plot.canvas(size=(6.4, 2.2))
    plot.schedule(partition([Matrix(name, *size) for name, size in sizes.items()]), ax=ax)
    plot.save(figure, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=IMAGES)
    given = parser.parse_args()
    for draw in (pattern, calibration, columns, activity, weights):
        draw(Twin(given.chip), given.folder / f"chip_{draw.__name__}.png")
    bars(given.folder / "chip_bars.png")
    schedule(given.folder / "chip_schedule.png")
