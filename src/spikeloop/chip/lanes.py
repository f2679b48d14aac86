"""Links and outputs of a chip whose runs are cut: events in single file, and those that are under way at a cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Float, Trains
from spikeloop.engine.bus import served

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Flight:
    """Events of a batch: sample, time (unit of the owner's choice) and unit, (S,) each, ordered by sample and time."""

    sample: Indices
    time: Float
    unit: Indices

    @classmethod
    def ordered(cls, sample: Indices, time: Float, unit: Indices) -> Self:
        """From events in any order; of equal times the lower unit comes first."""
        order = np.lexsort((unit, time, sample))
        return cls(sample[order], time[order], unit[order])

    @classmethod
    def none(cls) -> Self:
        """No events."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, keep: NDArray[np.bool_]) -> Flight:
        return Flight(self.sample[keep], self.time[keep], self.unit[keep])

    @classmethod
    def joined(cls, flights: Sequence[Flight]) -> Self:
        """One after the other, not in order."""
        each = [cls.none(), *flights]
        sample, unit = (np.concatenate(part) for part in zip(*((f.sample, f.unit) for f in each), strict=True))
        return cls(sample, np.concatenate([f.time for f in each]), unit)

    @classmethod
    def merged(cls, flights: Sequence[Flight]) -> Self:
        """All of them in order."""
        every = cls.joined(flights)
        return cls.ordered(every.sample, every.time, every.unit)

    def until(self, end: float) -> tuple[Flight, Flight]:
        """Those before ``end``, and the others."""
        early = self.time < end
        return self[early], self[~early]

    def trains(self, batch: int, unit: NDArray[np.integer] | None = None) -> Trains:
        """As the engine takes them; ``unit``: other numbers for their units."""
        return self.time, np.ascontiguousarray(self.unit if unit is None else unit, np.int32), self.start(batch)

    def start(self, batch: int) -> Indices:
        """(B + 1,): sample b owns events start[b]:start[b + 1]."""
        return np.searchsorted(self.sample, np.arange(batch + 1)).astype(np.int64)


def flight_of(trains: Trains) -> Flight:
    """Of the engine's spikes."""
    time, unit, start = trains
    return Flight.ordered(np.repeat(np.arange(len(start) - 1), np.diff(start)), time, unit.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Lanes:
    """Lanes that pass one event a cycle: free, (B, lanes), when they may pass the next; depth: how many may wait."""

    free: Float
    depth: float

    def passed(self, events: Flight, lane: Indices, threads: int) -> tuple[Float, Lanes]:
        """When events (in cycles, all that come until some moment) are passed on; negative: they are lost.

        lane: (S,).  And the lanes after that.
        """
        batch, lanes = self.free.shape
        sample, which = np.nonzero(np.isfinite(self.free))  # an event of its own has each lane as it was left
        before = self.free[sample, which] - 1
        key = np.concatenate([sample, events.sample])
        order = np.argsort(key, kind="stable")
        time = np.concatenate([before, events.time])[order]
        start = np.searchsorted(key[order], np.arange(batch + 1)).astype(np.int64)
        on = np.concatenate([which, lane])[order].astype(np.int32)
        left = np.empty(len(key))
        left[order] = served(time, on, start, lanes, self.depth, threads)
        own = left[len(before) :]
        free = self.free.copy()
        there = own >= 0
        np.maximum.at(free, (events.sample[there], lane[there]), own[there] + 1)
        return own, Lanes(free, self.depth)


def empty_lanes(batch: int, lanes: int, depth: float) -> Lanes:
    """Lanes that nothing has passed yet."""
    return Lanes(np.full((batch, lanes), -np.inf), depth)
