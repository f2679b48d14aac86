"""Weights to codes and back to neurons, against NumPy in as many lines."""

from __future__ import annotations

import numpy as np
import pytest

from spikeloop.chip.by_value import digest, locked
from spikeloop.chip.configuration import COLUMNS, HALVES, ROWS, Analog
from spikeloop.engine.bus import addressed
from spikeloop.engine.codes import highest, lay, rounded, wired

MOST, EXACT = 63, 1e-4


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("threads", [1, 2])
def test_events_are_sent_in_the_nearest_cycle(random: np.random.Generator, threads: int) -> None:
    seconds, address = 4e-9, random.integers(0, 1 << 16, 30)
    time = np.sort(random.uniform(0, 1e-4, (200, 50)), 1)
    time[:, :9] = np.array([0, 0.5, 1.5, 2.5, 3, 2**40 + 0.5, 2**51 - 0.5, 2**51 + 0.5, 2**60]) * seconds
    unit, start = random.integers(0, 30, time.size).astype(np.int32), np.arange(0, time.size + 1, 50)
    cycle, to = addressed((time.ravel(), unit, start), seconds, address, threads)
    assert np.array_equal(cycle, np.rint(time.ravel() / seconds).astype(np.int64))
    assert np.array_equal(to, address[unit])
    unit[7] = 30
    with pytest.raises(IndexError, match="unit that does not exist"):
        addressed((time.ravel(), unit, start), seconds, address, threads)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_weights_are_rounded_to_their_unit(random: np.random.Generator, kind: type) -> None:
    unit = random.uniform(0.01, 0.02, 37).astype(kind)
    weight = (random.normal(0, 40, (50, 37)) * unit).astype(kind)
    weight[:5] = random.integers(-MOST, MOST + 1, (5, 37)) * unit
    weight[0, :3] = (np.array([2.5, 3.5, -0.5]) * unit[:3]).astype(kind)
    share = weight / unit
    code = np.rint(share).clip(-MOST, MOST)
    off = np.abs(share - code)

    found = rounded(weight, unit, MOST, EXACT)

    np.testing.assert_array_equal(found.code, code)
    np.testing.assert_array_equal(found.executed, (code * unit).astype(kind))
    assert found.executed.dtype == kind
    beyond = off > 0.5
    assert found.beyond == beyond.sum() > 0
    assert found.between == (~beyond & (off > EXACT)).sum() < weight.size - 5 * 37
    assert found.squares == pytest.approx((off[~beyond].astype(np.float64) ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize("pairs", [1, 3])
def test_codes_are_shared_by_row_pairs_of_either_sign(random: np.random.Generator, pairs: int) -> None:
    code = random.integers(-MOST * pairs, MOST * pairs + 1, (4, 7)).astype(np.int32)
    free = np.arange(2 * pairs * 4 * COLUMNS).reshape(pairs, 4, 2, COLUMNS)
    place = free[:, :, 0, :7]
    array = np.full(free.size, 77, np.uint8)

    lay(code, place, COLUMNS, array)

    above, below = array[place].astype(int), array[place + COLUMNS].astype(int)
    np.testing.assert_array_equal((above - below).sum(0), code)
    assert not (above.astype(bool) & below.astype(bool)).any()
    total = above + below
    assert (np.ptp(total, axis=0) <= 1).all()
    assert (array == 77).sum() == free.size - 2 * place.size  # nobody else's


def test_wires_sum_what_belongs_to_a_cell(random: np.random.Generator) -> None:
    size, cells = HALVES * ROWS * COLUMNS, 60
    code, height = random.integers(0, 64, size).astype(np.uint8), random.normal(size=size).astype(np.float32)
    synapse, cell = random.permutation(size)[:120].astype(np.int32), np.sort(random.integers(0, cells, 120))
    first = np.searchsorted(cell, np.arange(cells + 1)).astype(np.int32)
    assert (np.diff(first) == 0).any()
    assert (np.diff(first) > 5).any()

    found = wired(code, height, synapse, first, (6, 10))

    single = code[synapse].astype(np.float32) * height[synapse]
    np.testing.assert_array_equal(found.ravel(), np.bincount(cell, single, cells).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 40, 10), (17, 9, 300), (200, 60, 30), (3, 4, 0), (0, 4, 2)])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_of_the_highest_readings_is_found(
    random: np.random.Generator, shape: tuple[int, int, int], threads: int
) -> None:
    reading = random.integers(100, 110, shape).astype(np.uint8)
    reading[:, :, ::2] = 0
    value, which = highest(reading, threads)
    np.testing.assert_array_equal(value, reading.max(1))
    np.testing.assert_array_equal(which, reading.argmax(1))
    np.testing.assert_array_equal(highest(reading.astype(np.int64), threads)[0], value)


def test_what_is_locked_keeps_its_hash_and_its_values() -> None:
    analog = Analog()
    made = locked(analog)
    analog.leak[3] += 1
    assert digest(made) == digest(Analog()) != digest(analog)
    with pytest.raises(ValueError, match="read-only"):
        made.leak[3] = 0
