"""Correlation sensors in every synapse: nearest neighbours, exponential windows, capacitors, and an 8-bit readout.

At a spike of its circuit at t a synapse's causal sensor gains A exp(-(t - t_a) / tau), if an event arrived since the
circuit's previous spike, at t_a at last. At an arrival at t the anticausal one gains A exp(-(t - t_s) / tau), if the
circuit spiked since the previous arrival, at t_s at last. An arrival at the very time of a spike comes before it. Both
hold at most `FULL` steps. A and tau differ from synapse to synapse (hardware.md 1.8). The engine adds up
(`spikeloop.engine.correlation`); here is what is the chip's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.geometry import CIRCUITS, CODE_MAX, COLUMNS, HALVES, ROWS, Integers, check, full
from spikeloop.chip.mismatch import Float, Mismatch, Quantity, keyed, normals

Indices = NDArray[np.int64]

CAUSAL, ANTICAUSAL = 0, 1
FULL = 128.0
"""Steps of the column ADC that a sensor holds: its baseline is above 120, and beyond 160 it saturates (1.8)."""
AMPLITUDE_STEPS = 0.002
"""Steps that a pair without delay adds, per code: the target of 0.5 is code 250 (range 1.8, law ours)."""
TIME_CODE = 2.04e-3
"""Seconds times code: the target of 5 us is code 408 (range 1.8, law ours)."""
REACH = (0.2, 2.0), (2e-6, 30e-6)
"""Steps and seconds that a quadrant's currents are made for (bss2_software.md 4.1)."""
TRIM_MAX, NEUTRAL = 3, 2


@dataclass(frozen=True, eq=False)
class Sensors:
    """What is written about the sensors.

    amplitude, time: (4,) codes by quadrant (half * 2 + column // 128), 1..1022, of what stores charge and of what
    forgets a spike.  amplitude_trim, time_trim: (2, 256, 256), 0..3, of each synapse.
    """

    amplitude: Integers = field(default_factory=full((4,), 250))
    time: Integers = field(default_factory=full((4,), 408))
    amplitude_trim: Integers = field(default_factory=full((HALVES, ROWS, COLUMNS), NEUTRAL, np.uint8))
    time_trim: Integers = field(default_factory=full((HALVES, ROWS, COLUMNS), NEUTRAL, np.uint8))

    def __post_init__(self) -> None:
        for name in ("amplitude", "time"):
            check(name, getattr(self, name), (4,), 1, CODE_MAX, "chip configuration, sensors")
        for name in ("amplitude_trim", "time_trim"):
            shape = (HALVES, ROWS, COLUMNS)
            check(name, getattr(self, name), shape, 0, TRIM_MAX, "chip configuration, sensors")


def trimmed(trim: Integers) -> Float:
    """The factor of a trim: 1/3, 2/3, 1, 4/3."""
    return (np.asarray(trim, np.float64) + 1) / (NEUTRAL + 1)


def windows(sensors: Sensors, seed: int, strengths: Mismatch) -> tuple[Float, Float]:
    """(2, 131072) each, causal and anticausal: steps that a pair without delay adds, and seconds."""
    shape = (2, HALVES, ROWS, COLUMNS)

    def spread(code: Integers, trim: Integers, quantity: Quantity, sigma: float) -> Float:
        by_column = np.repeat(np.asarray(code, np.float64).reshape(HALVES, 2), COLUMNS // 2, axis=1)
        own = np.exp(sigma * normals(seed, quantity, shape)) if sigma else np.ones(shape)
        return own * by_column[:, None] * trimmed(trim)

    s = strengths
    stored = spread(sensors.amplitude, sensors.amplitude_trim, Quantity.CORRELATION_AMPLITUDE, s.correlation_amplitude)
    leak = spread(sensors.time, sensors.time_trim, Quantity.CORRELATION_TIME, s.correlation_time)
    return (AMPLITUDE_STEPS * stored).reshape(2, -1), (TIME_CODE / leak).reshape(2, -1)


@dataclass(frozen=True, eq=False)
class Channels:
    """Converters of the sensors, by column: gain and offset, (2, 512), causal and anticausal; noise: rms in steps."""

    gain: Float
    offset: Float
    noise: float


def channels(seed: int, strengths: Mismatch, noise: float) -> Channels:
    """Those of a chip; the baseline of each was measured, to half a step."""
    gain = 1 + strengths.cadc_gain * normals(seed, Quantity.CORRELATION_GAIN, (2, CIRCUITS))
    offset = strengths.correlation_baseline * normals(seed, Quantity.CORRELATION_BASELINE, (2, CIRCUITS))
    return Channels(gain, offset, noise)


def read(charge: Float, column: Indices, channel: Channels, key: int, kind: int) -> NDArray[np.uint8]:
    """(K,) readings of charge (K,): baseline minus what the column ADC shows, 0 to 127.

    column: (K,), circuits whose converters read.  key: the stream of this reading's noise.
    """
    noise = channel.noise * normals(int(keyed(key, kind)), 0, charge.shape) if channel.noise else 0.0
    steps = channel.gain[kind, column] * charge + channel.offset[kind, column] + noise
    return np.clip(np.rint(steps), 0, FULL - 1).astype(np.uint8)
