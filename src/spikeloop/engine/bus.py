"""Events in single file: a bus passes one per cycle, keeps some waiting, and drops what comes then. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Float, Trains

Indices: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint16]
Sent: TypeAlias = tuple[Indices, Words, Indices]
"""Events on their way to a chip or from it: cycles (S,), addresses (S,), start (B + 1,)."""

_NO_LIMIT = 2**62


def addressed(
    events: Trains, seconds: float, address: Indices, threads: int, depth: int | None = None
) -> tuple[Indices, Words]:
    """(S,) each: in which whole cycles of ``seconds`` events are sent, and to which address; (N,): those of units.

    depth: as in `hold_back`; None: nobody has to wait.
    """
    return _core.sent(events, seconds, address, _NO_LIMIT if depth is None else depth, threads)


def hold_back(cycle: Indices, start: Indices, depth: int) -> None:
    """Put off events so that no more than ``depth`` wait for a link that passes one a cycle.

    cycle: (S,), when they are sent, ascending within each run of ``start``; changed in place.
    """
    _core.hold_back(cycle, start, depth)


def served(cycle: Float, bus: NDArray[np.int32], start: Indices, buses: int, depth: float, threads: int) -> Float:
    """(S,): the cycle in which each event is passed on, negative for those that are lost.

    cycle: (S,), when they come, not necessarily whole, ascending within each run of ``start``.  bus: (S,), below
    ``buses``.  depth: how many events may wait at each.
    """
    return _core.served((cycle, bus, start), buses, depth, threads)


def in_order(cycle: object, address: object, start: object, threads: int) -> bool:
    """Whether these are surely events as a chip takes them (`Sent`): if not, look at them one by one.

    Cycles are 0 to 2^53 - 1 and ascend within each run, addresses have 16 bits, the runs share out all the events.
    """
    kinds = ((np.int64,), (np.int64, np.uint16), (np.int64,))
    plain = all(
        type(each) is np.ndarray and each.dtype in kind and each.ndim == 1 and each.flags.c_contiguous
        for each, kind in zip((cycle, address, start), kinds, strict=True)
    )
    return plain and _core.in_order((cycle, address, start), threads)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Entry:
    """How events come in: by one of ``links`` each (address >> 14), which passes one a cycle; 0: nobody has to wait.

    depth: how many events may wait at each.  cycle: seconds.  cycles: how many a run takes.
    """

    links: int
    depth: int
    cycle: float
    cycles: int


def arrived(
    events: Sent, source: NDArray[np.int32], entry: Entry, lost: Indices, threads: int
) -> tuple[Float, NDArray[np.int32], bool]:
    """(S,) each: seconds at which events have come in, negative for those that have not, and their sources.

    And whether all of those are known.  source: (65536,), of each address, negative where it is not known.  lost: (B,),
    counted on.  events: as `in_order` says.
    """
    how = entry.links, entry.depth, entry.cycle, entry.cycles
    return _core.entered(events, source, how, lost, threads)


@dataclass(frozen=True, eq=False)
class Exit:
    """How N neurons' spikes leave: sends, (N,) uint8: whose become events.  cycle, duration: seconds.

    bus: (N,), below ``buses``, or None where nobody has to wait.  depth: how many events may wait at each.  cycles: how
    many a run takes.  label: (N,), bits 0-10 of the events.  rms: of what is added to the spikes' times, seconds.
    """

    sends: NDArray[np.uint8]
    bus: NDArray[np.int32] | None
    buses: int
    depth: float
    cycle: float
    duration: float
    cycles: int
    label: Indices
    rms: float


@dataclass(frozen=True, eq=False)
class Left:
    """Spikes that left, units as they were; and what a chip makes of them, (S,) each: time stamps and addresses."""

    trains: Trains
    cycle: Indices
    address: Words


def leave(spikes: Trains, late: Float | None, exits: Exit, lost: Indices, threads: int) -> Left:
    """The spikes that leave; late: (S,), in units of the rms, added to their times; lost: (B,), counted on."""
    who = exits.sends, exits.bus, exits.buses, exits.depth
    exiting = (late, exits.rms, *who, exits.cycle, exits.duration, exits.cycles, exits.label)
    return Left(*_core.left(spikes, exiting, lost, threads))


def lifted(events: Sent, unit: NDArray[np.int32], cycle: float, threads: int) -> Trains:
    """Spikes of one population from the time stamps, addresses and start of a chip's events.

    They are in the middle of their cycles of ``cycle`` seconds; unit: of each address, -1: another population's, -2:
    nobody's. Raises ``IndexError`` where an event is nobody's, its address beyond them, or ``start`` not theirs.
    """
    return _core.lifted(*events, unit, cycle, threads)
