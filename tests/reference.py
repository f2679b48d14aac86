"""Naive slow twins of the engine, written for clarity: plain Python, one neuron and one event at a time.

`simulate` runs any network of LIF, LI and input populations exactly. Crossings are bracketed by bisecting the sign of
V' and then of V - threshold, which shares nothing with the formulas of the engine. Its gradients are in `oracle.py`.

It takes a `Layout` (what is connected to what) and `quantities`: natural values keyed (owner, field) as
`Network.quantities()` gives them, and one sample of the drive: {input population: (times (S,), units (S,))}.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Quantities = Mapping[tuple[str, str], Any]
Drive = Mapping[str, tuple[Any, Any]]
FIELDS = {
    "lif": ("tau_mem", "tau_syn", "threshold", "leak", "reset", "refractory"),
    "li": ("tau_mem", "tau_syn", "leak"),
}
ROUNDING = 1e-14  # a peak this close to the threshold, relative to the potentials at hand, only touches it


@dataclass(frozen=True)
class Wiring:
    """One projection, synapse by synapse: its weight is weight.flatten()[weight_index], its delay likewise."""

    source: str
    target: str
    pre: NDArray[np.int64]
    post: NDArray[np.int64]
    weight_index: NDArray[np.int64]
    delay_index: NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Sizes and kinds ("input", "lif", "li") of the populations, and the projections between them."""

    size: dict[str, int]
    kind: dict[str, str]
    wiring: dict[str, Wiring]


@dataclass(frozen=True)
class Event:
    """A spike or, with `cell` None, an event of the drive."""

    time: float
    population: str
    unit: int
    cell: Cell | None = None


@dataclass(frozen=True)
class Arrival:
    """The event number `origin` of a run reaching its target through one synapse of a projection."""

    time: float
    weight: float
    origin: int
    projection: str
    synapse: int


def kernel(time: float, tau_mem: float, tau_syn: float) -> float:
    """V after `time` for I = 1 and V = leak at 0: integral of exp(-(time - s) / tau_mem - s / tau_syn) / tau_mem."""
    fast, slow = min(tau_mem, tau_syn), max(tau_mem, tau_syn)
    x = time * (1 / fast - 1 / slow)
    return math.exp(-time / slow) * time / tau_mem * (-math.expm1(-x) / x if x else 1.0)


def root(function: Any, low: float, high: float) -> float:
    """Where `function` changes sign between `low` and `high`, to the last bit, by bisection."""
    rising = function(high) > 0
    while low < (middle := 0.5 * (low + high)) < high:
        if (function(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return high


@dataclass
class Cell:
    """One LIF (or, without a threshold, LI) neuron: its state at `time` and all that happened to it."""

    tau_mem: float
    tau_syn: float
    leak: float
    threshold: float = math.inf
    reset: float = -math.inf
    refractory: float = 0.0
    duration: float = 0.0
    time: float = 0.0
    voltage: float = 0.0
    current: float = 0.0
    free_from: float = 0.0
    crossing: float = math.inf
    arrivals: list[Arrival] = field(default_factory=list)
    spikes: list[int] = field(default_factory=list)  # numbers of the events of the run
    seen: list[int] = field(default_factory=list)  # number of arrivals before each spike
    history: list[tuple[float, float, float, float]] = field(default_factory=list)  # (time, V, I, free_from)

    def __post_init__(self) -> None:
        self.voltage = self.reset if self.leak >= self.threshold else self.leak
        self.changed()

    def changed(self) -> None:
        """Note the new state and predict the next crossing, as if nothing else arrived."""
        self.history.append((self.time, self.voltage, self.current, self.free_from))
        self.crossing = self.next_crossing()

    def after(self, state: tuple[float, float, float, float], time: float) -> tuple[float, float]:
        """(V, I) at `time`, from an earlier state and without arrivals since."""
        start, voltage, current, free_from = state
        if start < free_from:  # held at reset until free_from
            until = min(time, free_from)
            current *= math.exp(-(until - start) / self.tau_syn)
            start, voltage = until, self.reset
        passed = time - start
        if time > free_from or start >= free_from:
            rise = current * kernel(passed, self.tau_mem, self.tau_syn)
            voltage = self.leak + (voltage - self.leak) * math.exp(-passed / self.tau_mem) + rise
        return voltage, current * math.exp(-passed / self.tau_syn)

    def stationary(self, voltage: float, current: float, horizon: float) -> float | None:
        """Time in (0, horizon) at which V' = 0; exp(t / tau_mem) V' is monotone, so there is at most one."""
        rate = 1 / self.tau_mem - 1 / self.tau_syn

        def slope(time: float) -> float:
            grown = math.inf if rate * time > 700 else (math.expm1(rate * time) / rate if rate else time)
            return current - (voltage - self.leak) - (current / self.tau_syn * grown if current else 0.0)

        if horizon <= 0 or slope(0.0) * slope(horizon) >= 0:
            return None
        return root(slope, 0.0, horizon)

    def next_crossing(self) -> float:
        """When V next reaches the threshold from below, without further arrivals, or inf."""
        start = max(self.time, self.free_from)
        horizon = self.duration - start
        if self.threshold == math.inf or horizon <= 0:
            return math.inf
        voltage, current = self.after(self.history[-1], start)
        if max(voltage, self.leak) + max(current, 0.0) < self.threshold:
            return math.inf  # the kernel is below 1: V can never get there
        if voltage >= self.threshold:
            return start  # rounding: it was due now
        margin = ROUNDING * (abs(self.leak) + abs(self.threshold) + abs(voltage) + abs(current))

        def above(time: float) -> float:
            return self.after((0.0, voltage, current, 0.0), time)[0] - self.threshold

        turn = self.stationary(voltage, current, horizon)
        pieces = [0.0, horizon] if turn is None else [0.0, turn, horizon]
        for low, high in itertools.pairwise(pieces):
            if above(low) < 0 and above(high) > margin:
                return start + root(above, low, high)
        return math.inf

    def receive(self, arrival: Arrival) -> None:
        self.voltage, current = self.after(self.history[-1], arrival.time)
        self.time, self.current = arrival.time, current + arrival.weight
        self.arrivals.append(arrival)
        self.changed()

    def spike(self, number: int) -> None:
        _, self.current = self.after(self.history[-1], self.crossing)
        self.time, self.voltage, self.free_from = self.crossing, self.reset, self.crossing + self.refractory
        self.spikes.append(number)
        self.seen.append(len(self.arrivals))
        self.changed()

    def slope(self, spike: int, times: list[float]) -> float:
        """V' just before the spike of this number: (leak - threshold + I) / tau_mem."""
        time = times[self.spikes[spike]]
        coming = self.arrivals[: self.seen[spike]]
        current = sum(each.weight * math.exp(-(time - each.time) / self.tau_syn) for each in coming)
        return (self.leak - self.threshold + current) / self.tau_mem

    def membrane(self, time: float) -> float:
        """V at `time`; right-continuous, so reset at a spike."""
        return self.after(self.history[bisect.bisect_right(self.history, time, key=lambda h: h[0]) - 1], time)[0]

    def peak(self) -> tuple[float, float]:
        """(time, value) of the supremum of V over [0, duration]; the threshold just before the first spike."""
        best = (0.0, -math.inf)
        ends = [*(state[0] for state in self.history[1:]), self.duration]
        for state, end in zip(self.history, ends, strict=True):
            start = min(max(state[0], state[3]), end)
            voltage, current = self.after(state, start)
            turn = self.stationary(voltage, current, end - start)
            for time in (start, start if turn is None else start + turn, end):
                value = self.after(state, time)[0]
                if value > best[1]:
                    best = (time, value)
        return best


@dataclass
class Run:
    """What `simulate` found: all events in the order in which they happened (the drive's first), and every cell."""

    events: list[Event]
    cells: dict[str, list[Cell]]
    duration: float

    def spikes(self, population: str) -> list[tuple[float, int]]:
        return [(e.time, e.unit) for e in self.events if e.population == population and e.time <= self.duration]

    def trains(self, population: str) -> list[list[float]]:
        return [[self.events[number].time for number in cell.spikes] for cell in self.cells[population]]

    def membrane(self, population: str, times: Any) -> NDArray[np.float64]:
        """(T, N)"""
        return np.array([[cell.membrane(float(time)) for cell in self.cells[population]] for time in times])

    def peak(self, population: str) -> NDArray[np.float64]:
        """(N, 2): time and value."""
        return np.array([cell.peak() for cell in self.cells[population]])

    def slowest(self) -> float:
        """The least V' tau_mem / threshold at any spike: how close the run is to losing one."""
        times = [event.time for event in self.events]
        every = (cell for cells in self.cells.values() for cell in cells)
        return min(
            (c.slope(k, times) * c.tau_mem / c.threshold for c in every for k in range(len(c.spikes))), default=math.inf
        )


def values(layout: Layout, quantities: Quantities, population: str) -> list[dict[str, float]]:
    """The parameters of every neuron of a population as floats."""
    names, size = FIELDS[layout.kind[population]], layout.size[population]
    columns = [np.broadcast_to(numbers(quantities[population, name]), (size,)) for name in names]
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


def numbers(value: Any) -> NDArray[np.float64]:
    return np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=np.float64)


def fan_out(layout: Layout, quantities: Quantities) -> dict[tuple[str, int], list[tuple[str, int, float, float]]]:
    """{(population, unit): [(projection, synapse, weight, delay)]}"""
    found: dict[tuple[str, int], list[tuple[str, int, float, float]]] = {}
    for name, wiring in layout.wiring.items():
        weight = numbers(quantities[name, "weight"]).ravel()[wiring.weight_index]
        delay = numbers(quantities[name, "delay"]).ravel()[wiring.delay_index]
        for k, pre in enumerate(wiring.pre):
            synapse = (name, k, float(weight[k]), float(delay[k]))
            found.setdefault((wiring.source, int(pre)), []).append(synapse)
    return found


def simulate(layout: Layout, quantities: Quantities, drive: Drive, duration: float, limit: int = 100_000) -> Run:
    """One sample, event by event: whichever comes first, the next arrival or the next crossing anywhere, happens."""
    cells = {
        name: [Cell(**one, duration=duration) for one in values(layout, quantities, name)]
        for name, kind in layout.kind.items()
        if kind != "input"
    }
    spiking = [(name, unit, cell) for name in cells for unit, cell in enumerate(cells[name])]
    nobody = ("", 0, Cell(1.0, 1.0, 0.0))
    outgoing = fan_out(layout, quantities)
    run, queue = Run([], cells, duration), list[tuple[float, int, str, int, Arrival]]()

    def emit(event: Event) -> None:
        run.events.append(event)
        for name, k, weight, delay in outgoing.get((event.population, event.unit), []):
            wiring, time = layout.wiring[name], event.time + delay
            if time <= duration:
                arrival = Arrival(time, weight, len(run.events) - 1, name, k)
                heapq.heappush(queue, (time, len(run.events), name, k, arrival))
                assert wiring.target in cells

    for population, (times, units) in drive.items():
        for time, unit in zip(numbers(times), numbers(units), strict=True):
            emit(Event(float(time), population, int(unit)))
    while len(run.events) < limit:
        name, unit, cell = min(spiking, key=lambda each: each[2].crossing, default=nobody)
        if cell.crossing <= (queue[0][0] if queue else math.inf):
            if cell.crossing > duration:
                return run
            time = cell.crossing
            cell.spike(len(run.events))
            emit(Event(time, name, unit, cell))
        else:
            arrival = heapq.heappop(queue)[-1]
            wiring = layout.wiring[arrival.projection]
            cells[wiring.target][wiring.post[arrival.synapse]].receive(arrival)
    raise RuntimeError(f"more than {limit} events")


def multiply(weights: Any, activations: Any, how: Any) -> NDArray[np.int8]:
    """One pass of an array without imperfections, product by product, with Python's integers; how: an `ArrayPass`."""
    out = np.zeros((len(activations), np.shape(weights)[1]), np.int8)
    for sample, column in itertools.product(range(out.shape[0]), range(out.shape[1])):
        total = sum(int(a) * int(w) for a, w in zip(activations[sample], weights[:, column], strict=True))
        out[sample, column] = min(max(how.sends * how.gain * total // 10_000, -128), 127)
    return out
