"""The array of one chip as a multiplier: what its fixed pattern and the settings of a pass make of a product."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.by_value import ByValue
from spikeloop.chip.circuits import Pattern, contents
from spikeloop.chip.configuration import CIRCUITS, COLUMNS, CYCLE, DRIVERS, HALVES, ROWS
from spikeloop.chip.imperfection import Imperfection
from spikeloop.chip.mac import GAIN_UNIT, NOMINAL_GAIN, ArrayPass, Columns
from spikeloop.chip.mismatch import Float, Quantity, uniforms
from spikeloop.engine.multiply import Tile

Single = NDArray[np.float32]
LEAK_TIME = 200e-6
"""Seconds: with this time constant the membranes forget what they added up (hardware.md 3: 60 to 200 us)."""
WAIT_LOSS, WAIT_CYCLES = 0.05, 3.0
"""Of the signal, lost where events follow each other at once, and how many cycles later e times less (5.2)."""
LINEAR = -85.0, 110.0
"""Steps between which no column saturates (5.2)."""
LOWEST, LOWEST_RANGE = -112.0, (-128.0, -90.0)
"""Steps that a column approaches from above, on average and in range (5.2)."""
HIGHEST = 137.0
"""Likewise from below, if it bends at all: at the edge of the ADC 7 steps are lost."""
_ROUNDING = 0.5 / GAIN_UNIT
"""Steps added before the floor, half of what products are multiples of: single precision takes no whole one down."""


@dataclass(frozen=True, eq=False)
class Array:
    """The fixed pattern, but for gains and offsets of the columns.

    synapse: (2, 256, 256), gains, with those of their rows.  pulse: (2, 128), activation steps.  below, above: (512,),
    1 / how many steps beyond `LINEAR` a result can get.
    """

    synapse: Single
    pulse: Single
    below: Single
    above: Single


@lru_cache(maxsize=16)
def array_of(pattern: Pattern) -> Array:
    """That of the chip."""
    s = pattern.strengths
    synapse = np.maximum(1 + s.mac_synapse * pattern.normal(Quantity.SYNAPSE, (HALVES, ROWS, COLUMNS)), 0)
    row = np.maximum(1 + s.mac_row * pattern.normal(Quantity.MAC_ROW, (HALVES, DRIVERS)), 0)
    pulse = s.mac_pulse * pattern.normal(Quantity.MAC_PULSE, (HALVES, DRIVERS))
    lowest = LOWEST + s.mac_floor * pattern.normal(Quantity.MAC_FLOOR)
    bends = uniforms(pattern.seed, Quantity.MAC_BEND, (CIRCUITS,)) < s.mac_bend
    return Array(
        (synapse * np.repeat(row, 2, axis=1)[:, :, None]).astype(np.float32),
        pulse.astype(np.float32),
        (1 / (LINEAR[0] - np.clip(lowest, *LOWEST_RANGE))).astype(np.float32),
        np.where(bends, 1 / (HIGHEST - LINEAR[1]), 0.0).astype(np.float32),
    )


@lru_cache(maxsize=64)
def _columns(columns: ByValue[Columns], pattern: Pattern) -> tuple[Float, Float]:
    """(512,) each, with these codes: gain over the nominal one, and offset in steps."""
    written, codes, s = contents(columns.value), columns.value, pattern.strengths
    gain = np.maximum(1 + pattern.varied(Quantity.MAC_COLUMN, s.mac_column, written), 0)
    offset = pattern.varied(Quantity.MAC_OFFSET, s.mac_offset, written)
    return gain * codes.gain / NOMINAL_GAIN, offset + codes.offset


_NOMINAL = ByValue(Columns())


def tile(
    how: ArrayPass, shape: tuple[int, int], pattern: Pattern, ideal: Collection[Imperfection], noise: float
) -> Tile:
    """The part of the array that ``how`` uses for weights of ``shape``, without the imperfections of ``ideal``."""
    array, rows = array_of(pattern), slice(how.row, how.row + shape[0])
    gain, offset = _columns(_NOMINAL if how.columns is None else ByValue(how.columns), pattern)
    here = slice(how.half * COLUMNS + how.column, how.half * COLUMNS + how.column + shape[1])
    column = np.zeros((4, shape[1]), np.float32)
    column[0] = gain[here] * (how.sends * how.gain / GAIN_UNIT * _left(how, shape[0], ideal))
    column[1] = offset[here] + _ROUNDING
    if Imperfection.MAC_SATURATION not in ideal:
        column[2], column[3] = array.below[here], array.above[here]
    return Tile(array.synapse[how.half], how.row, how.column, array.pulse[how.half, rows], column, LINEAR, noise)


def _left(how: ArrayPass, rows: int, ideal: Collection[Imperfection]) -> float:
    """The share of the signal that neither fast events nor the leak take away."""
    left = 1.0
    if Imperfection.MAC_WAIT not in ideal:
        left -= WAIT_LOSS * np.exp(-(how.wait - 1) / WAIT_CYCLES)
    passed = how.sends * rows * how.wait * CYCLE / LEAK_TIME
    if Imperfection.MAC_DROOP not in ideal and passed > 0:
        left *= -np.expm1(-passed) / passed  # of what came in equal parts all along
    return float(left)
