"""A chip as integers: what is written into it, what is sent to it, and what is read back. No float crosses this edge.

Coordinates: a half is 0 (top) or 1 (bottom); circuit ``half * 256 + column``; row ``r`` of a half belongs to synapse
driver ``r // 2``; driver ``d`` of a half hangs on bus ``d // 32`` of that half and has the address ``d % 32`` there.

Event addresses (16 bit): 0-5 synapse label, 6-10 row select, 11-13 free for the crossbar, 14-15 the input link. A
circuit's own events carry its 8-bit label in bits 0-7 and its output, ``column // 32``, in bits 8-10
(hardware.md 1.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip.correlation import Sensors
from spikeloop.chip.drivers import Drivers
from spikeloop.chip.geometry import (
    BUSES,
    CADC_PERIOD_MIN,
    CAPACITANCE_MAX,
    CIRCUITS,
    CODE_MAX,
    COLUMNS,
    COUNTER_MAX,
    CYCLE,
    DEPTH,
    DRIVERS,
    HALVES,
    LABEL_MAX,
    LINKS,
    MADC_NEURONS,
    OUTPUTS,
    ROWS,
    WEIGHT_MAX,
    Flags,
    Integers,
    check,
    full,
    whole,
)
from spikeloop.chip.inputs import Inputs, Switching
from spikeloop.chip.terms import Switches, Terms
from spikeloop.engine.bus import in_order
from spikeloop.errors import OutOfRange, WrongType, kind_of

if TYPE_CHECKING:
    from spikeloop.chip.mac import ArrayPass

_READ = "chip readout"


def _check_runs(cycle: Integers, start: Integers, where: str) -> None:
    """Raise where the runs of a batch do not share out their events, or those of one run are not ascending."""
    if not len(start) or start[0] != 0 or start[-1] != len(cycle) or np.any(start[1:] < start[:-1]):
        raise OutOfRange("start is not ascending from 0 to the number of events", where=where,
                         todo="With counts of events by run: np.append(0, np.cumsum(counts))")  # fmt: skip
    early = cycle[1:] < cycle[:-1]
    early[start[(start > 0) & (start < len(cycle))] - 1] = False
    if early.any():
        raise OutOfRange(f"cycle[{int(early.argmax()) + 1}] is before its predecessor", where=where,
                         expected="cycles ascending within a run",
                         todo="Sort by run and cycle: np.lexsort((cycle, run))")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Routing:
    """Where events go: labels of the synapses, signs of their rows, drivers, crossbar, and the neurons' own events.

    label: (2, 256, 256), half, row, column: the event label a synapse answers to, 0..63.
    row_sign: (2, 256): 1 excitatory, -1 inhibitory, 0 disabled.
    driver_mask: (2, 128), 0..31: a driver fires where ``(address & mask) == (row select & mask)``.
    link_mask, link_target: (4, 8): an event of link l enters bus b (0-3 top, 4-7 bottom) where ``(label & mask) ==
    target`` of its 14-bit label.  output_mask, output_target: (8, 2): likewise for the neurons' output o into bus o % 4
    of each half.
    neuron_label: (512,), 0..255.  sends: (512,): whether a circuit's spikes become events.
    head: (512,): the circuit that spikes for this one; joined circuits share one membrane and one head.
    """

    label: Integers = field(default_factory=full((HALVES, ROWS, COLUMNS), 0, np.uint8))
    row_sign: Integers = field(default_factory=full((HALVES, ROWS), 0, np.int8))
    driver_mask: Integers = field(default_factory=full((HALVES, DRIVERS), 31, np.uint8))
    link_mask: Integers = field(default_factory=full((LINKS, 2 * BUSES), 0, np.uint16))
    link_target: Integers = field(default_factory=full((LINKS, 2 * BUSES), 0x3FFF, np.uint16))
    output_mask: Integers = field(default_factory=full((OUTPUTS, HALVES), 0, np.uint16))
    output_target: Integers = field(default_factory=full((OUTPUTS, HALVES), 0x3FFF, np.uint16))
    neuron_label: Integers = field(default_factory=full((CIRCUITS,), 0, np.uint8))
    sends: Flags = field(default_factory=full((CIRCUITS,), 0, np.bool_))
    head: Integers = field(default_factory=lambda: np.arange(CIRCUITS, dtype=np.int16))

    def __post_init__(self) -> None:
        check("label", self.label, (HALVES, ROWS, COLUMNS), 0, LABEL_MAX)
        check("row_sign", self.row_sign, (HALVES, ROWS), -1, 1)
        check("driver_mask", self.driver_mask, (HALVES, DRIVERS), 0, 31)
        for name in ("link_mask", "link_target"):
            check(name, getattr(self, name), (LINKS, 2 * BUSES), 0, 0x3FFF)
        for name in ("output_mask", "output_target"):
            check(name, getattr(self, name), (OUTPUTS, HALVES), 0, 0x3FFF)
        check("neuron_label", self.neuron_label, (CIRCUITS,), 0, 255)
        check("sends", self.sends, (CIRCUITS,), 0, 1)
        check("head", self.head, (CIRCUITS,), 0, CIRCUITS - 1)
        _check_joined(self.head)


def _check_joined(head: Integers) -> None:
    """Joined circuits fill neighbouring columns: the switches connect a circuit to the next and to the other half."""
    wrong = np.flatnonzero(head[head] != head)
    if wrong.size:
        raise OutOfRange(f"head[{wrong[0]}] is {head[wrong[0]]}, which follows another", where="chip configuration",
                         expected="a circuit that is its own head")  # fmt: skip
    place = np.unique(head.astype(np.int64) * COLUMNS + np.arange(CIRCUITS) % COLUMNS)  # by head, then column
    gap = np.flatnonzero((np.diff(place // COLUMNS) == 0) & (np.diff(place) > 1))
    if gap.size:
        first = place[gap[0]] // COLUMNS
        columns = place[place // COLUMNS == first] % COLUMNS
        raise OutOfRange(f"the circuits of head {first} lie in columns {columns.tolist()}",
                         where="chip configuration", expected="columns side by side")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Analog:
    """The analog memory and the switches beside it: one value per circuit, (512,), unless said otherwise.

    leak, reset, threshold: codes of potentials, 0..1022.  leak_bias: code of the leak's conductance; leak_division: an
    eighth of it.  synapse_bias: code of the synaptic line's conductance; synapse_division: an eighth of it.
    gain: (2, 512), codes of the synaptic inputs' transconductance, excitatory and inhibitory.
    capacitance: 0..63.  refractory: 0..255, in periods of 2 ** refractory_clock cycles.  fires: whether the comparator
    is on.  synapse_dac: (4,), code of the synapses' current, by quadrant (half * 2 + column // 128).
    refractory_clock: (1,), 0..7.
    """

    leak: Integers = field(default_factory=full((CIRCUITS,), 214))
    reset: Integers = field(default_factory=full((CIRCUITS,), 214))
    threshold: Integers = field(default_factory=full((CIRCUITS,), 382))
    leak_bias: Integers = field(default_factory=full((CIRCUITS,), 681))
    leak_division: Flags = field(default_factory=full((CIRCUITS,), 1, np.bool_))
    synapse_bias: Integers = field(default_factory=full((CIRCUITS,), 408))
    synapse_division: Flags = field(default_factory=full((CIRCUITS,), 1, np.bool_))
    gain: Integers = field(default_factory=full((2, CIRCUITS), 500))
    capacitance: Integers = field(default_factory=full((CIRCUITS,), CAPACITANCE_MAX))
    refractory: Integers = field(default_factory=full((CIRCUITS,), 5))
    fires: Flags = field(default_factory=full((CIRCUITS,), 0, np.bool_))
    synapse_dac: Integers = field(default_factory=full((4,), 1000))
    refractory_clock: Integers = field(default_factory=full((1,), 0))

    def __post_init__(self) -> None:
        for name in ("leak", "reset", "threshold", "leak_bias", "synapse_bias"):
            check(name, getattr(self, name), (CIRCUITS,), 0, CODE_MAX)
        for name in ("leak_division", "synapse_division", "fires"):
            check(name, getattr(self, name), (CIRCUITS,), 0, 1)
        check("gain", self.gain, (2, CIRCUITS), 0, CODE_MAX)
        check("capacitance", self.capacitance, (CIRCUITS,), 0, CAPACITANCE_MAX)
        check("refractory", self.refractory, (CIRCUITS,), 0, COUNTER_MAX)
        check("synapse_dac", self.synapse_dac, (4,), 0, CODE_MAX)
        check("refractory_clock", self.refractory_clock, (1,), 0, 7)


@dataclass(frozen=True, eq=False)
class Instruments:
    """What is read while the chip runs.

    cadc_period: (1,), cycles between samples of the column ADC, at least 213 (1.7 us); 0: off.
    cadc_circuit: (C,): the circuits whose membranes are kept.  cadc_offset: (512,), -128..127, added to the channel's
    result.  cadc_reference: (1,), code of a potential that all channels read instead of the membranes; -1: none.
    madc_circuit: (at most 2,): the circuits whose membranes the fast ADC samples.  madc_adaptation: (2,): whether it
    looks at the adaptation of the first, of the second of these instead.
    """

    cadc_period: Integers = field(default_factory=full((1,), 0, np.int32))
    cadc_circuit: Integers = field(default_factory=full((0,), 0))
    cadc_offset: Integers = field(default_factory=full((CIRCUITS,), 0))
    cadc_reference: Integers = field(default_factory=full((1,), -1))
    madc_circuit: Integers = field(default_factory=full((0,), 0))
    madc_adaptation: Flags = field(default_factory=full((MADC_NEURONS,), 0, np.bool_))

    def __post_init__(self) -> None:
        check("cadc_period", self.cadc_period, (1,), 0, 2**31 - 1)
        if 0 < self.cadc_period[0] < CADC_PERIOD_MIN:
            raise OutOfRange(f"cadc_period is {self.cadc_period[0]}", where="chip configuration",
                             expected=f"0 (off), or at least {CADC_PERIOD_MIN} cycles (1.7 us)")  # fmt: skip
        for name in ("cadc_circuit", "madc_circuit"):
            check(name, getattr(self, name), getattr(self, name).shape[:1], 0, CIRCUITS - 1)
        check("cadc_offset", self.cadc_offset, (CIRCUITS,), -128, 127)
        check("madc_adaptation", self.madc_adaptation, (MADC_NEURONS,), 0, 1)
        check("cadc_reference", self.cadc_reference, (1,), -1, CODE_MAX)
        if len(self.madc_circuit) > MADC_NEURONS:
            raise OutOfRange(f"madc_circuit names {len(self.madc_circuit)} circuits", where="chip configuration",
                             expected=f"at most {MADC_NEURONS}",
                             todo="Watch the others in another run, or with the column ADC")  # fmt: skip
        if len(set(self.madc_circuit.tolist())) < len(self.madc_circuit):
            raise OutOfRange(f"madc_circuit names circuit {self.madc_circuit[0]} twice", where="chip configuration",
                             expected="two circuits, or one")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Configuration:
    """Everything that is written into a chip before it runs; weight: (2, 256, 256), half, row, column, 0..63.

    terms: what neurons have beside leak and threshold; switches: how compartments are connected; sensors: of
    correlations; inputs: what flows into membranes otherwise; drivers: their short-term plasticity. None: all off.
    """

    weight: Integers = field(default_factory=full((HALVES, ROWS, COLUMNS), 0, np.uint8))
    routing: Routing = field(default_factory=Routing)
    analog: Analog = field(default_factory=Analog)
    instruments: Instruments = field(default_factory=Instruments)
    terms: Terms | None = None
    switches: Switches | None = None
    sensors: Sensors | None = None
    inputs: Inputs | None = None
    drivers: Drivers | None = None

    def __post_init__(self) -> None:
        for name, kind in (("routing", Routing), ("analog", Analog), ("instruments", Instruments)):
            if not isinstance(value := getattr(self, name), kind):
                raise WrongType(f"{name} is {kind_of(value)}", where="chip configuration",
                                expected=f"an object of {kind.__name__}")  # fmt: skip
        optional = {"terms": Terms, "switches": Switches, "sensors": Sensors, "inputs": Inputs, "drivers": Drivers}
        for name, kind in optional.items():
            if not isinstance(value := getattr(self, name), kind | None):
                raise WrongType(f"{name} is {kind_of(value)}", where="chip configuration",
                                expected=f"an object of {kind.__name__}, or None")  # fmt: skip
        if self.switches is not None:
            self.switches.check_heads(self.routing.head)
        check("weight", self.weight, (HALVES, ROWS, COLUMNS), 0, WEIGHT_MAX)


@dataclass(frozen=True, eq=False)
class AddressedEvents:
    """What is sent to a chip: the events of a batch of runs, and which circuits are not to send any.

    cycle: (S,), when, in cycles of 8 ns, ascending within a run.  address: (S,), 16 bit.  start: (B + 1,): run b owns
    rows start[b]:start[b + 1].  muted: (B, 512) or (0, 512): circuits whose events are cut off in that run.
    trial: which draw of the trial-to-trial noise a twin makes; an instrument has its own.
    currents: when constant currents are switched; None: never.
    """

    cycle: Integers
    address: Integers
    start: Integers
    muted: Flags = field(default_factory=lambda: np.zeros((0, CIRCUITS), np.bool_))
    trial: int = 0
    currents: Switching | None = None

    def __post_init__(self) -> None:
        if "_right" in self.__dict__ and not any(array.flags.writeable for array in self._arrays):
            return
        where = "addressed events"
        fine = in_order(self.cycle, self.address, self.start, torch.get_num_threads())
        if not fine:
            check("cycle", self.cycle, np.shape(self.cycle)[:1], 0, 2**53, where)
            check("address", self.address, self.cycle.shape, 0, 0xFFFF, where)
            check("start", self.start, np.shape(self.start)[:1], 0, len(self.cycle), where)
        check("muted", self.muted, (0 if np.shape(self.muted)[:1] == (0,) else len(self), CIRCUITS), 0, 1, where)
        if not fine:
            _check_runs(self.cycle, self.start, where)
        if self.currents is not None:
            self.currents.__post_init__()
            if len(self.currents.switch) not in (1, len(self)):
                raise OutOfRange(f"currents are of {len(self.currents.switch)} runs", where=where,
                                 expected=f"1, or {len(self)}")  # fmt: skip
        whole(self.trial, "trial", where)

    @classmethod
    def _trusted(cls, cycle: Integers, address: Integers, start: Integers, muted: Flags, trial: int) -> AddressedEvents:
        """From what was made to be right, and cannot be written to from now on: nothing is checked."""
        events = object.__new__(cls)
        own = start.view()  # the array itself is that of the events in the drive, which stay writeable
        events.__dict__.update(cycle=cycle, address=address, start=own, muted=muted, trial=trial, currents=None)
        events.__dict__["_right"] = True
        for array in events._arrays:
            array.flags.writeable = False
        return events

    @property
    def _arrays(self) -> tuple[Integers | Flags, ...]:
        return self.cycle, self.address, self.start, self.muted

    def __len__(self) -> int:
        return len(self.start) - 1


@dataclass(frozen=True, eq=False)
class Readout:
    """What comes back, for each of B runs.

    cycle: (S,), time stamps of the events in cycles.  address: (S,): label and output of the circuit, bits 0-10.
    start: (B + 1,).  lost: (B,), events dropped where a bus or a link was full, or sent when the run was over.
    cadc: (B, T, C) 0..255; cadc_cycle: (B, T), when.  madc: (B, K, M) 0..1023, every 17 periods of 2 ns from 0 on.
    state: where the chip was left, to go on from, if that was asked for; the chip's own business.  program: by run,
    what its plasticity processor did, if it had anything to do.
    """

    cycle: Integers
    address: Integers
    start: Integers
    lost: Integers
    cadc: Integers
    cadc_cycle: Integers
    madc: Integers
    state: object | None = None
    program: object | None = None

    @classmethod
    def _trusted(cls, *parts: Integers) -> Readout:
        """From all but state and program of a twin's own making: nothing is checked."""
        readout = object.__new__(cls)
        readout.__dict__.update(zip(cls.__dataclass_fields__, (*parts, None, None), strict=True))
        return readout

    def __post_init__(self) -> None:
        check("cycle", self.cycle, np.shape(self.cycle)[:1], 0, 2**53, _READ)
        check("address", self.address, self.cycle.shape, 0, 0x7FF, _READ)
        check("start", self.start, np.shape(self.start)[:1], 0, len(self.cycle), _READ)
        _check_runs(self.cycle, self.start, _READ)
        batch = len(self.start) - 1
        check("lost", self.lost, (batch,), 0, 2**53, _READ)
        check("cadc", self.cadc, (batch, *_sizes(self.cadc)), 0, 0xFF, _READ)
        check("cadc_cycle", self.cadc_cycle, self.cadc.shape[:2], 0, 2**53, _READ)
        check("madc", self.madc, (batch, *_sizes(self.madc)), 0, 0x3FF, _READ)


def _sizes(samples: Integers) -> tuple[int, ...]:
    """Of the second and third dimension; zero where there is none."""
    return (*np.shape(samples), 0, 0, 0)[1:3]


class Chip(Protocol):
    """An instrument: integers in, integers out."""

    def emulate(self, configuration: Configuration, drive: AddressedEvents, cycles: int) -> Readout:
        """Write ``configuration`` and run it for ``cycles`` on each of the batch's drives."""
        ...

    def multiply(
        self, weights: NDArray[np.int8], activations: NDArray[np.uint8], how: ArrayPass = ...
    ) -> NDArray[np.int8]:
        """(B, N): activations (B, K), 0..31, times weights (K, N), -63..63, in one pass of a part of the array.

        ``how`` is a plain ``ArrayPass()`` where it is left out.
        """
        ...


__all__ = [
    "BUSES", "CADC_PERIOD_MIN", "CAPACITANCE_MAX", "CIRCUITS", "CODE_MAX", "COLUMNS", "COUNTER_MAX", "CYCLE", "DEPTH",
    "DRIVERS", "HALVES", "LABEL_MAX", "LINKS", "MADC_NEURONS", "OUTPUTS", "ROWS", "WEIGHT_MAX",
    "AddressedEvents", "Analog", "Chip", "Configuration", "Flags", "Instruments", "Integers", "Readout", "Routing",
    "check", "full", "whole",
]  # fmt: skip
