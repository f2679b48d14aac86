"""Correlation sensors against their definition, pair by pair."""

from itertools import pairwise

import numpy as np
import plastic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeloop.engine.arrays import Delays
from spikeloop.engine.correlation import Sensors, Window, pass_events, wires

TAUS, AMPLITUDES = (5e-3, 8e-3), (0.07, 0.11)
WINDOWS = tuple(Window(np.array([a]), np.array([t])) for a, t in zip(AMPLITUDES, TAUS, strict=True))
SOURCES, TARGETS = 4, 3
DENSE = (np.repeat(np.arange(SOURCES), TARGETS), np.tile(np.arange(TARGETS), SOURCES))


def moments(rng, units, count, grid=None):
    """A train of all units, ascending; on a grid many events are at one time."""
    time = np.sort(rng.uniform(0, 0.1, count))
    if grid:
        time = np.floor(time / grid) * grid
    return time, rng.integers(0, units, count).astype(np.int32)


def expected(ends, delay, sent, fired):
    """Causal and anticausal of every synapse; ``delay`` is (K,)."""
    held = np.zeros((2, len(ends[0])))
    for k, (source, target) in enumerate(zip(*ends, strict=True)):
        arrivals = [t + delay[k] for t, unit in zip(*sent, strict=True) if unit == source]
        spikes = [t for t, unit in zip(*fired, strict=True) if unit == target]
        arrivals = [t for t in arrivals if t < 0.1]
        held[0, k] = plastic.causal(arrivals, spikes, TAUS[0], AMPLITUDES[0])
        held[1, k] = plastic.anticausal(arrivals, spikes, TAUS[1], AMPLITUDES[1])
    return held


def lags(rng, kind, synapses):
    if kind is Delays.COMMON:
        return np.array([2e-3])
    return rng.uniform(0, 9e-3, SOURCES if kind is Delays.PER_UNIT else synapses)


@pytest.mark.parametrize("kind", Delays)
@pytest.mark.parametrize("grid", [None, 1e-3])
@pytest.mark.parametrize("sparse", [False, True])
def test_sensors_are_their_definition_wherever_the_run_is_cut(kind, grid, sparse):
    rng = np.random.default_rng(int(kind) + 10 * sparse)
    ends = (rng.integers(0, SOURCES, 9), rng.integers(0, TARGETS, 9)) if sparse else DENSE
    delay = lags(rng, kind, len(ends[0]))
    each = delay[ends[0]] if kind is Delays.PER_UNIT else np.broadcast_to(delay, len(ends[0]))
    sent, fired = moments(rng, SOURCES, 60, grid), moments(rng, TARGETS, 40, grid)
    wiring = wires(*ends, delay, kind, (SOURCES, TARGETS))
    sensors = Sensors.empty(len(ends[0]), TARGETS)
    cuts = [0.0, *np.sort(rng.uniform(0, 0.1, 5)), 0.1]
    for begin, end in pairwise(cuts):
        inside = [tuple(part[(train[0] >= begin) & (train[0] < end)] for part in train) for train in (sent, fired)]
        sensors = pass_events(sensors, wiring, WINDOWS, *inside, end)
    found = np.array([sensors.causal, sensors.anticausal])
    assert found.max() > 0.1
    np.testing.assert_allclose(found, expected(ends, each, sent, fired), rtol=1e-9, atol=1e-12)


def test_uncut_and_cut_are_the_same_bits():
    rng = np.random.default_rng(1)
    sent, fired = moments(rng, SOURCES, 400), moments(rng, TARGETS, 300)
    wiring = wires(*DENSE, np.array([3e-3]), Delays.COMMON, (SOURCES, TARGETS))
    whole = pass_events(Sensors.empty(12, TARGETS), wiring, WINDOWS, sent, fired, 0.1)
    parts = Sensors.empty(12, TARGETS)
    for begin, end in ((0, 0.037), (0.037, 0.1)):
        inside = [tuple(part[(train[0] >= begin) & (train[0] < end)] for part in train) for train in (sent, fired)]
        parts = pass_events(parts.copy(), wiring, WINDOWS, *inside, end)
    for name in ("causal", "anticausal", "arrival", "spike"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
    assert whole.waiting[0].tolist() == parts.waiting[0].tolist()


def test_sensors_saturate_at_their_full_range():
    train = (np.arange(100) * 1e-3, np.zeros(100, np.int32))
    later = (train[0] + 1e-4, train[1])
    wiring = wires(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1), Delays.COMMON, (1, 1))
    sensors = pass_events(Sensors.empty(1, 1), wiring, WINDOWS, train, later, 1.0)
    assert sensors.causal[0] == sensors.anticausal[0] == 1.0


def test_every_synapse_may_have_its_own_window():
    wiring = wires(np.array([0, 0]), np.array([0, 1], np.int32), np.zeros(1), Delays.COMMON, (1, 2))
    own = Window(np.array([0.1, 0.2]), np.array([5e-3, 1e-2]))
    sent, fired = (np.zeros(1), np.zeros(1, np.int32)), (np.full(2, 5e-3), np.array([0, 1], np.int32))
    sensors = pass_events(Sensors.empty(2, 2), wiring, (own, own), sent, fired, 1.0)
    np.testing.assert_allclose(sensors.causal, [0.1 * np.exp(-1), 0.2 * np.exp(-0.5)])


@given(st.lists(st.integers(0, 20), max_size=12), st.lists(st.integers(0, 20), max_size=12))
def test_events_of_one_synapse_in_any_order(arrivals, spikes):
    sent = (np.sort(np.array(arrivals, float)) * 1e-3, np.zeros(len(arrivals), np.int32))
    fired = (np.sort(np.array(spikes, float)) * 1e-3, np.zeros(len(spikes), np.int32))
    wiring = wires(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1), Delays.COMMON, (1, 1))
    sensors = pass_events(Sensors.empty(1, 1), wiring, WINDOWS, sent, fired, 1.0)
    one = expected(([0], [0]), [0.0], sent, fired)[:, 0]
    np.testing.assert_allclose([sensors.causal[0], sensors.anticausal[0]], one, rtol=1e-9)
