"""spikeloop on one problem, in a process of its own: what is timed, counted and weighed. Prints a line of JSON.

    python benchmarks/suite/ours.py W2 ideal float32 1

Threads are pinned: to one core, or to as many as there are threads.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import measure
from problem import Problem
from roofline import Layer, Roofline

MEMORY = measure.Memory.with_torch()  # before anything of ours is imported

import native  # noqa: E402
import torch  # noqa: E402
from building import events_of, hidden, network_of, substrate_of  # noqa: E402
from workloads import EVERY, make  # noqa: E402

from spikeloop import EventProp, Events, Experiment, Record, Substrate  # noqa: E402
from spikeloop.data import EventDataset  # noqa: E402
from spikeloop.training import Adam, FirstSpike, MaxOverTime, Settings  # noqa: E402
from spikeloop.training.course import Course  # noqa: E402
from spikeloop.training.place import SpikingPlace  # noqa: E402

LEARNING_RATE = 1e-7  # so that the spikes stay as many as they are; a step costs the same

Step = Callable[[], object]


class Bench:
    """One network with its batches, and the steps that are timed."""

    def __init__(self, problem: Problem, where: Substrate, dtype: torch.dtype) -> None:
        self.problem, self.shape = problem, problem.shape
        self.readout = MaxOverTime() if self.shape.readout else FirstSpike()
        self.network = network_of(problem, dtype)
        self.lab = Experiment(self.network, self.shape.duration, where, EventProp(), self.readout.observe)
        self.optimizer = Adam(beta2=0.95)(list(self.network.parameters()), LEARNING_RATE)

    def batches(self, size: int, most: int = 1000) -> Iterator[tuple[Events, torch.Tensor]]:
        """Batches of `size` samples, over and over."""
        some = self.problem.batches(size, most)
        return cycle([(events_of(b, self.shape.sizes[0]), torch.from_numpy(b.label)) for b in some])

    def forward(self, batches: Iterator[tuple[Events, torch.Tensor]]) -> Record:
        """The answer alone."""
        with torch.no_grad():
            return self.lab(next(batches)[0])

    def gradient(self, batches: Iterator[tuple[Events, torch.Tensor]]) -> None:
        """Forward and backward."""
        drive, label = next(batches)
        loss = self.readout.loss(self.lab(drive), label)
        self.optimizer.zero_grad()
        loss.backward()

    def train(self, batches: Iterator[tuple[Events, torch.Tensor]]) -> None:
        """Forward, backward and Adam."""
        self.gradient(batches)
        self.optimizer.step()

    def course(self) -> Course:
        """What `fit` does with it, on all the data."""
        shape, lab = self.shape, self.lab
        data = EventDataset(*next(self.batches(len(self.problem.events.label), 1)))
        settings = Settings(batch_size=shape.batch, learning_rate=LEARNING_RATE, optimizer=Adam(beta2=0.95))
        place = SpikingPlace(shape.duration, self.readout, lab.substrate, lab.rule)
        return Course(self.network, data, settings, 1, place)

    def epoch(self, course: Course) -> None:
        """One of `fit`."""
        for piece in course.pieces():
            course.step(*piece)
        course.close_epoch(None)

    def layers(self, record: Record) -> Iterator[Layer]:
        """What arrives at each population, for the roofline: its sources' spikes and weights."""
        for target, population in self.network.populations.items():
            incoming = [p for p in self.network.projections.values() if p.target == target]
            if incoming:
                sources = [(record.spikes[p.source], p.weight.detach()) for p in incoming]
                yield Layer([(e.time.detach(), e.unit, e.start, w) for e, w in sources], population.size)


def counts(bench: Bench, record: Record) -> dict[str, Any]:
    """Events, spikes and what they reached, per sample; a digest of spikes and gradients."""
    batch = len(next(iter(record.spikes.values())))
    number = {name: events.time.shape[0] / batch for name, events in record.spikes.items()}
    sizes = {name: p.size for name, p in bench.network.populations.items()}
    reached = sum(number[p.source] * sizes[p.target] for p in bench.network.projections.values())
    return {
        "batch": bench.shape.batch,
        "events": number["input"],
        "spikes": [number[name] for name in hidden(bench.shape)],
        "output_spikes": number.get("output", 0.0),
        "synaptic_events": reached,
    }


def digest(bench: Bench, record: Record) -> str:
    """Of spikes and gradients: must not depend on the number of threads."""
    sha = hashlib.sha256()
    for events in record.spikes.values():
        sha.update(events.time.detach().numpy().tobytes())
    for parameter in bench.network.parameters():
        if parameter.grad is not None:
            sha.update(parameter.grad.numpy().tobytes())
    return sha.hexdigest()[:16]


def _memory(name: str, substrate: str, dtype: str) -> dict[str, int]:
    """Bytes that training steps on one and the same batch need."""
    problem = Problem.load(make(name, substrate), batches=1)
    bench = Bench(problem, substrate_of(substrate, EVERY[name]), getattr(torch, dtype))
    batches = bench.batches(bench.shape.batch)
    return MEMORY.of(lambda: bench.train(batches))


def measured(name: str, substrate: str, dtype: str, threads: int) -> dict[str, Any]:
    """Everything about one workload at one setting."""
    measure.pin(threads)
    MEMORY.package_imported()
    memory = _memory(name, substrate, dtype)
    problem, where = Problem.load(make(name, substrate)), substrate_of(substrate, EVERY[name])
    shape, numbers = problem.shape, getattr(torch, dtype)
    found: dict[str, Any] = {"memory": memory}
    bench = Bench(problem, where, numbers)
    bench.gradient(bench.batches(shape.batch, 1))
    record = bench.forward(bench.batches(shape.many, 1))
    found |= counts(bench, record) | {"digest": digest(bench, record)}
    small, large, course = bench.batches(shape.batch), bench.batches(shape.many), bench.course()
    steps: dict[str, tuple[Step, int]] = {
        "inference": (lambda: bench.forward(large), shape.many),
        "forward": (lambda: bench.forward(small), shape.batch),
        "gradient": (lambda: bench.gradient(small), shape.batch),
        "train": (lambda: bench.train(small), shape.batch),
        "fit": (lambda: bench.epoch(course), len(course.batches.dataset)),
        "train many": (lambda: bench.train(large), shape.many),
    }
    found["rates"] = {phase: measure.rate(step, size) for phase, (step, size) in steps.items()}
    found["overhead"] = {phase: native.overhead(step) for phase, (step, _) in steps.items()}
    found["overhead"]["fit"] /= len(course.batches)
    found["roofline"] = Roofline(dtype, threads).of(bench.layers(record), len(record.spikes["input"]))
    return found


if __name__ == "__main__":
    name, substrate, dtype, threads = sys.argv[1:]
    print(json.dumps(measured(name, substrate, dtype, int(threads))))
