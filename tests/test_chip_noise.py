"""The twin's trial-to-trial noise: thresholds that wander, membranes that follow an Ornstein-Uhlenbeck process."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from chips import ALL_CIRCUITS, EXCITATORY, IDEAL, configuration, events
from scipy import stats

from spikeloop.chip.calibrate import default_target
from spikeloop.chip.configuration import CYCLE
from spikeloop.chip.mismatch import Noise
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.engine.arrays import Sampling
from spikeloop.engine.disturbed import Passage, Population, forward


def thresholds(noise: Noise, imperfection: Imperfection, trial: int, runs: int):
    """(runs, 512): leak to threshold of the first spike, over what it is without noise, from when it was."""
    wanted, twin = configuration(63, 4), Twin(7, noise=noise, ideal=EVERYTHING - {imperfection})
    sent = events(*[[(100, EXCITATORY)]] * runs, trial=trial)
    late, usual = (t.emulate(wanted, sent, 1000) for t in (twin, IDEAL))
    assert len(late.cycle) == len(usual.cycle) == 512 * runs  # one spike each

    def level(out):
        """What the potential of the event was, when each circuit spiked: alike for all, but for its height."""
        time = (out.cycle + 0.5 - 100) * CYCLE / 6e-6
        order = np.lexsort((out.address, np.repeat(np.arange(runs), np.diff(out.start))))
        return (time * np.exp(-time))[order].reshape(runs, 512)

    return level(late) / level(usual)


@pytest.mark.parametrize(
    ("imperfection", "noise", "rms"),
    [
        (Imperfection.THRESHOLD_RUN, Noise(), 0.015),
        (Imperfection.THRESHOLD_SPIKE, Noise(threshold_spike=0.04), 0.04),
    ],
    ids=["run", "spike"],
)
def test_threshold_noise_is_normal_and_as_wide_as_stated(imperfection, noise, rms):
    of = np.stack([thresholds(noise, imperfection, trial, 2) for trial in range(4)])
    off = (of[:, 0] - 1) / rms
    assert off.std() == pytest.approx(1, rel=0.05)
    assert abs(off.mean()) < 0.1
    assert stats.kstest(off.ravel() / off.std(), "norm").pvalue > 1e-3
    other = (of[:, 1] - 1) / rms
    if imperfection is Imperfection.THRESHOLD_RUN:  # one draw for a whole batch
        np.testing.assert_array_equal(off, other)
    else:
        assert abs(np.corrcoef(off.ravel(), other.ravel())[0, 1]) < 0.08
    assert np.abs(np.corrcoef(off) - np.eye(4)).max() < 0.15  # and others in every trial


def intervals(rms: float, count: int, looped: int = 1) -> np.ndarray:
    """Intervals between spikes of neurons with tau_mem 1 whose leak is at 0.9 of the threshold, without input.

    looped: so many neurons reach each other, with weights of zero.
    """
    values = np.array([[1.0], [0.5], [1.0], [0.9], [0.0], [0.1]]).repeat(looped, 1)
    disturbance = np.array([[-np.inf], [np.inf], [rms], [0.0], [0.0]]).repeat(looped, 1)
    disturbance[4] = np.arange(looped)
    loop = np.zeros((looped, looped), np.float32) if looped > 1 else None
    passage = Passage(8, 1.3 * count / looped, 0.01, 5, 1)
    time, unit, start = forward([], Population(values, disturbance), passage, loop=loop)
    of = [(time[a:b], unit[a:b]) for a, b in pairwise(start)]
    found = np.concatenate([np.diff(when[who == neuron]) for when, who in of for neuron in range(looped)])
    assert len(found) > count
    return found[:count]


@cache
def fine_steps(rms: float, count: int, step: float = 2e-3) -> np.ndarray:
    """The same by small steps of the Ornstein-Uhlenbeck process, looking between them with a Brownian bridge."""
    random, level = np.random.default_rng(3), 1 - 0.9
    decay = np.exp(-step)
    kick, spread = rms * np.sqrt(1 - decay**2), 2 * rms**2 * step
    x, interval, running = np.full(count, -0.9), np.zeros(count), np.arange(count)
    number = 0
    while len(running):
        number += 1
        after = x * decay + kick * random.standard_normal(len(x))
        between = np.exp(-2 * np.maximum(level - x, 0) * np.maximum(level - after, 0) / spread)
        crossed = (after >= level) | (random.random(len(x)) < between)
        interval[running[crossed]] = number * step + 0.1
        x, running = after[~crossed], running[~crossed]
    return interval


@pytest.mark.parametrize(("rms", "looped"), [(0.07, 1), (0.1, 1), (0.3, 1), (0.1, 4)])
def test_intervals_are_those_of_an_ornstein_uhlenbeck_process(rms, looped):
    assert stats.ks_2samp(intervals(rms, 1500, looped), fine_steps(rms, 1500)).pvalue > 0.01


def test_intervals_of_the_twins_circuits_are_those_of_an_ornstein_uhlenbeck_process():
    """Codes of potentials that are met exactly: leak at 0.9 of the way from reset to threshold, 100 CADC steps."""
    target = default_target(leak=140.0, reset=50.0, threshold=150.0, refractory=0.6e-6)
    wanted = configuration(0, target=target, fires=np.arange(512) % 8 == 0)
    twin = Twin(7, noise=Noise(membrane=10.0), ideal=EVERYTHING - {Imperfection.MEMBRANE_NOISE})
    out = twin.emulate(wanted, events([]), 200_000)
    found = np.concatenate([np.diff(out.cycle[out.address == circuit]) for circuit in np.unique(out.address)])
    assert len(found) > 3000
    chosen = np.random.default_rng(5).choice(found, 1500, replace=False) * CYCLE / 6e-6
    assert stats.ks_2samp(chosen, fine_steps(0.1, 1500)).pvalue > 0.01


def test_samples_see_the_stationary_noise():
    twin = Twin(7, noise=Noise().scaled(0.0), ideal=EVERYTHING - {Imperfection.MEMBRANE_NOISE})
    noisy = replace(twin, noise=Noise(membrane=4.0))
    silent = configuration(0, watch=ALL_CIRCUITS, fires=np.zeros(512, bool))
    reading = noisy.emulate(silent, events(*[[]] * 4), 40 * 213).cadc.astype(float) - 80
    assert reading.std() == pytest.approx(np.hypot(4.0, 1 / math.sqrt(12)), rel=0.02)
    correlation = (reading[:, 1:] * reading[:, :-1]).mean() / reading.var()
    assert correlation == pytest.approx(math.exp(-213 * CYCLE / 6e-6), abs=0.02)


def _driven(batch: int, threads: int, sampling: Sampling | None = None):
    """Noisy neurons that all differ, driven by one source of many inputs; the first ``batch`` of forty samples."""
    random, size = np.random.default_rng(4), 70
    values = np.array([[1.0], [0.4], [1.0], [0.2], [0.0], [0.2]]) * random.uniform(0.8, 1.2, (6, size))
    disturbance = np.zeros((5, size))
    disturbance[:3] = [[-np.inf], [3.0], [0.1]]
    disturbance[3], disturbance[4] = np.where(np.arange(size) % 3, 0.0, 0.05), np.arange(size)
    time, unit = np.sort(random.uniform(0, 10, (40, 30)), axis=1), random.integers(0, 9, 1200).astype(np.int32)
    trains = (time[:batch].ravel(), unit[: 30 * batch], np.arange(batch + 1) * 30)
    weight = random.normal(0.8, 0.8, (9, size)).astype(np.float32)
    passage = Passage(batch, 10.0, 0.01, 5, threads)
    return forward([(trains, weight)], Population(values, disturbance), passage, sampling=sampling)


def test_noise_depends_neither_on_threads_nor_on_company_nor_on_who_looks():
    whole, some = _driven(40, 1), _driven(7, 1)
    times = np.linspace(0, 10, 57).reshape(1, -1)
    looked = _driven(40, 3, Sampling(times, np.arange(70, dtype=np.int32), np.zeros((40, 57, 70))))
    assert whole[2][-1] > 3000
    for one, other in zip(whole, looked, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(whole[:2], some[:2], strict=True):
        np.testing.assert_array_equal(one[: some[2][-1]], other)


def test_noise_may_reach_the_threshold_while_inhibition_takes_the_membrane_away():
    """Spikes before and after the second event, beside fine steps; the membrane alone comes up to 0.8."""
    rms, size, runs, first, second, step = 0.1, 500, 300, 0.1, 0.1 + math.log(2), 2e-3
    up, down = 4 * 0.8, -1.2  # V = up (exp(-t) - exp(-2 t)), highest after ln 2
    values = np.array([[1.0], [0.5], [1.0], [0.0], [0.0], [5.0]]).repeat(size, 1)
    disturbance = np.array([[-np.inf], [np.inf], [rms], [0.0], [0.0]]).repeat(size, 1)
    disturbance[4] = np.arange(size)
    sent = np.tile([first, second], runs), np.tile(np.arange(2, dtype=np.int32), runs), np.arange(runs + 1) * 2
    weight = np.array([[up], [down]], np.float32).repeat(size, 1)
    time, _, _ = forward([(sent, weight)], Population(values, disturbance), Passage(runs, 4.0, 0.01, 5, 2))

    def membrane(t):
        response = [w * (np.exp(-d) - np.exp(-2 * d)) * (d > 0) for w, d in ((up, t - first), (down, t - second))]
        return response[0] + response[1]

    random, decay = np.random.default_rng(3), np.exp(-step)
    x, fine = rms * random.standard_normal(size * runs), []
    for t in np.arange(0.3, 1.1, step):  # before, the threshold is more than five of its widths away
        after = x * decay + rms * np.sqrt(1 - decay**2) * random.standard_normal(len(x))
        room, left = 1 - membrane(t) - x, 1 - membrane(t + step) - after
        crossed = (left <= 0) | (random.random(len(x)) < np.exp(-2 * room * left / (2 * rms**2 * step)))
        fine += [t + step / 2] * int(crossed.sum())
        x = after[~crossed]
    for found, expected in ((time < second, np.array(fine) < second), (time > second, np.array(fine) > second)):
        assert expected.sum() > 100
        assert abs(int(found.sum()) - int(expected.sum())) < 4 * math.sqrt(2 * expected.sum())
    assert stats.ks_2samp(time, fine).pvalue > 0.01


def test_who_is_held_shows_no_noise():
    """Also where the threshold's noise alone brings it into reach."""
    size, reset, hold = 1000, -0.5, 0.5
    values = np.array([[1.0], [0.5], [4.0], [0.0], [reset], [hold]]).repeat(size, 1)
    disturbance = np.array([[-np.inf], [1.0], [0.05], [3.0], [0.0]]).repeat(size, 1)
    disturbance[4] = np.arange(size)
    trains = (np.arange(40) * 0.1, np.zeros(40, np.int32), np.array([0, 40]))
    when = np.linspace(0, 4, 101)
    seen = Sampling(when.reshape(1, -1), np.arange(size, dtype=np.int32), np.zeros((1, 101, size)))
    sources = [(trains, np.ones((1, size), np.float32))]
    time, unit, _ = forward(sources, Population(values, disturbance), Passage(1, 4.0, 0.01, 5, 1), sampling=seen)
    assert len(time) > 100
    held = [seen.value[0, (when > t) & (when < t + hold), who] for t, who in zip(time, unit, strict=True)]
    np.testing.assert_allclose(np.concatenate(held), reset, atol=1e-6)
    assert seen.value[0, 1:][seen.value[0, 1:] != reset].std() > 0.04
