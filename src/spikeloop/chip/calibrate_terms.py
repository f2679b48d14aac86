"""AdEx terms and couplings as a chip has them: measured through ``Chip.emulate`` alone, and the codes that undo it.

The laws are linear in their codes, so one number for each circuit and term says how a chip is off: what was measured
over what the law gives (of the exponential's threshold, the difference). Means over several writings of the codes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop._files import read_checked, write_checked
from spikeloop.chip import calibrate_inputs, fit, transfer
from spikeloop.chip.bench import ALL, SOME, routing
from spikeloop.chip.calibrate_inputs import LINES, OFFSET, REVERSALS
from spikeloop.chip.calibration import VERSION, Calibration, clock_for, code_of, refractory_code
from spikeloop.chip.configuration import (
    CADC_PERIOD_MIN,
    CAPACITANCE_MAX,
    CIRCUITS,
    COLUMNS,
    CYCLE,
    HALVES,
    ROWS,
    Chip,
    Configuration,
)
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.stand import BELOW, CODES_PER_STEP, LEVEL, WRITINGS, Stand, logs, mean, senders
from spikeloop.chip.terms import Kinds, Switches, Terms

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

SLOPE, THRESHOLD, TAU, A, B, COUPLING = "slope", "exponential_threshold", "tau_adaptation", "a", "b", "tau_coupling"
_ABOVE = 32.0  # steps above the leak: what fires neurons
_STEEP = 7.0  # steps: the slope with which exponentials are measured
_BELOW_FIRING = (2.0, 3.5, 5.0, 7.0, 9.0)  # steps below the leak that fires a neuron at which it is looked at
_A_CODE, _B_CODE = 150, 900
_TAU = 60e-6
_FORMAT, _KEPT = "spikeloop.chip.terms", ("off", "success")
_WITHIN = {
    SLOPE: 0.4, THRESHOLD: 25.0, TAU: 0.8, A: 0.8, B: 0.8, COUPLING: 0.9, OFFSET: 0.8,
    **dict.fromkeys(LINES, 0.9), **dict.fromkeys(REVERSALS, 45.0),
}  # fmt: skip
"""Farther off: it failed."""


@dataclass(frozen=True, eq=False)
class TermsCalibration:
    """How a chip's terms are off their laws, by term, (512,): logarithms of ratios; of `THRESHOLD` CADC steps.

    success: by term, (512,), whether it could be measured, and is near enough to be undone.
    """

    off: Mapping[str, Float]
    success: Mapping[str, Flags]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz that `load` reads."""
        arrays: dict[str, NDArray[Any]] = {"names": np.array(list(self.off))}
        arrays |= {what: np.array([getattr(self, what)[name] for name in self.off]) for what in _KEPT}
        write_checked(path, _FORMAT, VERSION, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TermsCalibration:
        """From a file of `save`. Raises ``DataError`` where it is missing, damaged, foreign or newer."""
        arrays = read_checked(path, _FORMAT, VERSION, ("names", *_KEPT), "calibrate anew")
        return cls(*(dict(zip(map(str, arrays["names"]), arrays[what], strict=True)) for what in _KEPT))

    def terms(self, codes: Terms | None) -> Terms | None:
        """``codes`` of the laws, changed for what was measured."""
        if codes is None:
            return None
        changed = {name: code_of(getattr(codes, name) * np.exp(-self._of(name))) for name in (SLOPE, A, B)}
        changed[TAU] = code_of(codes.tau_adaptation * np.exp(self._of(TAU)))
        changed[THRESHOLD] = code_of(codes.exponential_threshold - CODES_PER_STEP * self._of(THRESHOLD))
        return replace(codes, **changed)

    def switches(self, codes: Switches | None) -> Switches | None:
        """Likewise the conductances."""
        if codes is None:
            return None
        return replace(codes, conductance=code_of(codes.conductance * np.exp(self._of(COUPLING))))

    def inputs(self, codes: Inputs | None) -> Inputs | None:
        """Likewise those of synaptic lines and reversals; constant currents are the host's, see `current`."""
        if codes is None:
            return None
        times, potentials = (np.stack([self._of(name) for name in names]) for names in (LINES, REVERSALS))
        return replace(
            codes, synapse_bias=code_of(codes.synapse_bias * np.exp(times)),
            reversal=code_of(codes.reversal - CODES_PER_STEP * potentials),
        )  # fmt: skip

    @property
    def current(self) -> Float:
        """(512,): constant currents over what the law gives."""
        return np.exp(self._of(OFFSET))

    def _of(self, name: str) -> Float:
        return np.where(self.success[name], self.off[name], 0.0) if name in self.off else np.zeros(CIRCUITS)


def calibrate_terms(
    chip: Chip, calibration: Calibration, kinds: Kinds, progress: Callable[[str], None] | None = None
) -> TermsCalibration:
    """Measure these ``kinds`` of terms on all circuits, which have the leaks of ``calibration``."""
    search, tell = _Search(chip, calibration), progress or (lambda _: None)
    found: dict[str, Float] = {}
    if kinds.coupling:
        tell("couplings")
        found |= search.couplings()
    if kinds.adaptation:
        tell("adaptation")
        found |= search.adaptation()
    if kinds.offset:
        tell("constant currents")
        found |= calibrate_inputs.offset(search)
    if kinds.line:
        tell("synaptic lines")
        found |= calibrate_inputs.lines(search)
    if kinds.reversal:
        tell("reversal potentials")
        found |= calibrate_inputs.reversals(search)
    if kinds.exponential:
        tell("exponential")
        found |= search.exponential()
    success = {name: np.abs(np.nan_to_num(off, nan=np.inf)) < _WITHIN[name] for name, off in found.items()}
    return TermsCalibration({name: np.nan_to_num(off) for name, off in found.items()}, success)


class _Search(Stand):
    # ---- couplings -----------------------------------------------------------------------------------------------

    def couplings(self) -> dict[str, Float]:
        """Two compartments at different leaks pull at each other: the ratio of how far each gives way.

        (V - leak) of one over (other's V - V) is its tau_mem over tau_coupling, for its share of the capacitance.
        """
        found = np.full((WRITINGS, CIRCUITS), np.nan)
        even = np.arange(CIRCUITS) % 2 == 0
        share = CAPACITANCE_MAX / self.capacitance
        code, scale = transfer.coupling_code(np.clip(self.tau_mem * share, 0.2e-6, 20e-6))
        for turn in range(WRITINGS):
            for own in (even, ~even):  # whose conductance is looked at; its neighbour is on the line
                switches = Switches(
                    connect_soma=~own, connect_conductance=own, connect_soma_right=even,
                    conductance=code_of(code + turn - WRITINGS // 2), conductance_scale=scale,
                )  # fmt: skip
                analog = self.analog(LEVEL - 45 + 90 * own, LEVEL - BELOW, 215.0)
                alone, together = self.rest(analog), self.rest(analog, switches=switches)
                other = together[np.arange(CIRCUITS) ^ 1]
                ratio = (together - alone) / (other - together)
                tau = self.current_step(analog)[0] * share / np.where(ratio > 0, ratio, np.nan)
                law = transfer.tau_coupling(switches.conductance, switches.conductance_scale)
                found[turn, own] = np.log(tau / law)[own]
        return {COUPLING: mean(found)}

    # ---- adaptation ----------------------------------------------------------------------------------------------

    def adaptation(self) -> dict[str, Float]:
        """After one spike: with b alone the membrane sinks below its leak and comes back; with a alone it has adapted
        to where it was held, and overshoots.
        """
        taus, sizes_b, sizes_a = (np.full((WRITINGS, CIRCUITS), np.nan) for _ in range(3))
        tau_code, division = transfer.adaptation_code(np.full(CIRCUITS, _TAU))
        every = np.ones(CIRCUITS, bool)
        for turn in range(WRITINGS):
            terms = Terms(
                adaptation=every, tau_adaptation=code_of(tau_code + turn - WRITINGS // 2),
                adaptation_division=division, b=np.full(CIRCUITS, _B_CODE),
            )  # fmt: skip
            law = transfer.tau_adaptation(terms.tau_adaptation, terms.adaptation_division)
            hold = self._hold(8 * float(self.calibration.target.tau_syn.max()))
            tau, height, tau_mem = self._after(terms, LEVEL, hold)
            taus[turn] = np.log(tau / law)
            b = -height * (1 - tau_mem / tau) * np.exp(hold / tau)
            resistance = transfer.resistance(tau_mem, self.capacitance)
            nominal = _B_CODE / transfer.REFERENCE_B * resistance * transfer.REFERENCE_PULSE / transfer.STEP
            sizes_b[turn] = logs(b / nominal)
            hold = self._hold(3 * _TAU)
            terms = replace(terms, b=np.zeros(CIRCUITS, np.int16), a=np.full(CIRCUITS, _A_CODE))
            _, height, tau_mem = self._after(terms, LEVEL - BELOW, hold)
            a = _conductance(height / -BELOW, tau_mem, tau, hold)
            resistance = transfer.resistance(tau_mem, self.capacitance)
            sizes_a[turn] = logs(a / (_A_CODE / transfer.REFERENCE_A * resistance))
        return {TAU: mean(taus), A: mean(sizes_a), B: mean(sizes_b)}

    def _hold(self, seconds: float) -> float:
        clock = clock_for(np.array([seconds]))
        return float(round(seconds / CYCLE / 2**clock) * CYCLE * 2**clock)

    def _after(self, terms: Terms, reset: float, hold: float) -> tuple[Float, Float, Float]:
        """How slowly (s), from how far (steps) membranes come back after a spike, held at ``reset`` for ``hold`` s, and
        their tau_mem (s) in this writing."""
        analog = self.analog(LEVEL, reset, LEVEL + _ABOVE)
        clock = clock_for(np.array([hold]))
        count = refractory_code(np.full(CIRCUITS, hold), clock)
        analog = replace(analog, refractory=count, refractory_clock=np.array([clock], np.int16))
        one, none = np.ones(CIRCUITS, np.int64), np.zeros(CIRCUITS, np.int64)
        weight = np.full((HALVES, ROWS, COLUMNS), 63, np.uint8)
        configuration = Configuration(weight, routing(one, none), analog, self.bench.instruments(), terms)
        trigger, runs = 4 * CADC_PERIOD_MIN, 4
        released = trigger * CYCLE + hold
        end = released + 5 * _TAU + 6 * float(self.tau_mem.max())
        shifts = [k * CADC_PERIOD_MIN // runs for k in range(runs)]
        sent = [[(trigger + s, label) for label in (ALL, SOME)] for s in shifts]
        out = self.bench.run(configuration, sent, int(end / CYCLE) + CADC_PERIOD_MIN)
        time = (out.cadc_cycle - np.array(shifts)[:, None])[:, :, None] * CYCLE - released
        value = self.bench.steps(out.cadc).reshape(-1, CIRCUITS)
        since = np.broadcast_to(time, out.cadc.shape).reshape(-1, CIRCUITS)
        quick = 5 * self.tau_mem
        late = np.where(since > quick, since - quick, -1.0)
        span = end - released - quick.max()
        tau, _, height = fit.fitted(*fit.binned(late, value, span), np.full(CIRCUITS, _TAU), fit.decay)
        return tau, height * np.exp(quick / tau), self.current_step(analog)[0]

    # ---- exponential ---------------------------------------------------------------------------------------------

    def exponential(self) -> dict[str, Float]:
        """How far the term lifts a membrane above its leak, at leaks near the one that makes it fire unasked.

        At rest V - leak = slope exp((V - threshold) / slope). Leaks differ a little from writing to writing, so some
        neurons fire after all; they are not looked at then.
        """
        shape = (WRITINGS, len(_BELOW_FIRING), CIRCUITS)
        rest, lift, quiet = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
        level, laws = LEVEL + 15.0, list[Terms]()
        first = transfer.code_of_steps(np.full(CIRCUITS, level))
        fires = np.zeros(CIRCUITS)
        for turn in range(WRITINGS):
            terms = Terms(
                exponential=np.ones(CIRCUITS, bool),
                slope=np.full(CIRCUITS, round(_STEEP * transfer.STEP / transfer.SLOPE_CODE) + turn - WRITINGS // 2),
                exponential_threshold=code_of(first + turn - WRITINGS // 2),
            )
            laws.append(terms)
            if turn == 0:
                fires = self._firing(terms, level - _STEEP)
            for k, below in enumerate(_BELOW_FIRING):
                analog = self.analog(fires - below, LEVEL - BELOW, level + 50)
                rest[turn, k], quiet[turn, k] = self.resting(analog, terms)
                lift[turn, k] = rest[turn, k] - self.rest(analog)
        steps = [transfer.slope(terms.slope) / transfer.STEP for terms in laws]
        slope, threshold = fit.exponential(rest, lift, quiet, np.array(steps))
        set_to = [transfer.steps_of_volts(transfer.volts(terms.exponential_threshold)) for terms in laws]
        return {SLOPE: np.log(slope), THRESHOLD: mean(threshold - np.array(set_to))}

    def _firing(self, terms: Terms, guess: float) -> Float:
        """(512,) steps: the lowest leak at which neurons fire unasked, by bisection."""
        low, high = np.full(CIRCUITS, guess - 35.0), np.full(CIRCUITS, guess + 35.0)
        none = np.zeros(CIRCUITS, np.int64)
        for _ in range(7):
            middle = (low + high) / 2
            analog = self.analog(middle, LEVEL - BELOW, guess + _STEEP + 50)
            configuration = Configuration(analog=analog, routing=routing(none, none), terms=terms)
            out = self.bench.run(configuration, [[]], int(12 * self.tau_mem.max() / CYCLE))
            fires = np.bincount(senders(out.address), minlength=CIRCUITS) > 0
            low, high = np.where(fires, low, middle), np.where(fires, middle, high)
        return (low + high) / 2


def _conductance(height: Float, tau_mem: Float, tau: Float, hold: float) -> Float:
    """a, from how high the slow part of a unit step's answer is; by bisection up to where the answer would ring."""
    low, high = np.zeros_like(tau), 0.98 * (tau - tau_mem) ** 2 / (4 * tau_mem * tau)
    for _ in range(40):
        a = (low + high) / 2
        mean, root = (1 / tau_mem + 1 / tau) / 2, np.sqrt((1 / tau_mem - 1 / tau) ** 2 / 4 - a / (tau_mem * tau))
        fast, slow = -mean - root, -mean + root
        adapted = a * (1 - np.exp(-hold / tau))
        size = (-(1 + adapted) / tau_mem - fast) / (slow - fast)
        more = size > height  # the more it has adapted, the lower (more negative) the slow part
        low, high = np.where(more, a, low), np.where(more, high, a)
    return (low + high) / 2
