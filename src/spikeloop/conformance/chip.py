"""What a chip promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from spikeloop.chip.configuration import AddressedEvents, Analog, Chip, Configuration, Instruments, Readout, Routing
from spikeloop.chip.wire import from_bytes, to_bytes
from spikeloop.conformance.cases import Breach, ConformanceError
from spikeloop.errors import SpikeloopError

CYCLES = 3000


def check_chip(chip: Chip, *, deterministic: bool = True) -> None:
    """Raise `ConformanceError` where ``chip`` breaks a contract; provisional.

    ``deterministic=False`` is for instruments that cannot repeat a trial.
    """
    found = [
        Breach(contract, repr(chip), fault)
        for contract, look in CONTRACTS.items()
        if deterministic or look is not _repeats
        for fault in look(chip)
    ]
    if found:
        raise ConformanceError(repr(chip), found)


def _configuration() -> Configuration:
    """Every circuit driven by 64 excitatory synapses; all membranes watched, two of them closely."""
    label = np.zeros((2, 256, 256), np.uint8)
    label[:, :128:2] = 9
    circuit = np.arange(512)
    routing = Routing(
        label=label,
        row_sign=np.tile(np.array([1, -1], np.int8), (2, 128)),
        driver_mask=np.zeros((2, 128), np.uint8),
        link_target=np.where(np.arange(4)[:, None] == 0, 0, 0x3FFF) * np.ones((1, 8), np.uint16),
        neuron_label=(circuit % 32 + 32 * (circuit // 256)).astype(np.uint8),
        sends=np.ones(512, bool),
    )
    instruments = Instruments(np.array([250]), circuit, madc_circuit=np.array([3, 400]))
    return Configuration(np.full((2, 256, 256), 5, np.uint8), routing, Analog(fires=np.ones(512, bool)), instruments)


def _drive() -> AddressedEvents:
    cycle = np.array([200, 900, 200, 210, 220])
    return AddressedEvents(cycle, np.full(5, 9), np.array([0, 2, 2, 5]), trial=4)


def _differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    for each in fields(one):
        a, b = getattr(one, each.name), getattr(other, each.name)
        if is_dataclass(a):
            yield from _differences(a, b, f"{name}{each.name}.")
        elif not np.array_equal(np.asarray(a), np.asarray(b)):
            yield name + each.name


def _integers(chip: Chip) -> Iterator[str]:
    out = chip.emulate(_configuration(), _drive(), CYCLES)
    for each in fields(out):
        value = np.asarray(getattr(out, each.name))
        if value.dtype.kind not in "iub":
            yield f"{each.name} is of {value.dtype}"


def _shapes(chip: Chip) -> Iterator[str]:
    out = chip.emulate(_configuration(), _drive(), CYCLES)
    samples = out.cadc.shape[1] if out.cadc.ndim == 3 else -1
    for name, shape in {
        "start": (4,), "lost": (3,), "cadc": (3, samples, 512), "cadc_cycle": (3, samples), "address": out.cycle.shape,
    }.items():  # fmt: skip
        if getattr(out, name).shape != shape:
            yield f"{name} is {getattr(out, name).shape}, expected {shape}"
    if not 11 <= samples <= 12:
        yield f"{samples} samples in {CYCLES} cycles of a period of 250"
    if out.madc.shape[0] != 3 or out.madc.shape[2] != 2:
        yield f"madc is {out.madc.shape}, expected (3, samples, 2)"


def _events(chip: Chip) -> Iterator[str]:
    out = chip.emulate(_configuration(), _drive(), CYCLES)
    if out.start[0] != 0 or out.start[-1] != len(out.cycle) or (np.diff(out.start) < 0).any():
        yield "start is not ascending from 0 to the number of events"
        return
    if len(out.cycle) and (out.cycle.min() < 0 or out.cycle.max() >= CYCLES):
        yield "time stamps outside the run"
    for run in range(3):
        if (np.diff(out.cycle[out.start[run] : out.start[run + 1]]) < 0).any():
            yield f"time stamps of run {run} are not ascending"
    if len(out.address) and not np.isin(out.address & 0xFF, np.arange(64)).all():
        yield "events carry labels that no circuit was given"


def _converters(chip: Chip) -> Iterator[str]:
    out = chip.emulate(_configuration(), _drive(), CYCLES)
    for name, most in (("cadc", 255), ("madc", 1023)):
        value = getattr(out, name)
        if value.size and (value.min() < 0 or value.max() > most):
            yield f"{name} outside 0 to {most}"


def _repeats(chip: Chip) -> Iterator[str]:
    one, two = (chip.emulate(_configuration(), _drive(), CYCLES) for _ in range(2))
    yield from (f"{name} differs between two runs of one trial" for name in _differences(one, two))


def _empty(chip: Chip) -> Iterator[str]:
    none = AddressedEvents(np.zeros(0, int), np.zeros(0, int), np.zeros(1, int))
    out = chip.emulate(_configuration(), none, CYCLES)
    if len(out.start) != 1 or len(out.cycle) or out.cadc.shape[0]:
        yield "an empty batch gives something"
    quiet = chip.emulate(replace(_configuration(), instruments=Instruments()), _drive(), CYCLES)
    if quiet.cadc.size or quiet.madc.size:
        yield "samples, where nothing is watched"


def _muted(chip: Chip) -> Iterator[str]:
    drive = _drive()
    muted = np.ones((3, 512), bool)
    if len(chip.emulate(_configuration(), replace(drive, muted=muted), CYCLES).cycle):
        yield "muted circuits send events"


def _wire(chip: Chip) -> Iterator[str]:
    values = (_configuration(), _drive(), chip.emulate(_configuration(), _drive(), CYCLES))
    for value in values:
        kind = type(value)
        yield from (
            f"{kind.__name__}.{name} changes as bytes"
            for name in _differences(value, from_bytes(kind, to_bytes(value)))
        )
    configuration = from_bytes(Configuration, to_bytes(_configuration()))
    drive = from_bytes(AddressedEvents, to_bytes(_drive()))
    if not isinstance(chip.emulate(configuration, drive, CYCLES), Readout):
        yield "it does not run what came as bytes"


def _refuses(chip: Chip) -> Iterator[str]:
    try:
        chip.emulate(_configuration(), _drive(), 0)
    except SpikeloopError:
        return
    yield "a run of no cycles is not refused"


CONTRACTS: dict[str, Callable[[Chip], Iterator[str]]] = {
    "a readout holds integers only": _integers,
    "a readout has the batch's shapes": _shapes,
    "events are ascending within the run, with labels of the configuration": _events,
    "converters stay in their ranges": _converters,
    "the same trial gives the same readout": _repeats,
    "an empty batch and a blind run are legal": _empty,
    "muted circuits send nothing": _muted,
    "configuration, drive and readout survive the wire": _wire,
    "impossible runs are refused": _refuses,
}
"""What is checked, by name."""
