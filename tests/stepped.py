"""The naive twin of `SuperSpike`: a network stepped through time in plain torch, one neuron and one arrival at a time.

Spikes are given. In every step each neuron may add something to its own: nothing in value, but with the surrogate as
derivative (`Spike`, for autograd), or the difference that the smooth spike function makes when a weight is changed
(`smooth`, for finite differences). Both reach their targets as if emitted in the middle of the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from oracle import kernel
from reference import FIELDS, Layout, Quantities, numbers
from torch import Tensor

Train = list[tuple[float, int]]
"""(time, unit), ascending."""


class Spike(torch.autograd.Function):
    """The spikes that were observed, with the derivative (1 + beta |distance|)^-2 / unit."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, observed: Tensor, beta: float, unit: Tensor) -> Tensor:
        ctx.save_for_backward(distance, unit)
        ctx.beta = beta
        return observed.clone()

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        distance, unit = ctx.saved_tensors
        return cotangent / (unit * (1 + ctx.beta * (distance / unit).abs()) ** 2), None, None, None


def smooth(distance: Tensor, beta: float, unit: Tensor) -> Tensor:
    """What has that derivative: x / (1 + beta |x|) with x the distance in units."""
    x = distance / unit
    return x / (1 + beta * x.abs())


@dataclass(eq=False)
class Stepped:
    """One sample. `membrane` and `extra`, filled by `run`: by population V at the grid times (K + 1) and what the
    spikes of each step (K) differ by.

    observed: by population (K, N), membranes to take the surrogate at; None: the model's own.
    base: membranes at the undisturbed weights; None: the derivative is wanted, not the difference.
    """

    layout: Layout
    quantities: Quantities
    trains: Mapping[str, Train]
    dt: float
    steps: int
    beta: float
    origin: float = 0.0
    observed: Mapping[str, Tensor] | None = None
    base: Mapping[str, list[Tensor]] | None = None
    membrane: dict[str, list[Tensor]] = field(default_factory=dict)
    current: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.neurons = {n: self.parameters(n) for n, kind in self.layout.kind.items() if kind != "input"}
        for name, p in self.neurons.items():
            self.membrane[name] = [torch.where(p["leak"] >= p["threshold"], p["reset"], p["leak"])]
            self.current[name], self.extra[name] = torch.zeros_like(p["leak"]), []
        for k in range(self.steps):
            self.spike(k)
            self.step(k)

    def parameters(self, name: str) -> dict[str, Tensor]:
        values = {"threshold": math.inf, "reset": -math.inf, "refractory": 0.0}
        values |= {f: numbers(self.quantities[name, f]) for f in FIELDS[self.layout.kind[name]]}
        size = self.layout.size[name]
        return {f: torch.as_tensor(v, dtype=torch.float64).expand(size).clone() for f, v in values.items()}

    def spike(self, k: int) -> None:
        """What the surrogate adds to the spikes of step k."""
        for name, p in self.neurons.items():
            own, unit = self.membrane[name][k], p["threshold"] - p["reset"]
            before = own.detach() if self.base is None else self.base[name][k]
            seen = before if self.observed is None or name not in self.observed else self.observed[name][k]
            distance = seen - p["threshold"]
            if self.layout.kind[name] == "li":
                extra = torch.zeros_like(own)
            elif self.base is None:
                extra = Spike.apply(distance + own - before, torch.zeros_like(own), self.beta, unit)
            else:
                extra = smooth(distance + own - before, self.beta, unit) - smooth(distance, self.beta, unit)
            self.extra[name].append(extra)

    def arrivals(self, k: int, name: str) -> list[list[tuple[float, Tensor, bool]]]:
        """For each neuron, (time, charge, whether it is an observed spike) of all that arrives in step k."""
        begin, found = self.origin + k * self.dt, [[] for _ in range(self.layout.size[name])]
        for projection, wiring in self.layout.wiring.items():
            if wiring.target != name:
                continue
            weight = self.quantities[projection, "weight"].flatten()[wiring.weight_index]
            delay = numbers(self.quantities[projection, "delay"]).ravel()[wiring.delay_index]
            for synapse, (pre, post) in enumerate(zip(wiring.pre, wiring.post, strict=True)):
                for time, unit in self.trains[wiring.source]:
                    if unit == pre and begin <= time + delay[synapse] < begin + self.dt:
                        found[post].append((time + delay[synapse], weight[synapse], True))
                later = math.floor(0.5 + delay[synapse] / self.dt)
                if wiring.source in self.neurons and k >= later:
                    time = begin + (0.5 - later) * self.dt + delay[synapse]
                    found[post].append((time, weight[synapse] * self.extra[wiring.source][k - later][pre], False))
        return found

    def step(self, k: int) -> None:
        for name, p in self.neurons.items():
            arriving = self.arrivals(k, name)
            cells = [
                self.cell(k, name, unit, {f: v[unit] for f, v in p.items()}, arriving[unit])
                for unit in range(len(arriving))
            ]
            self.membrane[name].append(torch.stack([v for v, _ in cells]))
            self.current[name] = torch.stack([current for _, current in cells])

    def cell(self, k: int, name: str, unit: int, p: dict[str, Tensor], arriving: list[Any]) -> tuple[Tensor, Tensor]:
        """V and I of one neuron at the end of step k."""
        begin = self.origin + k * self.dt
        end = begin + self.dt
        spikes = [time for time, who in self.trains.get(name, []) if who == unit and time <= end]
        release = spikes[-1] + float(p["refractory"]) if spikes else -math.inf
        current, final = self.current[name][unit], self.current[name][unit] * torch.exp(-self.dt / p["tau_syn"])
        final = final + sum(charge * torch.exp(-(end - time) / p["tau_syn"]) for time, charge, _ in arriving)
        if release > end:
            return p["reset"], final
        voltage = self.membrane[name][k][unit]
        if release > begin:  # spikes that were not observed bring nothing to a membrane in the step it is released in
            voltage, current = p["reset"], current * torch.exp(-(release - begin) / p["tau_syn"])
            arriving = [each for each in arriving if each[2]]
            early = [each for each in arriving if each[0] <= release]
            current = current + sum(w * torch.exp(-(release - time) / p["tau_syn"]) for time, w, _ in early)
            arriving = [each for each in arriving if each[0] > release]
            begin = release
        passed = torch.as_tensor(end - begin, dtype=torch.float64)
        voltage = p["leak"] + (voltage - p["leak"]) * torch.exp(-passed / p["tau_mem"])
        voltage = voltage + current * kernel(passed, p["tau_mem"], p["tau_syn"])
        for time, charge, _ in arriving:
            voltage = voltage + charge * kernel(
                torch.as_tensor(end - time, dtype=torch.float64), p["tau_mem"], p["tau_syn"]
            )
        return voltage, final

    def count(self, name: str) -> Tensor:
        """(N,): the difference to the observed counts."""
        return torch.stack(self.extra[name]).sum(0)

    def at(self, name: str, time: float, unit: int) -> Tensor:
        """V at any time: the straight line between the grid times."""
        place = (time - self.origin) / self.dt
        before = min(math.floor(place + 1e-9), self.steps - 1)
        two = (self.membrane[name][before][unit], self.membrane[name][before + 1][unit])
        return two[0] + (place - before) * (two[1] - two[0])
