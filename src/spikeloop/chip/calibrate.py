"""Which codes make a chip's neurons what they shall be: measured through ``Chip.emulate`` alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop._files import read_arrays, write_arrays
from spikeloop.chip import bench as measure
from spikeloop.chip import transfer
from spikeloop.chip.bench import Bench, Course, Response
from spikeloop.chip.configuration import CAPACITANCE_MAX, CIRCUITS, CODE_MAX, COUNTER_MAX, CYCLE, Analog, Chip
from spikeloop.errors import OutOfRange

Float = NDArray[np.float64]
VERSION = 1
_FORMAT = "spikeloop.chip.calibration"
_PASSES, _THRESHOLD_SEARCHES, _BISECTIONS = 8, 5, 8
_FIRST_GOOD_PASS = 2  # before it, gains and time constants may be far off
_NOISE_REACH = 2.0  # rms of its noise that a membrane reaches above its leak while a threshold is looked for (measured)
_LEAK, _BELOW, _ABOVE = 100.0, 45.0, 32.0  # steps: where the neurons are measured, with reset below and threshold above

RANGES = {
    "leak": (50.0, 160.0, "CADC steps"),
    "reset": (30.0, 160.0, "CADC steps"),
    "threshold": (50.0, 220.0, "CADC steps"),
    "tau_mem": (0.5e-6, 60e-6, "s"),
    "tau_syn": (0.3e-6, 30e-6, "s"),
    "refractory": (0.0, 32e-6, "s"),
    "capacitance": (1, CAPACITANCE_MAX, "codes"),
}
"""What the chip reaches (hardware.md 1.3)."""


def _within(name: str, value: Float, limits: tuple[float, float, str]) -> None:
    low, high, unit = limits
    wrong = (value < low * (1 - 1e-9)) | (value > high * (1 + 1e-9))
    if wrong.any():
        raise OutOfRange(
            f"{name} is {value[wrong][0]:g} {unit}",
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
        _within("gain code for the psp", _nominal_gain(self), (*transfer.GAIN_RANGE, "codes"))

    def key(self) -> bytes:
        """What tells targets apart."""
        return b"".join(getattr(self, each.name).tobytes() for each in fields(self))


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
    measured: leak, reset, tau_mem, tau_syn, psp (excitatory), psp (inhibitory) in rows of (6, 512).
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
        write_arrays(path, _FORMAT, VERSION, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """From a file of `save`. Raises ``DataError``."""
        targets, analogs = ([f"{o}.{each.name}" for each in fields(k)] for o, k in (("target", Target), ("analog", Analog)))
        names = ("chip", *targets, *analogs, "cadc_offset", "cadc_gain", "success", "measured")
        arrays = read_arrays(path, _FORMAT, VERSION, names)
        return cls(
            str(arrays["chip"]),
            Target(**{name.split(".")[1]: arrays[name] for name in targets}),
            Analog(**{name.split(".")[1]: arrays[name] for name in analogs}),
            *(arrays[name] for name in ("cadc_offset", "cadc_gain", "success", "measured")),
        )


def uncalibrated(target: Target) -> Analog:
    """The codes that a chip without mismatch needs for ``target``."""
    leak_bias, leak_division = transfer.leak_code(target.tau_mem, target.capacitance)
    synapse_bias, synapse_division = transfer.synapse_code(target.tau_syn)
    codes = {name: transfer.code_of_steps(getattr(target, name)) for name in ("leak", "reset", "threshold")}
    gain = np.broadcast_to(_nominal_gain(target), (2, CIRCUITS))
    clock = _clock(target.refractory)
    return Analog(
        **{name: _code(value) for name, value in codes.items()},
        leak_bias=_code(leak_bias), leak_division=leak_division,
        synapse_bias=_code(synapse_bias), synapse_division=synapse_division,
        gain=_code(gain), capacitance=np.rint(target.capacitance).astype(np.int16),
        refractory=np.clip(np.rint(target.refractory / CYCLE / 2.0**clock), 1, COUNTER_MAX).astype(np.int16),
        refractory_clock=np.array([clock], np.int16),
    )  # fmt: skip


def _nominal_gain(target: Target) -> Float:
    return target.psp / transfer.psp(1.0, target.tau_mem, target.tau_syn, target.capacitance)


def _clock(refractory: Float) -> int:
    """The slowest counter clock that is needed for the longest time."""
    return max(0, int(np.ceil(np.log2(max(refractory.max() / CYCLE / COUNTER_MAX, 1e-9)))))


def _code(value: Float) -> NDArray[np.int16]:
    return np.clip(np.rint(value), 0, CODE_MAX).astype(np.int16)


def nominal(chip: Chip, target: Target) -> Calibration:
    """What suits a chip without mismatch: codes from the laws alone, nothing measured."""
    measured = np.full((6, CIRCUITS), np.nan)
    offset, gain, success = np.zeros(CIRCUITS, np.int16), np.ones(CIRCUITS), np.ones(CIRCUITS, bool)
    return Calibration(repr(chip), target, uncalibrated(target), offset, gain, success, measured)


def calibrate(chip: Chip, target: Target, progress: Callable[[str], None] | None = None) -> Calibration:
    """Search the codes for ``target`` on all circuits at once; ``progress`` is told what is being done."""
    return _Search(chip, target, progress or (lambda _: None)).result()


class _Mean:
    """The running mean of arrays, where they are good; 0 before anything was."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0.0

    def add(self, value: Float, good: NDArray[np.bool_]) -> Float:
        """The mean with ``value`` (..., 512) where ``good`` (512,)."""
        self.total = self.total + np.where(good, value, 0.0)
        self.count = self.count + good
        return self.total / np.maximum(self.count, 1)


def _law(analog: Analog, name: str) -> Float:
    """Steps at which a chip without mismatch has the potential ``name``."""
    return transfer.steps_of_volts(transfer.volts(getattr(analog, name)))


class _Search:
    """What is known so far: codes not rounded; of potentials, how far the chip is from its law, in steps."""

    def __init__(self, chip: Chip, target: Target, progress: Callable[[str], None]) -> None:
        self.chip, self.target, self.tell = chip, target, progress
        self.bench = Bench(chip)
        self.law = uncalibrated(target)
        self.offset = {name: np.zeros(CIRCUITS) for name in ("leak", "reset", "threshold")}
        self.bias = {name: getattr(self.law, name).astype(np.float64) for name in ("leak_bias", "synapse_bias", "gain")}

    def result(self) -> Calibration:
        self.tell("column ADC")
        self.bench.calibrate_cadc()
        self.tell("leak")
        self._leak()
        self.tell("threshold")
        self._threshold()
        self.tell("time constants, gain and reset")
        self._dynamics()
        analog = self._analog(self.target.leak, self.target.reset, self.target.threshold)
        return self._verified(analog)

    def _analog(self, leak: Float, reset: Float, threshold: Float, wobble: int = 0) -> Analog:
        """Codes for these potentials (steps); ``wobble`` moves them a little, so that crosstalk averages out."""
        wanted = {"leak": leak, "reset": reset, "threshold": threshold}
        codes = {name: transfer.code_of_steps(steps - self.offset[name]) + wobble for name, steps in wanted.items()}
        return replace(self.law, **{n: _code(c) for n, c in (codes | self.bias).items()})

    def _leak(self) -> None:
        level, found = np.full(CIRCUITS, _LEAK), list[Float]()
        for wobble in range(-4, 5):
            analog = self._analog(level, level, level, wobble)
            found.append(self.bench.resting(analog) - _law(analog, "leak"))
        self.offset["leak"] = np.mean(found, 0)

    def _threshold(self) -> None:
        """The lowest leak at which a neuron fires by itself, found by bisection, several times over."""
        found: list[Float] = []
        duration = float(8 * self.target.tau_mem.max())
        level, reset = np.full(CIRCUITS, 140.0), np.full(CIRCUITS, 90.0)
        for search in range(_THRESHOLD_SEARCHES):
            low, high = level - 40, level + 40
            analog = self._analog(level, reset, level)
            for _ in range(_BISECTIONS):
                analog = self._analog((low + high) / 2, reset, level, search - _THRESHOLD_SEARCHES // 2)
                fires, leak = self.bench.fires(analog, duration), _law(analog, "leak") + self.offset["leak"]
                low, high = np.where(fires, low, leak), np.where(fires, leak, high)
            found.append((low + high) / 2 - _law(analog, "threshold"))
        lift = _NOISE_REACH * self.bench.membrane_noise
        offset = np.median(found, 0) + lift
        self.offset["threshold"] = np.where(np.abs(offset) < 35, offset, 0.0)

    def _dynamics(self) -> None:
        rows, weight = self._rows()
        when = self._course()
        learned = {name: _Mean() for name in ("leak", "reset", "leak_bias", "synapse_bias", "gain")}
        for turn in range(_PASSES):
            analog, seen = self._pass(turn % 5 - 2, when, rows, weight)
            ratio = {
                "leak_bias": seen.tau_mem / self.target.tau_mem,
                "synapse_bias": seen.tau_syn / self.target.tau_syn,
                "gain": self.target.psp / np.maximum(seen.psp, 1e-3),
            }
            for name in ("leak", "reset"):
                self.offset[name] = learned[name].add(getattr(seen, name) - _law(analog, name), seen.answered)
            if turn == _FIRST_GOOD_PASS:
                learned |= {name: _Mean() for name in ratio}
            for name, factor in ratio.items():
                better = np.log(np.maximum(getattr(analog, name), 1.0) * np.clip(factor, 0.3, 3.0))
                self.bias[name] = np.exp(learned[name].add(better, np.ones(CIRCUITS, bool)))

    def _pass(self, wobble: int, when: Course, rows: dict[int, Any], weight: int) -> tuple[Analog, Response]:
        """One look at the dynamics, held long after a spike and far from the target's potentials."""
        level = np.full(CIRCUITS, _LEAK)
        analog = self._analog(level, level - _BELOW, level + _ABOVE, wobble)
        clock = _clock(np.array([when.hold * CYCLE]))
        count = np.full(CIRCUITS, round(when.hold / 2**clock), np.int16)
        analog = replace(analog, refractory=count, refractory_clock=np.array([clock], np.int16))
        return analog, measure.respond(self.bench, analog, when, rows, weight)

    def _course(self) -> Course:
        """One event makes the neurons fire, or a burst where the current saturates before that."""
        target = self.target
        reach = 3 * 63 * transfer.psp(transfer.REFERENCE_GAIN, target.tau_mem, target.tau_syn, target.capacitance)
        one = reach.min() > 1.4 * _ABOVE
        hold = min((8 if one else 16) * float(target.tau_syn.max()), 250e-6)
        clock = _clock(np.array([hold]))
        held = round(hold / CYCLE / 2**clock) * CYCLE * 2**clock
        return measure.course((target.tau_mem, target.tau_syn), held, 1 if one else 16)

    def _rows(self) -> tuple[dict[int, Any], int]:
        """How many rows of one weight make 18 steps (36 for inhibition), but no more weight than lets the current saturate."""
        weight = max(1, int(np.ceil(0.4 / self.target.psp.min())))
        few, more = (
            np.clip(np.rint(np.minimum(steps / self.target.psp, 100) / weight), 1, 100).astype(np.int64) for steps in (18, 36)
        )
        return {measure.SOME: few, measure.INHIBITORY: more}, weight

    def _verified(self, analog: Analog) -> Calibration:
        """What the neurons are with their final codes."""
        rows, weight = self._rows()
        _, seen = self._pass(0, self._course(), rows, weight)
        leak = self.bench.resting(analog)
        measured = np.stack([leak, seen.reset - (_LEAK - _BELOW) + self.target.reset, seen.tau_mem, seen.tau_syn, *seen.psp])
        wanted = np.stack([self.target.leak, self.target.reset, self.target.tau_mem, self.target.tau_syn, self.target.psp, self.target.psp])
        close = np.abs(measured[:2] - wanted[:2]).max(0) < 8
        near = np.abs(np.log(np.maximum(measured[2:], 1e-12) / wanted[2:])).max(0) < 0.4
        return Calibration(
            repr(self.chip), self.target, analog, self.bench.offset, self.bench.gain, close & near & seen.answered, measured
        )
