"""Short-term plasticity: how large each event of a source is, and links whose events have sizes of their own. No torch.

A synapse driver has a fraction x of its resources, 1 at rest; an event takes the fraction U of them, and they recover:
x_k = 1 - (1 - (1 - U) x_{k-1}) exp(-(t_k - t_{k-1}) / tau). A depressing event has the size U x_k, a facilitating one
1 - (1 - U) x_k (Tsodyks & Markram 1997).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Delays, Float, Link, Recovered, Recovery, Rows, Run, Stage, Trains, Weights
from spikeloop.engine.arriving import arriving, joined

Index = NDArray[np.int64]


class Projected(Protocol):
    """A link of any kind of stage."""

    @property
    def name(self) -> str:
        """Its own."""
        ...

    @property
    def source(self) -> str:
        """Where its spikes are from."""
        ...

    @property
    def short_term(self) -> Recovery | None:
        """What its events draw on."""
        ...


class Course(Protocol):
    """A run of any kind of stage: what is on its way when it begins, and where short-term links are then."""

    @property
    def batch(self) -> int:
        """B."""
        ...

    @property
    def recent(self) -> Mapping[str, Trains]:
        """By source."""
        ...

    @property
    def recovered(self) -> Mapping[str, Recovered]:
        """By link."""
        ...


@dataclass(frozen=True, eq=False)
class Resources:
    """What every event (E,) of a source meets: x, the factor by which it has relaxed since the event before, x right
    before that, and which event that was (-1: none in this run). end, last: x at the latest events, and when, (B, S).
    """

    x: Float
    decay: Float
    before: Float
    previous: Index
    end: Float
    last: Float


def sizes_of(x: Float, unit: NDArray[np.integer], recovery: Recovery) -> Float:
    """How large events of ``unit`` are that meet ``x``."""
    return np.maximum(recovery.base[unit] + recovery.slope[unit] * x, 0.0)


def resources(trains: Trains, recovery: Recovery, start: Recovered | None) -> Resources:
    """What every event meets, going on from ``start``."""
    time, unit, begin = trains
    end, last = (part.copy() for part in rested(len(begin) - 1, recovery, start))
    found, previous = np.empty((3, len(time))), np.empty(len(time), np.int64)
    _core.meet(time, unit, begin, recovery.utilisation, recovery.tau, end, last, found, previous)
    x, decay, before = found
    return Resources(x, decay, before, previous, end, last)


def rested(batch: int, recovery: Recovery, start: Recovered | None) -> tuple[Float, Float]:
    """x at the latest events and when these were, (B, S): at rest there were none."""
    if start is not None:
        return start.x, start.last
    shape = batch, len(recovery.tau)
    return np.ones(shape), np.full(shape, -np.inf)


def slopes_of(found: Resources, unit: NDArray[np.integer], recovery: Recovery) -> tuple[Float, Float]:
    """dx/dt of every event, and how x there changes with x at the event before."""
    kept = (1 - recovery.utilisation[unit]) * found.decay
    return (found.decay - kept * found.before) / recovery.tau[unit], kept


def times_of(found: Resources, trains: Trains, recovery: Recovery, by_size: Float) -> Float:
    """dL/dt of every event from dL/d(size), backwards through the recovery; what was before the run is given."""
    unit = trains[1]
    slope, kept = slopes_of(found, unit, recovery)
    by_x = by_size * recovery.slope[unit]
    by_time = np.zeros(len(unit))
    for some in _last_first(found.previous):
        change, earlier = by_x[some] * slope[some], found.previous[some]
        by_time[some] += change
        inside = earlier >= 0
        by_time[earlier[inside]] -= change[inside]
        by_x[earlier[inside]] += (by_x[some] * kept[some])[inside]
    return by_time


def _last_first(previous: Index) -> Iterator[Index]:
    """The last events of all trains, then the ones before them, ..."""
    some = np.setdiff1d(np.arange(len(previous)), previous)
    while len(some):
        yield some
        some = previous[some]
        some = some[some >= 0]


def recovered(link: Projected, trains: Trains, run: Course, waiting: NDArray[np.bool_]) -> Recovered:
    """What a run that goes on from here has to know; ``waiting`` (E,): which events, recent ones too, still come."""
    assert link.short_term is not None
    found = resources(trains, link.short_term, run.recovered.get(link.name))
    return Recovered(found.end, found.last, _sizes(link, trains, run, found)[waiting])


def samples_of(found: Recovered, recent: Trains | None, some: slice) -> Recovered:
    """Some samples of it; recent: the spikes that ``size`` is of."""
    own = slice(0, 0) if recent is None else slice(int(recent[2][some.start]), int(recent[2][some.stop]))
    return Recovered(found.x[some], found.last[some], found.size[own])


def own_sizes(link: Projected, trains: Trains, run: Course) -> Float:
    """The sizes of a run's own spikes."""
    assert link.short_term is not None
    return sizes_of(resources(trains, link.short_term, run.recovered.get(link.name)).x, trains[1], link.short_term)


def arriving_sizes(link: Projected, trains: Trains, run: Course) -> Float:
    """The sizes of all events that arrive, in the order of `arriving`; trains: the run's own."""
    assert link.short_term is not None
    return _sizes(link, trains, run, resources(trains, link.short_term, run.recovered.get(link.name)))


def _sizes(link: Projected, trains: Trains, run: Course, found: Resources) -> Float:
    """The sizes of all events that arrive, in the order of `arriving`."""
    assert link.short_term is not None
    sizes, recent = sizes_of(found.x, trains[1], link.short_term), run.recent.get(link.source)
    if recent is None:
        return sizes
    before: Trains = (recent_sizes(link, run), recent[1], recent[2])
    return joined(before, (sizes, trains[1], trains[2]))[0]


def recent_sizes(link: Projected, run: Course) -> Float:
    """The sizes of the events that are still on their way when a run begins."""
    assert link.short_term is not None
    recent, start = run.recent.get(link.source), run.recovered.get(link.name)
    if recent is None:
        return np.zeros(0)
    if start is not None and len(start.size) == len(recent[0]):
        return start.size
    return sizes_of(np.ones(len(recent[0])), recent[1], link.short_term)


def driver(link: Link, run: Run, spikes: Trains | None = None) -> Any:
    """A short-term link within a stage as the native engine takes it; ``spikes``: of a record, for its adjoint."""
    if link.short_term is None:
        return None
    recovery, start = link.short_term, run.recovered.get(link.name)
    first = (np.ascontiguousarray(part) for part in rested(run.batch, recovery, start))
    record = np.zeros((3, 0))
    if spikes is not None:
        found = resources(spikes, recovery, start)
        record = np.stack([sizes_of(found.x, spikes[1], recovery), *slopes_of(found, spikes[1], recovery)])
    return *recovery.arrays(), *first, recent_sizes(link, run), record


@dataclass(frozen=True, eq=False)
class Unrolled:
    """A link with a source unit, and a row of weights, for every event.

    link: the same, unrolled.  events: its source's train.  size: (E,).  place: (K,), where in the weights of the
    original each weight is from; owner: (K,), the event of each.  unit: (E,), the event's own.
    """

    original: Link
    link: Link
    events: Trains
    size: Float
    place: Index
    owner: Index
    unit: Index
    row: Index
    found: Resources

    def weight_gradient(self, gradient: Weights) -> Weights:
        """From one weight for each event to the original ones."""
        flat = gradient.reshape(-1).astype(np.float64) * self.size[self.owner]
        total = np.bincount(self.place, flat, self.original.weight.size)
        return total.reshape(self.original.weight.shape).astype(self.original.weight.dtype)

    def size_gradient(self, gradient: Weights) -> Float:
        """dL/d(size) of every event."""
        product = gradient.reshape(-1).astype(np.float64) * self.original.weight.reshape(-1)[self.place]
        return np.bincount(self.owner, product, len(self.size)).astype(np.float64, copy=False)


def unroll(link: Link, trains: Mapping[str, Trains], run: Run) -> Unrolled:
    """``link`` as its events find it."""
    assert link.short_term is not None
    found = resources(trains[link.source], link.short_term, run.recovered.get(link.name))
    time, unit, begin = arriving(link, trains, run)
    size, events = _sizes(link, trains[link.source], run, found), np.arange(len(time), dtype=np.int32)
    delay = link.delay[unit] if link.delays is Delays.PER_UNIT else link.delay
    source = f"{link.name}: events"
    if link.rows is None:
        targets = link.weight.shape[1]
        place = (unit.astype(np.int64)[:, None] * targets + np.arange(targets)).reshape(-1)
        owner = np.repeat(np.arange(len(time)), targets)
        weight = np.ascontiguousarray(link.weight[unit] * size[:, None], link.weight.dtype)
        made = replace(link, source=source, weight=weight, delay=np.ascontiguousarray(delay), short_term=None)
        return Unrolled(link, made, (time, events, begin), size, place, owner, unit.astype(np.int64), place, found)
    rows = link.rows
    width = rows.begin[unit + 1] - rows.begin[unit]
    owner = np.repeat(np.arange(len(time)), width)
    row = np.repeat(rows.begin[unit] - (width.cumsum() - width), width) + np.arange(len(owner))
    place = row if rows.weight is None else rows.weight[row]
    weight = np.ascontiguousarray(link.weight[place] * size[owner], link.weight.dtype)
    delay = link.delay[row] if link.delays is Delays.PER_SYNAPSE else delay
    single = Rows(np.concatenate([[0], width.cumsum()]), np.ascontiguousarray(rows.target[row]), None, None)
    made = replace(link, source=source, weight=weight, rows=single, delay=np.ascontiguousarray(delay), short_term=None)
    return Unrolled(link, made, (time, events, begin), size, place, owner, unit.astype(np.int64), row, found)


def outside(stage: Stage, link: Link) -> bool:
    """Whether a short-term link brings spikes that are known when the stage is run."""
    return link.short_term is not None and all(neurons.name != link.source for neurons in stage.populations)


def unrolled(stage: Stage, trains: Mapping[str, Trains], run: Run) -> tuple[Stage, list[Unrolled]]:
    """``stage`` with its short-term links from earlier stages unrolled."""
    if not [link for link in stage.links if link.short_term is not None]:
        return stage, []
    links = [unroll(link, trains, run) if outside(stage, link) else link for link in stage.links]
    plain = tuple(link.link if isinstance(link, Unrolled) else link for link in links)
    return replace(stage, links=plain), [link for link in links if isinstance(link, Unrolled)]
