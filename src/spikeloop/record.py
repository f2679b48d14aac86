"""A record: what was observed while a network ran, whoever ran it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from spikeloop.errors import UnknownPopulation
from spikeloop.events import Events

V = TypeVar("V")


class Observed(dict[str, V]):
    """What was observed, by population; one that was not raises ``UnknownPopulation``, a ``KeyError``."""

    __slots__ = ("ask", "what")
    what: str
    ask: str | None

    def __init__(self, what: str, found: Mapping[str, V], ask: str | None = None) -> None:
        dict.__init__(self, found)
        self.what, self.ask = what, ask

    def __missing__(self, name: str) -> V:
        raise UnknownPopulation(
            f"there is no {self.what} of {name!r}",
            where="record",
            expected=f"one of {', '.join(self)}" if self else None,
            todo=None if self.ask is None else f"Ask for it: observe=Observe({self.ask.format(name)})",
        )


@dataclass(frozen=True, eq=False)
class Samples:
    """A membrane (or another trace) sampled over time.

    time: (T,) or (B, T) float64 seconds.  unit: (M,) int64, the neurons observed.  value: (B, T, M); carries the
    gradient.
    """

    time: Tensor
    unit: Tensor
    value: Tensor


@dataclass(frozen=True, eq=False)
class Peak:
    """The maximum over time of each neuron's membrane: exact where it is computed, of the samples where it is measured.

    time: (B, N) float64 seconds, where the maximum is.  value: (B, N); carries the gradient.
    """

    time: Tensor
    value: Tensor


@dataclass(frozen=True)
class Cost:
    """What a run took. Seconds, joules, numbers of events over the whole batch; None: not known."""

    wall_time: float = 0.0
    chip_time: float | None = None
    spikes: int = 0
    synaptic_events: int = 0
    events_lost: int = 0
    energy: float | None = None


@dataclass(frozen=True)
class Lowering:
    """What became of the network on its way to a chip: numbers of weights, circuits and events.

    clipped: weights beyond the range, cut off at its end.  rounded: others that lay between codes; rounding: the root
    of the mean square of what that changed, in codes, over all weights.  placed: circuits in use; failed: those of them
    that failed their calibration; masked: failed ones that are left aside.  dropped: events.
    placement: by population, (N, n), the circuits of each neuron.  run: by population, (N,), in which of ``runs`` it
    is, one after the other.  calibration: whose, and which version.
    """

    clipped: int = 0
    rounded: int = 0
    rounding: float = 0.0
    placed: int = 0
    failed: int = 0
    masked: int = 0
    dropped: int = 0
    placement: Mapping[str, Tensor] = field(default_factory=dict)
    run: Mapping[str, Tensor] = field(default_factory=dict)
    runs: int = 1
    calibration: str | None = None


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a plasticity kernel recorded under one name, or the weights that it left.

    time: (U,) float64 seconds, the calls in which it did; (U, B) where samples differ in them, each row one call as it
    was due: a chip may make it late, or skip it, in some samples.
    value: (U, B, ...).  Where a sample was not called or recorded nothing, both are NaN, and integers floating-point
    numbers for that.
    """

    time: Tensor
    value: Tensor


@dataclass(frozen=True)
class Calls:
    """What became of the calls of a plasticity program. Numbers over the whole batch.

    made: executed ones.  late, skipped: those that a chip's processor, busy with others, executed later than they were
    due, or not at all.  longest: seconds of chip time that one took; None: nothing that takes a chip's time.
    saturated: results of its arithmetic, and numbers given to it, that lay beyond the range and became its end.
    """

    made: int = 0
    late: int = 0
    skipped: int = 0
    longest: float | None = None
    saturated: int = 0


@dataclass(frozen=True, eq=False)
class State:
    """Where a run ended, to continue from: by population.

    membrane, current: (B, N).  held: (B, N), seconds of refractory time that are left (0 where free).
    recent: spikes still on their way through delays, their times as ages: seconds before the end.
    time: the clock, seconds, with which a run that starts here goes on: its drive, its samples and its spikes are at
    absolute times from there on.
    parts: by who made it ("exact", "plasticity", ...), what it takes to go on as if nothing had been cut, to the last
    bit; opaque, and left aside where it does not belong to the other fields (any more). A state made by hand has none.
    """

    membrane: Mapping[str, Tensor] = field(default_factory=dict)
    current: Mapping[str, Tensor] = field(default_factory=dict)
    held: Mapping[str, Tensor] = field(default_factory=dict)
    recent: Mapping[str, Events] = field(default_factory=dict)
    time: float = 0.0
    parts: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def opaque(self) -> bool:
        """Whether it shows nothing of the neurons (a chip's does not): only who made it can go on from it."""
        return bool(self.parts) and not self.membrane


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """What was observed: the only thing a rule, a loss or a picture gets to see of a run.

    spikes: `Events` of every spiking population and of the inputs (the drive).  duration: seconds, from ``begin`` on:
    all times are on that clock.
    count: (B, N), number of spikes of every population but the inputs, differentiable: where silent neurons and budgets
    get their gradient.
    membrane: `Samples` of the populations ("population.compartment") that were asked for.  peak: `Peak` likewise.
    adaptation, current: `Samples` likewise, without a gradient.
    executed: by projection, the weights in model units as the substrate ran them.
    silent: by population, (B, N) bool, the neurons that dropout kept from sending.
    state: where it ended, if asked for.  number: which draw of the trial-to-trial noise.
    weights: by plastic projection, (B, S, T) or (B, K), model units: what each sample had learned at the end.
    sources: by sparse plastic projection, (B, K) int64: the sources of the synapses at the end.
    history: by plastic projection, `Recorded` weights after every call of its program, (U, B, S, T), if asked for;
    NaN where a call was made in other samples only.
    recorded: by program and name, what its kernel recorded.
    calls: by program, what became of its calls.
    """

    spikes: Mapping[str, Events]
    duration: float
    count: Mapping[str, Tensor] = field(default_factory=dict)
    membrane: Mapping[str, Samples] = field(default_factory=dict)
    peak: Mapping[str, Peak] = field(default_factory=dict)
    executed: Mapping[str, Tensor] = field(default_factory=dict)
    silent: Mapping[str, Tensor] = field(default_factory=dict)
    state: State | None = None
    number: int | None = None
    lowering: Lowering | None = None
    cost: Cost = field(default_factory=Cost)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    sources: Mapping[str, Tensor] = field(default_factory=dict)
    history: Mapping[str, Recorded] = field(default_factory=dict)
    recorded: Mapping[str, Mapping[str, Recorded]] = field(default_factory=dict)
    calls: Mapping[str, Calls] = field(default_factory=dict)
    adaptation: Mapping[str, Samples] = field(default_factory=dict)
    current: Mapping[str, Samples] = field(default_factory=dict)
    begin: float = 0.0

    def _with(self, **changed: Any) -> Record:
        """The same record with other fields in the place of some."""
        record = object.__new__(type(self))
        record.__dict__.update(self.__dict__, **changed)
        return record

    def __len__(self) -> int:
        """The number of samples in the batch."""
        if self.spikes:
            return len(next(iter(self.spikes.values())))
        return next((len(samples.value) for samples in self.membrane.values()), 0)

    def __repr__(self) -> str:
        chip = "" if self.cost.chip_time is None else f" (chip {_seconds(self.cost.chip_time)})"
        samples = len(self)
        populations = [
            f"{name} {len(events.time) / max(samples, 1):.1f}" for name, events in self.spikes.items() if events.size
        ]
        parts = [f"{_seconds(self.duration)}{chip}", f"{samples} sample{'' if samples == 1 else 's'}"]
        text = ", ".join(parts) + ": " + ", ".join(populations) + " spikes/sample"
        seen = {"membrane": self.membrane, "adaptation": self.adaptation, "current": self.current, "peak": self.peak}
        traces = [f"{what} of {name}" for what, found in seen.items() for name in found]
        if self.lowering is not None:
            traces.append(f"{self.lowering.clipped} weights clipped")
        if self.lowering is not None or self.cost.events_lost:
            traces.append(f"{self.cost.events_lost} events dropped")
        return ", ".join([text, *traces])


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.4g} {unit}"
    return f"{value / 1e-9:.4g} ns"
