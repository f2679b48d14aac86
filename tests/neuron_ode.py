"""One neuron of the stepped engine by SciPy at a tight tolerance, from one event to the next: slow, and independent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from spikeloop.engine.stepped import Cells

Arrival = tuple[float, int, int, float]
"""Time, receptor, compartment, weight."""


@dataclass(eq=False)
class Neuron:
    """Neuron ``unit`` of a population, driven by ``arrivals`` and, by compartment, steps (time, value) of a current."""

    cells: Cells
    unit: int
    arrivals: list[Arrival]
    steps: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    crossings: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        at = self.unit
        self.p: dict[str, Any] = {name: self.cells.field(name)[:, at] for name in FIELDS}
        self.tau_syn, self.reversal = self.cells.tau_syn[:, :, at], self.cells.reversal[:, :, at]
        self.count = self.cells.compartments

    def current(self, i: Any, v: Any) -> Any:
        """(C,): what enters V'."""
        leak = self.p["leak"]
        conductance = (self.reversal - v) / (self.reversal - leak)
        return np.where(np.isnan(self.reversal), i, i * conductance).sum(0)

    def slope(self, time: float, y: Any, j: Any, held: Any) -> Any:
        c, p = self.count, self.p
        v, w, i = y[:c], y[c : 2 * c], y[2 * c :].reshape(-1, c)
        with np.errstate(all="ignore"):
            x = np.minimum((v - p["exponential_threshold"]) / p["slope_factor"], 60.0)
            rise = np.where(p["slope_factor"] > 0, p["slope_factor"] * np.exp(x), 0.0)
            dw = np.where(p["tau_adaptation"] > 0, (p["a"] * (v - p["leak"]) - w) / p["tau_adaptation"], 0.0)
        leaking = np.where(self.cells.leaky, p["leak"] - v, 0.0)
        dv = (leaking + rise - w + self.current(i, v) + j) / p["tau_mem"]
        for (a, b), coupling in zip(self.cells.couplings, self.cells.coupling[:, self.unit], strict=True):
            dv[a] += (v[b] - v[a]) / (coupling * p["capacitance"][a])
            dv[b] += (v[a] - v[b]) / (coupling * p["capacitance"][b])
        return np.concatenate([np.where(held, 0.0, dv), dw, (-i / self.tau_syn).ravel()])

    def run(self, begin: float, end: float, samples: Any) -> dict[str, Any]:
        """Membranes, adaptations (T, C) and currents (T, C) at ``samples``; fills ``crossings``."""
        c, p = self.count, self.p
        v = np.where(p["leak"] >= p["threshold"], p["reset"], p["leak"])
        y = np.concatenate([v, np.zeros(c), np.zeros(self.tau_syn.size)])
        j, free, time = np.zeros(c), np.full(c, -np.inf), begin
        happen = sorted([*((a[0], a) for a in self.arrivals), *self._jumps()], key=lambda pair: pair[0])
        out: list[tuple[float, Any, Any]] = []
        while True:
            while happen and happen[0][0] <= time:
                self._arrive(happen.pop(0)[1], y, j)
            wanted = [t for t in samples if t == time]
            out += [(t, y.copy(), j.copy()) for t in wanted if not out or out[-1][0] < t]
            if time >= end:
                break
            until = min([end, *(h[0] for h in happen[:1]), *free[free > time]])
            time = self._piece(y, j, free, time, until, samples, out)
        values = [(y[:c], y[c : 2 * c], self.current(y[2 * c :].reshape(-1, c), y[:c])) for _, y, _ in out]
        return dict(zip(("membrane", "adaptation", "current"), map(np.array, zip(*values, strict=True)), strict=True))

    def _jumps(self) -> list[tuple[float, Any]]:
        return [(t, (compartment, value)) for compartment, some in self.steps.items() for t, value in some]

    def _arrive(self, what: Any, y: Any, j: Any) -> None:
        if len(what) == 2:
            j[what[0]] = what[1]
        else:
            y[2 * self.count + what[1] * self.count + what[2]] += what[3]

    def _piece(self, y: Any, j: Any, free: Any, time: float, until: float, samples: Any, out: Any) -> float:
        c, held = self.count, free > time

        def crossing(k: int) -> Any:
            def of(t: float, state: Any) -> float:
                return state[k] - self.p["threshold"][k]

            of.terminal, of.direction = True, 1  # type: ignore[attr-defined]
            return of

        able = [k for k in range(c) if not held[k] and np.isfinite(self.p["threshold"][k])]
        able = [k for k in able if y[k] < self.p["threshold"][k]]
        shortest = min(self.p["tau_mem"].min(), self.tau_syn.min())
        done = solve_ivp(
            lambda t, state: self.slope(t, state, j, held),
            (time, until),
            y,
            method="DOP853",
            rtol=1e-10,
            atol=1e-11,
            events=[crossing(k) for k in able],
            dense_output=True,
            max_step=shortest / 4,
        )
        reached = done.t[-1]
        out += [(t, done.sol(t), j.copy()) for t in samples if time < t < reached]
        y[:] = done.y[:, -1]
        for k, times in zip(able, done.t_events or [], strict=True):
            if len(times) and times[0] == reached:
                y[k], free[k] = self.p["reset"][k], reached + self.p["refractory"][k]
                y[c + k] += self.p["b"][k]
                self.crossings.append((reached, k))
        return until if done.status == 0 else reached

    @property
    def spikes(self) -> list[float]:
        """Crossings of the output compartment."""
        return [t for t, k in self.crossings if k == self.cells.output]


FIELDS = (
    "tau_mem",
    "threshold",
    "leak",
    "reset",
    "refractory",
    "slope_factor",
    "exponential_threshold",
    "tau_adaptation",
    "a",
    "b",
    "capacitance",
)
