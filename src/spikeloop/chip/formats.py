"""How the plasticity processor reads a lane, and the count of what it does: vectors have 1024 bits.

A fraction q of F bits stands for q / 2 ** F: Q0.7 in 8 bits, Q0.15 in 16; whole numbers have F = 0. What arithmetic
makes saturates at the ends of the range, which is counted, or wraps around (modulo).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.errors import OutOfRange

Wide = NDArray[np.int64]
PROCESSOR = "plasticity processor"
"""Where its errors are."""
_REGISTER = 1024  # bits
_FAR = 2.0**40  # in units of the last bit: beyond any range, and a product with a lane is far from the end of 64 bits


@dataclass(frozen=True)
class Format:
    """How a lane is read: ``bits`` of it, ``point`` of them after the binary point; whether arithmetic saturates."""

    bits: int
    point: int
    saturating: bool = True

    @property
    def low(self) -> int:
        """The smallest number, in units of the last bit."""
        return -(1 << self.bits - 1)

    @property
    def high(self) -> int:
        """The largest number, in units of the last bit."""
        return (1 << self.bits - 1) - 1

    @property
    def lanes(self) -> int:
        """How many fit into a vector."""
        return _REGISTER // self.bits

    def nearest(self, value: NDArray[np.float64]) -> Wide:
        """``value`` in units of the last bit: in the range, or certainly beyond it, or the same modulo the range."""
        if not np.isfinite(value).all():
            raise OutOfRange("a number is NaN or infinite", where=PROCESSOR,
                             expected="finite numbers beside the vectors")  # fmt: skip
        with np.errstate(over="ignore"):
            units = np.rint(np.ldexp(value, self.point))
        return (np.clip(units, -_FAR, _FAR) if self.saturating else np.fmod(units, 2.0**self.bits)).astype(np.int64)

    def __str__(self) -> str:
        kind = f"Q0.{self.point}" if self.point else f"{self.bits}-bit whole numbers"
        return kind if self.saturating else f"{kind}, modulo"


FRACTION8, FRACTION16 = Format(8, 7), Format(16, 15)
WHOLE8, WHOLE16 = Format(8, 0), Format(16, 0)
MODULO8, MODULO16 = Format(8, 0, False), Format(16, 0, False)


@dataclass
class Meter:
    """What a program did: operations on whole vectors, and lanes that saturated."""

    operations: int = 0
    saturations: int = 0

    def fit(self, wide: Wide, to: Format) -> Wide:
        """``wide`` within the range of ``to``: cut off at its ends and counted, or wrapped around."""
        if not to.saturating:
            return (wide - to.low) % (1 << to.bits) + to.low
        self.saturations += int(np.count_nonzero((wide < to.low) | (wide > to.high)))
        return np.clip(wide, to.low, to.high)

    def constant(self, wide: Wide, to: Format) -> Wide:
        """As `fit`, of numbers that are given: 1 counts as the largest fraction."""
        return self.fit(np.where(wide == to.high + 1, to.high, wide) if to.saturating and to.point else wide, to)

    def spend(self, lanes: int, of: Format, times: int = 1) -> None:
        """Count an operation on ``lanes`` lanes, done ``times`` times over."""
        self.operations += times * -(-lanes // of.lanes)
