"""How one chip differs from the next, and one run from the next: fixed patterns and their strengths.

One chip is one seed. Every number comes from a stream of its own, addressed by (seed, quantity, coordinate) and hashed,
never drawn in turn: what is added later changes nothing that was there before. Chip 7 is chip 7 for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.disturbed import Words, keyed_each, uniforms_of
from spikeloop.engine.disturbed import keyed as stream_of
from spikeloop.engine.disturbed import uniforms as uniforms_each

Float = NDArray[np.float64]


class Quantity(IntEnum):
    """What varies; the numbers are part of every chip's identity and are never given twice."""

    LEAK = 1
    RESET = 2
    THRESHOLD = 3
    THRESHOLD_DISTANCE = 4
    TAU_MEM = 5
    TAU_SYN = 6
    GAIN_EXCITATORY = 7
    GAIN_INHIBITORY = 8
    SYNAPSE = 9
    DRIVER = 10
    FLOOR = 11
    SATURATION = 12
    REFRACTORY = 13
    CADC_OFFSET = 14
    CADC_GAIN = 15
    DEAD = 16
    WRITTEN = 32  # added to a quantity: what is left after each writing of the analog memory
    THRESHOLD_RUN = 64
    ENGINE = 65
    JITTER = 66
    CADC_PHASE = 67
    CADC_NOISE = 68
    MADC_NOISE = 69
    MAC_COLUMN = 70
    MAC_OFFSET = 71
    MAC_ROW = 72
    MAC_PULSE = 73
    MAC_FLOOR = 74
    MAC_BEND = 75
    MAC_NOISE = 76
    CORRELATION_AMPLITUDE = 77
    CORRELATION_TIME = 78
    CORRELATION_GAIN = 79
    CORRELATION_BASELINE = 80
    CORRELATION_NOISE = 81
    STEPPED = 82
    SLOPE = 128  # from here on with what is left after writing, as above
    EXPONENTIAL_THRESHOLD = 129
    TAU_ADAPTATION = 130
    ADAPTATION_A = 131
    ADAPTATION_B = 132
    CONDUCTANCE = 133
    LINE_EXCITATORY = 144
    LINE_INHIBITORY = 145
    REVERSAL_EXCITATORY = 146
    REVERSAL_INHIBITORY = 147
    OFFSET = 148
    LEAKAGE = 149
    LEAKAGE_POTENTIAL = 150
    SHORT_TERM_UTILISATION = 224
    SHORT_TERM_RECOVERY = 225
    SHORT_TERM_OFFSET = 226


def keyed(key: int | Words, coordinate: int | Words) -> Words:
    """The stream ``coordinate`` of the stream ``key``; of arrays, in the shape that both have together."""
    return keyed_each(_words(key), _words(coordinate))


def _words(value: int | Words) -> Words:
    return np.asarray(value & 0xFFFFFFFFFFFFFFFF if isinstance(value, int) else value, dtype=np.uint64)


def uniforms(seed: int, quantity: int, shape: tuple[int, ...]) -> Float:
    """Numbers in (0, 1), one for each coordinate of ``shape``."""
    return _drawn(seed, quantity, shape, 1).reshape(shape)


def normals(seed: int, quantity: int, shape: tuple[int, ...]) -> Float:
    """Standard normal numbers, one for each coordinate of ``shape``."""
    radius = np.sqrt(-2 * np.log(_drawn(seed, quantity, shape, 1)))
    return (radius * np.cos(2 * np.pi * _drawn(seed, quantity, shape, 2))).reshape(shape)


def normals_at(stream: Words) -> Float:
    """Standard normal numbers, the first of each stream."""
    return np.sqrt(-2 * np.log(uniforms_of(stream, 1))) * np.cos(2 * np.pi * uniforms_of(stream, 2))


def _drawn(seed: int, quantity: int, shape: tuple[int, ...], number: int) -> Float:
    """The ``number``-th uniform number, from 1 on, of the stream of each coordinate, flat."""
    return uniforms_each(stream_of(int(seed), quantity), math.prod(shape), number)


@dataclass(frozen=True)
class Spread:
    """Standard deviations over instances: what a calibration can remove, and what each writing leaves behind.

    uncalibrated: fixed for the chip, a calibration finds the codes that undo it.  calibrated: drawn anew whenever the
    contents of the analog memory change, so no calibration reaches below it (crosstalk, hardware.md 2.2).
    """

    uncalibrated: float
    calibrated: float

    def scaled(self, factor: float) -> Spread:
        """Both times ``factor``."""
        return Spread(self.uncalibrated * factor, self.calibrated * factor)


@dataclass(frozen=True)
class Mismatch:
    """Fixed-pattern strengths of a chip; docs/chip.md has the source of every default.

    Potentials in CADC steps of 4.5 mV, all else relative. ``dead`` is a probability. Those from ``mac_column`` on are
    of the array as a multiplier: ``mac_offset`` and ``mac_floor`` in steps of the result, ``mac_pulse`` in activation
    steps, ``mac_bend`` a share of the columns. From ``slope`` on: of AdEx terms, couplings and correlation sensors;
    ``exponential_threshold`` and ``correlation_baseline`` in CADC steps. From ``line`` on: of lines that are not alike,
    constant currents, and what flows without a leak; ``reversal`` and ``leakage_potential`` in CADC steps.
    From ``short_term_utilisation`` on: of plastic drivers; ``short_term_offset`` of a whole pulse.
    """

    leak: Spread = Spread(10.0, 1.5)
    reset: Spread = Spread(10.0, 1.5)
    threshold: Spread = Spread(8.4, 0.0)
    threshold_distance: Spread = Spread(0.031, 0.0)
    threshold_bias: float = 0.05
    tau_mem: Spread = Spread(0.25, 0.08)
    tau_syn: Spread = Spread(0.30, 0.05)
    gain: Spread = Spread(0.20, 0.04)
    refractory: float = 0.01
    synapse: float = 0.05
    driver: float = 0.03
    floor: float = 3.0
    saturation: float = 0.10
    cadc_offset: Spread = Spread(8.0, 1.0)
    cadc_gain: float = 0.015
    dead: float = 0.005
    mac_column: Spread = Spread(0.10, 0.03)
    mac_offset: Spread = Spread(8.0, 1.0)
    mac_row: float = 0.04
    mac_pulse: float = 0.5
    mac_synapse: float = 0.02
    mac_floor: float = 8.0
    mac_bend: float = 0.25
    slope: Spread = Spread(0.20, 0.05)
    exponential_threshold: Spread = Spread(8.0, 1.5)
    tau_adaptation: Spread = Spread(0.30, 0.05)
    adaptation_a: Spread = Spread(0.25, 0.05)
    adaptation_b: Spread = Spread(0.25, 0.05)
    conductance: Spread = Spread(0.30, 0.05)
    correlation_amplitude: float = 0.6
    correlation_time: float = 0.6
    correlation_baseline: float = 0.3
    line: Spread = Spread(0.30, 0.05)
    reversal: Spread = Spread(10.0, 1.5)
    offset: Spread = Spread(0.25, 0.05)
    leakage: float = 0.35
    leakage_potential: float = 20.0
    short_term_utilisation: float = 0.10
    short_term_recovery: float = 0.15
    short_term_offset: float = 0.08

    def scaled(self, factor: float) -> Self:
        """Every strength times ``factor``."""
        return _scaled(self, factor)


@dataclass(frozen=True)
class Noise:
    """Trial-to-trial strengths of a chip; docs/chip.md has the source of every default.

    membrane: rms in CADC steps, Ornstein-Uhlenbeck with the membrane's time constant.  threshold_run: of threshold -
    leak, drawn per neuron and run.  threshold_spike: the same, per spike.  jitter: seconds, of each spike.  cadc_phase:
    seconds, the first sample's delay is uniform up to it.  cadc, madc: rms of a reading, in their own steps.  mac: rms
    of a result of the array as a multiplier, in its steps.
    """

    membrane: float = 0.5
    threshold_run: float = 0.015
    threshold_spike: float = 0.0
    jitter: float = 30e-9
    cadc_phase: float = 100e-9
    cadc: float = 0.5
    madc: float = 1.0
    mac: float = 1.8

    def scaled(self, factor: float) -> Self:
        """Every strength times ``factor``."""
        return _scaled(self, factor)


def _scaled(strengths: Any, factor: float) -> Any:
    values = {each.name: getattr(strengths, each.name) for each in fields(strengths)}
    return type(strengths)(**{n: v.scaled(factor) if isinstance(v, Spread) else v * factor for n, v in values.items()})
