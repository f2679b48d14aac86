"""Spikes down to a chip, as addressed events, and spikes and potentials back up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.configuration import CIRCUITS, CYCLE, DEPTH, AddressedEvents, Integers
from spikeloop.chip.mapping import Placement
from spikeloop.chip.scales import Scale
from spikeloop.engine.bus import Sent, addressed, hold_back, lifted
from spikeloop.errors import OutOfRange
from spikeloop.events import Events

Float = NDArray[np.float64]


def lower_events(
    drive: Mapping[str, Events], placement: Placement, speedup: float, muted: NDArray[np.bool_], trial: int
) -> AddressedEvents:
    """The drive with addresses in the place of units; times rounded to cycles.

    Of many at once some are sent later: a link passes one a cycle, and drops what comes when too many wait there.
    """
    depth = DEPTH if len(drive) == 1 else None
    parts = [_sent(events, placement.address[name], speedup, depth) for name, events in drive.items()]
    cycle, address, start = parts[0]
    if len(parts) > 1:
        sample = np.concatenate([np.repeat(np.arange(len(start) - 1), np.diff(start)) for _, _, start in parts])
        cycle, address = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        order = np.lexsort((cycle, sample))
        cycle, address, start = cycle[order], address[order], np.asarray(sum(part[2] for part in parts))
        hold_back(cycle, start, DEPTH)
    return AddressedEvents._trusted(cycle, address, start, muted, trial)


def _sent(events: Events, address: NDArray[np.int64], speedup: float, depth: int | None) -> Sent:
    trains = events._arrays
    return *addressed(trains, speedup * CYCLE, address, torch.get_num_threads(), depth), trains[2]


def lift_events(
    cycle: Integers,
    address: Integers,
    start: Integers,
    placed: Mapping[str, Integers],
    speedup: float,
    sender: Integers | None = None,
) -> dict[str, Events]:
    """The spikes of populations from events with time stamps (cycles) and addresses.

    sender: the circuit of each address; None: addresses are circuits.  placed: by population, (N, circuits of a
    neuron), the first of each being the one that spikes.

    Raises ``OutOfRange`` where an event has an address that no circuit has.
    """
    sender = np.arange(CIRCUITS) if sender is None else sender
    events = (
        np.ascontiguousarray(cycle, np.int64),
        np.ascontiguousarray(address, np.uint16),
        np.ascontiguousarray(start, np.int64),
    )
    found: dict[str, Events] = {}
    for name, of in placed.items():
        unit = np.full(CIRCUITS + 1, -1, np.int32)
        unit[of[:, 0]] = np.arange(len(of))
        unit[-1] = -2  # where the sender is -1: none
        try:
            mine = lifted(events, unit[sender], CYCLE * speedup, torch.get_num_threads())
        except IndexError:
            _check_addresses(events, sender)
            raise
        found[name] = Events._of(mine, len(of))  # in order, as a Readout is
    return found


def _check_addresses(events: Sent, sender: Integers) -> None:
    _, address, start = events
    known = np.zeros(1 << 16, bool)
    known[: len(sender)] = sender >= 0
    unknown = np.flatnonzero(~known[address])
    if len(unknown):
        event = int(unknown[0])
        run = int(np.searchsorted(start, event, "right")) - 1
        raise OutOfRange(f"event {event - start[run]} has address {address[event]}, which no circuit has",
                         where=f"chip readout, run {run}", expected="the label and output of a circuit that sends",
                         todo="spikeloop.conformance.check_chip(chip) lists what its readouts lack")  # fmt: skip


def lift_slow(reading: Integers, gain: Float, scale: Scale, neuron: NDArray[np.int64]) -> Float:
    """Model potentials of (..., M) readings of the column ADC of the neurons ``neuron``; gain: of their channels."""
    return _lifted(reading, 1 / gain, transfer.CADC_CENTRE * (1 - 1 / gain), scale, neuron)


def lift_fast(reading: Integers, scale: Scale, neuron: NDArray[np.int64]) -> Float:
    """Model potentials of (..., M) readings of the fast converter of the neurons ``neuron``."""
    return _lifted(reading, transfer.MADC_STEP / transfer.STEP, transfer.steps_of_volts(0.0), scale, neuron)


def lift_adaptation(reading: Integers, scale: Scale, neuron: NDArray[np.int64]) -> Float:
    """Adaptation in model units of (..., M) readings of the fast converter of the neurons ``neuron``."""
    value: Float = (reading * transfer.MADC_STEP - transfer.ADAPTATION_READ) / transfer.STEP / scale.steps[neuron]
    return value


def _lifted(
    reading: Integers, step: Float | float, base: Float | float, scale: Scale, neuron: NDArray[np.int64]
) -> Float:
    """Model potentials of readings of which each is ``step`` CADC steps, and 0 is ``base``; there are many of them."""
    value = reading * (step / scale.steps[neuron])
    value += scale.leak[neuron] + (base - scale.rest[neuron]) / scale.steps[neuron]
    return value
