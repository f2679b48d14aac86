"""What is asked of a place that runs networks, and of a rule that differentiates what it observed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from spikeloop.errors import CannotObserve, OutOfRange, UnknownPopulation, WrongType, kind_of
from spikeloop.events import Events
from spikeloop.network import Key, Network
from spikeloop.record import Record, State

_TINY = 1e-9  # relative: periods closer than this are the same


@dataclass(frozen=True)
class Every:
    """Sample at the multiples of ``period`` seconds; only ``neurons`` (indices), or all of them.

    The end of a run is included; its beginning at 0 is, too, but not that of one that goes on from there: of runs that
    continue each other exactly one has each sample.
    """

    period: float
    neurons: tuple[int, ...] | None = None

    def __init__(self, period: float, neurons: Collection[int] | None = None) -> None:
        if not hasattr(period, "__float__") or isinstance(period, bool) or getattr(period, "ndim", 0):
            raise WrongType(
                f"the sampling period is {kind_of(period)}",
                where="observe, membrane",
                expected="seconds; or Every(period, neurons); or a tensor of times",
            )
        if not (period >= 0 and math.isfinite(period)):
            raise OutOfRange(f"the sampling period is {period}", where="observe", expected="seconds, above zero")
        object.__setattr__(self, "period", float(period))
        object.__setattr__(self, "neurons", None if neurons is None else tuple(int(n) for n in neurons))


@dataclass(frozen=True, eq=False)
class Observe:
    """What to observe besides spikes, by population.

    membrane: how to sample the membrane: a period in seconds, `Every` (kept as `Every`), or a tensor of times (T,).
    peak: populations whose exact maxima over time are wanted.  state: whether the final state is.
    history: plastic projections whose weights after every call of a plasticity rule are wanted.

    As an offer (`Substrate.offers`) a period of 0 means: at any times whatever.  few: so many neurons, in all
    populations together, may be sampled with a shorter period, at best with this one in seconds.
    """

    membrane: Mapping[str, float | Every | Tensor] = field(default_factory=dict)
    peak: Collection[str] = frozenset()
    state: bool = False
    few: tuple[int, float] | None = None
    history: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        if not isinstance(self.membrane, Mapping):
            raise WrongType(
                f"the membranes are {kind_of(self.membrane)}",
                where="observe",
                expected='a mapping from populations to when: membrane={"output": 0.5e-3}',
            )
        if not isinstance(self.peak, Collection):
            raise WrongType(f"the peaks are {kind_of(self.peak)}", where="observe", expected='peak={"output"}')
        object.__setattr__(self, "membrane", {name: _sampling(given) for name, given in self.membrane.items()})
        object.__setattr__(self, "peak", frozenset((self.peak,) if isinstance(self.peak, str) else self.peak))
        object.__setattr__(
            self, "history", frozenset((self.history,) if isinstance(self.history, str) else self.history)
        )

    def times(self, population: str, duration: float, begin: float = 0.0) -> Tensor:
        """(T,) float64: when the membrane of ``population`` is sampled in a run of ``duration`` seconds."""
        given = self.membrane[population]
        if isinstance(given, Tensor):
            return given
        period = given.period if isinstance(given, Every) else given
        known, last = (math.floor(time / period * (1 + _TINY)) for time in (begin, begin + duration))
        first = known + 1 if begin > 0 else 0
        return torch.arange(first, max(last + 1, first), dtype=torch.float64) * period

    def neurons(self, population: str, size: int) -> Tensor:
        """(M,) int64: which of the ``size`` neurons of ``population`` are sampled."""
        given = self.membrane[population]
        chosen = given.neurons if isinstance(given, Every) else None
        return torch.arange(size) if chosen is None else torch.tensor(chosen, dtype=torch.int64)

    def union(self, other: Observe) -> Observe:
        """What satisfies both. Raises ``CannotObserve`` where two samplings of one membrane have no common grid."""
        if not (other.membrane or other.peak or other.state or other.history):
            return self
        membrane = dict(self.membrane)
        for name, wish in other.membrane.items():
            membrane[name] = _common(name, membrane[name], wish) if name in membrane else wish
        return Observe(
            membrane,
            frozenset(self.peak) | frozenset(other.peak),
            self.state or other.state,
            history=frozenset(self.history) | frozenset(other.history),
        )

    def missing(self, wish: Observe) -> str | None:
        """The first thing in ``wish`` that this offer does not cover, as a sentence; None where it covers all."""
        most, period = self.few or (0, math.inf)
        fast = 0
        for name, wanted in wish.membrane.items():
            if name not in self.membrane:
                return f"the membrane of {name!r} cannot be sampled"
            limit = _limit(self.membrane[name], wanted)
            chosen = wanted.neurons if isinstance(wanted, Every) and wanted.period >= period * (1 - _TINY) else None
            if limit and chosen is None:
                return f"the membrane of {name!r} {limit}"
            fast += len(chosen or ()) if limit else 0
        if fast > most:
            return f"{fast} neurons are asked for more often than all membranes can be sampled, {most} can be at most"
        for name in wish.peak:
            if name not in self.peak:
                return f"the peak of {name!r} cannot be observed"
        for name in wish.history:
            if name not in self.history:
                return f"the history of {name!r} cannot be observed"
        return "the final state cannot be observed" if wish.state and not self.state else None

    def covers(self, wish: Observe) -> bool:
        """Whether everything in ``wish`` is offered here."""
        return self.missing(wish) is None

    def check(self, network: Network, duration: float, begin: float = 0.0) -> None:
        """Raise where ``network`` has no such membrane or neuron, or a sampling time lies outside the run."""
        for name in (*self.membrane, *self.peak):
            _check_observed(network, name)
            population = network.populations[name]
            if name in self.membrane:
                _check_sampling(name, self.membrane[name], population.size, (begin, begin + duration))
        plastic = [projection for program in network.programs.values() for projection in program.projections]
        for name in self.history:
            if name not in plastic:
                raise UnknownPopulation(
                    f"there is no plastic projection {name!r}",
                    where="observe, history",
                    expected=f"one of {', '.join(plastic)}" if plastic else "a network with plasticity",
                )


NOTHING = Observe()
"""Spikes only."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What is asked for, as one value.

    network, drive (by input population), duration in seconds, observe: what to observe, start: the `State` to start
    from, number: which draw of the trial-to-trial noise, training: whether dropout was on, silent: (B, N) bool by
    population, neurons that may not spike in that sample (dropout).
    """

    network: Network
    drive: Mapping[str, Events]
    duration: float
    observe: Observe = NOTHING
    start: State | None = None
    number: int | None = None
    training: bool = False
    silent: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def begin(self) -> float:
        """The clock at the start, seconds: all times are from there on."""
        return 0.0 if self.start is None else self.start.time

    @property
    def end(self) -> float:
        """The clock at the end."""
        return self.begin + self.duration


@dataclass(frozen=True, eq=False)
class Cotangent:
    """The gradient of a loss with respect to a record; what is missing is zero.

    time: (S,) for every spike of a population.  count: (B, N).  membrane: (B, T, M).  peak: (B, N).
    wants: which gradients are asked for, as keys of ``Network.quantities`` or (input population, "time").
    """

    time: Mapping[str, Tensor] = field(default_factory=dict)
    count: Mapping[str, Tensor] = field(default_factory=dict)
    membrane: Mapping[str, Tensor] = field(default_factory=dict)
    peak: Mapping[str, Tensor] = field(default_factory=dict)
    wants: frozenset[Key] = frozenset()


Gradients = Mapping[Key, Tensor]
"""By key: shaped like ``Network.quantities()[key]``; for (input population, "time") like that drive's times, (S,)."""


@runtime_checkable
class Substrate(Protocol):
    """A place that runs networks: a simulator, the twin of a chip, a chip."""

    def offers(self, network: Network) -> Observe:
        """All that can be observed of ``network`` here."""
        ...

    def run(self, trial: Trial) -> Record:
        """Carry out ``trial``; the record's tensors carry no graph."""
        ...


@runtime_checkable
class Rule(Protocol):
    """A way to differentiate a record, from the record alone."""

    @property
    def accepts(self) -> frozenset[str]:
        """Which cotangents it can use, of "time", "count", "membrane", "peak"."""
        ...

    def needs(self, network: Network) -> Observe:
        """What it must see besides spikes."""
        ...

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        """The gradients of ``sum(cotangent * record)``; only what ``cotangent.wants`` is computed."""
        ...


def _sampling(given: float | Every | Tensor) -> Every | Tensor:
    if isinstance(given, Every):
        return given
    if not isinstance(given, Tensor):
        return Every(given)
    return given.detach().to(torch.float64)


def _common(name: str, one: float | Every | Tensor, other: float | Every | Tensor) -> Every | Tensor:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.cat([one, other]).unique()
    if isinstance(one, Every) and isinstance(other, Every):
        fine, coarse = sorted((one.period, other.period))
        ratio = coarse / fine
        if abs(ratio - round(ratio)) <= _TINY * ratio:
            both = None if one.neurons is None or other.neurons is None else (*one.neurons, *other.neurons)
            return Every(fine, None if both is None else sorted(set(both)))
    raise CannotObserve(
        f"the membrane of {name!r} is asked for at two samplings without a common grid",
        where="observe",
        expected="periods of which one is a multiple of the other, or times for both",
    )


def _limit(offered: float | Every | Tensor, wanted: float | Every | Tensor) -> str | None:
    if isinstance(offered, Tensor):
        inside = isinstance(wanted, Tensor) and bool(torch.isin(wanted, offered).all())
        return None if inside else "is sampled at its own fixed times only"
    assert isinstance(offered, Every)
    if offered.neurons is not None:
        asked = wanted.neurons if isinstance(wanted, Every) else None
        if asked is None or not set(asked) <= set(offered.neurons):
            return f"is sampled for {len(offered.neurons)} neurons only"
    if offered.period == 0:
        return None
    if isinstance(wanted, Tensor):
        return f"cannot be sampled at chosen times, only every {offered.period:g} s"
    assert isinstance(wanted, Every)
    if wanted.period < offered.period * (1 - _TINY):
        return f"cannot be sampled every {wanted.period:g} s, at best every {offered.period:g} s"
    return None


def _check_observed(network: Network, name: str) -> None:
    if name in network.populations and network.populations[name].kind is not None:
        return
    neurons = [each for each, population in network.populations.items() if population.kind is not None]
    what = f"{name!r} is an input and has no membrane" if name in network.populations else f"there is no {name!r}"
    raise UnknownPopulation(what, where="observe", expected=f"one of {', '.join(neurons)}")


def _check_sampling(name: str, given: float | Every | Tensor, size: int, span: tuple[float, float]) -> None:
    where = f"observe, membrane of {name!r}"
    if isinstance(given, Tensor):
        bad = given.ndim != 1 or not bool(((given >= span[0]) & (given <= span[1])).all())
        if bad or not bool((given.diff() >= 0).all()):
            inside = "0 to duration" if span[0] == 0 else f"{span[0]:g} to {span[1]:g} s, the clock of the run"
            raise OutOfRange("the sampling times do not fit", where=where, expected=f"(T,) ascending, {inside}")
        return
    assert isinstance(given, Every)
    if given.period <= 0:
        raise OutOfRange("the sampling period is 0", where=where, expected="seconds, above zero")
    if given.neurons is not None and not all(0 <= n < size for n in given.neurons):
        raise OutOfRange("a neuron does not exist", where=where, expected=f"neurons from 0 to {size - 1}")
