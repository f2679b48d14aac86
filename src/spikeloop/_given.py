"""What a run is given: the right kinds of things, and a state that belongs to the network. Cheap: asked every run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from spikeloop.engine import _core
from spikeloop.errors import (
    InvalidNetwork,
    OutOfRange,
    ShapeMismatch,
    UnknownPopulation,
    Unsupported,
    WrongType,
    kind_of,
)
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.protocols import Observe
from spikeloop.record import State
from spikeloop.steps import Steps


def check_kinds(network: object, duration: object, substrate: object, rule: object, observe: object) -> None:
    """Raise ``WrongType`` where one of what `run` is given is something else, a class for an object of it included."""
    if not isinstance(network, Network):
        raise WrongType(f"{kind_of(network)} is no network", where="network", expected="a Network")
    if type(duration) is not float and (not hasattr(duration, "__float__") or getattr(duration, "ndim", 0)):
        raise WrongType(f"the duration is {kind_of(duration)}", where="duration", expected="a number of seconds")
    if isinstance(substrate, type) or not (hasattr(substrate, "run") and hasattr(substrate, "offers")):
        raise _no_object("substrate", substrate, "a substrate, such as Ideal()")
    check_rule(rule)
    if not isinstance(observe, Observe):
        raise _no_object("observe", observe, "Observe(membrane=..., peak=..., state=...)")


def check_rule(rule: object) -> None:
    """Raise ``WrongType`` where it is neither a rule nor None, which is no rule."""
    if rule is not None and (isinstance(rule, type) or not (hasattr(rule, "needs") and hasattr(rule, "vjp"))):
        raise _no_object("rule", rule, "a rule, such as EventProp(), or None")


def refuse_plastic(network: Network) -> None:
    """Raise ``Unsupported`` where weights change during a run: a gradient needs them to be the same throughout."""
    if network.programs:
        raise Unsupported(
            f"the weights of {next(iter(next(iter(network.programs.values())).projections))!r} change during the run",
            where="rule",
            expected="fixed weights, where a gradient is wanted",
            todo="Run without a rule, or make the network without plasticity and programs",
        )


def check_drive(drive: object) -> None:
    """Raise ``WrongType`` where a drive is neither `Events` nor a mapping."""
    if not isinstance(drive, Events | Mapping):
        raise _no_events("drive", drive, "Events, or a mapping from input populations to Events")


def check_events(where: str, events: object) -> None:
    """Raise ``WrongType`` where something is no `Events`."""
    if not isinstance(events, Events):
        raise _no_events(where, events, "Events")


def clock_of(start: object) -> float:
    """The time at which a run begins; raises where ``start`` is no state or has no clock."""
    if start is None:
        return 0.0
    if not isinstance(start, State):
        raise WrongType(f"{kind_of(start)} was given", where="start", expected="a State: record.state")
    if not isinstance(start.time, int | float):
        raise WrongType(f"the clock is {kind_of(start.time)}", where="start, time", expected="a number of seconds")
    if not 0 <= start.time < math.inf:
        raise OutOfRange(f"the clock is {start.time}", where="start, time", expected="seconds, at least 0")
    return float(start.time)


def drives_of(
    network: Network, drive: object, duration: float, begin: float
) -> tuple[dict[str, Events], dict[str, Steps]]:
    """The events by input population, in the network's order, and the currents by place; raises where they are not."""
    inputs = network.inputs
    if isinstance(drive, Events):
        if len(inputs) != 1:
            raise UnknownPopulation(
                f"plain Events drive one input, the network has {len(inputs)}",
                where="drive",
                expected=f"a mapping from {', '.join(inputs)} to Events" if inputs else "a mapping to Steps",
            )
        _check_events_of(network, inputs[0], drive, len(drive), duration, begin)
        return {inputs[0]: drive}, {}
    check_drive(drive)
    assert isinstance(drive, Mapping)
    steps = {name: given for name, given in drive.items() if isinstance(given, Steps)}
    events = {name: given for name, given in drive.items() if name not in steps} if steps else drive
    if not inputs and not steps:
        raise InvalidNetwork(
            "the network has no input population",
            where="populations",
            expected="a Population without a neuron, or Steps in the drive",
        )
    if events.keys() != set(inputs):
        raise UnknownPopulation(
            f"Events are given for {', '.join(map(repr, events)) or 'nothing'}",
            where="drive",
            expected=f"exactly the input populations: {', '.join(map(repr, inputs)) or 'none'}",
        )
    drives = {name: events[name] for name in inputs}
    for name, given in drives.items():
        if not isinstance(given, Events):
            check_events(f"drive {name!r}", given)
        _check_events_of(network, name, given, len(drives[inputs[0]]), duration, begin)
    return drives, steps


def _check_events_of(network: Network, name: str, events: Events, batch: int, duration: float, begin: float) -> None:
    size = network.populations[name].size
    if events.size != size:
        raise ShapeMismatch(
            f"the events are of {events.size} units", where=f"drive {name!r}", expected=f"{size}, its size"
        )
    if len(events) != batch:
        raise ShapeMismatch(
            f"{len(events)} samples", where=f"drive {name!r}", expected=f"{batch}, as in the first drive"
        )
    if not events.time.is_cpu:
        raise Unsupported(
            f"the events are on {events.time.device}", where=f"drive {name!r}", todo='Use events.to("cpu")'
        )
    if begin > 0 or _core.latest(events._arrays) > duration:  # seldom: a closer look
        events.check_within(duration, f"drive {name!r}", begin)


def check_steps(network: Network, steps: Mapping[str, Steps], batch: int) -> None:
    """Raise where currents are for no place in ``network``, for one twice, or for others than ``batch`` samples."""
    places: dict[tuple[str, str], str] = {}
    for name, given in steps.items():
        where = f"drive {name!r}"
        population, compartment = network.place(where, name)
        size = network.populations[population].size
        if given.size != size:
            raise ShapeMismatch(f"the currents are of {given.size} neurons", where=where, expected=f"{size}, its size")
        if given.batch not in (None, batch):
            raise ShapeMismatch(
                f"the currents are of {given.batch} samples", where=where, expected=f"{batch}, or for all"
            )
        if given.value.requires_grad and torch.is_grad_enabled():
            raise Unsupported("currents have no gradient", where=where, todo="Use value.detach()")
        if (population, compartment) in places:
            raise InvalidNetwork(
                f"the same currents are given as {places[population, compartment]!r}",
                where=where,
                expected="one of the two names of a place",
            )
        places[population, compartment] = name


def check_start(network: Network, start: State | None, batch: int) -> None:
    """Raise where a state to start from is not one of ``network``, whole, finite and of ``batch`` samples."""
    if start is None:
        return
    if start.opaque:  # the substrate looks
        return
    neurons = {name: population.size for name, population in network.populations.items() if population.kind is not None}
    fields = {"membrane": start.membrane, "current": start.current, "held": start.held}
    for what, values in fields.items():
        _check_names(what, values, neurons)
        for name, value in values.items():
            _check_values(f"start, {what} of population {name!r}", value, (batch, neurons[name]))
    sources = {name: population.size for name, population in network.populations.items() if population.spiking}
    for name, events in start.recent.items():
        if name not in sources:
            raise _unknown("recent", name, sources)
        check_events(f"start, recent of population {name!r}", events)
        if (len(events), events.size) != (batch, sources[name]):
            raise ShapeMismatch(
                f"the spikes are of {len(events)} samples and {events.size} units",
                where=f"start, recent of population {name!r}",
                expected=f"{batch} samples, as in the drive, and {sources[name]} units, its size",
            )


def _check_names(what: str, values: Mapping[str, Tensor], neurons: Mapping[str, int]) -> None:
    for name in values:
        if name not in neurons:
            raise _unknown(what, name, neurons)
    for name in neurons:
        if name not in values:
            raise UnknownPopulation(
                f"the state of {name!r} is missing",
                where=f"start, {what}",
                expected=f"all of {', '.join(neurons)}",
                todo="Take record.state of a run with observe=Observe(state=True)",
            )


def _unknown(what: str, name: str, known: Mapping[str, int]) -> UnknownPopulation:
    return UnknownPopulation(
        f"there is no {name!r} with such a state", where=f"start, {what}", expected=f"one of {', '.join(known)}"
    )


def _check_values(where: str, value: object, shape: tuple[int, int]) -> None:
    if not isinstance(value, Tensor):
        raise WrongType(f"the state is {kind_of(value)}", where=where, expected=f"a tensor {shape}")
    if tuple(value.shape) != shape:
        raise ShapeMismatch(f"the state is {tuple(value.shape)}", where=where, expected=str(shape))
    if value.device.type != "cpu":
        raise Unsupported(f"the state is on {value.device}", where=where, todo='Use .to("cpu")')
    if not bool(torch.isfinite(value).all()):
        raise OutOfRange("the state has NaN or infinite values", where=where, expected="finite numbers")


def _no_object(where: str, given: object, expected: str) -> WrongType:
    todo = f"Write {given.__name__}(...): an object of it" if isinstance(given, type) else None
    return WrongType(f"{kind_of(given)} was given", where=where, expected=expected, todo=todo)


def _no_events(where: str, given: object, expected: str) -> WrongType:
    return WrongType(
        f"{kind_of(given)} was given",
        where=where,
        expected=expected,
        todo="Events.from_raster(raster, dt) reads spikes per time bin (batch, time, unit), Events.from_lists times",
    )
