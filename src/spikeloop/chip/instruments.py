"""When the membranes of a run are sampled, and what the converters make of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import adc, transfer
from spikeloop.chip.circuits import Pattern
from spikeloop.chip.configuration import CIRCUITS, Instruments
from spikeloop.chip.mismatch import Float, Noise, Quantity
from spikeloop.engine.arrays import Sampling
from spikeloop.engine.disturbed import normals as stream

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Watch:
    """The sampling of a batch of runs, and the potentials that were seen.

    time: (B, T) seconds, ascending: both converters' samples together.  of_cadc, of_madc: (B, Tc) and (B, Tm), where
    theirs are among them.  cycle: (B, Tc), when the column ADC sampled.  seen: by stage, neurons (N,) and their volts
    (B, T, N).
    """

    instruments: Instruments
    time: Float
    of_cadc: Indices
    of_madc: Indices
    cycle: Indices
    seen: list[tuple[Indices, Float]]

    def sampling(self, watched: NDArray[np.int32]) -> Sampling | None:
        """What to ask of a stage of whose neurons these are watched."""
        batch, count = self.time.shape
        if not len(watched) or not count:
            return None
        return Sampling(self.time, watched, np.empty((batch, count, len(watched))))

    def keep(self, sampling: Sampling | None, neuron: Indices) -> None:
        """Take over what the sampling of a stage of the chip's neurons ``neuron`` saw."""
        if sampling is not None:
            self.seen.append((neuron[sampling.unit], sampling.value))

    def cadc(self, of: Indices, pattern: Pattern, noise: Noise, key: int, written: int) -> NDArray[np.uint8]:
        """(B, Tc, C) readings; of: (512,), the neuron of each circuit."""
        circuit = self.instruments.cadc_circuit.astype(np.int64)
        reference = int(self.instruments.cadc_reference[0])
        if reference >= 0:
            potential = np.full((*self.of_cadc.shape, len(circuit)), transfer.volts(np.array(reference)))
        else:
            potential = self._potential(of[circuit], self.of_cadc)
        gain, offset = channels_of(pattern, written)
        offset = offset[circuit] + self.instruments.cadc_offset[circuit]
        return adc.cadc(potential, gain[circuit], offset, noise.cadc, key)

    def madc(self, of: Indices, noise: Noise, key: int) -> NDArray[np.uint16]:
        """(B, Tm, M) readings."""
        if not len(self.instruments.madc_circuit):
            return np.zeros((*self.of_madc.shape, 0), np.uint16)
        potential = self._potential(of[self.instruments.madc_circuit.astype(np.int64)], self.of_madc)
        return adc.madc(potential, _white(noise.madc, key, potential.shape))

    def _potential(self, neuron: Indices, at: Indices) -> Float:
        """(B, T, C) volts that were seen of neurons (C,), of the samples ``at`` (B, T) among all."""
        if not at.size or not len(neuron):
            return np.empty((*at.shape, len(neuron)))
        known, values = zip(*self.seen, strict=True)
        seen = values[0] if len(values) == 1 else np.concatenate(values, axis=2)
        if seen.shape[1] > at.shape[1]:  # the other converter's samples are among them
            seen = np.take_along_axis(seen, at[:, :, None], 1)
        column = np.empty(CIRCUITS, np.int64)
        column[np.concatenate(known)] = np.arange(seen.shape[2])
        place = column[neuron]
        return seen if place.tolist() == list(range(seen.shape[2])) else np.take(seen, place, axis=2)


@lru_cache(maxsize=16)
def channels_of(pattern: Pattern, written: int) -> tuple[Float, Float]:
    """(512,) each: gain and offset of the column ADC's channels."""
    strengths = pattern.strengths
    gain = 1 + strengths.cadc_gain * pattern.normal(Quantity.CADC_GAIN, (CIRCUITS,))
    return gain, pattern.varied(Quantity.CADC_OFFSET, strengths.cadc_offset, written)


def watch(instruments: Instruments, cycles: int, delay: Float) -> Watch:
    """The sampling of runs of ``cycles``; delay: (B,) seconds of each run's first column-ADC sample."""
    slow, cycle = adc.cadc_times(int(instruments.cadc_period[0]), cycles, delay)
    if not len(instruments.cadc_circuit):
        slow, cycle = slow[:, :0], cycle[:, :0]
    if not len(instruments.madc_circuit):
        every = np.broadcast_to(np.arange(slow.shape[1]), slow.shape)
        return Watch(instruments, slow, every, every[:, :0], cycle, [])
    fast = adc.madc_times(cycles)
    time = np.concatenate([slow, np.broadcast_to(fast, (len(delay), len(fast)))], axis=1)
    order = np.argsort(time, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    time = np.ascontiguousarray(np.take_along_axis(time, order, 1))
    return Watch(instruments, time, place[:, : slow.shape[1]], place[:, slow.shape[1] :], cycle, [])


def _white(rms: float, key: int, shape: tuple[int, ...]) -> Float:
    return rms * stream(key, int(np.prod(shape))).reshape(shape) if rms else np.zeros(1)
