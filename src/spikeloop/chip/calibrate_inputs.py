"""Synaptic lines, reversal potentials and constant currents as a chip has them: measured through ``Chip.emulate``."""

from __future__ import annotations

import numpy as np

from spikeloop.chip import fit, transfer
from spikeloop.chip.bench import INHIBITORY, SOME, routing
from spikeloop.chip.calibration import code_of
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CIRCUITS, COLUMNS, CYCLE, HALVES, ROWS, Analog, Configuration
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.stand import BELOW, LEVEL, PULL, WRITINGS, Float, Stand, logs, mean

OFFSET = "offset"
LINES = "line_excitatory", "line_inhibitory"
REVERSALS = "reversal_excitatory", "reversal_inhibitory"
_WEIGHT, _RUNS, _NEVER, _GRID, _NEAREST = 26, 4, 215.0, 300, 1.02
_AWAY = 150.0, -70.0  # steps from the leak, excitatory and inhibitory: where reversals are looked at


def offset(stand: Stand) -> dict[str, Float]:
    """Constant currents: how far they pull a membrane, over what the law gives for its resistance."""
    found = np.full((WRITINGS, CIRCUITS), np.nan)
    analog = stand.analog(LEVEL, LEVEL - BELOW, _NEVER)
    law = PULL * transfer.STEP / transfer.OFFSET_CODE / transfer.resistance(stand.tau_mem, stand.capacitance)
    for turn in range(WRITINGS):
        code = code_of(law + turn - WRITINGS // 2)
        tau, height = stand.current_step(analog, code)
        pulled = transfer.offset(code) * transfer.resistance(tau, stand.capacitance) / transfer.STEP
        found[turn] = logs(height / pulled)
    return {OFFSET: mean(found)}


def lines(stand: Stand) -> dict[str, Float]:
    """Time constants of lines of their own, from the potentials after one event on each."""
    found = np.full((2, WRITINGS, CIRCUITS), np.nan)
    for turn in range(WRITINGS):
        analog = stand.analog(LEVEL, LEVEL - BELOW, _NEVER - turn)  # another writing
        tau_mem, _ = stand.current_step(analog)
        inputs = _apart(stand, turn)
        law = transfer.SYNAPSE_TIME / transfer.conductance(inputs.synapse_bias, inputs.synapse_division)
        for line, (time, value, span) in enumerate(_answers(stand, analog, inputs)):
            binned = fit.binned(time, value, span)
            tau, _, _ = fit.fitted(*binned, stand.calibration.target.tau_syn, fit.potential(tau_mem))
            found[line, turn] = np.log(tau / law[line])
    return {name: mean(found[line]) for line, name in enumerate(LINES)}


def reversals(stand: Stand) -> dict[str, Float]:
    """Reversal potentials, CADC steps off the law: by how much larger an event's potential is where a line is as strong
    as a current-based one half way to its reversal.

    With D from leak to reversal and R from reference to leak an event of current J is u / (1 + J k u / D) times as
    high as the current-based one, u = D / (D + R), to first order in J / D, with k of `_bend`.
    """
    found, tau_syn = np.full((2, WRITINGS, CIRCUITS), np.nan), stand.tau_syn
    for turn in range(WRITINGS):
        analog = stand.analog(LEVEL, LEVEL - BELOW, _NEVER - turn)
        rest, (tau_mem, _) = stand.rest(analog), stand.current_step(analog)
        plain = [_height(seen, tau_mem, tau_syn) for seen in _answers(stand, analog, Inputs())]
        for line, away in enumerate(_AWAY):
            codes = [transfer.code_of_steps(np.full(CIRCUITS, LEVEL + part * away)) for part in (1.0, 0.5)]
            reversal, reference = code_of(codes[0] + turn - WRITINGS // 2), code_of(codes[1])
            inputs = Inputs(
                conductance=np.ones((2, CIRCUITS), bool), reversal=np.broadcast_to(reversal, (2, CIRCUITS)).copy(),
                reference=reference,
            )  # fmt: skip
            seen = _answers(stand, analog, inputs)[line]
            ratio = _height(seen, tau_mem, tau_syn) / plain[line]
            apart = rest - transfer.steps_of_volts(transfer.volts(reference))
            curve = plain[line] * _bend(tau_mem, tau_syn, seen[2])
            distance = _distance(ratio, apart, curve, away)
            law = transfer.steps_of_volts(transfer.volts(reversal))
            found[line, turn] = rest + distance - law
    return {name: mean(found[line]) for line, name in enumerate(REVERSALS)}


def _apart(stand: Stand, turn: int) -> Inputs:
    """Both lines with codes of their own, those of the law for the calibration's time constant."""
    code, division = transfer.synapse_code(stand.calibration.target.tau_syn)
    both = np.ones((2, CIRCUITS), bool)
    bias = np.broadcast_to(code_of(code + turn - WRITINGS // 2), (2, CIRCUITS)).copy()
    return Inputs(separate=both, synapse_bias=bias, synapse_division=both & division)


def _answers(stand: Stand, analog: Analog, inputs: Inputs) -> list[tuple[Float, Float, float]]:
    """Of an excitatory and of an inhibitory event: samples (K, 512) of time since it, s, and potential; the span."""
    one = np.ones(CIRCUITS, np.int64)
    weight = np.full((HALVES, ROWS, COLUMNS), _WEIGHT, np.uint8)
    pause = int(7 * float(stand.tau_mem.max() + stand.tau_syn.max()) / CYCLE)
    marks = {INHIBITORY: 4 * CADC_PERIOD_MIN, SOME: 4 * CADC_PERIOD_MIN + pause}
    shifts = [k * CADC_PERIOD_MIN // _RUNS for k in range(_RUNS)]
    configuration = Configuration(weight, routing(one, one), analog, stand.bench.instruments(), inputs=inputs)
    sent = [[(at + s, label) for label, at in marks.items()] for s in shifts]
    out = stand.bench.run(configuration, sent, marks[SOME] + pause + CADC_PERIOD_MIN)
    time = (out.cadc_cycle - np.array(shifts)[:, None])[:, :, None] * CYCLE
    value = stand.bench.steps(out.cadc)
    found: list[tuple[Float, Float, float]] = []
    for label in (SOME, INHIBITORY):
        since = time - marks[label] * CYCLE
        since = np.broadcast_to(np.where(since < pause * CYCLE, since, -1.0), value.shape)
        found.append((since.reshape(-1, CIRCUITS), value.reshape(-1, CIRCUITS), pause * CYCLE))
    return found


def _height(seen: tuple[Float, Float, float], tau_mem: Float, tau_syn: Float) -> Float:
    """(512,) steps: the current of an event, as the potential after it shows it."""
    time, value, weight = fit.binned(*seen)
    return fit.linear(fit.potential(tau_mem)(time, tau_syn), value, weight)[1]


def _bend(tau_mem: Float, tau_syn: Float, span: float) -> Float:
    """(512,): how much `_height` sees of the potential that a current I f(t) makes, f being that of a current I."""
    step = span / _GRID
    decay, follow = np.exp(-step / tau_mem), fit.potential(tau_mem)
    bent, both = np.zeros(CIRCUITS), list[tuple[Float, Float]]()
    for k in range(_GRID):
        middle, end = (np.full(CIRCUITS, (k + part) * step) for part in (0.5, 1.0))
        bent = bent * decay + (1 - decay) * np.exp(-middle / tau_syn) * follow(middle, tau_syn)
        both.append((follow(end, tau_syn), bent))
    f, g = (np.array(each) for each in zip(*both, strict=True))
    return fit.linear(f, g, np.ones_like(f))[1]


def _distance(ratio: Float, apart: Float, curve: Float, away: float) -> Float:
    """D, by bisection between the reference and three times ``away``; NaN at the ends."""
    low, high = np.log(np.abs(apart / away) * _NEAREST), np.full(CIRCUITS, np.log(3.0))
    ends = low, high
    for _ in range(30):
        middle = (low + high) / 2
        distance = away * np.exp(middle)
        share = distance / (distance + apart)
        larger = share / (1 + curve * share / distance) > ratio  # it is so nearer to the reference
        low, high = np.where(larger, middle, low), np.where(larger, high, middle)
    inside = (low > ends[0]) & (high < ends[1])
    return np.where(inside, away * np.exp((low + high) / 2), np.nan)
