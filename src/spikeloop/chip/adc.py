"""The chip's converters: the column ADC that reads all membranes, the fast one that reads one or two."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.configuration import CYCLE
from spikeloop.chip.mismatch import Float
from spikeloop.engine.disturbed import converted


def cadc_times(period: int, cycles: int, delay: Float) -> tuple[Float, NDArray[np.int64]]:
    """Seconds and cycles, (B, T) each, at which runs of ``cycles`` are sampled; delay: (B,) s of each run's first."""
    count = max((cycles - 1 - math.ceil(delay.max(initial=0.0) / CYCLE)) // period + 1, 0) if period else 0
    time = delay[:, None] + np.arange(count) * period * CYCLE
    cycle = time / CYCLE
    cycle += 1e-6
    return time, np.floor(cycle, out=cycle).astype(np.int64)


def cadc(potential: Float, gain: Float, offset: Float, noise: float, key: int) -> NDArray[np.uint8]:
    """8-bit readings of (B, T, C) volts by channels of ``gain`` about mid-range and ``offset`` in steps, (C,) each.

    noise: rms in steps, of the stream ``key``.
    """
    centre = transfer.CADC_CENTRE
    base = centre + offset + gain * (transfer.steps_of_volts(0.0) - centre)
    return converted(potential, gain / transfer.STEP, base, noise, key, torch.get_num_threads())


def madc_times(cycles: int) -> Float:
    """(K,) seconds at which a run of ``cycles`` is sampled."""
    return np.arange(int(cycles * CYCLE / transfer.MADC_PERIOD), dtype=np.float64) * transfer.MADC_PERIOD


def madc(potential: Float, noise: Float) -> NDArray[np.uint16]:
    """10-bit readings of volts."""
    return np.clip(np.rint(potential / transfer.MADC_STEP + noise), 0, 1023).astype(np.uint16)
