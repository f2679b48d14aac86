"""Events in single file: a bus passes one event per cycle, keeps up to 16 waiting, and drops what comes then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.mismatch import Float

DEPTH = 16
"""Events that may wait (hardware.md 5.1, event capacity)."""
Flags = NDArray[np.bool_]


def served(cycle: Float, lane: NDArray[np.integer], lanes: int) -> tuple[Float, Flags]:
    """When each event is passed on, and which are (the others are lost). Events of a lane are ascending in ``cycle``.

    cycle: (S,), in cycles, not necessarily whole.  lane: (S,), which bus of which run, below ``lanes``.
    """
    if not len(cycle):
        return cycle, np.zeros(0, bool)
    order = np.argsort(lane, kind="stable")
    group, arrival = lane[order], cycle[order]
    place = np.arange(len(order)) - np.searchsorted(group, np.arange(lanes))[group]
    apart = float(arrival.max()) + len(order) + 1
    left = np.maximum.accumulate(arrival - place + group * apart) + place - group * apart
    kept = np.ones(len(order), bool)
    crowded = group[left - arrival > DEPTH]
    for each in np.unique(crowded):
        at = np.flatnonzero(group == each)
        left[at], kept[at] = _one_lane(arrival[at])
    passed, stays = np.empty_like(left), np.empty_like(kept)
    passed[order], stays[order] = left, kept
    return passed, stays


def _one_lane(arrival: Float) -> tuple[Float, Flags]:
    left, kept, free = arrival.copy(), np.ones(len(arrival), bool), -np.inf
    for k, time in enumerate(arrival):
        if free - time > DEPTH:
            kept[k] = False
        else:
            left[k] = max(time, free)
            free = left[k] + 1
    return left, kept
