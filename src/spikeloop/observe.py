"""What to observe of a run besides spikes: traces over time, peaks, the final state."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeloop.errors import CannotObserve, OutOfRange, UnknownPopulation, WrongType, kind_of
from spikeloop.network import Network
from spikeloop.population import Population

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


When = float | Every | Tensor
"""When a trace is sampled: a period in seconds, `Every`, or times (T,)."""


@dataclass(frozen=True, eq=False)
class Observe:
    """What to observe besides spikes, by population, or by "population.compartment" (left out: the output compartment).

    membrane: how to sample the membrane: a period in seconds, `Every` (kept as `Every`), or a tensor of times (T,).
    adaptation, current: likewise; the current is the sum over the receptors as it enters the equation of the membrane.
    peak: populations whose exact maxima over time are wanted.  state: whether the final state is.
    history: plastic projections whose weights after every call of a plasticity rule are wanted.

    As an offer (`Substrate.offers`) a period of 0 means: at any times whatever.  few: so many neurons, in all
    populations together, may be sampled with a shorter period, at best with this one in seconds.
    """

    membrane: Mapping[str, When] = field(default_factory=dict)
    peak: Collection[str] = frozenset()
    state: bool = False
    few: tuple[int, float] | None = None
    adaptation: Mapping[str, When] = field(default_factory=dict)
    current: Mapping[str, When] = field(default_factory=dict)
    history: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        for trace, given in self.traces():
            if not isinstance(given, Mapping):
                raise WrongType(
                    f"the {trace}s are {kind_of(given)}",
                    where="observe",
                    expected=f'a mapping from populations to when: {trace}={{"output": 0.5e-3}}',
                )
            object.__setattr__(self, trace, {name: _sampling(when) for name, when in given.items()})
        if not isinstance(self.peak, Collection):
            raise WrongType(f"the peaks are {kind_of(self.peak)}", where="observe", expected='peak={"output"}')
        for name, given in (("peak", self.peak), ("history", self.history)):
            object.__setattr__(self, name, frozenset((given,) if isinstance(given, str) else given))

    def traces(self) -> Iterator[tuple[str, Mapping[str, When]]]:
        """What can be sampled over time, by the name of its field here and in a `Record`."""
        yield from (("membrane", self.membrane), ("adaptation", self.adaptation), ("current", self.current))

    def times(self, name: str, duration: float, begin: float = 0.0) -> Tensor:
        """(T,) float64: when the membrane of ``name`` is sampled in a run of ``duration`` seconds."""
        return times_of(self.membrane[name], duration, begin)

    def neurons(self, name: str, size: int) -> Tensor:
        """(M,) int64: of which of the ``size`` neurons of ``name`` the membrane is sampled."""
        return neurons_of(self.membrane[name], size)

    @property
    def nothing(self) -> bool:
        """Whether spikes are all that is asked for."""
        return not (self.membrane or self.peak or self.state or self.adaptation or self.current or self.history)

    def union(self, other: Observe) -> Observe:
        """What satisfies both. Raises ``CannotObserve`` where two samplings of one trace have no common grid."""
        if other is NOTHING or other.nothing:
            return self
        peak, state = frozenset(self.peak) | frozenset(other.peak), self.state or other.state
        wishes = dict(other.traces())
        traces = {trace: _united(trace, given, wishes[trace]) for trace, given in self.traces()}
        history = frozenset(self.history) | frozenset(other.history)
        return Observe(traces["membrane"], peak, state, None, traces["adaptation"], traces["current"], history)

    def missing(self, wish: Observe) -> str | None:
        """The first thing in ``wish`` that this offer does not cover, as a sentence; None where it covers all."""
        most, period = self.few or (0, math.inf)
        fast = 0
        offers = dict(self.traces())
        for trace, name, wanted in ((trace, *item) for trace, given in wish.traces() for item in given.items()):
            if name not in offers[trace]:
                return f"the {trace} of {name!r} cannot be sampled"
            limit = _limit(offers[trace][name], wanted)
            chosen = wanted.neurons if isinstance(wanted, Every) and wanted.period >= period * (1 - _TINY) else None
            if limit and chosen is None:
                return f"the {trace} of {name!r} {limit}"
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
        """Raise where ``network`` has no such population, compartment or neuron, or a time lies outside the run."""
        for name in self.peak:
            _check_observed(network, name)
        _check_history(network, self.history)
        for trace, given in self.traces():
            for name, sampling in given.items():
                population = _check_observed(network, name)
                _check_sampling(f"{trace} of {name!r}", sampling, population.size, (begin, begin + duration))
        plastic = [projection for program in network.programs.values() for projection in program.projections]
        for name in self.history:
            if name not in plastic:
                raise UnknownPopulation(
                    f"there is no plastic projection {name!r}",
                    where="observe, history",
                    expected=f"one of {', '.join(plastic)}" if plastic else "a network with plasticity",
                )


def times_of(given: When, duration: float, begin: float = 0.0) -> Tensor:
    """(T,) float64: the times of a sampling in a run of ``duration`` seconds that begins at ``begin``."""
    if isinstance(given, Tensor):
        return given
    period = given.period if isinstance(given, Every) else given
    known, last = (math.floor(time / period * (1 + _TINY)) for time in (begin, begin + duration))
    first = known + 1 if begin > 0 else 0
    return torch.arange(first, max(last + 1, first), dtype=torch.float64) * period


def neurons_of(given: When, size: int) -> Tensor:
    """(M,) int64: which of ``size`` neurons a sampling is of."""
    chosen = given.neurons if isinstance(given, Every) else None
    return torch.arange(size) if chosen is None else torch.tensor(chosen, dtype=torch.int64)


NOTHING = Observe()
"""Spikes only."""


def _sampling(given: When) -> Every | Tensor:
    if isinstance(given, Every):
        return given
    if not isinstance(given, Tensor):
        return Every(given)
    return given.detach().to(torch.float64)


def _united(trace: str, one: Mapping[str, When], other: Mapping[str, When]) -> dict[str, When]:
    both = {name: _common(f"{trace} of {name!r}", one[name], wish) for name, wish in other.items() if name in one}
    return {**one, **other, **both}


def _common(name: str, one: When, other: When) -> Every | Tensor:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.cat([one, other]).unique()
    if isinstance(one, Every) and isinstance(other, Every):
        fine, coarse = sorted((one.period, other.period))
        ratio = coarse / fine
        if abs(ratio - round(ratio)) <= _TINY * ratio:
            both = None if one.neurons is None or other.neurons is None else (*one.neurons, *other.neurons)
            return Every(fine, None if both is None else sorted(set(both)))
    raise CannotObserve(
        f"the {name} is asked for at two samplings without a common grid",
        where="observe",
        expected="periods of which one is a multiple of the other, or times for both",
    )


def _limit(offered: When, wanted: When) -> str | None:
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


def _check_observed(network: Network, name: str) -> Population:
    return network.populations[network.place("observe", name)[0]]


def _check_history(network: Network, history: Collection[str]) -> None:
    plastic = [projection for program in network.programs.values() for projection in program.projections]
    for name in history:
        if name not in plastic:
            raise UnknownPopulation(
                f"there is no plastic projection {name!r}",
                where="observe, history",
                expected=f"one of {', '.join(plastic)}" if plastic else "a network with plasticity",
            )


def _check_sampling(name: str, given: When, size: int, span: tuple[float, float]) -> None:
    where = f"observe, {name}"
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
