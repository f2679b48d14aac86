"""A run of a twin that may go on from another, or be gone on from: carried out in steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from spikeloop.chip import correlation
from spikeloop.chip.by_value import ByValue
from spikeloop.chip.configuration import AddressedEvents, Analog, Configuration, Instruments, Readout, Routing
from spikeloop.chip.correlation import Sensors
from spikeloop.chip.drivers import Drivers, pulses_of
from spikeloop.chip.dynamics import dynamics_of
from spikeloop.chip.groups import Chipful, check_end, check_step, groups_of
from spikeloop.chip.imperfection import Imperfection
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.learning import LearningState, learn
from spikeloop.chip.mismatch import Quantity, keyed
from spikeloop.chip.plan import Plan
from spikeloop.chip.ppu import Processor, Task
from spikeloop.chip.prepared import check_again, neurons_on
from spikeloop.chip.stepwise import ChipState, Stepwise
from spikeloop.chip.terms import Switches, Terms
from spikeloop.errors import OutOfRange, WrongType, kind_of

if TYPE_CHECKING:
    from spikeloop.chip.twin import Twin


T = TypeVar("T")


@dataclass(frozen=True)
class _Made:
    """What a configuration was made of, for a chip that is run in steps."""

    analog: ByValue[Analog]
    routing: ByValue[Routing]
    instruments: ByValue[Instruments]
    terms: ByValue[Terms] | None
    switches: ByValue[Switches] | None
    inputs: ByValue[Inputs] | None
    drivers: ByValue[Drivers] | None


def _by_value(part: T | None) -> ByValue[T] | None:
    return None if part is None else ByValue(part)


def _value(part: ByValue[T] | None) -> T | None:
    return None if part is None else part.value


@lru_cache(maxsize=16)
def _chipful(made: _Made, twin: Twin) -> Chipful:
    neurons = neurons_on(made.analog, made.routing, twin, made.inputs)
    dynamics = dynamics_of(neurons, _value(made.terms), _value(made.switches), _value(made.inputs), twin.pattern())
    same = dynamics.tree[:, None] == dynamics.tree
    plan = Plan(copy.deepcopy(made.routing.value), neurons, made.instruments.value, same)
    capacity = Imperfection.CAPACITY not in twin.ideal
    groups = groups_of(neurons, dynamics, plan)
    pulses = None if made.drivers is None else pulses_of(made.drivers.value, twin.pattern())
    step = check_step(twin.step, groups)
    return Chipful(neurons, dynamics, plan, twin.pattern(), twin.strengths(), capacity, groups, pulses, step)


@dataclass(frozen=True, eq=False)
class Going:
    """From where a run goes on, whether its state is wanted, and what the processor does; see `Twin.emulate`."""

    start: object | None
    keep: bool
    program: Mapping[str, Task]


def stretch(twin: Twin, configuration: Configuration, drive: AddressedEvents, cycles: int, going: Going) -> Readout:
    """The readout of a run that is carried out in steps. Raises where ``start`` is of another chip or batch."""
    parts = ByValue(configuration.routing), ByValue(configuration.analog), ByValue(configuration.instruments)
    check_again(*parts)
    routing, analog, instruments = parts
    terms, switches = _by_value(configuration.terms), _by_value(configuration.switches)
    inputs, drivers = _by_value(configuration.inputs), _by_value(configuration.drivers)
    lasting = _by_value(None if configuration.inputs is None else configuration.inputs.lasting)
    chip = _chipful(_Made(analog, routing, instruments, terms, switches, inputs, drivers), twin)
    active = tuple(step.neuron.tobytes() for step in chip.plan.steps)
    owner = twin, routing, analog, terms, switches, lasting, drivers, active
    start = going.start
    if start is not None:
        _check_start(start, owner, len(drive), LearningState if going.program else ChipState)
    chip.plan.cover(drive.address)
    for each in start.chips if isinstance(start, LearningState) else (start,):
        if isinstance(each, ChipState):
            chip.plan.cover(each.incoming.arrivals.unit)
    if going.program:
        trial = start.chips[0].trial if isinstance(start, LearningState) else drive.trial
        processor = _processor(twin, configuration.sensors, going.program, trial)
        readout = learn(chip, processor, configuration, drive, cycles, start, owner)  # type: ignore[arg-type]
        return readout if going.keep else replace(readout, state=None)
    run = Stepwise(chip, configuration, drive, cycles, start, step=chip.step)  # type: ignore[arg-type]
    if going.keep:
        check_end(chip, run.span.last, ())
    readout, state = run.run(owner)
    return replace(readout, state=state) if going.keep else readout


def _processor(twin: Twin, sensors: Sensors | None, program: Mapping[str, Task], trial: int) -> Processor:
    """The plasticity processor of a chip, with its sensors."""
    pattern = twin.pattern()
    windows = correlation.windows(sensors or Sensors(), pattern.seed, pattern.strengths)
    channels = correlation.channels(pattern.seed, pattern.strengths, twin.strengths().cadc)
    key = int(keyed(keyed(pattern.seed, Quantity.CORRELATION_NOISE), trial))
    return Processor(program, windows, channels, key)


def _check_start(start: object, owner: object, batch: int, kind: type[ChipState] | type[LearningState]) -> None:
    if not isinstance(start, kind):
        raise WrongType(f"start is {kind_of(start)}", where="Twin.emulate", expected="the state of a Readout")
    if start.owner != owner:
        raise OutOfRange(
            "start is of another chip, or of another configuration of it", where="Twin.emulate",
            expected="the same routing and analog parameters; weights and instruments may be others",
        )  # fmt: skip
    if len(start) != batch:
        raise OutOfRange(f"start is of {len(start)} runs", where="Twin.emulate", expected=f"{batch}, as the drive")
