"""Neurons in fixed steps: adaptive exponential ones and trees of compartments. Arrays in, arrays out, no torch.

The equation of every compartment is in cpp/stepped.hpp. Step k lies between k h and (k + 1) h of an absolute clock, and
the state at its end is a function of that at its beginning and of what arrives in between: a run that is cut at a whole
step and continued is, bit for bit, the run that was not cut, whatever the number of threads. A spike is a function of
what arrived before it: a run that ends within a step has the spikes until then of one that goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Delays, Float, Peaks, Recovered, Recovery, Rows, Trains, Weights
from spikeloop.engine.failures import Divergence, Explosion
from spikeloop.engine.short_term import recent_sizes, rested

CELL_FIELDS = (
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
"""The rows of `Cells.values`."""

STEPS_PER_TIME_CONSTANT = 5
"""No step is longer than this part of any time constant."""


@dataclass(frozen=True, eq=False)
class Disturbances:
    """What a chip's neurons have beside their parameters; all but ``name`` (C, N) float64.

    floor: an arrival finds V no lower.  most: the largest \\|I\\| of a receptor right after an arrival.  noise: rms of
    an Ornstein-Uhlenbeck process with the membrane's time constant that is added to V (not to what the exponential
    term sees) and starts again from 0 at a release.  threshold_noise: rms, drawn for every spike.  name: (N,), a whole
    number that chooses the neuron's random streams under ``key``, which says which draw.
    """

    floor: Float
    most: Float
    noise: Float
    threshold_noise: Float
    name: Float
    key: int = 0


@dataclass(frozen=True, eq=False)
class Cells:
    """N neurons with C compartments and K receptors each; potentials absolute, times in seconds.

    values: (11, C, N) float64, rows as in `CELL_FIELDS`; threshold inf: never, slope_factor 0: no exponential term,
    a = b = 0: no adaptation.  leaky: (C,) bool; without leak tau_mem is only the scale of the capacitance.
    tau_syn, reversal: (K, C, N), reversal NaN: current-based.  couplings: (L, 2) int32, which compartments;
    coupling: (L, N), capacitance of reference over conductance.  output: whose crossings are spikes.
    """

    name: str
    values: Float
    leaky: NDArray[np.bool_]
    tau_syn: Float
    reversal: Float
    couplings: NDArray[np.int32]
    coupling: Float
    output: int = 0
    disturbance: Disturbances | None = None

    @property
    def size(self) -> int:
        """N."""
        return self.values.shape[2]

    @property
    def compartments(self) -> int:
        """C."""
        return self.values.shape[1]

    @property
    def receptors(self) -> int:
        """K."""
        return self.tau_syn.shape[0]

    def field(self, name: str) -> Float:
        """(C, N): one of `CELL_FIELDS`."""
        return self.values[CELL_FIELDS.index(name)]


@dataclass(frozen=True, eq=False)
class SteppedLink:
    """A projection to one receptor of one compartment: weight (N_source, N_target), or with ``rows`` a flat list.

    delay: (1,), (N_source,) or, in the order of the rows, (K,).  amplitude: a factor for every event of the source's
    trains, in their order; for sources outside the stage.  short_term: the plasticity of the link, from which
    the sizes of spikes within the stage follow; those from outside are the amplitude's.
    """

    name: str
    source: str
    target: str
    weight: Weights
    delay: Float
    delays: Delays = Delays.COMMON
    rows: Rows | None = None
    receptor: int = 0
    compartment: int = 0
    amplitude: Float | None = None
    short_term: Recovery | None = None


@dataclass(frozen=True, eq=False)
class SteppedStage:
    """Populations that run together; links from outside, and among them.

    A spike reaches targets of its own stage after the delay, but not within the step in which it was sent: with delays
    shorter than that it arrives at the beginning of the next step.
    """

    populations: tuple[Cells, ...]
    links: tuple[SteppedLink, ...]
    dtype: np.dtype[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class SteppedState:
    """All that a step goes on from, exactly as the kernel has it.

    membrane: V - leak, adaptation: w, both (B, C, N); current: (B, K, C, N), all in the stage's dtype.  Float64, (B, C,
    N): free (absolute time at which a compartment is released), noise (of the membrane), shift (what the threshold
    differs by).  fired: (B, C, N) int64, crossings so far. Spikes on their way are the run's ``recent``.
    """

    membrane: Weights
    adaptation: Weights
    current: Weights
    free: Float
    noise: Float
    shift: Float
    fired: NDArray[np.int64]

    @classmethod
    def empty(cls, cells: Cells, batch: int, dtype: Any) -> SteppedState:
        """For a run to fill; to start from, a state at rest (V = leak, everywhere)."""
        shape = (batch, cells.compartments, cells.size)
        membrane, adaptation = np.zeros(shape, dtype), np.zeros(shape, dtype)
        current = np.zeros((batch, cells.receptors, *shape[1:]), dtype)
        free = np.full(shape, -np.inf)
        return cls(membrane, adaptation, current, free, np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64))

    def arrays(self) -> tuple[Any, ...]:
        """As the native engine takes them."""
        return (self.membrane, self.adaptation, self.current, self.free, self.noise, self.shift, self.fired)


class Quantity(IntEnum):
    """What is sampled; the numbers are the native engine's. A current is the sum of receptors as it enters V'."""

    MEMBRANE = 0
    ADAPTATION = 1
    CURRENT = 2


@dataclass(frozen=True, eq=False)
class SteppedSampling:
    """Samples at ascending absolute times (1, T) or (B, T) of columns: unit and compartment (M,) int32 each.

    value: (B, T, M) float64, filled; times outside the run are left alone. Right-continuous.
    """

    time: Float
    unit: NDArray[np.int32]
    compartment: NDArray[np.int32]
    value: Float
    quantity: Quantity = Quantity.MEMBRANE


@dataclass(frozen=True, eq=False)
class Current:
    """J of a compartment, in the unit of V: value (1 or B, T, N) from time[k] to time[k + 1], 0 before time[0]."""

    compartment: int
    time: Float
    value: Float


@dataclass(frozen=True, eq=False)
class SteppedAsk:
    """What is asked of one population; the engine fills ``end``, ``samplings``, ``peaks`` and adds to ``count`` (B, N).

    silent: (B, N) uint8, neurons that are reset at a crossing but send nothing.  peaks: of the output compartment.
    currents: at most one a compartment.
    """

    silent: NDArray[np.uint8] | None = None
    start: SteppedState | None = None
    end: SteppedState | None = None
    samplings: tuple[SteppedSampling, ...] = ()
    currents: tuple[Current, ...] = ()
    peaks: Peaks | None = None
    count: NDArray[np.float32] | None = None


NOTHING = SteppedAsk()


@dataclass(frozen=True, eq=False)
class SteppedRun:
    """Steps ``first`` .. ``first + steps`` of length ``step``, all times absolute.

    recent: spikes of populations of the stage from before, which may still be on their way; those sent before
    ``settled`` (None: the step before the run) whose delays are over by the beginning have arrived, later ones arrive
    then.  recovered: by short-term link within the stage, where it is.
    """

    batch: int
    step: float
    steps: int
    first: int = 0
    threads: int = 1
    spike_limit: int = 100_000
    recent: Mapping[str, Trains] = field(default_factory=dict[str, Trains])
    recovered: Mapping[str, Recovered] = field(default_factory=dict[str, Recovered])
    settled: float | None = None


def forward(
    stage: SteppedStage, trains: Mapping[str, Trains], run: SteppedRun, asks: Mapping[str, SteppedAsk]
) -> dict[str, Trains]:
    """The spikes of the stage's populations, by name, within the run.

    trains: of the sources outside the stage, those that may still be on their way included; what arrives outside the
    run is ignored. Raises ``Explosion``, ``Divergence``.
    """
    number = {cells.name: n for n, cells in enumerate(stage.populations)}
    links = [link_in(link, number, trains, run) for link in stage.links]
    wishes = [asked_in(asks.get(cells.name, NOTHING)) for cells in stage.populations]
    given = run_in(run)
    door = _core.stepped_forward_single if stage.dtype == np.float32 else _core.stepped_forward_double
    try:
        made = door([cells_in(cells) for cells in stage.populations], links, given, wishes)
    except _core.Explosion as where:
        sample, unit, population = map(int, where.args)
        raise Explosion(stage.populations[population].name, sample, unit) from None
    except _core.Divergence as where:
        sample, unit, population = map(int, where.args)
        raise Divergence(stage.populations[population].name, sample, unit) from None
    return dict(zip(number, made, strict=True))


def largest_step(cells: Cells) -> float:
    """The longest step that keeps the stated errors: a fifth of the shortest time constant.

    Membrane and adaptation have two together, the inverse eigenvalues of their linear equations.
    """
    times = [cells.field("tau_mem").min(initial=np.inf), cells.tau_syn.min(initial=np.inf)]
    adapting = (cells.field("a") != 0) | (cells.field("b") != 0)
    times.append(cells.field("tau_adaptation")[adapting].min(initial=np.inf))
    times.append((1 / _fastest_rates(cells, adapting)).min(initial=np.inf))
    pull = np.zeros(cells.values.shape[1:])
    for (first, second), coupling in zip(cells.couplings, cells.coupling, strict=True):
        for compartment in (first, second):
            pull[compartment] += 1 / (coupling * cells.field("capacitance")[compartment])
    times.append((1 / pull[pull > 0]).min(initial=np.inf))
    return float(min(times)) / STEPS_PER_TIME_CONSTANT


def _fastest_rates(cells: Cells, some: NDArray[np.bool_]) -> Float:
    """Largest modulus of the eigenvalues of v' = -(leaky v + w) / tau_mem, w' = (a v - w) / tau_adaptation.

    some: (C, N), which compartments of which neurons.
    """
    membrane, adaptation = 1 / cells.field("tau_mem")[some], 1 / cells.field("tau_adaptation")[some]
    leak = membrane * np.broadcast_to(cells.leaky[:, None], some.shape)[some]
    mean, product = (leak + adaptation) / 2, (leak + cells.field("a")[some] * membrane) * adaptation
    apart = mean**2 - product
    return np.where(apart < 0, np.sqrt(np.maximum(product, 0.0)), mean + np.sqrt(np.maximum(apart, 0.0)))


def steps_of(time: Float, step: float) -> NDArray[np.int64]:
    """The step k with k h <= time < (k + 1) h of each time, whatever rounding does."""
    number = np.floor(time / step).astype(np.int64)
    number += (number + 1) * step <= time
    return number - (number * step > time)


def run_in(run: SteppedRun) -> Any:
    """A run as the native engine takes it."""
    return run.batch, run.first, run.steps, run.spike_limit, run.step, run.threads, run.settled


def cells_in(cells: Cells) -> Any:
    """A population as the native engine takes it."""
    given = cells.disturbance
    disturbed = None
    if given is not None:
        arrays = (given.floor, given.most, given.noise, given.threshold_noise, given.name)
        disturbed = (*(np.ascontiguousarray(array, np.float64) for array in arrays), given.key % 2**64)
    return (
        np.ascontiguousarray(cells.values, np.float64),
        np.ascontiguousarray(cells.leaky, np.uint8),
        np.ascontiguousarray(cells.tau_syn, np.float64),
        np.ascontiguousarray(cells.reversal, np.float64),
        np.ascontiguousarray(cells.couplings, np.int32).reshape(-1, 2),
        np.ascontiguousarray(cells.coupling, np.float64).reshape(-1, cells.size),
        cells.output,
        disturbed,
    )


def link_in(link: SteppedLink, number: Mapping[str, int], trains: Mapping[str, Trains], run: SteppedRun) -> Any:
    """A link, likewise."""
    inside = link.source in number
    events, amplitude, driver = trains.get(link.source), link.amplitude, None
    if inside:
        events = run.recent.get(link.source)
        if link.short_term is not None:
            amplitude, driver = recent_sizes(link, run), driver_in(link, run)
    return linked(link, number, events, amplitude, driver)


def driver_in(link: SteppedLink, run: SteppedRun) -> Any:
    """What the events of a link draw on, and where that is when the run begins, likewise."""
    given = link.short_term
    assert given is not None
    x, last = (np.ascontiguousarray(part) for part in rested(run.batch, given, run.recovered.get(link.name)))
    return *given.arrays(), x, last


def linked(
    link: SteppedLink, number: Mapping[str, int], events: Trains | None, amplitude: Float | None, driver: Any,
    drawn: Any = None,
) -> Any:  # fmt: skip
    """A link with the events that its source's trains bring, likewise; drawn: what these met, for the reverse sweep."""
    place = (number.get(link.source, -1), number[link.target], link.receptor, link.compartment)
    ends = (*place, events, amplitude, driver, drawn)
    rows, size = link.rows, len(link.weight)
    arrays: tuple[Any, ...] = (None, None, None)
    if rows is not None:
        arrays, size = (rows.begin, rows.target, rows.weight), len(rows.begin) - 1
    return ends, (*arrays, np.ascontiguousarray(link.weight).reshape(-1), link.delay, int(link.delays), size)


def asked_in(ask: SteppedAsk) -> Any:
    """What is asked of it, likewise."""
    currents: Sequence[Any] = [(c.compartment, c.time, c.value) for c in ask.currents]
    peaks = None if ask.peaks is None else (ask.peaks.time, ask.peaks.value)
    start, end = (None if state is None else state.arrays() for state in (ask.start, ask.end))
    return (ask.silent, start, end, samplings_in(ask.samplings), currents, peaks, ask.count)


def samplings_in(asked: Sequence[SteppedSampling]) -> list[Any]:
    """Samplings, likewise."""
    return [(int(s.quantity), s.time, s.unit, s.compartment, s.value) for s in asked]


def error(
    stage: SteppedStage,
    trains: Mapping[str, Trains],
    run: SteppedRun,
    asks: Mapping[str, SteppedAsk],
    half: Mapping[str, SteppedAsk],
) -> tuple[float, float]:
    """How far a run is from one of half the step: largest differences of sampled values and of spike times, seconds.

    half: the same asks with arrays and states of their own; both are filled. Infinite where a neuron's number of spikes
    differs. In smooth stretches the error of the run itself is about as large, and falls with the third power of the
    step at least.
    """
    once = forward(stage, trains, run, asks)
    finer = replace(run, step=run.step / 2, first=2 * run.first, steps=2 * run.steps)
    twice = forward(stage, trains, finer, half)
    apart, late = 0.0, 0.0
    for name in once:
        pairs = zip(asks.get(name, NOTHING).samplings, half.get(name, NOTHING).samplings, strict=True)
        apart = max([apart, *(float(np.nanmax(np.abs(a.value - b.value), initial=0.0)) for a, b in pairs)])
        late = max(late, _late(once[name], twice[name]))
    return apart, late


def _late(first: Trains, second: Trains) -> float:
    """The largest difference of spike times, neuron by neuron."""
    sorted_by = [np.lexsort((t[0], t[1], np.repeat(np.arange(len(t[2]) - 1), np.diff(t[2])))) for t in (first, second)]
    mine, theirs = (train[1][order] for train, order in zip((first, second), sorted_by, strict=True))
    if not (np.array_equal(first[2], second[2]) and np.array_equal(mine, theirs)):
        return float("inf")
    return float(np.abs(first[0][sorted_by[0]] - second[0][sorted_by[1]]).max(initial=0.0))
