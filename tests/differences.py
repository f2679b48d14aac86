"""Gradients of the engine, of the torch oracle and of central differences, for the same random loss.

The loss is a random linear function of what was observed. Central differences are taken of the observations rather than
of the loss, which keeps their digits. A step in which a number of spikes changes has no derivative: `Redrawn`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from oracle import Oracle
from problems import MS, Problem
from torch import Tensor

from spikeloop import Events, Observe, Record, run
from spikeloop.gradient.eventprop import EventProp

ROUNDING = 1e-16
Stencil = tuple[tuple[int, float], ...]
"""A central difference: (how many steps away, how much that difference counts)."""
SECOND_ORDER: Stencil = ((1, 1.0),)
FOURTH_ORDER: Stencil = ((1, 4 / 3), (2, -1 / 3))
GRAZING = 0.02  # V' in units of threshold / tau_mem
SCALE = {"time": 1 / (10 * MS), "membrane": 1.0, "peak": 1.0}
Key = tuple[str, str]


JUMP = 0.1 * MS  # no spike that keeps its place moves so far within a step


class RedrawnError(Exception):
    """A spike appears, vanishes, grazes, or passes the time of a sample of its own membrane within the step: this draw
    has no derivative to compare. One that vanishes while another appears leaves the count, but times jump."""


@dataclass(frozen=True)
class Loss:
    """Which of (kind, population) it looks at, kind being time, membrane or peak; `times` of the membrane samples."""

    terms: tuple[tuple[str, str], ...]
    times: Tensor

    def observe(self) -> Observe:
        sampled = {name: self.times for kind, name in self.terms if kind == "membrane"}
        return Observe(membrane=sampled, peak={name for kind, name in self.terms if kind == "peak"})

    def observed(self, record: Record) -> Tensor:
        """All that it looks at as one vector, spike times ordered by sample and neuron."""
        parts = []
        for kind, name in self.terms:
            if kind == "time":
                events = record.spikes[name]
                order = torch.argsort(events.sample * events.size + events.unit, stable=True)
                parts.append(events.time[order])
            else:
                parts.append((record.membrane if kind == "membrane" else record.peak)[name].value.flatten())
            parts[-1] = parts[-1] * SCALE[kind]
        return torch.cat(parts)

    def spikes_before(self, record: Record) -> list[Tensor]:
        """How many spikes every neuron whose membrane is sampled has emitted at each of the times."""
        found = []
        for kind, name in self.terms:
            events = record.spikes.get(name)
            if kind == "membrane" and events is not None:
                emitted = (events.time.detach()[:, None] <= self.times).to(torch.int64)
                none = torch.zeros(len(events) * events.size, len(self.times), dtype=torch.int64)
                found.append(none.index_add(0, events.sample * events.size + events.unit, emitted))
        return found

    def of_oracle(self, oracles: list[Oracle]) -> Tensor:
        """The same vector."""
        parts = []
        for kind, name in self.terms:
            for oracle in oracles:
                if kind == "time":
                    parts += [torch.stack(each) * SCALE[kind] for each in oracle.trains(name) if each]
                else:
                    found = oracle.membrane(name, self.times) if kind == "membrane" else oracle.peak(name)
                    parts.append(found.flatten())
        return torch.cat(parts)


class Subject:
    """A problem on the engine with all that can be trained, and a loss."""

    def __init__(self, problem: Problem, loss: Loss, seed: int) -> None:
        self.problem, self.loss = problem, loss
        self.network = problem.network()
        self.drive = {
            name: Events(events.time.clone().requires_grad_(), events.unit, events.start, events.size)
            for name, events in problem.events().items()
        }
        record = self.run()
        self.counts = {name: count.detach() for name, count in record.count.items() if name not in self.drive}
        self.trains = self.ordered(record)
        self.before = loss.spikes_before(record)
        observed = loss.observed(record)
        generator = torch.Generator().manual_seed(seed)
        self.cotangent = torch.randn(observed.shape, generator=generator, dtype=torch.float64)
        self.observed = observed.detach()
        (observed * self.cotangent).sum().backward()
        self.gradients = {
            key: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for key, leaf in self.leaves().items()
        }

    def ordered(self, record: Record) -> list[Tensor]:
        """All spike times, neuron by neuron."""
        trains = [
            record.spikes[name] for name in self.problem.groups if name in record.spikes and name not in self.drive
        ]
        return [e.time.detach()[torch.argsort(e.sample * e.size + e.unit, stable=True)] for e in trains]

    def leaves(self) -> dict[Key, Tensor]:
        """Every parameter and all drive times, by (owner, quantity)."""
        found = {}
        for owner, module in [*self.network.projections.items(), *self.network.populations.items()]:
            for name, parameter in module.named_parameters():
                found[owner, name.removeprefix("log_").removeprefix("raw_")] = parameter
        return found | {(name, "time"): events.time for name, events in self.drive.items()}

    def run(self) -> Record:
        rule = EventProp() if torch.is_grad_enabled() else None
        return run(self.network, self.drive, self.problem.duration, rule=rule, observe=self.loss.observe())

    @torch.no_grad()
    def moved(self, key: Key, change: Tensor) -> Tensor:
        """What is observed with one of the leaves changed."""
        leaf, kept = self.leaves()[key], self.drive
        start = leaf.detach().clone()
        try:
            if key[1] == "time":
                self.drive = kept | {key[0]: shifted(kept[key[0]], change)}
            else:
                leaf += change
            record = self.run()
        finally:
            self.drive = kept
            if key[1] != "time":
                leaf.copy_(start)
        if any(not torch.equal(record.count[name], count) for name, count in self.counts.items()):
            raise RedrawnError
        if any(bool(((a - b).abs() > JUMP).any()) for a, b in zip(self.trains, self.ordered(record), strict=True)):
            raise RedrawnError
        if any(not torch.equal(*pair) for pair in zip(self.before, self.loss.spikes_before(record), strict=True)):
            raise RedrawnError
        return self.loss.observed(record)

    def size(self, key: Key) -> float:
        """The unit of a step: a tau_mem for times of events; parameters are mostly of order 1 (or logarithms)."""
        if key[1] == "time":
            return 10 * MS
        values = self.leaves()[key].detach()
        return max(float(values.abs().mean()), 0.1) if key[1] in ("weight", "threshold", "leak", "reset") else 1.0

    def error(self, key: Key, directions: Tensor, tolerance: float) -> float:
        """Norm of the difference to central differences over the gradient's norm, at the best of three steps.

        The first is as small as rounding allows; the others are only tried if it is not within the tolerance.
        `directions` (K, *shape): the unit vectors of all entries, or random ones of independent entries of variance 1,
        along which squares average to the norm's. Raises RedrawnError if no step is good and a spike came or went.
        """
        size, norm = self.size(key), float(self.gradients[key].norm())
        rounding = ROUNDING * float((self.observed.abs() * self.cotangent.abs()).sum())
        first = min(max(10 * rounding / (tolerance * norm) if norm else 0.0, 3e-6 * size), 1e-3 * size)
        best, redrawn = math.inf, False
        for step, stencil in ((first, SECOND_ORDER), (2 * first, FOURTH_ORDER), (first / 20, FOURTH_ORDER)):
            try:
                best = min(best, self.error_at(step, stencil, key, directions))
            except RedrawnError:
                redrawn = True
            if best < tolerance:
                return best
        if redrawn:
            raise RedrawnError
        return best

    def error_at(self, step: float, stencil: Stencil, key: Key, directions: Tensor) -> float:
        gradient, squares = self.gradients[key], []
        for direction in directions:
            slope = torch.zeros_like(self.observed)
            for places, weight in stencil:
                ends = [self.moved(key, sign * places * step * direction) for sign in (1, -1)]
                self.check_smooth(*ends)
                slope += weight * (ends[0] - ends[1]) / (2 * places * step)
            squares.append((float(slope @ self.cotangent) - float((gradient * direction).sum())) ** 2)
        norm, whole = float(gradient.norm()), len(directions) == gradient.numel()
        error = float(np.sum(squares) if whole else np.mean(squares)) ** 0.5
        size, scale = self.size(key), float((self.observed.abs() * self.cotangent.abs()).sum())
        if norm * size <= 1e-12 * scale:  # zero but for rounding, as for a delay that shifts all there is
            return 0.0 if error * size <= 1e-8 * scale else math.inf
        return error / norm

    def check_smooth(self, plus: Tensor, minus: Tensor) -> None:
        """Raise RedrawnError at a kink: where an arrival passes a sample's time, the slopes to both sides differ."""
        bend, change = (plus + minus - 2 * self.observed).abs(), (plus - minus).abs()
        if len(bend) and float(bend.max()) > 1e-3 * float(change.max()) + 1e-13:
            raise RedrawnError

    def directions(self, key: Key, most: int, generator: torch.Generator) -> Tensor:
        """Unit vectors of all entries if there are at most `most`, else that many random directions."""
        shape = self.gradients[key].shape
        count = self.gradients[key].numel()
        if count <= most:
            return torch.eye(count, dtype=torch.float64).reshape(count, *shape)
        return torch.randn((most, *shape), generator=generator, dtype=torch.float64)

    def oracle(self) -> dict[Key, Tensor]:
        """The gradients of the same loss by the torch oracle, chained to the same leaves."""
        layout, quantities = self.problem.layout(), self.network.quantities()
        leaves, oracles = self.leaves(), list[Oracle]()
        for sample in range(len(self.problem.drives)):
            one = {}
            for name, events in self.drive.items():
                rows = slice(int(events.start[sample]), int(events.start[sample + 1]))
                one[name] = (events.time[rows], events.unit[rows])
            oracles.append(Oracle(layout, quantities, one, self.problem.duration))
        value = (self.loss.of_oracle(oracles) * self.cotangent).sum()
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        return {k: torch.zeros_like(leaves[k]) if g is None else g for k, g in zip(leaves, found, strict=True)}

    def grazes(self) -> bool:
        runs = (self.problem.reference(sample) for sample in range(len(self.problem.drives)))
        return any(run.slowest() < GRAZING for run in runs)


def shifted(events: Events, change: Tensor) -> Events:
    """The events with changed times, in order again."""
    times, units = [], []
    moved = events.time.detach() + change
    for sample in range(len(events)):
        rows = slice(int(events.start[sample]), int(events.start[sample + 1]))
        times.append(moved[rows])
        units.append(events.unit[rows])
    return Events.from_lists(times, units, events.size)


def draws(make: Callable[[int], Problem], loss: Callable[[Problem], Loss]) -> Iterator[Subject]:
    """Subjects that do not graze, seed by seed."""
    for seed in range(1000):
        subject = Subject(problem := make(seed), loss(problem), seed)
        if not subject.grazes():
            yield subject
