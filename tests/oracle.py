"""The second gradient oracle: autograd through the solver, in plain torch.

`Oracle` takes what `reference.simulate` found and makes every spike time, membrane sample and peak a differentiable
function of all quantities and of the drive's times. Between events everything is closed form; at a spike the implicit
function theorem is one Newton step with a detached slope, t = t0 - (V(t0) - threshold) / V'(t0), which changes
nothing but the graph; at a smooth peak V' = 0, so the place of the maximum is a constant; where an inhibitory arrival
cuts the rise short, the peak moves with the arrival.
"""

from __future__ import annotations

from typing import Any

import torch
from reference import FIELDS, Arrival, Cell, Drive, Layout, Quantities, Run, simulate
from torch import Tensor


def phi(x: Tensor) -> Tensor:
    """(1 - exp(-x)) / x for x >= -0.5, smooth through 0."""
    small = torch.where(x.abs() < 0.5, x, 0.0)
    large = torch.where(x.abs() < 0.5, 1.0, x)
    series = torch.ones_like(x)
    for n in range(18, 1, -1):
        series = 1 - small / n * series
    return torch.where(x.abs() < 0.5, series, -torch.expm1(-large) / large)


def kernel(time: Tensor, tau_mem: Tensor, tau_syn: Tensor) -> Tensor:
    """V after `time` for I = 1 and V = leak at time 0."""
    x = time * (1 / tau_syn - 1 / tau_mem)
    flipped = x < 0
    slow = torch.where(flipped, tau_syn, tau_mem)
    return torch.exp(-time / slow) * time / tau_mem * phi(torch.where(flipped, -x, x))


class Oracle:
    """`simulate` with a graph: `times[k]` is the time of event k of `run`."""

    def __init__(self, layout: Layout, quantities: Quantities, drive: Drive, duration: float) -> None:
        self.layout, self.quantities = layout, quantities
        self.run: Run = simulate(layout, quantities, drive, duration)
        self.neurons = {name: self.parameters(name) for name in self.run.cells}
        self.flat = {key: value.flatten() for key, value in quantities.items() if key[1] in ("weight", "delay")}
        self.times: list[Tensor] = [time for times, _ in drive.values() for time in times]
        for event in self.run.events[len(self.times) :]:
            assert event.cell is not None
            number = event.cell.spikes.index(len(self.times))
            self.times.append(self.spike(event.cell, self.neurons[event.population][event.unit], event.time, number))

    def parameters(self, population: str) -> list[dict[str, Tensor]]:
        size = self.layout.size[population]
        fields = {name: self.quantities[population, name].expand(size) for name in FIELDS[self.layout.kind[population]]}
        return [{name: values[unit] for name, values in fields.items()} for unit in range(size)]

    def arriving(self, arrivals: list[Arrival]) -> tuple[Tensor, Tensor]:
        """Times and weights, with their graphs."""
        times, weights = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.float64)]
        for name in sorted({each.projection for each in arrivals}):
            wiring, mine = self.layout.wiring[name], [each for each in arrivals if each.projection == name]
            synapses = [each.synapse for each in mine]
            origins = torch.stack([self.times[each.origin] for each in mine])
            times.append(origins + self.flat[name, "delay"][wiring.delay_index[synapses]])
            weights.append(self.flat[name, "weight"][wiring.weight_index[synapses]])
        return torch.cat(times), torch.cat(weights)

    def voltage(
        self, cell: Cell, neuron: dict[str, Tensor], time: Any, seen: int, spikes: int
    ) -> tuple[Tensor, Tensor]:
        """V and I at `time`, after the first `seen` arrivals and the first `spikes` own spikes."""
        tau_mem, tau_syn, leak = neuron["tau_mem"], neuron["tau_syn"], neuron["leak"]
        arrival, weight = self.arriving(cell.arrivals[:seen])
        current = (weight * torch.exp(-(time - arrival) / tau_syn)).sum()
        release = torch.zeros((), dtype=torch.float64)
        start = neuron["reset"] if cell.leak >= cell.threshold else leak
        if spikes:
            release, start = self.times[cell.spikes[spikes - 1]] + neuron["refractory"], neuron["reset"]
            if time < release:
                return start, current
        early = arrival.detach() < release.detach()
        held = (weight[early] * torch.exp(-(release - arrival[early]) / tau_syn)).sum()
        rise = held * kernel(time - release, tau_mem, tau_syn)
        rise = rise + (weight[~early] * kernel(time - arrival[~early], tau_mem, tau_syn)).sum()
        return leak + (start - leak) * torch.exp(-(time - release) / tau_mem) + rise, current

    def spike(self, cell: Cell, neuron: dict[str, Tensor], time: float, number: int) -> Tensor:
        voltage, current = self.voltage(cell, neuron, time, cell.seen[number], number)
        slope = ((neuron["leak"] - neuron["threshold"] + current) / neuron["tau_mem"]).detach()
        return time - (voltage - neuron["threshold"]) / slope

    def trains(self, population: str) -> list[list[Tensor]]:
        return [[self.times[number] for number in cell.spikes] for cell in self.run.cells[population]]

    def at(self, population: str, unit: int, time: float) -> Tensor:
        """V of one neuron at the constant `time`."""
        cell = self.run.cells[population][unit]
        seen = sum(each.time <= time for each in cell.arrivals)
        spikes = sum(self.run.events[number].time <= time for number in cell.spikes)
        return self.voltage(cell, self.neurons[population][unit], time, seen, spikes)[0]

    def membrane(self, population: str, times: Any) -> Tensor:
        """(T, N)"""
        units = range(self.layout.size[population])
        return torch.stack([torch.stack([self.at(population, unit, float(t)) for unit in units]) for t in times])

    def peak(self, population: str) -> Tensor:
        """(N,) the supremum of V; where that is just before a spike, the threshold."""
        pairs = zip(self.run.cells[population], self.neurons[population], strict=True)
        return torch.stack([self.highest(cell, neuron) for cell, neuron in pairs])

    def highest(self, cell: Cell, neuron: dict[str, Tensor]) -> Tensor:
        if cell.spikes:
            return neuron["threshold"]
        time, _ = cell.peak()
        seen = sum(each.time < time for each in cell.arrivals)
        cut = seen < len(cell.arrivals) and cell.arrivals[seen].time == time
        when = self.arriving([cell.arrivals[seen]])[0][0] if cut else time
        return self.voltage(cell, neuron, when, seen, 0)[0]
