import copy
import math
import pickle

import numpy as np
import pytest
import torch
from event_batches import SIZE, batches, equal, lists_of, small, triple
from hypothesis import given
from hypothesis import strategies as st

from spikeloop.engine import _core
from spikeloop.errors import ShapeMismatch
from spikeloop.events import Events


class TestConstructors:
    def test_from_lists_sorts_and_scales(self):
        events = small()
        assert lists_of(events) == [[(0.001, 1), (0.003, 0)], [], [(0.001, 0), (0.002, 1), (0.005, 1)]]
        assert events.time.dtype == torch.float64
        assert events.unit.dtype == torch.int32
        assert events.start.dtype == torch.int64
        assert len(events) == 3

    def test_sorting_is_stable(self):
        events = Events.from_lists([[1.0, 0.0, 1.0, 1.0]], [[3, 2, 0, 1]], size=4)
        assert events.unit.tolist() == [2, 3, 0, 1]

    def test_from_lists_takes_what_files_hold(self):
        times = [np.array([2, 1], np.uint32), np.array([7], np.uint32)]
        units = [np.array([1.0, 0.0]), np.array([1], np.uint8)]
        assert lists_of(Events.from_lists(times, units, 2, scale=1e-6)) == [[(1e-6, 0), (2e-6, 1)], [(7e-6, 1)]]

    def test_from_lists_keeps_the_graph(self):
        time = torch.tensor([2.0, 1.0], dtype=torch.float64, requires_grad=True)
        events = Events.from_lists([time, []], [[0, 1], []], 2, scale=10.0)
        (events.time * torch.tensor([1.0, 5.0])).sum().backward()
        assert time.grad is not None
        assert time.grad.tolist() == [50.0, 10.0]

    def test_from_trains(self):
        events = Events.from_trains([[[3.0], [1.0, 0.5]], [[], []]], scale=1e-3)
        assert lists_of(events) == [[(0.0005, 1), (0.001, 1), (0.003, 0)], []]
        assert events.size == 2

    def test_raster_roundtrip(self):
        raster = torch.randint(0, 3, (4, 50, 3), generator=torch.Generator().manual_seed(1))
        events = Events.from_raster(raster, dt=0.1e-3)
        assert torch.equal(events.count.long(), raster.sum(1))
        assert torch.equal(events.raster(0.1e-3, 5e-3), raster)
        assert equal(events, Events.from_raster(raster.transpose(0, 1).double(), 0.1e-3, batch_first=False))

    def test_raster_without_duration_ends_with_the_last_event(self):
        assert small().raster(1e-3).shape == (3, 6, 2)
        assert small().raster(1e-3, duration=2e-3).sum() == 2
        assert small()[1].raster(1e-3).shape == (1, 0, 2)

    @given(batches)
    def test_padded_roundtrip(self, events):
        time, unit = events.padded()
        assert time.shape == unit.shape == (len(events), max([0, *events.lengths.tolist()]))
        assert equal(events, Events.from_padded(time, unit, SIZE))

    def test_from_padded_sorts_and_scales(self):
        time, unit = [[3.0, 1.0, math.inf], [9.0, 2.0, 1.0]], [[0, 1, 0], [-1, 1, 1]]
        assert lists_of(Events.from_padded(time, unit, 2, scale=0.5)) == [[(0.5, 1), (1.5, 0)], [(0.5, 1), (1.0, 1)]]

    def test_empty_batches_and_samples(self):
        for events in (
            Events.from_lists([], [], 3),
            Events.from_trains([], size=3),
            Events.from_raster(torch.zeros(0, 5, 3), 1e-3),
            Events.from_padded(torch.zeros(0, 4), torch.zeros(0, 4), 3),
            triple([], [], [0], 3),
        ):
            assert len(events) == 0
            assert events.first().shape == events.count.shape == (0, 3)
            assert events.raster(1e-3, 1e-2).shape == (0, 10, 3)
            assert events[:].padded()[0].shape == (0, 0)
            events.check_within(1.0)
        silent = Events.from_trains([[[], []]] * 2)
        assert silent.count.tolist() == [[0, 0], [0, 0]]
        assert silent.first(fill=7.0).tolist() == [[7, 7], [7, 7]]
        assert len(silent.merge(silent)) == 2


class TestRearranging:
    @pytest.mark.parametrize(
        ("index", "rows"),
        [
            (0, [0]),
            (-1, [2]),
            (slice(1, None), [1, 2]),
            (slice(None, None, -1), [2, 1, 0]),
            ([2, 0, 2], [2, 0, 2]),
            ([], []),
            (torch.tensor([1, -1]), [1, 2]),
            (torch.tensor(1), [1]),
            (np.array([2]), [2]),
            ([True, False, True], [0, 2]),
        ],
    )
    def test_choosing(self, index, rows):
        whole = lists_of(small())
        chosen = small()[index]
        assert lists_of(chosen) == [whole[row] for row in rows]
        assert chosen.size == 2

    @given(batches, st.data())
    def test_gather_equals_loop_over_samples(self, events, data):
        rows = st.integers(0, len(events) - 1) if len(events) else st.nothing()
        index = data.draw(st.lists(rows, max_size=7)) if len(events) else []
        looped = [events[row] for row in index]
        assert equal(events[torch.tensor(index, dtype=torch.int64)], Events.cat(looped) if looped else events[:0])

    @given(batches)
    def test_cat_and_slices(self, events):
        half = len(events) // 2
        assert equal(Events.cat([events[:half], events[half:]]), events)
        assert equal(events[::-1][::-1], events)

    @given(batches)
    def test_merge(self, events):
        twice = events.merge(events)
        assert torch.equal(twice.count, 2 * events.count)
        for merged, rows in zip(lists_of(twice), lists_of(events), strict=True):
            assert sorted(merged) == sorted(rows * 2)
            assert [time for time, _ in merged] == sorted(time for time, _ in rows * 2)
        beside = events.merge(events, offset=SIZE)
        assert beside.size == 2 * SIZE
        assert torch.equal(beside.count, torch.cat([events.count, events.count], 1))
        Events(beside.time, beside.unit, beside.start, beside.size)  # still valid

    def test_cat_and_merge_refuse_what_does_not_belong_together(self):
        wide = Events.from_lists([[]] * 3, [[]] * 3, 3)
        with pytest.raises(ShapeMismatch, match="one size"):
            Events.cat([small(), wide])
        with pytest.raises(ShapeMismatch, match="one size"):
            Events.cat([])
        with pytest.raises(ShapeMismatch, match="sizes 2 and 3"):
            small().merge(wide)
        with pytest.raises(ShapeMismatch, match="3 and 1 samples"):
            small().merge(small()[0])
        assert small().merge(wide, offset=2).size == 5

    def test_structure_keeps_the_graph_of_time(self):
        events = small()
        time = events.time.clone().requires_grad_()
        live = Events(time, events.unit, events.start, events.size)
        weight = torch.arange(1.0, 4.0)
        outputs = {
            "index": (live[[2, 0]].time * torch.tensor([3.0, 4.0, 5.0, 1.0, 2.0])).sum(),
            "cat": (Events.cat([live[:1], live[1:]]).time * torch.arange(1.0, 6.0)).sum(),
            "merge": (live.merge(events).time.view(-1)[::2] * torch.arange(1.0, 6.0)).sum(),
            "padded": (live.padded()[0].nan_to_num(posinf=0.0)[2] * weight).sum(),
        }
        for name, wanted in (
            ("index", [1, 2, 3, 4, 5]),
            ("cat", [1, 2, 3, 4, 5]),
            ("merge", [1, 2, 3, 4, 5]),
            ("padded", [0, 0, 1, 2, 3]),
        ):
            (grad,) = torch.autograd.grad(outputs[name], time)
            assert grad.tolist() == wanted, name
        assert not live.detach().time.requires_grad
        assert live.time.requires_grad


class TestReading:
    def test_counts_and_samples(self):
        events = small()
        assert events.count.tolist() == [[1, 1], [0, 0], [1, 2]]
        assert events.count.dtype == torch.get_default_dtype()
        assert events.sample.tolist() == [0, 0, 2, 2, 2]
        assert events.lengths.tolist() == [2, 0, 3]

    def test_count_of_a_record_is_the_differentiable_one(self):
        plain = small()
        count = torch.full((3, 2), 0.5, requires_grad=True)
        events = Events._trusted(plain.time, plain.unit, plain.start, plain.size, count)
        assert events.count is count
        assert events[[2, 0]].count.requires_grad
        assert events.detach().count.requires_grad is False
        assert Events.cat([events, plain]).count.tolist() == [*count.tolist(), *plain.count.tolist()]
        assert torch.equal(events.merge(plain).count, count + plain.count)
        (events.merge(plain, offset=2).count.sum()).backward()
        assert count.grad is not None
        assert count.grad.tolist() == [[1, 1]] * 3

    @given(batches)
    def test_first_is_the_minimum(self, events):
        wanted = torch.full((len(events), SIZE), 9.0, dtype=torch.float64)
        for b, rows in enumerate(lists_of(events)):
            for time, unit in rows:
                wanted[b, unit] = min(wanted[b, unit].item(), time)
        assert torch.equal(events.first(fill=9.0), wanted)

    def test_first_passes_gradients_to_first_events_only(self):
        events = small()
        time = events.time.clone().requires_grad_()
        live = Events(time, events.unit, events.start, events.size)
        first = live.first(fill=60e-3)
        assert first.tolist() == [[0.003, 0.001], [0.06, 0.06], [0.001, 0.002]]
        first.sum().backward()
        assert time.grad is not None
        assert time.grad.tolist() == [1, 1, 1, 1, 0]

    def test_repr(self):
        assert repr(small()) == "Events(3 samples, 5 events, 2 units)"
        assert repr(small()[0]) == "Events(1 sample, 2 events, 2 units)"

    def test_copies(self):
        for twin in (copy.deepcopy(small()), pickle.loads(pickle.dumps(small())), small().to("cpu")):
            assert equal(twin, small())
        assert small().to("meta").time.device.type == "meta"


def test_the_latest_event_is_found_and_units_are_counted() -> None:
    events = Events.from_lists([[], [0.3, 0.1], [0.2], []], [[], [1, 0], [1], []], size=3)
    assert _core.latest(events._arrays) == 0.3
    assert _core.counts(events._arrays, 3).tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    silent = Events.from_lists([[], []], [[], []], size=2)
    assert _core.latest(silent._arrays) == 0
    assert _core.counts(silent._arrays, 2).tolist() == [[0, 0], [0, 0]]
    time, unit, start = events._arrays
    with pytest.raises(IndexError):
        _core.counts((time, unit, start), 1)
