"""Weights on their way to the codes of an array of synapses, and from there to neurons; readings. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Weights

Codes: TypeAlias = NDArray[np.int32]
Places: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights (S, T) as whole numbers of their unit.

    code: (S, T).  executed: (S, T), code times unit.  beyond: how many are out of range by more than half a unit.
    between: how many of the others are not whole.  squares: the sum of the squares of what that changed, in units.
    """

    code: Codes
    executed: Weights
    beyond: int
    between: int
    squares: float


def rounded(weight: Weights, unit: Weights, most: int, exact: float) -> Rounded:
    """``weight`` (S, T) over ``unit`` (T,), within ±``most``; what differs by up to ``exact`` counts as whole."""
    code, executed = np.empty(weight.shape, np.int32), np.empty_like(weight, order="C")
    weight, unit = np.ascontiguousarray(weight), np.ascontiguousarray(unit, weight.dtype)
    return Rounded(code, executed, *_core.rounded(weight, unit, most, exact, code, executed))


def lay(code: Codes, place: Places, below: int, array: NDArray[np.uint8]) -> None:
    """Write signed codes (S, T) on row pairs: positive shares at ``place`` (R, S, T), negative ones ``below`` further.

    array: flat. The R pairs of a synapse share its code as evenly as whole numbers can.
    """
    for row, at in enumerate(place):
        _core.lay(code, np.ascontiguousarray(at), row, len(place), below, array)


def wired(
    code: NDArray[np.uint8],
    height: NDArray[np.float32],
    synapse: Codes,
    first: Codes,
    shape: tuple[int, int],
    threads: int = 1,
) -> NDArray[np.float32]:
    """``shape``: sums of code times height, flat over all synapses; cell c has synapse[first[c] : first[c + 1]]."""
    weight = np.empty(shape, np.float32)
    _core.wire(code, height, synapse, first, weight, threads)
    return weight


def highest(reading: NDArray[np.integer[Any]], threads: int) -> tuple[NDArray[np.uint8], Places]:
    """(B, C) each: the highest of readings (B, T, C), T > 0, over time, and which it is, the first of equal ones."""
    shape = reading.shape[0], reading.shape[2]
    value, which = np.empty(shape, np.uint8), np.empty(shape, np.int64)
    _core.highest(np.ascontiguousarray(reading, np.uint8), value, which, threads)
    return value, which
