"""A run on a grid of steps: where it starts and ends on it, whatever its clock says, and how it is continued.

Steps are counted on an absolute clock: step k is from k h to (k + 1) h. A run may end within one. The state it leaves
is then that before this step, which the next run makes anew, with the events and currents of both: its spikes from
before the cut come out as they did, and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Trains
from spikeloop.engine.arriving import only
from spikeloop.engine.snapshot import Paused
from spikeloop.engine.stepped import Current


@dataclass(frozen=True)
class Clock:
    """A run from ``begin`` to ``end`` in steps of ``step`` seconds; keeps: whether its state is wanted."""

    step: float
    begin: float
    end: float
    keeps: bool

    @property
    def first(self) -> int:
        """The step that ``begin`` lies in."""
        return step_of(self.begin, self.step)

    @property
    def start(self) -> float:
        """Where that step begins."""
        return self.first * self.step

    def pieces(self) -> Iterator[tuple[int, int, bool]]:
        """(first, last + 1, whether it ends with the last whole step) of what is carried out in one go."""
        whole = step_of(self.end, self.step)
        last = whole if whole * self.step == self.end else whole + 1
        if self.keeps:
            yield self.first, whole, True
            if last > whole:
                yield whole, last, False
        else:
            yield self.first, last, False


def step_of(time: float, step: float) -> int:
    """The step k with k h <= time < (k + 1) h, whatever rounding does."""
    if math.isinf(step):
        return 0
    number = math.floor(time / step)
    while (number + 1) * step <= time:
        number += 1
    while number * step > time:
        number -= 1
    return number


def between(paused: Paused, clock: Clock) -> bool:
    """Whether a run with this clock goes on where the other one paused."""
    return paused.number == clock.first


def within(clock: Clock, trains: Trains) -> Trains:
    """The spikes of the run alone: none of the rest of its last step, none that came before it in its first one."""
    keep = of_the_run(clock, trains)
    return trains if keep.all() else only(trains, keep)


def of_the_run(clock: Clock, trains: Trains) -> NDArray[np.bool_]:
    """Which spikes those are."""
    time = trains[0]
    keep = time <= clock.end
    if clock.start < clock.begin:
        keep &= time > clock.begin
    return keep


def before(time: float, trains: Trains) -> Trains:
    """The spikes that were sent before ``time``."""
    return only(trains, trains[0] < time)


def joined_currents(old: tuple[Current, ...], new: tuple[Current, ...], begin: float) -> tuple[Current, ...]:
    """The old currents until ``begin``, the new ones from there on; of all compartments that have any."""
    numbers = sorted({current.compartment for current in (*old, *new)})
    return tuple(
        _joined(*(next((c for c in given if c.compartment == k), None) for given in (old, new)), begin)  # type: ignore[arg-type]
        for k in numbers
    )


def _joined(old: Current | None, new: Current | None, begin: float) -> Current:
    given = old or new
    assert given is not None
    shape = (given.value.shape[0], 0, given.value.shape[2])
    empty = Current(given.compartment, np.zeros(0), np.zeros(shape))
    old, new = old or empty, new or empty
    past, future = old.time < begin, new.time > begin
    now = np.searchsorted(new.time, begin, side="right") - 1
    batch = max(old.value.shape[0], new.value.shape[0])
    here = new.value[:, now : now + 1] if now >= 0 else np.zeros((1, 1, shape[2]))
    before = old.value[:, past][:, -1:] if past.any() else np.zeros((1, 1, shape[2]))
    same = bool((here == before).all())  # no step, and none in a run that is not cut here
    rows = (old.value[:, past], here[:, : 1 - same], new.value[:, future])
    value = np.concatenate([np.broadcast_to(part, (batch, *part.shape[1:])) for part in rows], 1)
    time = np.concatenate([old.time[past], [begin][: 1 - same], new.time[future]])
    return Current(given.compartment, time, np.ascontiguousarray(value))
