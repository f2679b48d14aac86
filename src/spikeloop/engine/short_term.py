"""Short-term plasticity: how large each event of a source is, and links whose events have sizes of their own. No torch.

A synapse driver has a fraction x of its resources, 1 at rest; an event takes the fraction U of them, and they recover:
x_k = 1 - (1 - (1 - U) x_{k-1}) exp(-(t_k - t_{k-1}) / tau). A depressing event has the size U x_k, a facilitating one
1 - (1 - U) x_k (Tsodyks & Markram 1997).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Delays, Float, Link, Recovered, Recovery, Rows, Run, Stage, Trains, Weights
from spikeloop.engine.arriving import arriving, joined

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Resources:
    """Of every event (E,): x, the factor by which x has relaxed since the event before, and which that was (-1: none in
    this run). slot: sample and unit of each.  order: events by their number within their train; borders between these.
    """

    x: Float
    decay: Float
    previous: Index
    slot: Index
    order: Index
    borders: Index
    before: Float

    def numbers(self) -> Iterator[Index]:
        """The first events of all trains, the second ones, ..."""
        for first, last in zip(self.borders[:-1], self.borders[1:], strict=True):
            yield self.order[first:last]


def sizes_of(x: Float, unit: NDArray[np.integer], recovery: Recovery) -> Float:
    """How large events of ``unit`` are that meet ``x``."""
    used = recovery.utilisation[unit]
    return 1 - (1 - used) * x if recovery.facilitating else used * x


def resources(trains: Trains, recovery: Recovery, start: Recovered | None) -> Resources:
    """What every event meets, going on from ``start``."""
    time, unit, begin = trains
    batch, units, events = len(begin) - 1, len(recovery.tau), len(time)
    slot = np.repeat(np.arange(batch), np.diff(begin)) * units + unit
    by_train = np.argsort(slot, kind="stable")
    opens = np.ones(events, bool)
    opens[1:] = slot[by_train][1:] != slot[by_train][:-1]
    previous = np.full(events, -1)
    previous[by_train[1:]] = np.where(opens[1:], -1, by_train[:-1])
    place = np.arange(events)
    number = place - np.maximum.accumulate(np.where(opens, place, 0))
    by_number = np.argsort(number, kind="stable")
    borders = np.concatenate([[0], np.bincount(number).cumsum()]) if events else np.zeros(1, np.int64)
    last = np.full(batch * units, -np.inf) if start is None else start.last.reshape(-1)
    since = time - np.where(previous >= 0, time[previous], last[slot]) if events else time
    found = Resources(
        np.empty(events), np.exp(-since / recovery.tau[unit]), previous, slot, by_train[by_number], borders,
        np.empty(events),
    )  # fmt: skip
    rested = np.ones(batch * units) if start is None else start.x.reshape(-1)
    for some in found.numbers():
        before = np.where(previous[some] >= 0, found.x[previous[some]], rested[slot[some]])
        found.before[some] = before
        found.x[some] = 1 - (1 - (1 - recovery.utilisation[unit[some]]) * before) * found.decay[some]
    return found


def times_of(found: Resources, trains: Trains, recovery: Recovery, by_size: Float) -> Float:
    """dL/dt of every event from dL/d(size), backwards through the recovery; what was before the run is given."""
    unit = trains[1]
    kept = 1 - recovery.utilisation[unit]
    by_x = by_size * (-kept if recovery.facilitating else recovery.utilisation[unit])
    slope = (1 - kept * found.before) * found.decay / recovery.tau[unit]
    by_time = np.zeros(len(unit))
    for some in reversed(list(found.numbers())):
        change = by_x[some] * slope[some]
        by_time[some] += change
        inside = found.previous[some] >= 0
        earlier = found.previous[some][inside]
        by_time[earlier] -= change[inside]
        by_x[earlier] += (by_x[some] * kept[some] * found.decay[some])[inside]
    return by_time


def recovered(link: Link, trains: Trains, run: Run, waiting: NDArray[np.bool_]) -> Recovered:
    """What a run that goes on from here has to know; ``waiting`` (E,): which events, recent ones too, still come."""
    assert link.short_term is not None
    start = run.recovered.get(link.name)
    found = resources(trains, link.short_term, start)
    batch, units = len(trains[2]) - 1, len(link.short_term.tau)
    x = np.ones((batch, units)) if start is None else start.x.copy()
    last = np.full((batch, units), -np.inf) if start is None else start.last.copy()
    for some in found.numbers():
        x.reshape(-1)[found.slot[some]] = found.x[some]
        last.reshape(-1)[found.slot[some]] = trains[0][some]
    return Recovered(x, last, _sizes(link, trains, run, found)[waiting])


def _sizes(link: Link, trains: Trains, run: Run, found: Resources) -> Float:
    """The sizes of all events that arrive, in the order of `arriving`."""
    assert link.short_term is not None
    sizes = sizes_of(found.x, trains[1], link.short_term)
    recent = run.recent.get(link.source)
    if recent is None:
        return sizes
    start = run.recovered.get(link.name)
    known = start is not None and len(start.size) == len(recent[0])
    rested = sizes_of(np.ones(len(recent[0])), recent[1], link.short_term)
    before: Trains = (start.size if start is not None and known else rested, recent[1], recent[2])
    return joined(before, (sizes, trains[1], trains[2]))[0]


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


def unrolled(stage: Stage, trains: Mapping[str, Trains], run: Run) -> tuple[Stage, list[Unrolled]]:
    """``stage`` with its short-term links unrolled."""
    links = [unroll(link, trains, run) if link.short_term is not None else link for link in stage.links]
    plain = tuple(link.link if isinstance(link, Unrolled) else link for link in links)
    return replace(stage, links=plain), [link for link in links if isinstance(link, Unrolled)]
