"""Correlation sensors: the fast accumulation is the naive one, any cut changes nothing, and chips vary as stated."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from spikeloop.chip import correlation
from spikeloop.chip.correlation import ANTICAUSAL, CAUSAL, FULL, Channels, Sensors
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.engine.arrays import Delays
from spikeloop.engine.correlation import Sensors as Sensors_
from spikeloop.engine.correlation import Window, pass_events, wires
from spikeloop.errors import OutOfRange, ShapeMismatch

SOURCES, NEURONS = 5, 4


@dataclass(frozen=True)
class Pairs:
    """Sensors of K synapses: who meets whom, (2, K) steps and seconds."""

    source: np.ndarray
    neuron: np.ndarray
    amplitude: np.ndarray
    tau: np.ndarray


def accumulated(pairs: Pairs, stretches, sizes=(SOURCES, NEURONS)) -> np.ndarray:
    """(2, K) steps, as the processor's sensors add them up."""
    wiring = wires(pairs.source, pairs.neuron, np.zeros(1), Delays.COMMON, sizes)
    causal, anticausal = (Window(pairs.amplitude[k] / FULL, pairs.tau[k]) for k in range(2))
    held = Sensors_.empty(len(pairs.source), sizes[1])
    for arrivals, spikes in stretches:
        held = pass_events(held, wiring, (causal, anticausal), arrivals, spikes, 1.0)
    return FULL * np.stack([held.causal, held.anticausal])


def naive(pairs: Pairs, arrivals, spikes) -> np.ndarray:
    """Event by event and synapse by synapse, as the definition says it."""
    held = np.zeros(pairs.amplitude.shape)
    events = [(t, 0, int(s)) for t, s in zip(*arrivals, strict=True)]
    events += [(t, 1, int(n)) for t, n in zip(*spikes, strict=True)]
    last_arrival, last_spike = [None] * SOURCES, [None] * NEURONS
    for t, is_spike, who in sorted(events):
        for k in range(len(pairs.source)):
            arrival, spike = last_arrival[pairs.source[k]], last_spike[pairs.neuron[k]]
            if is_spike and pairs.neuron[k] == who and arrival is not None and (spike is None or arrival > spike):
                held[CAUSAL, k] += pairs.amplitude[CAUSAL, k] * math.exp((arrival - t) / pairs.tau[CAUSAL, k])
            if not is_spike and pairs.source[k] == who and spike is not None and (arrival is None or spike >= arrival):
                held[ANTICAUSAL, k] += pairs.amplitude[ANTICAUSAL, k] * math.exp((spike - t) / pairs.tau[ANTICAUSAL, k])
        held = np.minimum(held, FULL)
        (last_spike if is_spike else last_arrival)[who] = t
    return held


def train(random, units: int, count: int, grid: float = 1e-7):
    time = np.sort(np.rint(random.uniform(0, 200e-6, count) / grid) * grid)
    return time, random.integers(0, units, count).astype(np.int32)


def problem(seed: int, count: int = 60):
    random = np.random.default_rng(seed)
    exists = random.random((SOURCES, NEURONS)) < 0.7
    source, neuron = np.nonzero(exists)
    amplitude, tau = random.uniform(0.2, 30, (2, len(source))), random.uniform(2e-6, 30e-6, (2, len(source)))
    return Pairs(source, neuron, amplitude, tau), train(random, SOURCES, count), train(random, NEURONS, count)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_naive_accumulation(seed: int) -> None:
    pairs, arrivals, spikes = problem(seed)
    steps = accumulated(pairs, [(arrivals, spikes)])
    np.testing.assert_allclose(steps, naive(pairs, arrivals, spikes), rtol=1e-9)
    assert (steps == FULL).any()  # some are full


@pytest.mark.parametrize("seed", range(6))
def test_a_run_in_stretches_ends_with_the_very_same(seed: int) -> None:
    pairs, arrivals, spikes = problem(seed)
    random = np.random.default_rng(seed)
    edges = [-1.0, *np.sort(random.uniform(0, 200e-6, 5)), 1.0]
    stretches = [
        [tuple(part[(t >= begin) & (t < end)] for part in (t, who)) for t, who in (arrivals, spikes)]
        for begin, end in pairwise(edges)
    ]
    np.testing.assert_array_equal(accumulated(pairs, [(arrivals, spikes)]), accumulated(pairs, stretches))


def measured(amplitude: float, tau: float) -> tuple[float, float]:
    """Amplitude and time constant from the sums over 100 pairs at each of several distances."""
    distance = np.linspace(0.5e-6, 15e-6, 12)
    pairs = Pairs(np.zeros(1, int), np.zeros(1, int), np.full((2, 1), amplitude), np.full((2, 1), tau))
    found = []
    for dt in distance:
        start, who = np.arange(100) * 1e-3, np.zeros(100, np.int32)
        steps = accumulated(pairs, [((start, who), (start + dt, who))], (1, 1))
        ideal = Channels(np.ones((2, 512)), np.zeros((2, 512)), 0.0)
        found.append(correlation.read(steps[CAUSAL], np.zeros(1, int), ideal, 0, CAUSAL)[0])
    reading = np.array(found, float)
    slope, height = np.polyfit(distance, np.log(reading), 1, w=np.sqrt(reading))
    return math.exp(height) / 100, -1 / slope


@pytest.mark.parametrize(("amplitude", "tau"), [(0.5, 5e-6), (1.0, 10e-6), (0.8, 20e-6)])
def test_an_ideal_sensor_has_the_window_it_was_given_within_5_percent(amplitude: float, tau: float) -> None:
    found, constant = measured(amplitude, tau)
    assert abs(found / amplitude - 1) < 0.05
    assert abs(constant / tau - 1) < 0.05


def test_codes_and_trims_follow_their_laws() -> None:
    ideal = Twin(7, ideal=EVERYTHING).pattern()
    amplitude, tau = correlation.windows(Sensors(), ideal.seed, ideal.strengths)
    np.testing.assert_allclose(amplitude, 0.5, rtol=1e-12)
    np.testing.assert_allclose(tau, 5e-6, rtol=1e-12)
    trims = np.zeros((2, 256, 256), np.uint8)
    trims[1, 3, 200] = 3
    sensors = Sensors(np.array([250, 250, 250, 500]), np.array([408, 408, 408, 816]), trims, trims)
    amplitude, tau = (each.reshape(2, 2, 256, 256) for each in correlation.windows(sensors, 7, ideal.strengths))
    np.testing.assert_allclose(amplitude[:, 0, 0, 0], 0.5 / 3)
    np.testing.assert_allclose(amplitude[:, 1, 3, 200], 1.0 * 4 / 3)
    np.testing.assert_allclose(tau[:, 1, 3, 200], 2.5e-6 * 3 / 4)


def test_chips_vary_as_stated() -> None:
    pattern = Twin(7).pattern()
    amplitude, tau = correlation.windows(Sensors(), pattern.seed, pattern.strengths)
    for value, nominal in ((amplitude, 0.5), (tau, 5e-6)):
        logs = np.log(value / nominal)
        assert abs(logs.std() - 0.6) < 0.005
        assert abs(logs.mean()) < 0.005
        assert abs(np.corrcoef(logs)[0, 1]) < 0.01  # causal and anticausal capacitors are two
        inside = np.abs(logs) < math.log(2)
        assert 0.4 < inside.mean() < 0.8  # the published bound: the middle 40 % within a factor of 2
    off = Twin(7, ideal={Imperfection.CORRELATION}).pattern()
    amplitude, _ = correlation.windows(Sensors(), off.seed, off.strengths)
    assert np.ptp(amplitude) == 0


def test_readings_have_eight_bits_and_the_channels_noise() -> None:
    pattern = Twin(7).pattern()
    channel = correlation.channels(pattern.seed, pattern.strengths, 0.5)
    charge, column = np.full(100_000, 40.25), np.zeros(100_000, int)
    found = correlation.read(charge, column, channel, 3, CAUSAL).astype(float)
    expected = channel.gain[CAUSAL, 0] * 40.25 + channel.offset[CAUSAL, 0]
    assert abs(found.mean() - expected) < 0.01
    assert abs(found.std() - math.hypot(0.5, math.sqrt(1 / 12))) < 0.01
    np.testing.assert_array_equal(found, correlation.read(charge, column, channel, 3, CAUSAL))
    assert (found != correlation.read(charge, column, channel, 4, CAUSAL)).any()
    assert correlation.read(np.array([500.0]), column[:1], channel, 0, ANTICAUSAL)[0] == 127


def test_what_is_written_is_checked() -> None:
    with pytest.raises(OutOfRange, match=r"time_trim\[0, 0, 0\] is 4.*0 to 3"):
        Sensors(time_trim=np.full((2, 256, 256), 4))
    with pytest.raises(ShapeMismatch, match="amplitude"):
        Sensors(amplitude=np.full(512, 100))
