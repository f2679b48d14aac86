"""The naive twin of the stepped engine's smoothed model: one sample in plain torch, arrival by arrival, in float64.

Spikes are given. With ``base`` None each step of a free neuron adds a spike of no value whose derivative is the
surrogate (`Spike`, for autograd); else it adds what the smooth spike function differs by from that at the membranes of
``base`` (for finite differences). Both are sent in the middle of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from plastic import Drawing
from stepped import Spike, smooth
from torch import Tensor

from spikeloop.engine.arrays import Delays
from spikeloop.engine.stepped import CELL_FIELDS, Cells, SteppedLink

NODES = (0.0, 0.25, 0.75, 1.0)
ROUGH = 0.4

Event = tuple[float, str, int, Any]
"""Place in steps (a whole number is the beginning of a step), link, unit, amplitude."""


@dataclass(eq=False)
class Parameters:
    """Everything that is differentiated: by population values (11, C, N), tau_syn, reversal, coupling; weights."""

    values: dict[str, Tensor]
    tau_syn: dict[str, Tensor]
    reversal: dict[str, Tensor]
    coupling: dict[str, Tensor]
    weight: dict[str, Tensor]

    @classmethod
    def of(cls, populations: list[Cells], links: list[SteppedLink]) -> Parameters:
        def made(name: str) -> dict[str, Tensor]:
            return {c.name: torch.tensor(getattr(c, name), requires_grad=True) for c in populations}

        weight = {link.name: torch.tensor(link.weight, requires_grad=True) for link in links}
        return cls(made("values"), made("tau_syn"), made("reversal"), made("coupling"), weight)


def through_nodes(values: Tensor, x: float) -> Tensor:
    """At x, the cubic through ``values`` (4, ...) at `NODES`."""
    total = torch.zeros_like(values[0])
    for k, node in enumerate(NODES):
        others = [other for other in NODES if other != node]
        total = total + values[k] * math.prod((x - other) / (node - other) for other in others)
    return total


def drawings(link: SteppedLink) -> list[Drawing]:
    """The resources of the units of a short-term link, at rest."""
    assert link.short_term is not None
    each = zip(link.short_term.utilisation, link.short_term.tau, link.short_term.base > 0, strict=True)
    return [Drawing(used, tau, facilitating) for used, tau, facilitating in each]


@dataclass(eq=False)
class Layer:
    """One population. State v, w (C, N) relative to leak, i (K, C, N)."""

    cells: Cells
    p: dict[str, Tensor]
    tau_syn: Tensor
    reversal: Tensor
    coupling: Tensor
    h: float
    spikes: list[tuple[float, int]]
    v: Tensor = field(init=False)
    w: Tensor = field(init=False)
    i: Tensor = field(init=False)
    free: Tensor = field(init=False)
    trace: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        p = self.p
        self.threshold, self.reset = p["threshold"] - p["leak"], p["reset"] - p["leak"]
        self.v = torch.where(self.threshold <= 0, self.reset, 0.0)
        self.w, self.i = torch.zeros_like(self.v), torch.zeros_like(self.tau_syn)
        self.free = torch.full_like(self.v, -math.inf)
        self.rho = torch.where(self.reversal.isnan(), 0.0, 1 / (self.reversal.nan_to_num(1e9) - p["leak"]))
        self.beta = self.h / self.tau_syn
        nodes = torch.tensor(NODES, dtype=torch.float64).reshape(4, 1, 1, 1)
        self.at_end = torch.exp(-self.beta * nodes)
        self.mean = (1 - self.at_end) / self.beta
        self.moment = (nodes - self.mean) / self.beta
        unit = (self.threshold - self.reset).abs()
        self.unit = torch.where(unit.isinf(), 1.0, unit).detach()
        self.trace.append(self.v)

    def go_on(self, v: Tensor, w: Tensor, i: Tensor, free: Tensor) -> None:
        """From this state instead, which is given."""
        self.v, self.w, self.i, self.free, self.trace = v, w, i, free, [v]

    def slope(self, v: Tensor, w: Tensor, current: Tensor, conductance: Tensor) -> tuple[Tensor, Tensor]:
        p, h = self.p, self.h
        leaky = torch.as_tensor(self.cells.leaky)[:, None].to(v)
        dv = h / p["tau_mem"] * (current - (leaky + conductance) * v - w)
        rising = p["slope_factor"] > 0
        slope_factor = torch.where(rising, p["slope_factor"], 1.0)
        argument = (v + p["leak"] - p["exponential_threshold"]) / slope_factor
        folds = (torch.exp(argument) * h / p["tau_mem"]).clamp(max=ROUGH)
        dv = dv + torch.where(rising, slope_factor * folds, 0.0)
        flows = []
        for k, (a, b) in enumerate(self.cells.couplings):
            difference = v[b] + p["leak"][b] - v[a] - p["leak"][a]
            flows.append((a, h * difference / (self.coupling[k] * p["capacitance"][a])))
            flows.append((b, -h * difference / (self.coupling[k] * p["capacitance"][b])))
        for compartment, flow in flows:
            dv = dv + torch.nn.functional.one_hot(torch.tensor(int(compartment)), len(v)).to(v)[:, None] * flow
        adapts = p["tau_adaptation"] > 0
        dw = torch.where(adapts, h * (p["a"] * v - w) / torch.where(adapts, p["tau_adaptation"], 1.0), 0.0)
        return dv, dw

    def step(self, k: int, arrivals: list[tuple[float, int, int, Tensor]], surrogate: Any) -> Tensor:
        """One step; arrivals: share of the step that is left, receptor, compartment, (N,) weights. S (N,) of it."""
        begin, end = k * self.h, (k + 1) * self.h
        out = self.cells.output
        able = self.free <= begin
        number = torch.zeros(self.v.shape[1], dtype=torch.float64)
        for time, unit in self.spikes:
            if begin <= time < end:
                number[unit] += 1
                here = torch.zeros_like(self.v, dtype=torch.bool)
                here[out, unit] = True
                self.free = torch.where(here, time + self.p["refractory"], self.free)
        spiked = torch.zeros_like(self.v, dtype=torch.bool)
        spiked[out] = number > 0
        sent = number + torch.where(able[out], surrogate(self, k, number), 0.0)
        within = (self.free >= begin) & (self.free < end)  # a release at the beginning of a step is in that step
        share = torch.where(within, (end - self.free) / self.h, (self.free < begin).to(self.v))
        u = torch.where(spiked, self.reset, self.v)
        kicks = [torch.zeros_like(self.i) for _ in range(3)]  # end, mean, moment
        for x, receptor, compartment, weight in arrivals:
            where = torch.zeros_like(self.i)
            where[receptor, compartment] = 1.0
            for n, nodes in enumerate((self.at_end, self.mean, self.moment)):
                kicks[n] = kicks[n] + where * weight * through_nodes(nodes, x)
        half, (jump, mean, moment) = torch.exp(-self.beta / 2), kicks
        at = (self.i + 6 * moment - 2 * mean, self.i * half + mean, self.i * half**2 + 4 * mean - 6 * moment)
        inputs = [(now.sum(0), (self.rho * now).sum(0)) for now in at]
        v, w, total_v, total_w = u, self.w, torch.zeros_like(u), torch.zeros_like(u)
        for when, onward, weight in ((0, 0.5, 1.0), (1, 0.5, 2.0), (1, 1.0, 2.0), (2, 0.0, 1.0)):
            dv, dw = self.slope(v, w, *inputs[when])
            dv = dv * share
            total_v, total_w = total_v + weight / 6 * dv, total_w + weight / 6 * dw
            v, w = u + onward * dv, self.w + onward * dw
        before = self.v
        self.v, self.w = u + total_v, self.w + total_w
        self.i = self.i * half**2 + jump
        own = torch.zeros_like(self.w)
        own[out] = 1.0
        self.w = self.w + own * self.p["b"] * sent
        for compartment in range(len(self.v)):
            if compartment != out:
                crossed = able[compartment] & (before[compartment] < self.threshold[compartment])
                crossed = crossed & (self.v[compartment] >= self.threshold[compartment])
                here = torch.zeros_like(self.v, dtype=torch.bool)
                here[compartment] = crossed
                self.v = torch.where(here, self.reset, self.v)
                self.w = torch.where(here, self.w + self.p["b"], self.w)
                self.free = torch.where(here, end + self.p["refractory"], self.free)
        self.trace.append(self.v)
        return sent


@dataclass(eq=False)
class Smoothed:
    """A stage on one sample. `run` gives V (steps + 1, C, N) and S (steps, N) by population.

    spikes: by population.  given: events from outside, (time, unit, amplitude) by source.  more: amplitudes (steps,
    N_source) by source that are sent in the middle of each step, to be differentiated.  start: of a run that goes on
    from a state, v, w, i and free by population.  sent: by source all that was sent before, at times below zero; what
    was sent from ``settled`` on arrives at the beginning at the soonest.
    """

    populations: list[Cells]
    links: list[SteppedLink]
    h: float
    steps: int
    beta: float
    spikes: dict[str, list[tuple[float, int]]]
    given: dict[str, list[tuple[float, int, float]]]
    drawn: dict[str, list[Drawing]] = field(default_factory=dict)
    start: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    sent: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    settled: float = 0.0

    def run(
        self, parameters: Parameters, more: dict[str, Tensor], base: dict[str, list[Tensor]] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        layers = {c.name: self._layer(c, parameters) for c in self.populations}
        inside = set(layers)
        events: list[list[Event]] = [[] for _ in range(self.steps)]
        self.drawn = {link.name: drawings(link) for link in self.links if link.short_term is not None}
        for link in self.links:
            self._send_earlier(events, link, inside)
            if link.short_term is not None:
                for k in range(self.steps if link.source not in inside else 0):
                    extra = more[link.source][k] if link.source in more else torch.zeros(len(self.drawn[link.name]))
                    self._send_drawn(events, link, k, extra, inside)
                continue
            own = (
                [(t, u, 1.0) for t, u in self.spikes[link.source]] if link.source in inside else self.given[link.source]
            )
            for time, unit, amplitude in own:
                self._send(events, link, time / self.h, unit, amplitude, inside)
            for step in range(self.steps) if link.source in more else ():
                for unit in range(more[link.source].shape[1]):
                    self._send(events, link, step + 0.5, unit, more[link.source][step, unit], inside)
        sent: dict[str, list[Tensor]] = {name: [] for name in layers}
        for k in range(self.steps):
            of = {name: self._arrivals(events[k], k, name, parameters) for name in layers}
            for name, layer in layers.items():
                surrogate = self._surrogate(name, base)
                number = layer.step(k, of[name], surrogate)
                sent[name].append(number)
            self._send_differences(events, k, layers, sent)
        return (
            {name: torch.stack(layer.trace) for name, layer in layers.items()},
            {name: torch.stack(each) for name, each in sent.items()},
        )

    def _layer(self, c: Cells, parameters: Parameters) -> Layer:
        rows = dict(zip(CELL_FIELDS, parameters.values[c.name], strict=True))
        others = (parameters.tau_syn[c.name], parameters.reversal[c.name], parameters.coupling[c.name])
        layer = Layer(c, rows, *others, self.h, self.spikes[c.name])
        if c.name in self.start:
            layer.go_on(*self.start[c.name])
        return layer

    def _send_earlier(self, events: Any, link: SteppedLink, inside: set[str]) -> None:
        """What was sent before: it drew on the resources then, and may still be on its way."""
        for time, unit in self.sent.get(link.source, []):
            size = self.drawn[link.name][unit].meet(time, 1.0) if link.short_term is not None else 1.0
            self._send(events, link, time / self.h, unit, size, inside)

    def _send_differences(self, events: Any, k: int, layers: Any, sent: Any) -> None:
        """What the spikes of a step differ by from those observed."""
        for link in (link for link in self.links if link.source in layers):
            extra = sent[link.source][k].clone()
            for time, unit in self.spikes[link.source]:
                if k * self.h <= time < (k + 1) * self.h:
                    extra[unit] -= 1
            if link.short_term is not None:
                self._send_drawn(events, link, k, extra, set(layers))
                continue
            for unit in range(len(extra)):
                self._send(events, link, k + 0.5, unit, extra[unit], set(layers))

    def _send_drawn(self, events: Any, link: SteppedLink, k: int, extra: Tensor, inside: set[str]) -> None:
        """The spikes of a step through a short-term link, observed ones and ``extra`` (N_source,)."""
        source = self.spikes if link.source in inside else self.given
        for unit, drawing in enumerate(self.drawn[link.name]):
            times = [each[0] for each in source[link.source] if each[1] == unit and each[0] // self.h == k]
            sizes, size = drawing.step(times, (k + 0.5) * self.h, extra[unit])
            for time, own in zip(times, sizes, strict=True):
                self._send(events, link, time / self.h, unit, own, inside)
            self._send(events, link, k + 0.5, unit, size, inside)

    def _surrogate(self, name: str, base: dict[str, list[Tensor]] | None) -> Any:
        def of(layer: Layer, k: int, number: Tensor) -> Tensor:
            out = layer.cells.output
            distance, unit = layer.v[out] - layer.threshold[out], layer.unit[out]
            if not bool(torch.isfinite(layer.threshold[out]).all()):
                return torch.zeros_like(number)
            if base is None:
                return Spike.apply(distance, torch.zeros_like(number), self.beta, unit)  # type: ignore[no-any-return]
            return smooth(distance, self.beta, unit) - smooth(base[name][k], self.beta, unit)

        return of

    def _send(self, events: Any, link: SteppedLink, place: float, unit: int, amplitude: Any, inside: set[str]) -> None:
        def put(delay: float, synapse: int | None) -> None:
            at = place + delay / self.h
            if link.source in inside and place < 0:
                at = max(at, 0.0) if place >= self.settled / self.h else at
            elif link.source in inside and math.floor(at) <= math.floor(place):
                at = math.floor(place) + 1.0
            if 0 <= at < self.steps:
                events[math.floor(at)].append((at, link, unit, synapse, amplitude))

        if link.delays is Delays.PER_SYNAPSE:
            assert link.rows is not None
            for synapse in range(link.rows.begin[unit], link.rows.begin[unit + 1]):
                put(link.delay[synapse], synapse)
        else:
            put(link.delay[unit if link.delays is Delays.PER_UNIT else 0], None)

    def _arrivals(self, events: Any, k: int, name: str, parameters: Parameters) -> Any:
        arrivals = []
        for at, link, unit, synapse, amplitude in events:
            if link.target != name:
                continue
            weight = parameters.weight[link.name]
            size = parameters.values[name].shape[2]
            if link.rows is None:
                row = weight[unit]
            else:
                some = range(link.rows.begin[unit], link.rows.begin[unit + 1]) if synapse is None else [synapse]
                row = sum(
                    torch.nn.functional.one_hot(torch.tensor(int(link.rows.target[s])), size) * weight[s] for s in some
                )
            arrivals.append((k + 1 - at, link.receptor, link.compartment, amplitude * row))
        return arrivals
