"""The published hardware-aware noise model, rebuilt: Yin-Yang with 4-30-3 neurons, from ideal to hardware-aware.

    python benchmarks/hardware_aware.py                  # all variants and seeds: hours; or name some variants
    python benchmarks/hardware_aware.py --table          # only write the table anew

Göltz, Weber, Kriener et al., "DelGrad", Nature Communications 2025, and what their repository JulianGoeltz/fastAndDeep
(commit 33e4876) says in experiment_pretrained/yin_yang_H30_W and yin_yang_hwAware_W: the networks that have trained
weights and no delays. hardware_aware_trained.py runs those networks themselves. Lines go to
results/hardware_aware.jsonl, the table to results/hardware_aware.md; what stands there is not done again.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from accuracy import commit, machine
from hardware_aware_table import table
from torch import Tensor

from spikeloop import LIF, EventProp, Events, Ideal, Network, Observe, OnChip, Population, Projection, Record, Twin, run
from spikeloop.chip.calibration import nominal
from spikeloop.chip.lower_neurons import target_of
from spikeloop.chip.mapping import place
from spikeloop.chip.mismatch import Mismatch, Noise, Spread
from spikeloop.chip.twin import EVERYTHING, Imperfection
from spikeloop.data import YinYang, loader
from spikeloop.data.dataset import EventDataset
from spikeloop.loss import first_spike_class
from spikeloop.protocols import Substrate, Trial

RESULTS = Path(__file__).parent / "results"
LINES, TABLE = RESULTS / "hardware_aware.jsonl", RESULTS / "hardware_aware.md"

TAU = 6e-3  # seconds: tau_syn, 6 us on the chip; the published numbers count times in it
DURATION, HOLD = 8 * TAU, 5.3 * TAU  # as good as for ever: every neuron spikes at most once
EPOCHS, SEEN = 300, 20  # the last epochs that are validated; the published figures are means over as many
MOST, STEP = 2.1, 1 / 30  # of a weight: what 63 codes are
FIXED, OFFSET, WANDER = 0.08, 0.13, 0.04  # of thresholds, in units of the potential
LIFT, FLOOR = 5e-4, 0.005  # of weights where neurons are silent; of slopes over thresholds


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network, how it is trained, and what is not ideal.

    ratio: tau_mem / tau_syn.  copies: of each of the four inputs.  missing: the share of silent neurons, hidden and
    output, at which weights are raised instead of learned.  coded: weights are clipped and rounded.  fixed: each
    neuron's threshold is another.  wander: and another in every run.  chip: on the twin, with these imperfections only
    ("thresholds"), or with all ("everything").
    """

    ratio: float = 1.0
    threshold: float = 2.6
    copies: int = 5
    mean: tuple[float, float] = (1.0, 0.075)
    std: tuple[float, float] = (0.12, 0.15)
    learning_rate: float = 2e-3
    batch_size: int = 40
    apart: float = 0.3
    missing: tuple[float, float] = (0.05, 0.05)
    coded: bool = True
    fixed: bool = False
    wander: bool = False
    chip: str = ""


_HARDWARE = Variant(fixed=True, wander=True)
VARIANTS = {
    "ideal, as published": Variant(2.0, 1.0, 1, (0.5, 0.5), (1.0, 1.0), 2e-2, 150, 0.2, (0.3, 0.0), coded=False),
    "the chip's network, nothing else": Variant(coded=False),
    "weights clipped and rounded": Variant(),
    "and fixed thresholds": Variant(fixed=True),
    "hardware-aware, as published": _HARDWARE,
    "the twin, thresholds only": dataclasses.replace(_HARDWARE, chip="thresholds"),
    "the twin": dataclasses.replace(_HARDWARE, chip="everything"),
}


def main(arguments: Sequence[str]) -> None:
    """Train what is not there yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help="all, if none is named")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(3))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    todo = [(name, seed) for seed in given.seeds for name in given.variants or VARIANTS]
    for name, seed in [] if given.table else todo:
        if (name, seed) not in {(line["variant"], line.get("seed")) for line in finished()}:
            line = {"variant": name, "seed": seed, **train(VARIANTS[name], seed, given.epochs)}
            with LINES.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}, seed {seed}: {line['validation']:.2%}, {line['seconds']:.0f} s", flush=True)
    TABLE.write_text(table(finished(), VARIANTS))


def finished() -> list[dict[str, Any]]:
    """All trainings done so far."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


# ---- networks and where they run -----------------------------------------------------------------------------------


def network_of(variant: Variant, seed: int) -> Network:
    """4-30-3, each input in copies that have weights of their own. The published weights count charge, ours volts."""
    torch.manual_seed(seed)
    sizes = (4 * variant.copies, 30, 3)
    neuron = LIF(variant.ratio * TAU, TAU, threshold=variant.threshold, refractory=HOLD)
    names = ("input", "hidden", "output")
    drawn = [
        variant.ratio * (mean + std * torch.randn(*shape))
        for mean, std, shape in zip(variant.mean, variant.std, (sizes[:2], sizes[1:]), strict=True)
    ]
    populations = dict(zip(names, (Population(sizes[0]), *(Population(n, neuron) for n in sizes[1:])), strict=True))
    return Network(populations, [Projection(*ends, w) for ends, w in zip((names[:2], names[1:]), drawn, strict=True)])


def substrate_of(variant: Variant, network: Network, seed: int) -> Substrate:
    """Where the variant's network runs."""
    if not variant.chip:
        return HardwareAware(variant, network, seed)
    twin = Twin(seed)
    if variant.chip == "everything":
        return OnChip(twin)
    of = variant.threshold
    mismatch = Mismatch(threshold=Spread(0, 0), threshold_distance=Spread(FIXED / of, 0), threshold_bias=OFFSET / of)
    kept = {Imperfection.THRESHOLD, Imperfection.THRESHOLD_RUN}
    twin = Twin(seed, mismatch, Noise(threshold_run=WANDER / of), EVERYTHING - kept)
    return OnChip(twin, calibration=nominal(twin, target_of(network, place(network), 1000.0)))


class HardwareAware:
    """The published model: a network on `Ideal` with rounded weights and thresholds that are not what they shall be."""

    def __init__(self, variant: Variant, network: Network, seed: int) -> None:
        self.variant, self.executed = variant, copy.deepcopy(network)
        self.draw = torch.Generator().manual_seed(seed)
        self.fixed = {name: self._drawn(network, name, FIXED) for name in ("hidden", "output")}

    def offers(self, network: Network) -> Observe:
        """Spikes."""
        return Observe()

    def run(self, trial: Trial) -> Record:
        """On weights in codes, with thresholds drawn for this run."""
        v = self.variant
        for name, projection in self.executed.projections.items():
            given = trial.network.projections[name].weight.detach()
            projection.weight.data = (given / STEP).round() * STEP if v.coded else given
        for name, fixed in self.fixed.items():
            extra = OFFSET + fixed if v.fixed else torch.zeros_like(fixed)
            wander = self._drawn(trial.network, name, WANDER) if v.wander else 0.0
            self.executed.populations[name].threshold = v.threshold + extra + wander
        record = Ideal().run(dataclasses.replace(trial, network=self.executed))
        executed = {name: projection.weight.detach() for name, projection in self.executed.projections.items()}
        return dataclasses.replace(record, executed=executed)

    def _drawn(self, network: Network, name: str, strength: float) -> Tensor:
        size = network.populations[name].size
        return strength * torch.randn(size, generator=self.draw, dtype=torch.float64)


# ---- training ------------------------------------------------------------------------------------------------------


def train(variant: Variant, seed: int, epochs: int) -> dict[str, object]:
    """One training: what a line of the results says."""
    began, network = time.perf_counter(), network_of(variant, seed)
    course = Course(variant, network, substrate_of(variant, network, seed))
    optimiser = torch.optim.Adam(network.parameters(), variant.ratio * variant.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 20, 0.95)
    splits = {name: points(name, variant.copies) for name in ("train", "validation", "test")}
    batches, validated = loader(splits["train"], variant.batch_size, shuffle=True, seed=seed), list[float]()
    for epoch in range(epochs):
        for drive, label in batches:
            course.step(drive, label, optimiser)
        schedule.step()
        if epoch >= epochs - SEEN:
            validated.append(course.accuracy(splits["validation"]))
    return {
        "validation": statistics.mean(validated),
        "spread": statistics.pstdev(validated),
        "test": course.accuracy(splits["test"]),
        "raised": course.raised,
        "floored": course.rule.tally.fraction,
        "epochs": epochs,
        "seconds": time.perf_counter() - began,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
    }


def points(split: Literal["train", "validation", "test"], copies: int) -> EventDataset:
    """Yin-Yang between 0.15 and 2 tau, without the bias, every input ``copies`` times."""
    made = YinYang(split, early=0.15 * TAU, late=2 * TAU)
    first = made.events.first()[:, :4].repeat_interleave(copies, 1)
    events = Events.from_padded(first, torch.arange(4 * copies).expand_as(first), 4 * copies)
    return EventDataset(events, made.labels, DURATION)


class Course:
    """A training under way, by the published rules: learn, or where too many neurons are silent raise their weights."""

    def __init__(self, variant: Variant, network: Network, substrate: Substrate) -> None:
        self.variant, self.network, self.substrate = variant, network, substrate
        self.rule = EventProp(slope_floor=FLOOR * variant.threshold)
        self.raised, self.lift, self.last = 0, LIFT, ""

    def step(self, drive: Events, label: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """One batch."""
        record = run(self.network, drive, DURATION, substrate=self.substrate, rule=self.rule)
        silent = self._silent(record)
        if silent:
            self._raise(silent, record)
        else:
            optimiser.zero_grad()
            self._loss(record.spikes["output"].first(), label).backward()
            optimiser.step()
        self.last = silent
        if self.variant.coded:
            for weight in self.network.parameters():
                weight.data.clamp_(-MOST, MOST)

    def _silent(self, record: Record) -> str:
        """The first population in which too many are silent."""
        for name, most in zip(("hidden", "output"), self.variant.missing, strict=True):
            if float((record.count[name] == 0).double().mean()) > most:
                return name
        return ""

    def _raise(self, name: str, record: Record) -> None:
        """All weights of the neurons that are silent in any sample, by twice as much as the last time in a row."""
        self.lift = 2 * self.lift if name == self.last else LIFT
        self.raised += 1
        at = (record.count[name] == 0).any(0)
        source = "input" if name == "hidden" else "hidden"
        self.network.projection(source, name).weight.data[:, at] += self.variant.ratio * self.lift

    def _loss(self, first: Tensor, label: Tensor) -> Tensor:
        """``sum_n (t_n - t_label - apart [n is not the label])^2 / 2`` in TAU, of samples whose outputs all spike."""
        spiking = first.isfinite().all(1)
        time, label = first[spiking] / TAU, label[spiking]
        wanted = self.variant.apart * (1 - torch.eye(3, dtype=time.dtype)[label])
        return ((time - time.gather(1, label[:, None]) - wanted) ** 2).sum() / (2 * len(first))

    def accuracy(self, data: EventDataset) -> float:
        """The share of first spikes in the right output."""
        with torch.no_grad():
            right = [
                first_spike_class(run(self.network, drive, DURATION, substrate=self.substrate).spikes["output"])
                == label
                for drive, label in loader(data, 200)
            ]
        return float(torch.cat(right).double().mean())


if __name__ == "__main__":
    main(sys.argv[1:])
