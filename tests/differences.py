"""Gradients of the engine, of the torch oracle and of central differences, for the same random loss.

The loss is a random linear function of what was observed. Central differences are taken of the observations rather than
of the loss, which keeps their digits. Where a number of spikes changes within a step, or the loss has a kink or a jump
there, it has no derivative to compare with: `RedrawnError`. What was computed as the gradient plays no part in that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from oracle import Oracle
from problems import MS, Problem
from torch import Tensor

from spikeloop import Events, Observe, Record, run
from spikeloop.gradient.eventprop import EventProp

ROUNDING = 1e-16
STEPS = (1, 4, 16)
"""The three step sizes, in units of the smallest."""
GRAZING = 0.02  # V' in units of threshold / tau_mem
GRAZES = "a spike that grazes the threshold"
SCALE = {"time": 1 / (10 * MS), "membrane": 1.0, "peak": 1.0}
Key = tuple[str, str]


class RedrawnError(Exception):
    """Why there is no derivative to compare with: a spike appears or vanishes within the step, or there is a kink (an
    arrival passes a sample of the membrane) or a jump (a spike passes a sample of its own membrane)."""


@dataclass
class Tally:
    """How many draws were compared, and how many were drawn anew, by the reason."""

    kept: int = 0
    redrawn: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Redrawn of all."""
        return self.redrawn.total() / max(self.kept + self.redrawn.total(), 1)

    def __str__(self) -> str:
        reasons = [f"{count} because of {why}" for why, count in self.redrawn.most_common()]
        text = f"{self.kept} draws kept, {self.redrawn.total()} redrawn ({100 * self.share:.0f} %)"
        return ": ".join([text, ", ".join(reasons)]) if reasons else text


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
            raise RedrawnError("a spike that appears or vanishes")
        return self.loss.observed(record)

    def size(self, key: Key) -> float:
        """The unit of a step: a tau_mem for times of events; parameters are mostly of order 1 (or logarithms)."""
        if key[1] == "time":
            return 10 * MS
        values = self.leaves()[key].detach()
        return max(float(values.abs().mean()), 0.1) if key[1] in ("weight", "threshold", "leak", "reset") else 1.0

    def error(self, key: Key, directions: Tensor, tolerance: float) -> float:
        """Norm of the difference to central differences over the gradient's norm, at the best of three steps.

        The smallest is about as small as rounding allows; the larger ones are only tried if it is not within the
        tolerance. `directions` (K, *shape): the unit vectors of all entries, or random ones of independent entries of
        variance 1, along which squares average to the norm's. Raises RedrawnError if there is no derivative within the
        smallest step, and only then: larger ones that have none are left out.
        """
        smallest = self.smallest_step(key, directions, tolerance)
        best = self.error_at(smallest * STEPS[0], key, directions, tolerance)
        for step in STEPS[1:]:
            if best < tolerance:
                break
            with suppress(RedrawnError):
                best = min(best, self.error_at(smallest * step, key, directions, tolerance))
        return best

    def smallest_step(self, key: Key, directions: Tensor, tolerance: float) -> float:
        """2.5e-7, or more where the loss depends so little on the tensor that its rounding would matter.

        A gradient that is wrongly small must not lead to a large step, at which a draw is easily redrawn: what counts
        then is how the loss does depend on it.
        """
        least, most = 2.5e-7 * self.size(key), 2e-4 * self.size(key)
        norm, needed = float(self.gradients[key].norm()), 4 * self.rounding() / tolerance
        if needed <= least * norm:
            return least
        seen = max(norm, joint([self.slopes(least, key, along)[0] for along in directions], self.gradients[key]))
        return min(max(needed / seen, least), most) if seen else least

    def scale(self) -> float:
        """How large the terms of the loss are together."""
        return float((self.observed.abs() * self.cotangent.abs()).sum())

    def rounding(self) -> float:
        """How much of the loss may be rounding."""
        return ROUNDING * self.scale()

    def vanishes(self, key: Key) -> bool:
        """Whether a gradient is zero but for rounding, as for a delay that shifts all there is."""
        return float(self.gradients[key].norm()) * self.size(key) <= 1e-12 * self.scale()

    def error_at(self, step: float, key: Key, directions: Tensor, tolerance: float) -> float:
        """By differences of fourth order. A kink or a jump that would matter within the step raises RedrawnError."""
        gradient = self.gradients[key]
        found = [self.slopes(step, key, direction) for direction in directions]
        slopes, expected = [slope for slope, _ in found], [float((gradient * along).sum()) for along in directions]
        error = joint([a - b for a, b in zip(slopes, expected, strict=True)], gradient)
        norm, slope = float(gradient.norm()), joint(slopes, gradient)
        if (
            joint([bend for _, bend in found], gradient)
            > 4 * tolerance * max(norm, slope) + 40 * self.rounding() / step
        ):
            raise RedrawnError("a kink or a jump")
        if self.vanishes(key):
            return 0.0 if error * self.size(key) <= 1e-8 * self.scale() else math.inf
        return error / norm

    def slopes(self, step: float, key: Key, direction: Tensor) -> tuple[float, float]:
        """The loss's derivative along `direction`, and a bound on what kinks within two steps may have done to it.

        Second differences of a smooth function over two steps are four times those over one, of a kink twice.
        """
        slope, bend = torch.zeros_like(self.observed), torch.zeros_like(self.observed)
        for places, of_slope, of_bend in ((1, 4 / 3, -4.0), (2, -1 / 3, 1.0)):
            plus, minus = (self.moved(key, sign * places * step * direction) - self.observed for sign in (1, -1))
            slope += of_slope * (plus - minus) / (2 * places * step)
            bend += of_bend * (plus + minus) / step
        return float(slope @ self.cotangent), float(bend @ self.cotangent)

    def spoilt(self, key: Key) -> list[Tensor]:
        """Wrong gradients: by 1e-4 of itself, next to nothing and nothing; or something where nothing is right."""
        gradient = self.gradients[key]
        if self.vanishes(key):
            return [gradient + 1e-4 * (self.scale() / self.size(key) or 1.0)]
        return [gradient * (1 + 1e-4), gradient * 1e-9, gradient * 0]

    def all_directions(self, most: int, seed: int) -> dict[Key, Tensor]:
        """Where to look, by tensor."""
        generator = torch.Generator().manual_seed(seed)
        return {key: self.directions(key, most, generator) for key in self.leaves()}

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


def joint(values: list[float], whole: Tensor) -> float:
    """The norm of a tensor like `whole`, given its products with the unit vectors, or with random directions."""
    squares = np.square(values)
    return float(squares.sum() if len(values) == whole.numel() else squares.mean()) ** 0.5


def shifted(events: Events, change: Tensor) -> Events:
    """The events with changed times, in order again."""
    times, units = [], []
    moved = events.time.detach() + change
    for sample in range(len(events)):
        rows = slice(int(events.start[sample]), int(events.start[sample + 1]))
        times.append(moved[rows])
        units.append(events.unit[rows])
    return Events.from_lists(times, units, events.size)


def draws(make: Callable[[int], Problem], loss: Callable[[Problem], Loss], tally: Tally) -> Iterator[Subject]:
    """Subjects that do not graze, seed by seed."""
    for seed in range(1000):
        subject = Subject(problem := make(seed), loss(problem), seed)
        if subject.grazes():
            tally.redrawn[GRAZES] += 1
        else:
            yield subject
