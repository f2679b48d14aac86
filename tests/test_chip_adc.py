"""The converters: their scales, their times, and their channels' errors."""

from dataclasses import replace

import numpy as np
import pytest
from chips import ALL_CIRCUITS, IDEAL, configuration, events

from spikeloop.chip import adc, transfer
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CYCLE, Instruments
from spikeloop.chip.mismatch import Noise
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin


def reference(twin: Twin, steps: float, runs: int = 8):
    """Readings (B, T, 512) of a reference potential."""
    code = np.rint(transfer.code_of_steps(np.array([steps]))).astype(int)
    instruments = Instruments(np.array([CADC_PERIOD_MIN]), ALL_CIRCUITS, cadc_reference=code)
    return twin.emulate(replace(configuration(0), instruments=instruments), events(*[[]] * runs), 4000).cadc.astype(
        float
    )


def test_scales_are_those_of_the_chip():
    assert transfer.steps_of_volts(transfer.volts(np.array([70, 550]))) == pytest.approx([20, 220])
    steps = np.array([[[-5.0, 80.4, 300.0]]])
    assert adc.cadc(transfer.volts_of_steps(steps), np.ones(3), np.zeros(3), 0.0, 0).tolist() == [[[0, 80, 255]]]
    assert adc.madc(np.array([0.0, 1.6e-3, 3.0]), np.zeros(1)).tolist() == [0, 1, 1023]


def test_the_column_adc_samples_in_its_own_time():
    time, cycle = adc.cadc_times(213, 7500, np.array([0.0, 100e-9]))
    assert time.shape == (2, 36)
    np.testing.assert_allclose(np.diff(time), 213 * CYCLE)
    assert cycle[:, 0].tolist() == [0, 12]
    assert adc.cadc_times(0, 7500, np.zeros(2))[0].shape == (2, 0)


def test_each_run_has_a_phase_of_its_own_within_100_ns():
    phases = Twin(7, ideal=EVERYTHING - {Imperfection.CADC_PHASE}).emulate(
        configuration(0, watch=[0]), events(*[[]] * 200), 2000
    )
    first = phases.cadc_cycle[:, 0]
    assert first.min() == 0
    assert first.max() == 12
    assert len(np.unique(first)) == 13


def test_channels_have_errors_and_readings_noise():
    assert np.ptp(reference(IDEAL, 100)) == 0
    channel = Twin(7, ideal=EVERYTHING - {Imperfection.CADC_CHANNEL})
    low, high = (reference(channel, steps).mean((0, 1)) for steps in (60, 196))
    assert ((low + high) / 2 - 128).std() == pytest.approx(np.hypot(8, 1), rel=0.1)
    assert ((high - low) / 136).std() == pytest.approx(np.hypot(0.015, 0.41 / 136), rel=0.15)
    noise = reference(Twin(7, noise=Noise(cadc=2.0), ideal=EVERYTHING - {Imperfection.CADC_NOISE}), 100)
    assert noise.std() == pytest.approx(np.hypot(2.0, 1 / np.sqrt(12)), rel=0.02)


def test_readings_of_the_fast_adc_have_noise_of_the_stated_width():
    """Each of its own: from neuron to neuron, run to run, sample to sample."""
    wanted = configuration(0, fires=np.zeros(512, bool))
    wanted = replace(wanted, instruments=replace(wanted.instruments, madc_circuit=np.array([9, 300])))
    noisy = Twin(7, ideal=EVERYTHING - {Imperfection.CADC_NOISE}).emulate(wanted, events([], []), 8000).madc
    quiet = IDEAL.emulate(wanted, events([], []), 8000).madc
    assert np.ptp(quiet) == 0
    off = noisy.astype(float) - transfer.volts_of_steps(80.0) / transfer.MADC_STEP
    assert off.std() == pytest.approx(np.hypot(Noise().madc, 1 / np.sqrt(12)), rel=0.03)
    assert abs(off.mean()) < 0.05
    traces = off.transpose(0, 2, 1).reshape(4, -1)
    assert np.abs(np.corrcoef(traces) - np.eye(4)).max() < 0.1
    assert abs((off[:, 1:] * off[:, :-1]).mean() / off.var()) < 0.05


def test_offset_codes_move_readings():
    wanted = configuration(0, watch=[4, 5])
    offset = np.where(np.arange(512) == 5, -7, 0)
    moved = replace(wanted, instruments=replace(wanted.instruments, cadc_offset=offset))
    reading = IDEAL.emulate(moved, events([]), 1000).cadc[0, 0]
    assert reading.tolist() == [80, 73]


def test_the_fast_adc_sees_the_same_membrane():
    wanted = configuration(63, 1, watch=[9], fires=np.zeros(512, bool))
    wanted = replace(wanted, instruments=replace(wanted.instruments, madc_circuit=np.array([9, 300])))
    out = IDEAL.emulate(wanted, events([(100, 2)]), 4000)
    assert out.madc.shape == (1, int(4000 * 8 / 34), 2)
    assert out.cadc.shape == (1, 19, 1)
    at = np.rint(out.cadc_cycle[0] * CYCLE / transfer.MADC_PERIOD).astype(int)
    at = at[at < out.madc.shape[1]]
    slow = transfer.volts_of_steps(out.cadc[0, : len(at), 0].astype(float))
    assert np.abs(out.madc[0, at, 0] * transfer.MADC_STEP - slow).max() < 0.5 * transfer.STEP + transfer.MADC_STEP
    assert np.flatnonzero(out.madc[0, :, 0] == out.madc[0, :, 0].max()).mean() * transfer.MADC_PERIOD == pytest.approx(
        100 * CYCLE + 6e-6, abs=0.4e-6
    )
