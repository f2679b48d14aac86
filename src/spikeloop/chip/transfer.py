"""From codes to physical values and back, for a chip without mismatch. SI units; docs/chip.md lists the laws.

The laws are the simplest that give the ranges of hardware.md 1.3 and 1.4: potentials are linear in their codes, time
constants are a capacitance over a conductance that is linear in its code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.geometry import CAPACITANCE_MAX, CODE_MAX, CYCLE

Array = NDArray[Any]
Float = NDArray[np.float64]

STEP = 4.5e-3
"""Volts per step of the column ADC: 0.15 to 1.05 V are its steps 20 to 220 (hardware.md 1.4)."""
CADC_CENTRE = 128.0
"""The reading about which a channel's gain acts."""
CODE_VOLTS = 0.9 / 480
"""Volts per code of a potential: codes 70 to 550 are 0.15 to 1.05 V (hardware.md 1.4)."""
MADC_STEP = 1.6e-3
"""Volts per step of the fast ADC (hardware.md 1.4)."""
MADC_PERIOD = 17 / 500e6
"""Seconds between samples of the fast ADC: 500 MHz / (12 + 5) (hardware.md 1.1)."""
LEAK_TIME = 511e-6
"""tau_mem in seconds at leak code 1, full capacitance: codes reach 0.5 us, divided by 8 they reach 60 us."""
SYNAPSE_TIME = 306e-6
"""tau_syn in seconds at synapse code 1: codes reach 0.3 us, divided by 8 they reach 30 us and more."""
DIVISION = 8.0
REFERENCE_TAU, REFERENCE_GAIN, REFERENCE_DAC = 6e-6, 500.0, 1000.0
GAIN_RANGE = 30.0, 800.0
"""Gain codes that are used (hardware.md 1.3)."""
REFERENCE_PSP = 0.377
"""CADC steps: the potential of one weight step at the reference, where tau_mem = tau_syn = 6 us (hardware.md 1.5)."""
REFERENCE_JUMP = REFERENCE_PSP * np.e * STEP
"""Volts: what one weight step adds to the current (times resistance) there; its potential peaks at 1/e of it."""

SLOPE_CODE = 1e-4
"""Volts of the exponential's slope per code (law ours; codes reach 0.1 V, 7 CADC steps are code 315)."""
ADAPTATION_TIME = 1.022e-3
"""tau_adaptation in seconds at code 1: codes reach 1 us, divided by 8 they reach 100 us and more (law ours)."""
REFERENCE_A = 500.0
"""The code of a conductance a that is the leak's where tau_mem is 6 us (law ours)."""
REFERENCE_B = 500.0
"""The code of a b of ten CADC steps there (law ours)."""
REFERENCE_PULSE = 10 * STEP
ADAPTATION_READ = 0.6
"""Volts that the fast ADC reads where there is no adaptation (law ours)."""
OFFSET_CODE = 0.5e-3
"""Volts (current times resistance) per code of a constant current where tau_mem is 6 us: a published f-I curve begins
at codes 200 to 270, with 10 us and 45 CADC steps to the threshold (bss2_software.md 2.1)."""
LEAKAGE_TIME = 110e-6
"""tau_mem in seconds where the leak is off: a published guess is 60 to 200 us (hardware.md 3)."""
CONDUCTANCE_TIME = 409e-6
"""tau_icc in seconds at code 1, full capacitance: with 4 times it 0.1 us, with a fourth 30 us (range 1.3, law ours)."""


def volts(code: Array) -> Float:
    """The potential that ``code`` sets."""
    return 0.15 + (np.asarray(code, np.float64) - 70) * CODE_VOLTS


def volts_of_steps(steps: Array | float) -> Float:
    """The potential that the column ADC reads as ``steps``."""
    return 0.15 + (np.asarray(steps, np.float64) - 20) * STEP


def steps_of_volts(potential: Array | float) -> Float:
    """What the column ADC reads, before rounding."""
    return 20 + (np.asarray(potential, np.float64) - 0.15) / STEP


def code_of_steps(steps: Array | float) -> Float:
    """The code that sets a potential given in CADC steps, not rounded."""
    return 70 + (volts_of_steps(steps) - 0.15) / CODE_VOLTS


def conductance(code: Array, division: Array) -> Float:
    """Of a leak or a synaptic line, in units of what code 1 gives."""
    return np.maximum(code, 0.5) / np.where(division, DIVISION, 1.0)


def leak_code(tau: Array | float, capacitance: Array | float) -> tuple[Float, NDArray[np.bool_]]:
    """Code (not rounded) and division for a membrane time constant in seconds."""
    return _divided(LEAK_TIME * np.asarray(capacitance) / CAPACITANCE_MAX / np.asarray(tau))


def synapse_code(tau: Array | float) -> tuple[Float, NDArray[np.bool_]]:
    """Code (not rounded) and division for a synaptic time constant in seconds."""
    return _divided(SYNAPSE_TIME / np.asarray(tau))


def _divided(code: Float) -> tuple[Float, NDArray[np.bool_]]:
    division = code * DIVISION <= 0.8 * CODE_MAX  # leaves room for a calibration
    return np.where(division, code * DIVISION, code), division


def refractory_seconds(code: Array, clock: Array) -> Float:
    """How long V is held after a spike."""
    return np.asarray(code, np.float64) * CYCLE * 2.0 ** np.asarray(clock)


def response_peak(tau_mem: Array | float, tau_syn: Array | float) -> Float:
    """The peak of the potential after a unit of current: ``r ** (-r / (r - 1))``, r = tau_mem / tau_syn."""
    ratio = np.asarray(tau_mem, np.float64) / np.asarray(tau_syn, np.float64)
    ratio = np.where(np.abs(ratio - 1) < 1e-6, 1 + 1e-6, ratio)
    return ratio ** (-ratio / (ratio - 1))


def psp(gain: Array | float, tau_mem: Array | float, tau_syn: Array | float, capacitance: Array | float) -> Float:
    """CADC steps that the potential rises by after one weight step, for a gain code."""
    jump = REFERENCE_JUMP / STEP * np.asarray(tau_mem) / REFERENCE_TAU * CAPACITANCE_MAX / np.asarray(capacitance)
    return np.asarray(gain) / REFERENCE_GAIN * jump * response_peak(tau_mem, tau_syn)


def offset(code: Array | float) -> Float:
    """Volts that a constant current lifts a membrane by where tau_mem is 6 us, at full capacitance."""
    return np.asarray(code, np.float64) * OFFSET_CODE


def slope(code: Array | float) -> Float:
    """Volts of the exponential's slope."""
    return np.asarray(code, np.float64) * SLOPE_CODE


def tau_adaptation(code: Array, division: Array) -> Float:
    """Seconds that the adaptation remembers."""
    return ADAPTATION_TIME / conductance(code, division)


def adaptation_code(tau: Array | float) -> tuple[Float, NDArray[np.bool_]]:
    """Code (not rounded) and division for an adaptation's time constant in seconds."""
    return _divided(ADAPTATION_TIME / np.asarray(tau, np.float64))


def resistance(tau_mem: Array | float, capacitance: Array | float) -> Float:
    """Of a membrane's leak, over that at the reference."""
    return np.asarray(tau_mem) / REFERENCE_TAU * CAPACITANCE_MAX / np.asarray(capacitance)


def tau_coupling(code: Array, scale: Array) -> Float:
    """Full capacitance over a coupling's conductance, seconds."""
    return CONDUCTANCE_TIME / (np.maximum(code, 0.5) * 4.0 ** np.asarray(scale, np.float64))


def coupling_code(tau: Array | float) -> tuple[Float, NDArray[np.int8]]:
    """Code (not rounded) and scale for a tau_icc in seconds: the scale that makes the code finest."""
    code = CONDUCTANCE_TIME / np.asarray(tau, np.float64)
    scale = np.where(4 * code <= 0.8 * CODE_MAX, -1, np.where(code <= 0.8 * CODE_MAX, 0, 1)).astype(np.int8)
    return code / 4.0**scale, scale
