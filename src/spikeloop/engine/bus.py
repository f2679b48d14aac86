"""Events in single file: a bus passes one per cycle, keeps some waiting, and drops what comes then. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Float, Trains

Indices: TypeAlias = NDArray[np.int64]


def addressed(events: Trains, seconds: float, address: Indices, threads: int) -> tuple[Indices, Indices]:
    """(S,) each: in which whole cycles of ``seconds`` events are sent, and to which address; (N,): those of units."""
    return _core.address(events, seconds, address, threads)


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


@dataclass(frozen=True, eq=False)
class Entry:
    """How events come in: by one of ``links`` each (address >> 14), which passes one a cycle; 0: nobody has to wait.

    depth: how many events may wait at each.  cycle: seconds.  cycles: how many a run takes.
    """

    links: int
    depth: float
    cycle: float
    cycles: int


def arrived(events: tuple[Indices, Indices, Indices], entry: Entry, lost: Indices, threads: int) -> Float:
    """(S,): seconds at which events have come in, negative for those that have not; lost: (B,), counted on.

    events: when they are sent (S,), in cycles, ascending within each run; their addresses (S,); the runs' start.
    """
    return _core.arrived(events, entry.links, entry.depth, entry.cycle, entry.cycles, lost, threads)


@dataclass(frozen=True, eq=False)
class Exit:
    """How N neurons' spikes leave: sends, (N,) uint8: whose become events.  cycle, duration: seconds.

    bus: (N,), below ``buses``, or None where nobody has to wait.  depth: how many events may wait at each.
    """

    sends: NDArray[np.uint8]
    bus: NDArray[np.int32] | None
    buses: int
    depth: float
    cycle: float
    duration: float


def leave(spikes: Trains, late: Float | None, exits: Exit, lost: Indices, threads: int) -> Trains:
    """The spikes that leave, when they do; late: (S,) seconds added to their times; lost: (B,), counted on."""
    exiting = (late, exits.sends, exits.bus, exits.buses, exits.depth, exits.cycle, exits.duration)
    return _core.leave(spikes, exiting, lost, threads)
