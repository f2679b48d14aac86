"""How terms of a chip's neurons are measured: circuits at potentials of choice, at rest and pulled by a current."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import fit, transfer
from spikeloop.chip.bench import Bench, routing
from spikeloop.chip.calibration import Calibration, code_of
from spikeloop.chip.configuration import (
    CADC_PERIOD_MIN,
    CIRCUITS,
    COLUMNS,
    CYCLE,
    Analog,
    Chip,
    Configuration,
    Routing,
)
from spikeloop.chip.inputs import Inputs, Switching
from spikeloop.chip.terms import Switches, Terms

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

WRITINGS = 6
"""Measurements are means over so many writings of the codes, each of which leaves other remains."""
CODES_PER_STEP = transfer.STEP / transfer.CODE_VOLTS
LEVEL, BELOW = 100.0, 45.0
"""CADC steps: where neurons rest, how far below they are held."""
PULL = 20.0
"""CADC steps that a constant current pulls membranes down by."""


class Stand:
    """A chip with a calibration, and what all measurements of its terms have in common."""

    bench: Bench
    calibration: Calibration
    tau_mem: Float
    tau_syn: Float
    capacitance: Float

    def __init__(self, chip: Chip, calibration: Calibration) -> None:
        self.bench = Bench(chip, calibration.cadc_offset.copy(), calibration.cadc_gain.copy())
        self.calibration = calibration
        target = calibration.target
        measured = calibration.measured[3]
        self.tau_mem = np.where(np.isfinite(measured), measured, target.tau_mem)
        self.tau_syn = np.where(np.isfinite(calibration.measured[4]), calibration.measured[4], target.tau_syn)
        self.capacitance = np.rint(target.capacitance)
        self._seen: tuple[Analog, Float] | None = None

    def analog(self, leak: Float | float, reset: Float | float, threshold: Float | float) -> Analog:
        """The calibration's codes, moved to other potentials (steps)."""
        target, analog = self.calibration.target, self.calibration.analog
        wanted = {"leak": leak, "reset": reset, "threshold": threshold}
        codes = {
            name: code_of(getattr(analog, name) + CODES_PER_STEP * (level - getattr(target, name)))
            for name, level in wanted.items()
        }
        return replace(analog, fires=np.ones(CIRCUITS, bool), **codes)

    def rest(self, analog: Analog, terms: Terms | None = None, switches: Switches | None = None) -> Float:
        """(512,) steps: where the membranes come to rest."""
        return self.resting(analog, terms, switches)[0]

    def resting(
        self, analog: Analog, terms: Terms | None = None, switches: Switches | None = None
    ) -> tuple[Float, Flags]:
        """(512,) each: where the membranes come to rest, in steps, and whether they do, without a spike."""
        none = np.zeros(CIRCUITS, np.int64)
        configuration = Configuration(
            analog=analog, instruments=self.bench.instruments(), terms=terms, switches=switches,
            routing=routing(none, none) if switches is None else Routing(),
        )  # fmt: skip
        settling = int(8 * self.tau_mem.max() / CYCLE / CADC_PERIOD_MIN) + 2
        out = self.bench.run(configuration, [[]] * 6, (settling + 24) * CADC_PERIOD_MIN)
        quiet = np.bincount(senders(out.address), minlength=CIRCUITS) == 0
        return self.bench.steps(out.cadc[:, settling:]).mean((0, 1)) - self._shift(analog), quiet

    def _shift(self, analog: Analog) -> Float:
        """(512,) steps: how far the converters are off in this writing, which is looked at once."""
        if self._seen is None or self._seen[0] is not analog:
            self._seen = analog, self.bench.shift(analog)
        return self._seen[1]

    def current_step(self, analog: Analog, code: NDArray[np.int16] | None = None) -> tuple[Float, Float]:
        """(512,) each: tau_mem (s) in this writing, and by how much (steps) a constant current pulls membranes down.

        From how they sink after the current was switched on, in runs shifted by a part of the sampling period. Without
        a ``code`` the law's for `PULL` steps.
        """
        resistance = transfer.resistance(self.tau_mem, self.capacitance)
        code = code_of(PULL * transfer.STEP / transfer.OFFSET_CODE / resistance) if code is None else code
        trigger, runs = 4 * CADC_PERIOD_MIN, 4
        cycle = trigger + np.arange(runs) * (CADC_PERIOD_MIN // runs)
        switch = np.broadcast_to(-np.tri(runs, dtype=np.int8).T[:, :, None], (runs, runs, CIRCUITS))
        inputs = Inputs(offset=code)
        configuration = Configuration(analog=analog, instruments=self.bench.instruments(), inputs=inputs)
        span = 10 * float(self.tau_mem.max())
        cycles = int(cycle[-1] + span / CYCLE) + CADC_PERIOD_MIN
        out = self.bench.run(configuration, [[]] * runs, cycles, currents=Switching(cycle, switch))
        time = (out.cadc_cycle - cycle[:, None])[:, :, None] * CYCLE
        since = np.broadcast_to(time.astype(np.float64), out.cadc.shape).reshape(-1, CIRCUITS)
        value = self.bench.steps(out.cadc).reshape(-1, CIRCUITS)
        tau, _, height = fit.fitted(*fit.binned(since, value, span), self.tau_mem, fit.decay)
        return tau, height


def senders(address: NDArray[np.integer]) -> NDArray[np.int64]:
    """The circuits of the labels that ``bench.routing`` gives."""
    label = address.astype(np.int64)
    own, output, width = label & 0xFF, label >> 8, COLUMNS // 8
    return own // width * COLUMNS + output * width + own % width


def logs(ratio: Float) -> Float:
    """Logarithms; NaN where there are none."""
    return np.log(np.where(ratio > 0, ratio, np.nan))


def mean(found: Float) -> Float:
    """The mean over writings, of circuits that were measured in most of them."""
    known = np.isfinite(found).sum(0)
    return np.where(known > len(found) // 2, np.nansum(found, 0) / np.maximum(known, 1), np.nan)
