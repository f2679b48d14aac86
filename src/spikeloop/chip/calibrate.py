"""Which codes make a chip's neurons what they shall be: measured through ``Chip.emulate`` alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import bench as measure
from spikeloop.chip import transfer
from spikeloop.chip.bench import Bench, Course, Response
from spikeloop.chip.calibration import (
    MEASURED,
    VERSION,
    Calibration,
    Target,
    clock_for,
    code_of,
    default_target,
    nominal,
    refractory_code,
    uncalibrated,
)
from spikeloop.chip.configuration import CIRCUITS, CYCLE, Analog, Chip

Float = NDArray[np.float64]
_PASSES, _THRESHOLD_SEARCHES, _BISECTIONS = 8, 5, 8
_REACH = 40.0  # steps to either side in which thresholds are looked for
_STRETCH = 0.1  # a counter that seems farther from its law was not seen: the membrane had returned before
_FIRST_GOOD_PASS = 2  # before it, gains and time constants may be far off
_NOISE_REACH = 2.0  # rms of its noise that a membrane reaches above its leak while a threshold is looked for (measured)
_LEAK, _ABOVE = 100.0, 32.0  # steps: where the neurons are measured, and how far above that their threshold is
_BELOW, _BELOW_IN_BURST = 45.0, 36.0  # steps below it is reset; events of a burst that come later lift it to the floor


def calibrate(chip: Chip, target: Target, progress: Callable[[str], None] | None = None) -> Calibration:
    """Search the codes for ``target`` on all circuits at once; ``progress`` is told what is being done."""
    return _Search(chip, target, progress or (lambda _: None)).result()


def as_it_is(chip: Chip, target: Target) -> Calibration:
    """What the circuits are with the codes of `uncalibrated`: measured, not searched; to compare with `calibrate`."""
    search = _Search(chip, target, lambda _: None)
    search.bench.calibrate_cadc()
    search._leak()  # thresholds are measured against leaks
    return search._verified(search.law)


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


def _below(when: Course) -> float:
    return _BELOW if when.burst == 1 else _BELOW_IN_BURST


class _Search:
    """What is known so far: codes not rounded; of potentials, how far the chip is from its law, in steps.

    stretch: the refractory counter's period, over its law.
    """

    def __init__(self, chip: Chip, target: Target, progress: Callable[[str], None]) -> None:
        self.chip, self.target, self.tell = chip, target, progress
        self.bench = Bench(chip)
        self.law = uncalibrated(target)
        self.offset = {name: np.zeros(CIRCUITS) for name in ("leak", "reset", "threshold")}
        self.bias = {name: getattr(self.law, name).astype(np.float64) for name in ("leak_bias", "synapse_bias", "gain")}
        self.stretch = np.ones(CIRCUITS)

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
        refractory = refractory_code(self.target.refractory / self.stretch, int(analog.refractory_clock[0]))
        return self._verified(replace(analog, refractory=refractory))

    def _analog(self, leak: Float, reset: Float, threshold: Float, wobble: int = 0) -> Analog:
        """Codes for these potentials (steps); ``wobble`` moves them a little, so that crosstalk averages out."""
        wanted = {"leak": leak, "reset": reset, "threshold": threshold}
        codes = {name: transfer.code_of_steps(steps - self.offset[name]) + wobble for name, steps in wanted.items()}
        return replace(self.law, **{n: code_of(c) for n, c in (codes | self.bias).items()})

    def _leak(self) -> None:
        level, found = np.full(CIRCUITS, _LEAK), list[Float]()
        for wobble in range(-4, 5):
            analog = self._analog(level, level, level, wobble)
            found.append(self.bench.resting(analog) - _law(analog, "leak"))
        self.offset["leak"] = np.mean(found, 0)

    def _threshold(self) -> None:
        offset = self._firing(np.full(CIRCUITS, 140.0))
        # one that was not found stays at its law: whether that is near enough is seen when all is measured at the end
        self.offset["threshold"] = np.where(np.abs(offset) < 35, offset, 0.0)

    def _firing(self, level: Float) -> Float:
        """(512,) steps from the laws of thresholds put at ``level`` to the lowest leak at which neurons fire unasked.

        Found by bisection, several times over; what is not within reach ends at an end of it.
        """
        found, duration = list[Float](), float(8 * self.target.tau_mem.max())
        for search in range(_THRESHOLD_SEARCHES):
            low, high = level - _REACH, level + _REACH
            analog = self.law
            for _ in range(_BISECTIONS):
                analog = self._analog((low + high) / 2, level - 50, level, search - _THRESHOLD_SEARCHES // 2)
                fires, leak = self.bench.fires(analog, duration), _law(analog, "leak") + self.offset["leak"]
                low, high = np.where(fires, low, leak), np.where(fires, leak, high)
            found.append((low + high) / 2 - _law(analog, "threshold"))
        return np.median(found, 0) + _NOISE_REACH * self.bench.membrane_noise

    def _dynamics(self) -> None:
        rows, weight = self._rows()
        when = self._course()
        learned = {name: _Mean() for name in ("leak", "reset", "leak_bias", "synapse_bias", "gain", "stretch")}
        for turn in range(_PASSES):
            analog, seen = self._pass(turn % 5 - 2, when, rows, weight)
            ratio = {
                "leak_bias": seen.tau_mem / self.target.tau_mem,
                "synapse_bias": seen.tau_syn / self.target.tau_syn,
                "gain": self.target.psp / np.maximum(seen.psp, 1e-3),
            }
            for name in ("leak", "reset"):
                self.offset[name] = learned[name].add(getattr(seen, name) - _law(analog, name), seen.answered)
            stretch = seen.refractory / (when.hold * CYCLE)
            mean = learned["stretch"].add(stretch, seen.answered & (np.abs(stretch - 1) < _STRETCH))
            self.stretch = np.where(mean > 0, mean, 1.0)
            if turn == _FIRST_GOOD_PASS:
                learned |= {name: _Mean() for name in ratio}
            for name, factor in ratio.items():
                better = np.log(np.maximum(getattr(analog, name), 1.0) * np.clip(factor, 0.3, 3.0))
                self.bias[name] = np.exp(learned[name].add(better, np.ones(CIRCUITS, bool)))

    def _pass(self, wobble: int, when: Course, rows: dict[int, Any], weight: int) -> tuple[Analog, Response]:
        """One look at the dynamics, held long after a spike and far from the target's potentials."""
        level = np.full(CIRCUITS, _LEAK)
        analog = self._analog(level, level - _below(when), level + _ABOVE, wobble)
        clock = clock_for(np.array([when.hold * CYCLE]))
        count = refractory_code(np.full(CIRCUITS, when.hold * CYCLE), clock)
        analog = replace(analog, refractory=count, refractory_clock=np.array([clock], np.int16))
        return analog, measure.respond(self.bench, analog, when, rows, weight)

    def _course(self) -> Course:
        """One event makes the neurons fire, or a burst where the current saturates before that."""
        target = self.target
        reach = 3 * 63 * transfer.psp(transfer.REFERENCE_GAIN, target.tau_mem, target.tau_syn, target.capacitance)
        one = reach.min() > 1.4 * _ABOVE
        hold = min((8 if one else 16) * float(target.tau_syn.max()), 250e-6)
        clock = clock_for(np.array([hold]))
        held = round(hold / CYCLE / 2**clock) * CYCLE * 2**clock
        return measure.course((target.tau_mem, target.tau_syn), held, 1 if one else 16)

    def _rows(self) -> tuple[dict[int, Any], int]:
        """How many rows of one weight make 18 steps (36 for inhibition), but no more than make the current saturate."""
        weight = max(1, int(np.ceil(0.4 / self.target.psp.min())))
        few, more = (
            np.clip(np.rint(np.minimum(steps / self.target.psp, 100) / weight), 1, 100).astype(np.int64)
            for steps in (18, 36)
        )
        return {measure.SOME: few, measure.INHIBITORY: more}, weight

    def _verified(self, analog: Analog) -> Calibration:
        """What the neurons are with their final codes."""
        rows, weight = self._rows()
        when = self._course()
        _, seen = self._pass(0, when, rows, weight)
        leak = self.bench.resting(analog)
        threshold = self._firing(self.target.threshold) + _law(analog, "threshold")
        reset = seen.reset - (_LEAK - _below(when)) + self.target.reset
        hold = transfer.refractory_seconds(analog.refractory, analog.refractory_clock)
        refractory = seen.refractory / (when.hold * CYCLE) * hold
        measured = np.stack([leak, reset, threshold, seen.tau_mem, seen.tau_syn, *seen.psp, refractory])
        wanted = np.stack([getattr(self.target, name) for name in MEASURED])
        close = np.abs(measured[:3] - wanted[:3]).max(0) < 8
        # not of refractory times: that of a fast neuron beside a slow one is rounded to the clock they share
        near = np.abs(np.log(np.maximum(measured[3:7], 1e-12) / wanted[3:7])).max(0) < 0.4
        return Calibration(
            repr(self.chip),
            self.target,
            analog,
            self.bench.offset,
            self.bench.gain,
            close & near & seen.answered,
            measured,
        )


__all__ = ["VERSION", "Calibration", "Target", "calibrate", "default_target", "nominal", "uncalibrated"]
