"""Events in single file: a bus passes one per cycle, keeps some waiting, and drops what comes then. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Float, Trains


def served(
    cycle: Float, bus: NDArray[np.int32], start: NDArray[np.int64], buses: int, depth: float, threads: int
) -> Float:
    """(S,): the cycle in which each event is passed on, negative for those that are lost.

    cycle: (S,), when they come, not necessarily whole, ascending within each run of ``start``.  bus: (S,), below
    ``buses``.  depth: how many events may wait at each.
    """
    return _core.served((cycle, bus, start), buses, depth, threads)


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


def leave(spikes: Trains, late: Float | None, exits: Exit, lost: NDArray[np.int64], threads: int) -> Trains:
    """The spikes that leave, when they do; late: (S,) seconds added to their times; lost: (B,), counted on."""
    exiting = (late, exits.sends, exits.bus, exits.buses, exits.depth, exits.cycle, exits.duration)
    return _core.leave(spikes, exiting, lost, threads)
