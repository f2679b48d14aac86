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


class RedrawnError(Exception):
    """A spike appears, vanishes or grazes within the step: this draw has no derivative to compare."""


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
        observed = loss.observed(record)
        generator = torch.Generator().manual_seed(seed)
        self.cotangent = torch.randn(observed.shape, generator=generator, dtype=torch.float64)
        self.observed = observed.detach()
        (observed * self.cotangent).sum().backward()
        self.gradients = {
            key: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for key, leaf in self.leaves().items()
        }

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
                slope += weight * (ends[0] - ends[1]) / (2 * places * step)
            squares.append((float(slope @ self.cotangent) - float((gradient * direction).sum())) ** 2)
        norm, whole = float(gradient.norm()), len(directions) == gradient.numel()
        error = float(np.sum(squares) if whole else np.mean(squares)) ** 0.5
        size, scale = self.size(key), float((self.observed.abs() * self.cotangent.abs()).sum())
        if norm * size < 1e-12 * scale:  # zero but for rounding, as for a delay that shifts all there is
            return 0.0 if error * size < 1e-8 * scale else math.inf
        return error / norm

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
