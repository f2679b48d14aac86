"""What is not ideal about a chip's twin, by name, and how to leave it out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import Enum

from spikeloop.chip.mismatch import Mismatch, Noise, Spread


class Imperfection(Enum):
    """What can be switched off one by one: ``Twin(7, ideal={Imperfection.JITTER})``. docs/chip.md describes each."""

    LEAK = "leak"
    RESET = "reset"
    THRESHOLD = "threshold"
    TAU_MEM = "tau_mem"
    TAU_SYN = "tau_syn"
    GAIN = "gain"
    REFRACTORY = "refractory"
    SYNAPSE = "synapse"
    DRIVER = "driver"
    FLOOR = "floor"
    SATURATION = "saturation"
    DEAD = "dead"
    CADC_CHANNEL = "cadc_channel"
    MEMBRANE_NOISE = "membrane_noise"
    THRESHOLD_RUN = "threshold_run"
    THRESHOLD_SPIKE = "threshold_spike"
    JITTER = "jitter"
    CAPACITY = "capacity"
    CADC_PHASE = "cadc_phase"
    CADC_NOISE = "cadc_noise"
    MAC_COLUMN = "mac_column"
    MAC_OFFSET = "mac_offset"
    MAC_ROW = "mac_row"
    MAC_SYNAPSE = "mac_synapse"
    MAC_SATURATION = "mac_saturation"
    MAC_WAIT = "mac_wait"
    MAC_DROOP = "mac_droop"
    MAC_NOISE = "mac_noise"
    EXPONENTIAL = "exponential"
    ADAPTATION = "adaptation"
    CONDUCTANCE = "conductance"
    CORRELATION = "correlation"
    LINE = "line"
    REVERSAL = "reversal"
    OFFSET = "offset"
    LEAKAGE = "leakage"
    SHORT_TERM = "short_term"


EVERYTHING = frozenset(Imperfection)
"""All imperfections: ``Twin(7, ideal=EVERYTHING)`` has none."""

_OFF = Spread(0.0, 0.0)
_MISMATCH_OFF: dict[Imperfection, dict[str, object]] = {
    Imperfection.LEAK: {"leak": _OFF},
    Imperfection.RESET: {"reset": _OFF},
    Imperfection.THRESHOLD: {"threshold": _OFF, "threshold_distance": _OFF, "threshold_bias": 0.0},
    Imperfection.TAU_MEM: {"tau_mem": _OFF},
    Imperfection.TAU_SYN: {"tau_syn": _OFF},
    Imperfection.GAIN: {"gain": _OFF},
    Imperfection.REFRACTORY: {"refractory": 0.0},
    Imperfection.SYNAPSE: {"synapse": 0.0},
    Imperfection.DRIVER: {"driver": 0.0},
    Imperfection.FLOOR: {"floor": 0.0},
    Imperfection.SATURATION: {"saturation": 0.0},
    Imperfection.DEAD: {"dead": 0.0},
    Imperfection.CADC_CHANNEL: {"cadc_offset": _OFF, "cadc_gain": 0.0},
    Imperfection.MAC_COLUMN: {"mac_column": _OFF},
    Imperfection.MAC_OFFSET: {"mac_offset": _OFF},
    Imperfection.MAC_ROW: {"mac_row": 0.0, "mac_pulse": 0.0},
    Imperfection.MAC_SYNAPSE: {"mac_synapse": 0.0},
    Imperfection.MAC_SATURATION: {"mac_floor": 0.0, "mac_bend": 0.0},
    Imperfection.EXPONENTIAL: {"slope": _OFF, "exponential_threshold": _OFF},
    Imperfection.ADAPTATION: {"tau_adaptation": _OFF, "adaptation_a": _OFF, "adaptation_b": _OFF},
    Imperfection.CONDUCTANCE: {"conductance": _OFF},
    Imperfection.CORRELATION: {
        "correlation_amplitude": 0.0, "correlation_time": 0.0, "correlation_baseline": 0.0,
    },
    Imperfection.LINE: {"line": _OFF},
    Imperfection.REVERSAL: {"reversal": _OFF},
    Imperfection.OFFSET: {"offset": _OFF},
    Imperfection.LEAKAGE: {"leakage": 0.0, "leakage_potential": 0.0},
    Imperfection.SHORT_TERM: {
        "short_term_utilisation": 0.0, "short_term_recovery": 0.0, "short_term_offset": 0.0,
    },
}  # fmt: skip
_NOISE_OFF: dict[Imperfection, dict[str, float]] = {
    Imperfection.MEMBRANE_NOISE: {"membrane": 0.0},
    Imperfection.THRESHOLD_RUN: {"threshold_run": 0.0},
    Imperfection.THRESHOLD_SPIKE: {"threshold_spike": 0.0},
    Imperfection.JITTER: {"jitter": 0.0},
    Imperfection.CADC_PHASE: {"cadc_phase": 0.0},
    Imperfection.CADC_NOISE: {"cadc": 0.0, "madc": 0.0},
    Imperfection.MAC_NOISE: {"mac": 0.0},
}


def mismatch_without(strengths: Mismatch, ideal: Collection[Imperfection]) -> Mismatch:
    """``strengths`` with those of ``ideal`` switched off."""
    for each in ideal:
        strengths = replace(strengths, **_MISMATCH_OFF.get(each, {}))  # type: ignore[arg-type]
    return strengths


def noise_without(strengths: Noise, ideal: Collection[Imperfection]) -> Noise:
    """``strengths`` with those of ``ideal`` switched off."""
    for each in ideal:
        strengths = replace(strengths, **_NOISE_OFF.get(each, {}))
    return strengths
