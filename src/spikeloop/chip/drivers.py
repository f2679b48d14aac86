"""Short-term plasticity of synapse drivers: what is written, and what it becomes on one chip.

A driver has a fraction x of its resources, 1 at rest. Any event that it passes on takes the fraction U of them, before
its pulse is made, and they recover with tau. The pulse's length, over that of a driver without plasticity, is
(1 - U) x + o where it depresses, 1 - (1 - U) x + o where it facilitates, and never negative (hardware.md 1.7: Tsodyks &
Markram, U before the event; that a rested driver's pulse can be the longest one is ours). o: offset of its ramp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.geometry import DRIVERS, HALVES, Flags, Integers, check, full
from spikeloop.chip.mismatch import Float, Quantity
from spikeloop.engine.arrays import Recovery
from spikeloop.engine.short_term import sizes_of

if TYPE_CHECKING:
    from spikeloop.chip.circuits import Pattern

STP_CODE_MAX = 15
UTILISATION_STEP = 0.025
"""U of code 0, and what each further code adds: U is about 0.2, and larger ones do not work (range 1.7, law ours)."""
RECOVERY_TIME = 16e-6
"""Seconds of recovery at code 0 and clock 0 (1.7 has 4 bits for either; law ours)."""
OFFSET_NEUTRAL, OFFSET_STEP = 8, 0.02
"""The offset's code that changes nothing, and what one more takes from a pulse's length (1.7 has 4 bits; law ours)."""
_U_MOST = 0.9


@dataclass(frozen=True, eq=False)
class Drivers:
    """Codes of the drivers' short-term plasticity, (2, 128), half and driver.

    plastic: whether it is on.  facilitating: which of two sets of voltages.  utilisation, recovery, offset: 0..15.
    recovery_clock: (1,), 0..15.
    """

    plastic: Flags = field(default_factory=full((HALVES, DRIVERS), 0, np.bool_))
    facilitating: Flags = field(default_factory=full((HALVES, DRIVERS), 0, np.bool_))
    utilisation: Integers = field(default_factory=full((HALVES, DRIVERS), 7, np.uint8))
    recovery: Integers = field(default_factory=full((HALVES, DRIVERS), 7, np.uint8))
    offset: Integers = field(default_factory=full((HALVES, DRIVERS), OFFSET_NEUTRAL, np.uint8))
    recovery_clock: Integers = field(default_factory=full((1,), 0, np.uint8))

    def __post_init__(self) -> None:
        where = "chip configuration, drivers"
        for name in ("plastic", "facilitating"):
            check(name, getattr(self, name), (HALVES, DRIVERS), 0, 1, where)
        for name in ("utilisation", "recovery", "offset"):
            check(name, getattr(self, name), (HALVES, DRIVERS), 0, STP_CODE_MAX, where)
        check("recovery_clock", self.recovery_clock, (1,), 0, STP_CODE_MAX, where)


def utilisation(code: Integers | Float) -> Float:
    """U of a code."""
    return UTILISATION_STEP * (np.asarray(code, np.float64) + 1)


def recovery_time(code: Integers | Float, clock: Integers | int) -> Float:
    """Seconds of recovery of a code."""
    return RECOVERY_TIME * 2.0 ** np.asarray(clock, np.float64) / (np.asarray(code, np.float64) + 1)


@dataclass(frozen=True, eq=False)
class Pulses:
    """The D drivers of a chip that are plastic: number, flat in half and driver; what resources do, and the lengths of
    pulses before their ramps' offset, (D,), is added."""

    number: NDArray[np.int64]
    recovery: Recovery
    offset: Float

    def lengths(self, place: int, x: Float) -> Float:
        """Of pulses of one of the drivers whose events meet ``x``."""
        return sizes_of(x, np.zeros(len(x), np.int32), self.of(np.array([place])))

    def of(self, place: NDArray[np.integer]) -> Recovery:
        """Those of some of the drivers; an event's size is its pulse's length."""
        known = self.recovery
        base = known.base[place] + self.offset[place]
        return Recovery(known.utilisation[place], known.tau[place], base, known.slope[place])


def pulses_of(drivers: Drivers, pattern: Pattern) -> Pulses | None:
    """What ``pattern`` makes of the codes; None where no driver is plastic."""
    number = np.flatnonzero(drivers.plastic)
    if not len(number):
        return None
    s = pattern.strengths

    def own(quantity: Quantity) -> Float:
        return pattern.normal(quantity, (HALVES, DRIVERS)).ravel()[number]

    def codes(name: str) -> Float:
        return np.asarray(getattr(drivers, name), np.float64).ravel()[number]

    used = utilisation(codes("utilisation")) * np.exp(s.short_term_utilisation * own(Quantity.SHORT_TERM_UTILISATION))
    tau = recovery_time(codes("recovery"), drivers.recovery_clock)
    tau = tau * np.exp(s.short_term_recovery * own(Quantity.SHORT_TERM_RECOVERY))
    offset = s.short_term_offset * own(Quantity.SHORT_TERM_OFFSET) - OFFSET_STEP * (codes("offset") - OFFSET_NEUTRAL)
    used, facilitating = np.minimum(used, _U_MOST), np.asarray(drivers.facilitating, bool).ravel()[number]
    return Pulses(number, Recovery(used, tau, facilitating * 1.0, np.where(facilitating, used - 1, 1 - used)), offset)
