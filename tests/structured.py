"""The naive twin of runs with AdEx neurons and compartments: one sample, integrated by SciPy from event to event.

It reads the network's own numbers by their names, and knows nothing of arrays, stages or steps.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp

from spikeloop import Network, Steps

Train = list[tuple[float, int]]


@dataclass(eq=False)
class Cell:
    """One compartment of one neuron. slots: tau_syn, reversal or None, by receptor."""

    population: str
    unit: int
    site: str
    output: bool
    leaky: bool
    slots: dict[str, tuple[float, float | None]]
    number: dict[str, float]
    current: dict[str, float] = field(default_factory=dict)
    injected: float = 0.0
    held: float = -math.inf


@dataclass(eq=False)
class Simulation:
    """`run` fills ``spikes`` (by population) and the traces at ``times``: (T, N) by "population.compartment"."""

    net: Network
    trains: Mapping[str, Train]
    duration: float
    steps: Mapping[str, Steps] = field(default_factory=dict)
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sample: int = 0
    rtol: float = 1e-10

    def __post_init__(self) -> None:
        self.cells: list[Cell] = []
        self.edges: list[tuple[int, int, float]] = []
        for name, population in self.net.populations.items():
            if population.structure is not None:
                for unit in range(population.size):
                    self._add(name, population, unit)
        self.v = np.array([c.number["leak"] for c in self.cells])
        for i, c in enumerate(self.cells):
            if c.number["leak"] >= c.number["threshold"]:
                self.v[i] = c.number["reset"]
        self.w = np.zeros(len(self.cells))
        self.spikes: dict[str, Train] = {name: [] for name in self.net.populations}
        self.jumps: list[float] = []
        self.queue: list[tuple[float, int, Any]] = []
        self.traces = {
            what: np.full((len(self.times), len(self.cells)), np.nan) for what in ("membrane", "adaptation", "current")
        }
        self.run()

    def _add(self, name: str, population: Any, unit: int) -> None:
        structure, first = population.structure, len(self.cells)

        def number(what: str, site: str, receptor: str = "", absent: float | None = 0.0) -> float | None:
            stored = structure.name_of(what, site, receptor)
            if stored is None:
                return absent
            value = torch.as_tensor(getattr(population, stored)).detach().double()
            return float(value[unit] if value.ndim else value)

        absent = {"threshold": math.inf, "tau_adaptation": 1.0, "capacitance": 1.0}
        names = (
            "tau_mem", "threshold", "leak", "reset", "refractory", "slope_factor", "exponential_threshold",
            "tau_adaptation", "a", "b", "capacitance",
        )  # fmt: skip
        for site in structure.sites:
            slots = {
                r: (number("tau_syn", site.name, r), number("reversal", site.name, r, None)) for r in site.receptors
            }
            numbers = {what: number(what, site.name, absent=absent.get(what, 0.0)) for what in names}
            output = site.name == structure.output
            self.cells.append(
                Cell(name, unit, site.name, output, site.leaky, slots, numbers, dict.fromkeys(slots, 0.0))
            )
        order = [site.name for site in structure.sites]
        for one, other in structure.couplings:
            self.edges.append((first + order.index(one), first + order.index(other), number("coupling", one, other)))

    def slope(self, time: float, state: np.ndarray, since: float) -> np.ndarray:
        n = len(self.cells)
        v, w = state[:n], state[n:]
        dv, dw = np.zeros(n), np.zeros(n)
        for i, c in enumerate(self.cells):
            p = c.number
            dw[i] = (p["a"] * (v[i] - p["leak"]) - w[i]) / p["tau_adaptation"]
            drive = c.leaky * (p["leak"] - v[i]) - w[i] + self.entering(c, v[i], time - since) + c.injected
            if p["slope_factor"] > 0:
                drive += p["slope_factor"] * math.exp(min((v[i] - p["exponential_threshold"]) / p["slope_factor"], 200))
            dv[i] = drive / p["tau_mem"]
        for i, j, tau in self.edges:
            dv[i] += (v[j] - v[i]) / (tau * self.cells[i].number["capacitance"])
            dv[j] += (v[i] - v[j]) / (tau * self.cells[j].number["capacitance"])
        for i, c in enumerate(self.cells):
            if c.held > since:
                dv[i] = 0.0
        return np.concatenate([dv, dw])

    @staticmethod
    def entering(c: Cell, v: float, later: float) -> float:
        total = 0.0
        for receptor, (tau, reversal) in c.slots.items():
            now = c.current[receptor] * math.exp(-later / tau)
            total += now if reversal is None else now * (reversal - v) / (reversal - c.number["leak"])
        return total

    def send(self, population: str, unit: int, time: float) -> None:
        """Put what a spike causes into the queue."""
        self.spikes[population].append((time, unit))
        for projection in self.net.projections.values():
            if projection.source != population:
                continue
            dense = projection.synapses is None
            weight, delay = projection.weight.detach().double(), projection.delay.detach()
            assert dense
            assert delay.ndim == 0
            site, receptor = projection.place
            for c in self.cells:
                if (c.population, c.site) == (projection.target, site):
                    job = (c, receptor, float(weight[unit, c.unit]))
                    heapq.heappush(
                        self.queue, (time + float(delay), len(self.queue) + 10**6 * len(self.spikes[population]), job)
                    )

    def run(self) -> None:
        for name, train in self.trains.items():
            for time, unit in train:
                self.send(name, unit, time)
        number = 0
        for name, steps in self.steps.items():
            population, site = self.net.place("test", name)
            value = steps.value if steps.batch is None else steps.value[self.sample]
            for k, time in enumerate(steps.time.tolist()):
                number -= 1
                of = [c for c in self.cells if (c.population, c.site) == (population, site)]
                heapq.heappush(self.queue, (time, number, [(c, float(value[k, c.unit])) for c in of]))
        now = 0.0
        while now < self.duration or self.queue:
            while self.queue and self.queue[0][0] <= now:
                self._arrive(heapq.heappop(self.queue)[2])
            if now >= self.duration:
                break
            ends = [self.duration, *(c.held for c in self.cells if c.held > now), *(t for t, _, _ in self.queue[:1])]
            now = self._flow(now, min(end for end in ends if end > now))

    def _arrive(self, job: Any) -> None:
        if isinstance(job, tuple):
            cell, receptor, weight = job
            cell.current[receptor] += weight
        else:
            for cell, value in job:
                cell.injected = value

    def _flow(self, now: float, end: float) -> float:
        fire = [i for i, c in enumerate(self.cells) if c.held <= now and c.number["threshold"] < math.inf]
        events = []
        for i in fire:
            crossing = lambda t, y, *_, i=i: y[i] - self.cells[i].number["threshold"]  # noqa: E731
            crossing.terminal, crossing.direction = True, 1
            events.append(crossing)
        n = len(self.cells)
        made = solve_ivp(
            self.slope, (now, end), np.concatenate([self.v, self.w]), "DOP853", args=(now,), events=events,
            rtol=self.rtol, atol=1e-11, dense_output=True, max_step=1e-3,
        )  # fmt: skip
        assert made.success
        at = float(made.t[-1])
        for k in np.nonzero((self.times >= now) & (self.times <= at))[0]:
            y = made.sol(self.times[k])
            self.traces["membrane"][k], self.traces["adaptation"][k] = y[:n], y[n:]
            self.traces["current"][k] = [self.entering(c, y[i], self.times[k] - now) for i, c in enumerate(self.cells)]
        self.v, self.w = made.y[:n, -1].copy(), made.y[n:, -1].copy()
        for c in self.cells:
            for receptor, (tau, _) in c.slots.items():
                c.current[receptor] *= math.exp(-(at - now) / tau)
        if made.status == 1:
            for i, hits in zip(fire, made.t_events, strict=True):
                if len(hits):
                    self._spike(i, at)
        return at

    def _spike(self, i: int, time: float) -> None:
        c = self.cells[i]
        self.jumps.append(time)
        self.v[i], c.held = c.number["reset"], time + c.number["refractory"]
        self.w[i] += c.number["b"]
        if c.output:
            self.send(c.population, c.unit, time)

    def trace(self, what: str, name: str) -> np.ndarray:
        """(T, N) of "population.compartment"."""
        population, site = self.net.place("test", name)
        return self.traces[what][
            :, [i for i, c in enumerate(self.cells) if (c.population, c.site) == (population, site)]
        ]
