"""Events on their way to a chip and from it, against the same in plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from spikeloop.engine.bus import Entry, Exit, addressed, arrived, hold_back, in_order, leave, lifted

BATCH, DEPTH, CYCLE, CYCLES = 40, 3, 8e-9, 60


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def sent(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cycles, some at once and some after the end, addresses on four links, start."""
    count = random.integers(0, 60, BATCH)
    cycle = np.concatenate([np.sort(random.integers(0, CYCLES + 5, n)) for n in count])
    address = random.integers(0, 1 << 16, len(cycle)).astype(np.uint16)
    return cycle, address, np.append(0, np.cumsum(count))


@pytest.mark.parametrize("threads", [1, 2])
def test_events_are_addressed_and_held_back_at_once(random: np.random.Generator, sent, threads: int) -> None:
    cycle, _, start = sent
    unit, address = random.integers(0, 20, len(cycle)).astype(np.int32), random.integers(0, 1 << 16, 20)
    trains, held = (cycle * 2.0, unit, start), cycle.copy()
    hold_back(held, start, DEPTH)
    found, to = addressed(trains, 2.0, address, threads, DEPTH)
    np.testing.assert_array_equal(found, held)
    np.testing.assert_array_equal(to, address[unit])
    assert (found != cycle).any()
    np.testing.assert_array_equal(addressed(trains, 2.0, address, threads)[0], cycle)


@pytest.mark.parametrize("links", [0, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_events_come_in_one_a_cycle_and_link(sent, links: int, threads: int) -> None:
    cycle, address, start = sent
    source, lost = np.arange(1 << 16, dtype=np.int32) % 300, np.zeros(BATCH, np.int64)
    time, known = np.full(len(cycle), -1.0), np.zeros(BATCH, np.int64)
    for run in range(BATCH):
        free = [0] * 4
        for e in range(start[run], start[run + 1]):
            link, came = address[e] >> 14, cycle[e]
            if links:
                if free[link] - came > DEPTH:
                    known[run] += 1
                    continue
                came = max(came, free[link])
                free[link] = came + 1
            known[run] += came >= CYCLES
            time[e] = came * CYCLE if came < CYCLES else -1
    found, of, all_known = arrived(sent, source, Entry(links, DEPTH, CYCLE, CYCLES), lost, threads)
    np.testing.assert_array_equal(found, time)
    np.testing.assert_array_equal(of, source[address])
    np.testing.assert_array_equal(lost, known)
    assert lost.any()
    assert all_known
    source[address[7]] = -1
    assert not arrived(sent, source, Entry(links, DEPTH, CYCLE, CYCLES), lost, threads)[2]


@pytest.mark.parametrize("late", [0, 4, 40])
@pytest.mark.parametrize("buses", [0, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_spikes_leave_one_a_cycle_and_bus(
    random: np.random.Generator, sent, late: int, buses: int, threads: int
) -> None:
    """Some neurons' spikes take a place, but are sent to nobody; delays of several spikes mix them up."""
    cycle, _, start = sent
    duration, rms = CYCLES * CYCLE, late * CYCLE
    time, unit = np.minimum(cycle * CYCLE, duration), random.integers(0, 6, len(cycle)).astype(np.int32)
    delay = random.standard_normal(len(cycle)) if late else None
    sends, bus, label = np.array([1, 1, 0, 1, 1, 0], np.uint8), np.arange(6, dtype=np.int32) % 2, np.arange(6) * 11
    lost, known, wanted = np.zeros(BATCH, np.int64), np.zeros(BATCH, np.int64), []
    for run in range(BATCH):
        some = slice(start[run], start[run + 1])
        at = time[some] if delay is None else np.clip(time[some] + rms * delay[some], 0, duration)
        order = np.argsort(at, kind="stable")
        free, kept = [-np.inf] * 2, []
        for when, who in zip(at[order], unit[some][order], strict=True):
            left = 0.0
            if buses:
                passes = free[bus[who]] - when / CYCLE <= DEPTH
                left = max(when / CYCLE, free[bus[who]]) if passes else -1
                free[bus[who]] = left + 1 if passes else free[bus[who]]
            known[run] += bool(sends[who] and left < 0)
            if sends[who] and left >= 0:
                kept.append((left * CYCLE if buses else when, who))
        wanted.append(sorted(kept, key=lambda each: each[0]))
    exits = Exit(sends, bus if buses else None, buses, DEPTH, CYCLE, duration, CYCLES, label, rms)
    found = leave((time, unit, start), delay, exits, lost, threads)
    every = [each for run in wanted for each in run]
    np.testing.assert_array_equal(found.trains[0], [when for when, _ in every])
    np.testing.assert_array_equal(found.trains[1], [who for _, who in every])
    np.testing.assert_array_equal(found.trains[2], np.append(0, np.cumsum([len(run) for run in wanted])))
    stamps = np.minimum(np.floor(found.trains[0] / CYCLE + 1e-9), CYCLES - 1)
    np.testing.assert_array_equal(found.cycle, stamps)
    np.testing.assert_array_equal(found.address, label[found.trains[1]])
    np.testing.assert_array_equal(lost, known)
    assert lost.any() == bool(buses)


def test_events_out_of_order_are_looked_at(sent) -> None:
    cycle, address, start = sent
    assert in_order(cycle, address, start, 1)
    assert in_order(cycle, address.astype(np.int64), start, 2)
    assert not in_order(cycle.astype(np.int32), address, start, 1)  # others may still be right
    assert not in_order(cycle[::2], address[::2], start // 2, 1)
    row = int(start[np.flatnonzero(np.diff(start) > 2)[0]]) + 1
    for what, value in ((0, -1), (0, cycle[row - 1] - 1), (0, 2**53 + 1), (1, -1), (1, 1 << 16), (2, len(cycle) + 1)):
        parts = [cycle.copy(), address.astype(np.int64), start.copy()]
        parts[what][row if what < 2 else 5] = value
        assert not in_order(parts[0], parts[1], parts[2], 1), (what, value)
    assert not in_order(cycle[:-1], address, start, 1)
    assert not in_order(cycle, address, np.zeros(0, np.int64), 1)


def test_only_whole_readouts_are_lifted(sent) -> None:
    cycle, address, start = sent
    unit = np.where(np.arange(1 << 16) % 3, -1, 5).astype(np.int32)
    time, who, first = lifted(sent, unit, 2.0, 1)
    keep = unit[address] >= 0
    np.testing.assert_array_equal(time, (cycle[keep] + 0.5) * 2.0)
    np.testing.assert_array_equal(who, unit[address][keep])
    np.testing.assert_array_equal(first, np.append(0, np.cumsum(keep))[start])
    with pytest.raises(IndexError, match="address that does not exist"):
        lifted(sent, unit[:2048], 2.0, 1)
    with pytest.raises(IndexError, match="share out"):
        lifted((cycle, address, start + 1), unit, 2.0, 1)
