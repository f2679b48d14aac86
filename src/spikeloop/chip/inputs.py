"""What flows into membranes beyond `Analog`: lines of their own kind, a constant current, and no leak; as codes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from spikeloop.chip.geometry import CIRCUITS, CODE_MAX, Flags, Integers, check, full
from spikeloop.errors import OutOfRange

_WHERE = "chip configuration, inputs"


def _flags(*shape: int) -> Flags:
    return np.zeros(shape, np.bool_)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Switches and codes of what flows into each circuit's membrane; rows of (2, 512) are excitatory and inhibitory.

    separate: (2, 512), whether a synaptic line has a time constant of its own, with codes synapse_bias and
    synapse_division as in `Analog`, whose codes count elsewhere.
    conductance: (2, 512), whether a line's current follows the membrane, as (E - V) / (E - R), where reversal, (2,
    512), is the code of E, and reference, (512,), of R.
    offset: (512,), code of a constant current; offset_switch: (512,), -1, 0, 1: a sink, off, a source, until the
    drive's `Switching` says otherwise.
    leak_off: (512,), whether the leak's amplifier is off.
    """

    separate: Flags = field(default_factory=lambda: _flags(2, CIRCUITS))
    synapse_bias: Integers = field(default_factory=full((2, CIRCUITS), 408))
    synapse_division: Flags = field(default_factory=lambda: np.ones((2, CIRCUITS), np.bool_))
    conductance: Flags = field(default_factory=lambda: _flags(2, CIRCUITS))
    reversal: Integers = field(default_factory=full((2, CIRCUITS), 0))
    reference: Integers = field(default_factory=full((CIRCUITS,), 214))
    offset: Integers = field(default_factory=full((CIRCUITS,), 0))
    offset_switch: Integers = field(default_factory=full((CIRCUITS,), 0, np.int8))
    leak_off: Flags = field(default_factory=lambda: _flags(CIRCUITS))

    def __post_init__(self) -> None:
        for name in ("separate", "synapse_division", "conductance"):
            check(name, getattr(self, name), (2, CIRCUITS), 0, 1, _WHERE)
        for name in ("synapse_bias", "reversal"):
            check(name, getattr(self, name), (2, CIRCUITS), 0, CODE_MAX, _WHERE)
        for name in ("reference", "offset"):
            check(name, getattr(self, name), (CIRCUITS,), 0, CODE_MAX, _WHERE)
        check("offset_switch", self.offset_switch, (CIRCUITS,), -1, 1, _WHERE)
        check("leak_off", self.leak_off, (CIRCUITS,), 0, 1, _WHERE)
        same = np.argwhere(self.conductance & (self.reversal == self.reference))
        if same.size:
            raise OutOfRange(f"reversal and reference of circuit {same[0][1]} have one code", where=_WHERE,
                             expected="two potentials: currents are in units of their distance")  # fmt: skip

    @property
    def two_lines(self) -> bool:
        """Whether the lines of some circuit are not alike."""
        return bool(np.any(self.separate) or np.any(self.conductance))

    @property
    def lasting(self) -> Inputs | None:
        """What a run that is continued cannot change: all but the constant currents; None where that is nothing."""
        if not (self.two_lines or np.any(self.leak_off)):
            return None
        zero = np.zeros(CIRCUITS, np.int16)
        return replace(self, offset=zero, offset_switch=zero.astype(np.int8))


@dataclass(frozen=True, eq=False)
class Switching:
    """When constant currents are switched: cycle, (T,), ascending; switch, (B or 1, T, 512), -1, 0, 1 from then on."""

    cycle: Integers
    switch: Integers

    def __post_init__(self) -> None:
        where = "addressed events, currents"
        check("cycle", self.cycle, np.shape(self.cycle)[:1], 0, 2**53, where)
        shape = (*np.shape(self.switch), 0)[:1]
        check("switch", self.switch, (*shape, len(self.cycle), CIRCUITS), -1, 1, where)
        if np.any(np.diff(self.cycle) <= 0):
            raise OutOfRange("cycle does not ascend", where=where, expected="cycles ascending")

    def of(self, sample: int) -> Switching:
        """Those of one run."""
        return Switching(self.cycle, self.switch[sample % len(self.switch)][None])
