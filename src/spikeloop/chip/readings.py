"""The converters of a chip that is run in steps: when they sample, and what they make of what the engine saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import adc, transfer
from spikeloop.chip.configuration import CYCLE, Instruments
from spikeloop.chip.groups import Chipful
from spikeloop.chip.instruments import channels_of
from spikeloop.chip.mismatch import Float, Quantity, keyed, normals_at

Indices = NDArray[np.int64]
Seen = Mapping[int, Float]
"""By neuron of the chip, what the engine sampled, (B, T)."""


class Clock:
    """When a stretch of a run is sampled: ``time``, s, ascending, of both converters, and where theirs are in it."""

    cadc_number: Indices
    madc_number: Indices
    time: Float
    cadc: Indices
    madc: Indices
    cadc_cycle: Indices

    def __init__(self, instruments: Instruments, first: int, last: int, phase: float) -> None:
        period = int(instruments.cadc_period[0]) * CYCLE
        slow = len(instruments.cadc_circuit) and period
        self.cadc_number = _within(period, phase, first, last) if slow else np.zeros(0, np.int64)
        fast = len(instruments.madc_circuit)
        self.madc_number = _within(transfer.MADC_PERIOD, 0.0, first, last) if fast else np.zeros(0, np.int64)
        of_cadc, of_madc = phase + self.cadc_number * period, self.madc_number * transfer.MADC_PERIOD
        self.time = np.unique(np.concatenate([of_cadc, of_madc])).astype(np.float64)
        self.cadc, self.madc = np.searchsorted(self.time, of_cadc), np.searchsorted(self.time, of_madc)
        self.cadc_cycle = _sampled_in(of_cadc)


def _sampled_in(time: NDArray[np.floating[Any]]) -> Indices:
    """The cycle in which a sample is taken: at its edge, with rounding, the later one."""
    return np.floor(time / CYCLE + 1e-6).astype(np.int64)


def _within(period: float, phase: float, first: int, last: int) -> Indices:
    """The numbers of the samples that are taken in cycles from ``first`` to before ``last``."""
    low = max(0, int((first * CYCLE - phase) / period) - 1)
    number = np.arange(low, int(last * CYCLE / period) + 2)
    cycle = _sampled_in(phase + number * period)
    return number[(cycle >= first) & (cycle < last)]


@dataclass(frozen=True, eq=False)
class Readings:
    """What both converters read of a batch.

    stream: the noise of a quantity in this trial.  samples: (B,), the numbers of the runs, which choose theirs.
    """

    chip: Chipful
    instruments: Instruments
    clock: Clock
    stream: Callable[[Quantity], int]
    samples: NDArray[np.uint64]

    def cadc(self, membrane: Seen) -> NDArray[np.uint8]:
        """(B, T, C)"""
        instruments, noise, of = self.instruments, self.chip.noise, self.chip.neurons.of
        circuit = instruments.cadc_circuit.astype(np.int64)
        reference = int(instruments.cadc_reference[0])
        if reference >= 0:
            shape = (len(self.samples), len(self.clock.cadc), len(circuit))
            potential = np.full(shape, transfer.volts(np.array(reference)))
        else:
            potential = self._potential(membrane, of[circuit], self.clock.cadc)
        gain, offset = channels_of(self.chip.pattern, self.chip.neurons.written)
        offset = offset[circuit] + instruments.cadc_offset[circuit]
        white = self._white(noise.cadc, Quantity.CADC_NOISE, circuit, self.clock.cadc_number)
        return adc.cadc(potential + transfer.STEP * white / gain[circuit], gain[circuit], offset, 0.0, 0)

    def stamps(self) -> Indices:
        """(B, T): the cycles in which the column ADC samples."""
        return np.broadcast_to(self.clock.cadc_cycle, (len(self.samples), len(self.clock.cadc_cycle))).copy()

    def madc(self, membrane: Seen, adaptation: Seen) -> NDArray[np.uint16]:
        """(B, T, M)"""
        single = self.instruments.madc_circuit.astype(np.int64)
        neuron = self.chip.neurons.of[single]
        potential = self._potential(membrane, neuron, self.clock.madc)
        for k, of_adaptation in enumerate(self.instruments.madc_adaptation):
            if of_adaptation:
                w = self._potential(adaptation, neuron[k : k + 1], self.clock.madc)
                potential[:, :, k : k + 1] = transfer.ADAPTATION_READ + w
        white = self._white(self.chip.noise.madc, Quantity.MADC_NOISE, single, self.clock.madc_number)
        return adc.madc(potential, white)

    def _potential(self, seen: Seen, neuron: Indices, at: Indices) -> Float:
        if not len(neuron) or not len(at):
            return np.empty((len(self.samples), len(at), len(neuron)))
        return np.stack([seen[int(n)][:, at] for n in neuron], axis=2)

    def _white(self, rms: float, quantity: Quantity, circuit: Indices, number: Indices) -> Float:
        """(B, T, C) of the converter's steps, by sample of the batch, circuit and number of the reading."""
        shape = (len(self.samples), len(number), len(circuit))
        if not rms or not np.prod(shape):
            return np.zeros(shape)
        by_run = keyed(self.stream(quantity), self.samples)[:, None, None]
        by_circuit = keyed(by_run, circuit.astype(np.uint64)[None, None, :])
        return rms * normals_at(keyed(by_circuit, number.astype(np.uint64)[None, :, None]))
