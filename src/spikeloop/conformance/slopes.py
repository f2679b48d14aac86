"""Gradients against central differences of what a substrate does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeloop._run import run
from spikeloop.conformance.cases import Case
from spikeloop.events import Events
from spikeloop.protocols import Observe, Rule, Substrate
from spikeloop.record import Record

STEPS = (3e-5, 3e-6, 3e-7)  # relative to the size of what is changed
DIRECTIONS = 2


def errors(
    case: Case, rule: Rule, substrate: Substrate, observe: Observe, kinds: frozenset[str]
) -> dict[str, float | None]:
    """By trainable tensor: the distance between gradient and central differences along random directions.

    Relative to the norm of the gradient, at the best of three steps; None where every step makes or removes a spike.
    The loss is a random linear function of all spike times, samples and peaks (``kinds``), in float64.
    """
    drive = {name: replace(e, time=e.time.detach().clone().requires_grad_()) for name, e in case.drive.items()}
    case = replace(case, network=copy.deepcopy(case.network).double(), drive=drive)
    slope = Slope(case, substrate, observe, kinds)
    record = slope.run(rule)
    observed = slope.observed(record)
    direction = torch.randn(observed.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    leaves = slope.leaves()
    found = torch.autograd.grad((observed * direction).sum(), list(leaves.values()), allow_unused=True)
    gradients = {
        n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in zip(leaves.items(), found, strict=True)
    }
    counts = {name: events.start for name, events in record.spikes.items()}
    return {name: slope.error(name, gradient, direction, counts) for name, gradient in gradients.items()}


@dataclass(frozen=True, eq=False)
class Slope:
    """A case in float64, and what is looked at."""

    case: Case
    substrate: Substrate
    observe: Observe
    kinds: frozenset[str]

    def leaves(self) -> dict[str, Tensor]:
        """Every parameter that requires a gradient, and the drive's times."""
        parameters = {n: p for n, p in self.case.network.named_parameters() if p.requires_grad}
        return parameters | {f"drive.{name}.time": events.time for name, events in self.case.drive.items()}

    def run(self, rule: Rule | None = None, drive: Mapping[str, Events] | None = None) -> Record:
        """The record of it."""
        return run(
            self.case.network,
            drive or self.case.drive,
            self.case.duration,
            substrate=self.substrate,
            rule=rule,
            observe=self.observe,
            number=0,
        )

    def observed(self, record: Record) -> Tensor:
        """All that is looked at as one vector, spikes by sample and neuron."""
        parts = [torch.zeros(0, dtype=torch.float64)]
        for name, events in sorted(record.spikes.items()) if "time" in self.kinds else ():
            if name not in self.case.drive:
                order = torch.argsort(events.sample * events.size + events.unit, stable=True)
                parts.append(events.time[order] * (6 / self.case.duration))
        for kind in sorted({"membrane", "peak"} & self.kinds):
            parts += [part.value.double().flatten() for _, part in sorted(getattr(record, kind).items())]
        return torch.cat(parts)

    def error(self, name: str, gradient: Tensor, weight: Tensor, counts: Mapping[str, Tensor]) -> float | None:
        """The distance at the best step."""
        generator, norm = torch.Generator().manual_seed(5), float(gradient.norm())
        directions = torch.randn((DIRECTIONS, *gradient.shape), dtype=torch.float64, generator=generator)
        best: float | None = None
        for step in (each * self._size(name) for each in STEPS):
            squares: list[float] = []
            for direction in directions:
                ends = [self._moved(name, sign * step * direction, counts) for sign in (1, -1)]
                if ends[0] is None or ends[1] is None:
                    break
                difference = float((ends[0] - ends[1]) @ weight) / (2 * step)
                squares.append((difference - float((gradient * direction).sum())) ** 2)
            if len(squares) == DIRECTIONS:
                distance = (sum(squares) / DIRECTIONS) ** 0.5
                error = distance / norm if norm else float(distance > 1e-9)
                best = error if best is None else min(best, error)
        return best

    def _size(self, name: str) -> float:
        """The unit of a step: a sixth of the run for times of events, else the mean size, which for logs is about 1."""
        if name.startswith("drive."):
            return self.case.duration / 6
        return 1.0 if ".log_" in name else max(float(self.leaves()[name].detach().abs().mean()), 0.1)

    @torch.no_grad()
    def _moved(self, name: str, change: Tensor, counts: Mapping[str, Tensor]) -> Tensor | None:
        """What is observed with one leaf changed; None if the number of spikes is another then."""
        leaf, drive = self.leaves()[name], dict(self.case.drive)
        before = leaf.detach().clone()
        try:
            if name.startswith("drive."):
                key = name.removeprefix("drive.").removesuffix(".time")
                drive[key] = _shifted(drive[key], change)
            else:
                leaf += change
            record = self.run(drive=drive)
        finally:
            if not name.startswith("drive."):
                leaf.copy_(before)
        return self.observed(record) if _as_many(record, counts) else None


def _as_many(record: Record, counts: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(events.start, counts[name]) for name, events in record.spikes.items())


def _shifted(events: Events, change: Tensor) -> Events:
    """The events at other times, in order again."""
    time = (events.time.detach() + change).clamp_min(0.0)
    return Events._from_rows(time, events.unit, events.sample, len(events), events.size)
