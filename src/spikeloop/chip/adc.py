"""The chip's converters: the column ADC that reads all membranes, the fast one that reads one or two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.configuration import CYCLE
from spikeloop.chip.mismatch import Float

CENTRE = 128.0


def cadc_times(period: int, cycles: int, delay: Float) -> tuple[Float, NDArray[np.int64]]:
    """Seconds and cycles, (B, T) each, at which runs of ``cycles`` are sampled; delay: (B,) s of each run's first."""
    count = max((cycles - 1 - int(np.ceil(delay.max(initial=0.0) / CYCLE))) // period + 1, 0) if period else 0
    time = delay[:, None] + np.arange(count) * period * CYCLE
    return time, np.floor(time / CYCLE + 1e-6).astype(np.int64)


def cadc(potential: Float, gain: Float, offset: Float, noise: Float) -> NDArray[np.uint8]:
    """8-bit readings of (..., C) volts by channels of ``gain`` about mid-range and ``offset`` in steps, (C,) each."""
    steps = transfer.steps_of_volts(potential)
    steps -= CENTRE
    steps *= gain
    steps += CENTRE + offset
    steps += noise
    return np.clip(np.rint(steps, out=steps), 0, 255, out=steps).astype(np.uint8)


def madc_times(cycles: int) -> Float:
    """(K,) seconds at which a run of ``cycles`` is sampled."""
    return np.arange(int(cycles * CYCLE / transfer.MADC_PERIOD), dtype=np.float64) * transfer.MADC_PERIOD


def madc(potential: Float, noise: Float) -> NDArray[np.uint16]:
    """10-bit readings of volts."""
    return np.clip(np.rint(potential / transfer.MADC_STEP + noise), 0, 1023).astype(np.uint16)
