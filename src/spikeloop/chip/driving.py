"""Events at the plastic drivers of a chip: which of them a driver passes on, and how long each of its pulses is.

A driver's resources are used by whatever fires it, whoever answers to the label. So the events of all its senders are
taken in order, before the neurons are run that it reaches. In a loop these are not known before: a driver may reach the
neurons that fire it if each has it for itself, and the engine follows its resources spike by spike (`Around`).
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.drivers import Pulses
from spikeloop.chip.geometry import COLUMNS, DRIVERS, HALVES
from spikeloop.chip.lanes import Flight
from spikeloop.chip.mismatch import Float
from spikeloop.chip.plan import Plan, Step
from spikeloop.chip.wiring import Wires, fired, link_buses, output_buses
from spikeloop.engine.arrays import Recovered, Trains
from spikeloop.engine.short_term import resources
from spikeloop.errors import Unsupported

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

_EVERY = HALVES * DRIVERS
_SENDER = 16  # bits of an address: above them stands which step's neuron an event is of, from 1 on


@dataclass(frozen=True, eq=False)
class Passed:
    """What one driver passed on: events, with the address of one from outside as unit, or sender << 16 | its neuron;
    length: (S,), of the pulses."""

    flight: Flight
    length: Float

    def of(self, sender: int, row: NDArray[np.integer], rows: Indices, batch: int) -> tuple[Trains, Float]:
        """The events of one sender, 0 is outside, whose sources are some of ``rows``, as units in their order.

        row: the source of each address, or of each neuron.
        """
        mine = self.flight.unit >> _SENDER == sender
        source = np.full(len(mine), -1)
        source[mine] = row[self.flight.unit[mine] & 0xFFFF]
        keep = np.isin(source, rows)
        part = self.flight[keep]
        return part.trains(batch, np.searchsorted(rows, source[keep])), self.length[keep]


@dataclass(frozen=True, eq=False)
class Around:
    """Plastic drivers that neurons of a loop fire, at most one of each: wires from these; place: (n,), which of the D
    is that of each of the step's neurons, -1: none."""

    wires: Wires
    place: Indices


class Driving:
    """The plastic drivers in one run, or in one stretch of it.

    x, last: (B, D), resources after the latest event and when that was, seconds: brought up to date.  plain: flat in
    half, row, column, synapses of other drivers.
    """

    pulses: Pulses
    plan: Plan
    x: Float
    last: Float
    plain: Flags

    def __init__(self, pulses: Pulses, plan: Plan, batch: int, before: tuple[Float, Float] | None) -> None:
        shape = batch, len(pulses.number)
        self.pulses, self.plan = pulses, plan
        start = (np.ones(shape), np.full(shape, -np.inf)) if before is None else before
        self.x, self.last = (part.copy() for part in start)
        self.plain = np.ones(len(plan.height), bool)
        self.plain.reshape(-1, 2 * COLUMNS)[pulses.number] = False
        self._outside, self._inside = _firing(plan, pulses.number)
        self._passed = dict[int, Passed]()
        self._check()

    def reached(self, wires: Wires) -> list[tuple[int, Wires, Indices]]:
        """The drivers of some wires: which of the D, its wires, and the sources that these are from."""
        found = list[tuple[int, Wires, Indices]]()
        driver = wires.synapse // (2 * COLUMNS)
        for place in np.flatnonzero(np.isin(self.pulses.number, driver)).tolist():
            own = driver == self.pulses.number[place]
            part = Wires(wires.synapse[own], wires.cell[own], wires.shape)
            found.append((place, part, np.unique(part.cell // wires.shape[1])))
        return found

    def around(self, step: Step) -> list[Around]:
        """The drivers in a step's loop: the first one of each neuron, the second ones, ..."""
        if step.loop is None:
            return []
        wires = step.loop.some(~self.plain)
        source, driver = wires.cell // wires.shape[1], wires.synapse // (2 * COLUMNS)
        pairs = np.unique(np.stack([source, driver]), axis=1)
        rank = np.arange(pairs.shape[1]) - np.searchsorted(pairs[0], pairs[0])
        of_wire = rank[np.searchsorted(pairs[0] * _EVERY + pairs[1], source * _EVERY + driver)]
        found = list[Around]()
        for number in range(rank.max(initial=-1) + 1):
            place, mine = np.full(len(step.neuron), -1), of_wire == number
            place[pairs[0, rank == number]] = np.searchsorted(self.pulses.number, pairs[1, rank == number])
            found.append(Around(Wires(wires.synapse[mine], wires.cell[mine], wires.shape), place))
        return found

    def passed(self, place: int, arrived: Flight, sent: list[Flight]) -> Passed:
        """What a driver passes on of the events from outside (seconds, addresses) and of those that steps sent."""
        if place not in self._passed:
            heard = [arrived[self._outside[self.plan.source[arrived.unit], place]]]
            for sender, (fires, each) in enumerate(zip(self._inside, sent, strict=False), 1):
                mine = each[fires[each.unit, place]]
                heard.append(Flight(mine.sample, mine.time, mine.unit | sender << _SENDER))
            self._passed[place] = self._pass(place, Flight.merged(heard))
        return self._passed[place]

    def _pass(self, place: int, flight: Flight) -> Passed:
        here = slice(place, place + 1)
        before = Recovered(self.x[:, here], self.last[:, here], np.zeros(0))
        trains = flight.trains(len(self.x), np.zeros(len(flight), np.int32))
        found = resources(trains, self.pulses.of(np.array([place])), before)
        self.x[:, here], self.last[:, here] = found.end, found.last
        return Passed(flight, self.pulses.lengths(place, found.x))

    def _check(self) -> None:
        """Raise ``Unsupported`` where a driver hears neurons that do not run before all that it reaches, or is that of
        several senders, one of them in a loop with what it reaches.
        """
        senders = [k for k, step in enumerate(self.plan.steps) if step.sends]
        first = np.full(len(self.pulses.number), len(self.plan.steps))
        for number, step in reversed(list(enumerate(self.plan.steps))):
            first[self._hit(self.plan.outside[number], *(part for _, part in step.inside))] = number
        bad = np.zeros(len(first), bool)
        for k, fires in zip(senders, self._inside, strict=True):
            bad |= fires.any(0) & (first <= k)
        heard = self._outside.sum(0) + np.sum([fires.sum(0) for fires in self._inside], 0)
        looped = [self._hit(step.loop) for step in self.plan.steps if step.loop is not None]
        bad |= (heard > 1) & np.any(looped, axis=0)
        if bad.any():
            half, driver = divmod(int(self.pulses.number[bad.argmax()]), DRIVERS)
            raise Unsupported(
                f"driver {driver} of half {half} is plastic, and fired by neurons within a loop and by others",
                where="Twin.emulate", expected="plastic drivers between stages, from outside, or each of one neuron",
                todo="Switch its plasticity off, or give the loop other drivers",
            )  # fmt: skip

    def _hit(self, *wires: Wires) -> Flags:
        """Which of the D some wires are of."""
        synapse = np.concatenate([np.zeros(0, np.int32), *(part.synapse for part in wires)])
        return np.isin(self.pulses.number, synapse // (2 * COLUMNS))


def _firing(plan: Plan, number: Indices) -> tuple[Flags, list[Flags]]:
    """(A, D), (n, D) of every sending step: which addresses and neurons fire which of the drivers ``number``."""
    known = _known.setdefault(plan, {})
    key = len(plan.address), number.tobytes()
    if key not in known:
        known.clear()
        outside = [_drivers(plan, int(word) & 0x3FFF, link_buses(plan.routing, int(word))) for word in plan.address]
        inside = [_of_step(plan, step) for step in plan.steps if step.sends]
        known[key] = _table(outside, number), [_table(each, number) for each in inside]
    return known[key]


_known: WeakKeyDictionary[Plan, dict[object, tuple[Flags, list[Flags]]]] = WeakKeyDictionary()


def _of_step(plan: Plan, step: Step) -> list[Indices]:
    heads = step.head.tolist()
    return [
        _drivers(plan, label, output_buses(plan.routing, head, label) if sends else [])
        for head, label, sends in zip(heads, step.label.tolist(), step.sending, strict=True)
    ]


def _drivers(plan: Plan, label: int, buses: list[tuple[int, int]]) -> Indices:
    found = [half * DRIVERS + fired(plan.routing, label, half, bus) for half, bus in buses]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _table(fired_by: list[Indices], number: Indices) -> Flags:
    return np.array([np.isin(number, each) for each in fired_by], bool).reshape(len(fired_by), len(number))
