"""What a chip's neurons shall be, the codes that the laws give for it, and the codes that a calibration found."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop._files import read_checked, write_checked
from spikeloop.chip import transfer
from spikeloop.chip.configuration import CAPACITANCE_MAX, CIRCUITS, CODE_MAX, COUNTER_MAX, CYCLE, Analog, Chip
from spikeloop.errors import OutOfRange

Float = NDArray[np.float64]
VERSION = 2
_FORMAT = "spikeloop.chip.calibration"
MEASURED = ("leak", "reset", "threshold", "tau_mem", "tau_syn", "psp", "psp", "refractory")
"""The rows of `Calibration.measured`, as the target names them; psp is excitatory, then inhibitory."""

RANGES: dict[str, tuple[float, float, str]] = {
    "leak": (50.0, 160.0, "CADC steps"),
    "reset": (50.0, 160.0, "CADC steps"),
    "threshold": (50.0, 220.0, "CADC steps"),
    "tau_mem": (0.5e-6, 60e-6, "s"),
    "tau_syn": (0.3e-6, 30e-6, "s"),
    "refractory": (40e-9, 32e-6, "s"),
    "capacitance": (1, CAPACITANCE_MAX, "codes"),
}
"""What the chip reaches (hardware.md 1.3)."""


def outside(value: Float, low: float, high: float) -> NDArray[np.int64]:
    """The places where ``value`` is not from ``low`` to ``high``, but for rounding."""
    return np.flatnonzero(~((value >= low * (1 - 1e-9)) & (value <= high * (1 + 1e-9))))


def _within(name: str, value: Float, limits: tuple[float, float, str]) -> None:
    low, high, unit = limits
    wrong = outside(value, low, high)
    if len(wrong):
        raise OutOfRange(
            f"{name} is {value[wrong[0]]:g} {unit}",
            where="calibration target",
            expected=f"{low:g} to {high:g} {unit}: what the chip reaches",
            todo="Choose another speedup, or other parameters of the neurons",
        )


@dataclass(frozen=True, eq=False)
class Target:
    """What the circuits shall be, (512,) each: potentials in CADC steps, times in chip seconds.

    psp: CADC steps of potential per weight step, at the peak.  capacitance: code.
    """

    leak: Float
    reset: Float
    threshold: Float
    tau_mem: Float
    tau_syn: Float
    psp: Float
    refractory: Float
    capacitance: Float

    def __post_init__(self) -> None:
        for each in fields(self):
            value = np.broadcast_to(np.asarray(getattr(self, each.name), np.float64), (CIRCUITS,)).copy()
            object.__setattr__(self, each.name, value)
            if each.name in RANGES:
                _within(each.name, value, RANGES[each.name])
        _within("gain code for the psp", nominal_gain(self), (*transfer.GAIN_RANGE, "codes"))

    @property
    def uniform(self) -> bool:
        """Whether it asks the same of all circuits: then any of them can take the place of any other."""
        return all(np.ptp(getattr(self, each.name)) == 0 for each in fields(self))


def default_target(**changes: Any) -> Target:
    """The target of the published Yin-Yang experiments (hardware.md 1.3, "spiking2")."""
    values = {
        "leak": 80.0, "reset": 80.0, "threshold": 150.0, "tau_mem": 6e-6, "tau_syn": 6e-6,
        "psp": transfer.REFERENCE_PSP, "refractory": 2e-6, "capacitance": CAPACITANCE_MAX,
    }  # fmt: skip
    return Target(**{**values, **changes})


@dataclass(frozen=True, eq=False)
class Calibration:
    """The codes that make ``chip`` (its repr) meet ``target``, and what was measured with them.

    cadc_offset: (512,) codes, cadc_gain: (512,) of the column ADC's channels.  success: (512,): circuits that do.
    measured: (8, 512), in the order of `MEASURED`.
    """

    chip: str
    target: Target
    analog: Analog
    cadc_offset: NDArray[np.int16]
    cadc_gain: Float
    success: NDArray[np.bool_]
    measured: Float
    version: int = VERSION

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz that `load` reads."""
        arrays: dict[str, NDArray[Any]] = {"chip": np.array(self.chip)}
        for owner in ("target", "analog"):
            part = getattr(self, owner)
            arrays |= {f"{owner}.{each.name}": getattr(part, each.name) for each in fields(part)}
        arrays |= {name: getattr(self, name) for name in ("cadc_offset", "cadc_gain", "success", "measured")}
        write_checked(path, _FORMAT, self.version, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """From a file of `save`. Raises ``DataError`` where it is missing, damaged, foreign or newer.

        One of an older version is read, and refused by who runs a network with it.
        """
        targets, analogs = (
            [f"{o}.{each.name}" for each in fields(k)] for o, k in (("target", Target), ("analog", Analog))
        )
        names = ("chip", *targets, *analogs, "cadc_offset", "cadc_gain", "success", "measured")
        arrays = read_checked(path, _FORMAT, VERSION, names, "calibrate anew")
        return cls(
            str(arrays["chip"]),
            Target(**{name.split(".")[1]: arrays[name] for name in targets}),
            Analog(**{name.split(".")[1]: arrays[name] for name in analogs}),
            arrays["cadc_offset"],
            arrays["cadc_gain"],
            arrays["success"],
            arrays["measured"],
            int(arrays["version"]),
        )


def nominal_gain(target: Target) -> Float:
    """The gain code that gives the target's psp on a chip without mismatch."""
    return target.psp / transfer.psp(1.0, target.tau_mem, target.tau_syn, target.capacitance)


def uncalibrated(target: Target) -> Analog:
    """The codes that a chip without mismatch needs for ``target``."""
    leak_bias, leak_division = transfer.leak_code(target.tau_mem, target.capacitance)
    synapse_bias, synapse_division = transfer.synapse_code(target.tau_syn)
    codes = {name: transfer.code_of_steps(getattr(target, name)) for name in ("leak", "reset", "threshold")}
    gain = np.broadcast_to(nominal_gain(target), (2, CIRCUITS))
    clock = clock_for(target.refractory)
    return Analog(
        leak=code_of(codes["leak"]), reset=code_of(codes["reset"]), threshold=code_of(codes["threshold"]),
        leak_bias=code_of(leak_bias), leak_division=leak_division,
        synapse_bias=code_of(synapse_bias), synapse_division=synapse_division,
        gain=code_of(gain), capacitance=np.rint(target.capacitance).astype(np.int16),
        refractory=refractory_code(target.refractory, clock),
        refractory_clock=np.array([clock], np.int16),
    )  # fmt: skip


def clock_for(refractory: Float) -> int:
    """The slowest counter clock that is needed for the longest time."""
    return max(0, int(np.ceil(np.log2(max(refractory.max() / CYCLE / COUNTER_MAX, 1e-9)))))


def refractory_code(seconds: Float, clock: int) -> NDArray[np.int16]:
    """Periods of the counter's clock."""
    return np.clip(np.rint(seconds / CYCLE / 2.0**clock), 1, COUNTER_MAX).astype(np.int16)


def code_of(value: NDArray[Any]) -> NDArray[np.int16]:
    """The nearest code."""
    return np.clip(np.rint(value), 0, CODE_MAX).astype(np.int16)


def nominal(chip: Chip, target: Target) -> Calibration:
    """What suits a chip without mismatch: codes from the laws alone, nothing measured."""
    measured = np.full((len(MEASURED), CIRCUITS), np.nan)
    offset, gain, success = np.zeros(CIRCUITS, np.int16), np.ones(CIRCUITS), np.ones(CIRCUITS, bool)
    return Calibration(repr(chip), target, uncalibrated(target), offset, gain, success, measured)
