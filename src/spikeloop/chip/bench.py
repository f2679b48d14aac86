"""Measurements on all circuits of a chip at once, through ``Chip.emulate`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import fit, transfer
from spikeloop.chip.allocation import EVERY_BUS
from spikeloop.chip.configuration import (
    BUSES,
    CADC_PERIOD_MIN,
    CIRCUITS,
    COLUMNS,
    CYCLE,
    DRIVERS,
    HALVES,
    LINKS,
    OUTPUTS,
    ROWS,
    AddressedEvents,
    Analog,
    Chip,
    Configuration,
    Instruments,
    Integers,
    Readout,
    Routing,
)
from spikeloop.chip.inputs import Switching

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALL, SOME, INHIBITORY = 1, 2, 3
"""Labels: a known few of the excitatory synapses, a known few of the inhibitory ones, and the other excitatory ones."""


_MIDDLE = 110.0  # steps: of the reference that channels are compared with


def _cycles(seconds: float) -> int:
    return round(seconds / CYCLE)


def routing(some: NDArray[np.integer], inhibitory: NDArray[np.integer]) -> Routing:
    """All drivers fire at every event; (512,) rows of each column answer to SOME and to INHIBITORY."""
    row = np.arange(ROWS)
    label = np.zeros((HALVES, ROWS, COLUMNS), np.uint8)
    count = np.broadcast_to((row // 2)[None, :, None], label.shape)
    few, inhibiting = (each.reshape(HALVES, 1, COLUMNS) for each in (some, inhibitory))
    excitatory = (row % 2 == 0)[None, :, None]
    label[:] = np.where(excitatory, np.where(count < few, SOME, ALL), np.where(count < inhibiting, INHIBITORY, 0))
    target = np.full((LINKS, 2 * BUSES), 0x3FFF, np.uint16)
    target[EVERY_BUS] = 0
    circuit = np.arange(CIRCUITS)
    return Routing(
        label=label,
        row_sign=np.tile(np.array([1, -1], np.int8), (HALVES, DRIVERS)),
        driver_mask=np.zeros((HALVES, DRIVERS), np.uint8),
        link_target=target,
        output_target=np.full((OUTPUTS, HALVES), 0x3FFF, np.uint16),
        neuron_label=(circuit % (COLUMNS // OUTPUTS) + COLUMNS // OUTPUTS * (circuit // COLUMNS)).astype(np.uint8),
        sends=np.ones(CIRCUITS, bool),
    )


@dataclass
class Bench:
    """A chip and what all measurements on it have in common.

    offset: (512,) codes, gain: (512,), of the column ADC.  converter_noise, membrane_noise: rms in steps.
    trial: counts the runs.
    """

    chip: Chip
    offset: NDArray[np.int16] = field(default_factory=lambda: np.zeros(CIRCUITS, np.int16))
    gain: Float = field(default_factory=lambda: np.ones(CIRCUITS))
    converter_noise: float = 0.0
    membrane_noise: float = 0.0
    trial: int = 1 << 20

    def instruments(self) -> Instruments:
        """Every membrane, as often as possible."""
        return Instruments(np.array([CADC_PERIOD_MIN], np.int32), np.arange(CIRCUITS, dtype=np.int16), self.offset)

    def run(
        self,
        configuration: Configuration,
        events: list[list[tuple[int, int]]],
        cycles: int,
        heard: Flags | None = None,
        currents: Switching | None = None,
    ) -> Readout:
        """Run; events: (cycle, label) of each run of the batch.  heard: (B, 512), whose events are to be sent."""
        muted = np.zeros((0, CIRCUITS), bool) if heard is None else ~heard
        self.trial += 1
        ordered = [sorted(each) for each in events]
        flat = np.array([event for each in ordered for event in each], np.int64).reshape(-1, 2)
        start = np.cumsum([0, *map(len, ordered)])
        return self.chip.emulate(
            configuration, AddressedEvents(flat[:, 0], flat[:, 1], start, muted, self.trial, currents), cycles
        )

    def steps(self, reading: Integers) -> Float:
        """Readings of all channels (..., 512) with their gains corrected."""
        return transfer.CADC_CENTRE + (reading.astype(np.float64) - transfer.CADC_CENTRE) / self.gain

    # ---- column ADC --------------------------------------------------------------------------------------------

    def calibrate_cadc(self) -> None:
        """Offset codes and gains of the column ADC's channels, from two reference potentials."""
        low, high = 60.0, 196.0
        for _ in range(2):
            readings = [self._reference(level) for level in (low, high)]
            self.gain = (readings[1] - readings[0]) / (high - low)
            error = readings[0] + (transfer.CADC_CENTRE - low) * self.gain - transfer.CADC_CENTRE
            self.offset = np.clip(self.offset - np.rint(error), -128, 127).astype(np.int16)

    def _reference(self, level: float) -> Float:
        code = np.rint(transfer.code_of_steps(np.array([level]))).astype(np.int16)
        shift = (transfer.steps_of_volts(transfer.volts(code)) - level)[0]
        instruments = replace(self.instruments(), cadc_reference=code)
        reading = self.run(Configuration(instruments=instruments), [[]] * 4, 50 * CADC_PERIOD_MIN).cadc
        self.converter_noise = float(reading.astype(np.float64).std((0, 1)).mean())
        return reading.astype(np.float64).mean((0, 1)) - shift * self.gain

    def shift(self, analog: Analog) -> Float:
        """(512,) steps: how far off the channels are with these codes; what is left of them differs by writing."""
        code = np.rint(transfer.code_of_steps(np.array([_MIDDLE]))).astype(np.int16)
        instruments = replace(self.instruments(), cadc_reference=code)
        out = self.run(Configuration(analog=analog, instruments=instruments), [[]] * 4, 50 * CADC_PERIOD_MIN)
        return self.steps(out.cadc).mean((0, 1)) - transfer.steps_of_volts(transfer.volts(code))

    # ---- potentials --------------------------------------------------------------------------------------------

    def resting(self, analog: Analog) -> Float:
        """(512,) steps: where the membranes rest."""
        silent = replace(analog, fires=np.zeros(CIRCUITS, bool))
        configuration = Configuration(analog=silent, instruments=self.instruments())
        value = self.steps(self.run(configuration, [[]] * 8, 12 * CADC_PERIOD_MIN).cadc)
        self.membrane_noise = float(max(np.median(value.std((0, 1))) ** 2 - self.converter_noise**2, 0.0)) ** 0.5
        return value.mean((0, 1))

    def fires(self, analog: Analog, duration: float) -> Flags:
        """(512,): which circuits fire without any input within ``duration`` seconds."""
        firing = replace(analog, fires=np.ones(CIRCUITS, bool))
        none = np.zeros(CIRCUITS, np.int64)
        configuration = Configuration(analog=firing, routing=routing(none, none))
        out = self.run(configuration, [[]], _cycles(duration))
        return np.bincount(_circuit(out), minlength=CIRCUITS) > 0


@dataclass(frozen=True, eq=False)
class Response:
    """What one pass of `respond` shows of every circuit, (512,) each; potentials in steps, times in seconds.

    psp: (2, 512), the peak of the potential per weight step, excitatory and inhibitory, both positive.
    answered: it fired once, when it should.
    """

    leak: Float
    reset: Float
    tau_mem: Float
    tau_syn: Float
    psp: Float
    refractory: Float
    answered: Flags


@dataclass(frozen=True, eq=False)
class Course:
    """When things happen in `respond`, in cycles: ``burst`` events every ``spacing`` fire it, it is held for ``hold``,
    then inhibited, then excited. guess: tau_mem and tau_syn, (512,) s, near which they are looked for."""

    guess: tuple[Float, Float]
    trigger: int
    burst: int
    spacing: int
    hold: int
    inhibited: int
    excited: int
    end: int
    runs: int = 16


def course(guess: tuple[Float, Float], hold: float, burst: int) -> Course:
    """Long enough for the largest time constants and a hold of ``hold`` seconds."""
    tau_mem, tau_syn = (float(tau.max()) for tau in guess)
    trigger, pause = 4 * CADC_PERIOD_MIN, _cycles(6 * (tau_mem + tau_syn))
    held = _cycles(hold)
    inhibited = trigger + held + _cycles(7 * tau_mem + 4 * tau_syn)
    return Course(
        guess, trigger, burst, max(4, _cycles(tau_syn / 4)), held, inhibited, inhibited + pause, inhibited + 2 * pause
    )


def respond(bench: Bench, analog: Analog, when: Course, rows: Mapping[int, NDArray[np.int64]], weight: int) -> Response:
    """Fire every circuit once, watch it return from reset to leak, then answer an inhibitory and an excitatory event.

    Each of the runs is shifted by a part of the sampling period, so that together they sample finely.
    """
    configuration = Configuration(
        np.full((HALVES, ROWS, COLUMNS), weight, np.uint8),
        routing(rows[SOME], rows[INHIBITORY]),
        replace(analog, fires=np.ones(CIRCUITS, bool)),
        bench.instruments(),
    )
    shifts = [k * CADC_PERIOD_MIN // when.runs for k in range(when.runs)]
    burst = [(when.trigger + when.spacing * k, label) for k in range(when.burst) for label in (ALL, SOME)]
    marks = (*burst, (when.inhibited, INHIBITORY), (when.excited, SOME))
    sent, until = [[(t + s, label) for t, label in marks] for s in shifts], when.end + CADC_PERIOD_MIN
    out, heard = bench.run(configuration, sent, until), np.ones((when.runs, CIRCUITS), bool)
    if out.lost.any():  # they fire together, which is too much for the outputs: let them speak in turns
        heard = _turns(when.runs)
        out = bench.run(configuration, sent, until, heard)
    time: Float = (out.cadc_cycle - np.array(shifts)[:, None])[:, :, None].astype(np.float64) * CYCLE
    value, spike = bench.steps(out.cadc), _spikes(out, shifts)
    fired = (np.isfinite(spike) | ~heard).all(0)
    once = fired & (np.bincount(_circuit(out), minlength=CIRCUITS) == heard.sum(0))
    mean = np.where(heard & fired, spike, 0.0).sum(0) / heard.sum(0)  # stands for the runs in which it was not heard
    spike = np.where(fired, np.where(heard, spike, mean), when.trigger * CYCLE)
    return _read(time, value, spike, when, rows, weight, once)


def _turns(runs: int) -> Flags:
    """(runs, 512): which circuits send events in each run, a quarter of every output's at a time: no more than wait."""
    circuit = np.arange(CIRCUITS)
    return (circuit % 2 * HALVES + circuit // COLUMNS) == np.arange(runs)[:, None] % 4


def _read(
    time: Float,
    value: Float,
    spike: Float,
    when: Course,
    rows: Mapping[int, NDArray[np.int64]],
    weight: int,
    once: Flags,
) -> Response:
    hold, inhibited, excited, end = (x * CYCLE for x in (when.hold, when.inhibited, when.excited, when.end))
    free = np.broadcast_to(time - (spike + hold)[:, None], value.shape)
    before = time < (when.trigger - 40) * CYCLE
    held = (free < -0.03 * hold - 0.1e-6) & (free > -0.9 * hold)
    flat_time, flat, flat_free = (x.reshape(-1, CIRCUITS) for x in np.broadcast_arrays(time, value, free))
    late = 0.02 * hold  # only what comes later is looked at, for the time of the hold is known no better
    released = np.where(flat_time < inhibited, flat_free - late, -1.0)
    length = inhibited - when.trigger * CYCLE - hold
    tau_mem, base, fallen = fit.fitted(*fit.binned(released, flat, length), when.guess[0], fit.decay)
    tau_syn, psp = [], []
    for begin, stop, label in ((excited, end, SOME), (inhibited, excited, INHIBITORY)):
        after = np.where(flat_time < stop, flat_time - begin, -1.0)
        tau, _, height = fit.fitted(*fit.binned(after, flat, stop - begin), when.guess[1], fit.potential(tau_mem))
        tau_syn.append(tau)
        psp.append(np.abs(height) * transfer.response_peak(tau_mem, tau) / (np.maximum(rows[label], 1) * weight))
    leak, reset = (_mean(value, np.broadcast_to(mask, value.shape)) for mask in (before, held))
    refractory = hold + late + _since(fallen, reset - base, tau_mem)
    return Response(leak, reset, tau_mem, np.sqrt(tau_syn[0] * tau_syn[1]), np.stack(psp), refractory, once)


def _since(height: Float, whole: Float, tau: Float) -> Float:
    """Seconds, negative, since a decay that has come to ``height`` began at ``whole`` steps; NaN where none is seen."""
    ratio = np.divide(height, whole, out=np.full_like(whole, np.nan), where=np.abs(whole) > 1)
    return tau * np.log(np.where(ratio > 0, ratio, np.nan))


def _mean(value: Float, mask: Flags) -> Float:
    return (value * mask).sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1)


def _circuit(out: Readout) -> NDArray[np.int64]:
    """The circuits that sent the events, by the labels of `routing`."""
    label = out.address.astype(np.int64)
    own, output = label & 0xFF, label >> 8
    width = COLUMNS // OUTPUTS
    return own // width * COLUMNS + output * width + own % width


def _spikes(out: Readout, shifts: list[int]) -> Float:
    """(B, 512) seconds of the first spike, relative to the shift; inf where there is none."""
    sample = np.repeat(np.arange(len(shifts)), np.diff(out.start))
    first = np.full((len(shifts), CIRCUITS), np.inf)
    np.minimum.at(first, (sample, _circuit(out)), (out.cycle - np.array(shifts)[sample]) * CYCLE)
    return first
