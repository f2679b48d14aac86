"""What chips are tried on: every circuit driven by the same events and watched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikeloop.chip.configuration import CIRCUITS, AddressedEvents, Analog, Configuration, Instruments, Readout, Routing

CYCLES, PERIOD, LABEL, WATCHED = 3000, 250, 9, (3, 400)
RUNS = ((200, 900), (), (200, 210, 220, 1500))
"""Cycles of the events of each run."""
BATCH = len(RUNS)


def configuration() -> Configuration:
    """Every circuit driven by 64 excitatory synapses; all membranes watched, two of them closely."""
    label = np.zeros((2, 256, 256), np.uint8)
    label[:, :128:2] = LABEL
    circuit = np.arange(CIRCUITS)
    routing = Routing(
        label=label,
        row_sign=np.tile(np.array([1, -1], np.int8), (2, 128)),
        driver_mask=np.zeros((2, 128), np.uint8),
        link_target=np.where(np.arange(4)[:, None] == 0, 0, 0x3FFF) * np.ones((1, 8), np.uint16),
        neuron_label=(circuit % 32 + 32 * (circuit // 256)).astype(np.uint8),
        sends=np.ones(CIRCUITS, bool),
    )
    watched = np.array(WATCHED, np.int16)
    instruments = Instruments(np.array([PERIOD], np.int32), circuit.astype(np.int16), madc_circuit=watched)
    analog = Analog(fires=np.ones(CIRCUITS, bool))
    return Configuration(np.full((2, 256, 256), 8, np.uint8), routing, analog, instruments)


def drive(runs: Sequence[int] = range(BATCH)) -> AddressedEvents:
    """Events of these runs as one batch."""
    cycles = [np.array(RUNS[run], np.int64) for run in runs]
    cycle = np.concatenate(cycles)
    start = np.cumsum([0, *map(len, cycles)])
    return AddressedEvents(cycle, np.full(len(cycle), LABEL, np.uint16), start, trial=4)


def none(batch: int) -> AddressedEvents:
    """Runs without events."""
    return AddressedEvents(np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(batch + 1, np.int64))


def circuit_of(what: Configuration) -> dict[int, int]:
    """The circuit behind each address that an event may carry."""
    circuit = np.arange(CIRCUITS)
    address = (circuit % 256 // 32 << 8) | what.routing.neuron_label
    return dict(zip(address.tolist(), circuit.tolist(), strict=True))


def of_run(out: Readout, run: int) -> slice:
    """The rows of a run's events."""
    return slice(int(out.start[run]), int(out.start[run + 1]))
