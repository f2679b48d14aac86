"""Schedules: every part of every matrix once, nothing on top of anything else, and what it costs."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloop.chip.array_cost import POWER, Work, cost_of
from spikeloop.chip.schedule import Matrix, Schedule, partition
from spikeloop.errors import OutOfRange, WrongType

SIZES = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 700)), min_size=1, max_size=5)


def made(sizes: list[tuple[int, int]], chips: int = 1) -> Schedule:
    return partition([Matrix(f"layer {k}", *size) for k, size in enumerate(sizes)], chips)


@settings(max_examples=25)
@given(SIZES, st.integers(1, 3))
def test_every_weight_has_one_place(sizes: list[tuple[int, int]], chips: int) -> None:
    schedule = made(sizes, chips)
    for matrix in schedule.matrices:
        covered = np.zeros((matrix.rows, matrix.columns), int)
        for entry in schedule.of(matrix.name):
            covered[slice(*entry.rows), slice(*entry.columns)] += 1
            assert entry.rows[0] % 128 == 0  # results do not depend on where the matrix was cut
        assert np.all(covered == 1)
    for entry in schedule.entries:
        assert 0 <= entry.chip < chips
        assert entry.half in (0, 1)
        assert entry.row + entry.shape[0] <= 128
        assert entry.column + entry.shape[1] <= 256


@settings(max_examples=25)
@given(SIZES, st.integers(1, 3))
def test_layers_follow_each_other_and_a_half_does_one_thing_at_a_time(sizes: list[tuple[int, int]], chips: int) -> None:
    schedule = made(sizes, chips)
    assert len({(e.step, e.chip, e.half) for e in schedule.entries}) == len(schedule.entries)
    assert [e.step for e in schedule.entries] == sorted(e.step for e in schedule.entries)
    assert {e.step for e in schedule.entries} == set(range(schedule.steps))
    steps = [[e.step for e in schedule.of(matrix.name)] for matrix in schedule.matrices]
    assert all(max(before) < min(after) for before, after in pairwise(steps))


@settings(max_examples=25)
@given(SIZES, st.integers(1, 3))
def test_weights_are_written_again_exactly_where_others_were_in_between(
    sizes: list[tuple[int, int]], chips: int
) -> None:
    schedule = made(sizes, chips)
    array = np.full((chips, 2, 128, 256), -1)  # whose weights lie where
    for run in range(2):
        for k, e in enumerate(schedule.entries):
            there = array[e.chip, e.half, e.row : e.row + e.shape[0], e.column : e.column + e.shape[1]]
            assert run == 0 or e.write == bool(np.any(there != k))
            there[:] = k


def test_small_layers_share_a_half_and_stay() -> None:
    schedule = made([(100, 60), (60, 60), (60, 6)])
    assert schedule.rewritten == 0
    assert schedule.steps == 3
    assert not any(one.overlaps(other) for one, other in combinations(schedule.entries, 2))


def test_a_layer_is_spread_over_all_halves() -> None:
    schedule = made([(512, 256)], chips=2)
    assert {(e.chip, e.half) for e in schedule.entries} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert schedule.steps == 1
    assert schedule.rewritten == 0


def test_what_is_too_large_takes_turns() -> None:
    one, two = made([(784, 256), (256, 10)]), made([(784, 256), (256, 10)], chips=5)
    assert one.rewritten > 0
    assert two.rewritten == 0
    assert one.steps > two.steps
    assert one.cost(100).chip_time > two.cost(100).chip_time


def test_the_table() -> None:
    text = str(made([(300, 20), (20, 4)]))
    assert text.splitlines()[0] == "2 layers in 4 passes, 3 steps, on 1 chip: weights stay"
    assert len(text.splitlines()) == 6
    assert "256-299         0-19" in text


def test_cost_of_one_pass() -> None:
    schedule = partition([Matrix("only", 128, 256, vectors=2, sends=3, wait=5)])
    cost = schedule.cost(10)
    assert cost.passes == 20
    assert cost.reconfigurations == 0
    assert cost.chip_time == pytest.approx(20 * (3 * 128 * 5 * 8e-9 + 10e-6))  # hardware.md 5.2
    assert cost.energy == pytest.approx(cost.chip_time * 192e-6 / 276e-6)
    first = schedule.cost(10, schedule.entries)
    assert first.reconfigurations == 1
    assert first.chip_time - cost.chip_time == pytest.approx(256 * 256 / 4 * 64e-9)


def test_cost_of_halves_and_chips_at_once() -> None:
    def seconds(*where: tuple[int, int, int], write: bool = False) -> float:
        work = [Work(step, chip, half, (100, 40), 10, 1, 5, write) for step, chip, half in where]
        return cost_of(work, 10, 2).chip_time

    alone = seconds((0, 0, 0))
    assert seconds((0, 0, 0), (0, 0, 1), (0, 1, 0)) == pytest.approx(alone)
    assert seconds((0, 0, 0), (1, 0, 1)) == pytest.approx(2 * alone)
    writing = seconds((0, 0, 0), write=True) - alone
    assert writing > 0
    assert seconds((0, 0, 0), (0, 0, 1), write=True) == pytest.approx(alone + 2 * writing)  # one link a chip
    assert seconds((0, 0, 0), (0, 1, 0), write=True) == pytest.approx(alone + writing)
    assert cost_of([Work(0, 0, 0, (1, 1), 1, 1, 1, False)], 1, 3).energy == pytest.approx(
        3 * POWER * cost_of([Work(0, 0, 0, (1, 1), 1, 1, 1, False)], 1, 1).chip_time
    )


def test_the_estimate_in_words() -> None:
    lines = str(made([(128, 10)]).cost(100)).splitlines()
    assert lines[0] == "100 samples: 100 array passes, 0 reconfigurations"
    assert lines[1].startswith("chip time 1.51 ms, 15.1 us a sample")
    assert len(lines) == 3


def test_refused() -> None:
    with pytest.raises(OutOfRange, match="chips is 0"):
        partition([Matrix("a", 1, 1)], chips=0)
    with pytest.raises(OutOfRange, match="matrix 'a': rows is 0"):
        Matrix("a", 0, 1)
    with pytest.raises(WrongType, match=r"matrix 'a': columns is 1\.5"):
        Matrix("a", 1, 1.5)  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match="two layers are called 'a'"):
        partition([Matrix("a", 1, 1), Matrix("a", 2, 2)])
