import copy
import math
import pickle

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeloop.data import EventDataset, loader
from spikeloop.errors import DataError, InvalidEvents, ShapeMismatch, SpikeloopWarning
from spikeloop.events import Events

SIZE = 4


def small() -> Events:
    """Three samples: two events, none, three events; two units."""
    return Events.from_lists([[3.0, 1.0], [], [2.0, 5.0, 1.0]], [[0, 1], [], [1, 1, 0]], size=2, scale=1e-3)


def lists_of(events: Events) -> list[list[tuple[float, int]]]:
    bounds = events.start.tolist()
    rows = list(zip(events.time.tolist(), events.unit.tolist(), strict=True))
    return [rows[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def equal(a: Events, b: Events) -> bool:
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("time", "unit", "start"))
    return same and a.size == b.size


def triple(time, unit, start, size=2) -> Events:
    return Events(
        torch.tensor(time, dtype=torch.float64), torch.tensor(unit, dtype=torch.int32), torch.tensor(start), size
    )


batches = st.lists(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, SIZE - 1)), max_size=8), max_size=6
).map(lambda b: Events.from_lists([[t for t, _ in s] for s in b], [[u for _, u in s] for s in b], SIZE))


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


class TestBadInput:
    @pytest.mark.parametrize(
        ("time", "unit", "message"),
        [
            ([0.0, 2.0, 1.0], [0, 0, 0], r"sample 1, event 1: 1.0 s follows a later event.*from_lists sorts"),
            ([0.0, -1.0, 1.0], [0, 0, 0], "sample 1, event 0: a negative time"),
            ([math.nan, 0.0, 1.0], [0, 0, 0], "sample 0, event 0: a time of nan"),
            ([0.0, 1.0, math.inf], [0, 0, 0], "sample 1, event 1: a time of inf"),
            ([0.0, 0.0, 1.0], [0, 0, 2], "sample 1, event 1: unit 2. Expected: units from 0 to 1"),
            ([0.0, 0.0, 1.0], [0, -1, 0], "sample 1, event 0: unit -1"),
        ],
    )
    def test_values(self, time, unit, message):
        with pytest.raises(InvalidEvents, match=message):
            triple(time, unit, [0, 1, 3])

    def test_time_may_fall_from_sample_to_sample_and_repeat(self):
        assert len(triple([1.0, 1.0, 0.5, 0.7], [0, 0, 1, 1], [0, 0, 2, 2, 4])) == 4

    @pytest.mark.parametrize(
        ("time", "unit", "start"),
        [
            (torch.zeros(2), torch.zeros(2, dtype=torch.int32), torch.tensor([0, 2])),
            (torch.zeros(2).double(), torch.zeros(2, dtype=torch.int64), torch.tensor([0, 2])),
            (torch.zeros(2).double(), torch.zeros(2, dtype=torch.int32), torch.tensor([0.0, 2.0])),
            (torch.zeros(1, 2).double(), torch.zeros(2, dtype=torch.int32), torch.tensor([0, 2])),
            (torch.zeros(2).double(), torch.zeros(3, dtype=torch.int32), torch.tensor([0, 2])),
            (torch.zeros(2).double(), torch.zeros(2, dtype=torch.int32), torch.tensor([0, 1])),
            (torch.zeros(2).double(), torch.zeros(2, dtype=torch.int32), torch.tensor([1, 2])),
            (torch.zeros(2).double(), torch.zeros(2, dtype=torch.int32), torch.tensor([0, 3, 1, 2])),
            (torch.zeros(0).double(), torch.zeros(0, dtype=torch.int32), torch.tensor([], dtype=torch.int64)),
        ],
    )
    def test_layout(self, time, unit, start):
        with pytest.raises(ShapeMismatch):
            Events(time, unit, start, 2)

    def test_lists(self):
        with pytest.raises(ShapeMismatch, match="2 arrays of times, 1 of units"):
            Events.from_lists([[0.0], [1.0]], [[0]], 2)
        with pytest.raises(ShapeMismatch, match="sample 1: 2 times, but 1 units"):
            Events.from_lists([[], [1.0, 2.0]], [[], [0]], 2)
        with pytest.raises(InvalidEvents, match="unit 0.5. Expected: whole numbers"):
            Events.from_lists([[1.0]], [[0.5]], 2)
        with pytest.raises(InvalidEvents, match="unit 4294967296"):
            Events.from_lists([[1.0]], [[2**32]], 2)
        with pytest.raises(InvalidEvents, match="nan"):
            Events.from_lists([[math.nan, 0.0]], [[0, 0]], 2)
        with pytest.raises(InvalidEvents, match="negative"):
            Events.from_trains([[[1.0, -1.0]]])

    def test_trains_and_rasters(self):
        with pytest.raises(ShapeMismatch, match="sample 1: 1 trains"):
            Events.from_trains([[[], []], [[]]])
        with pytest.raises(ShapeMismatch, match="Give size="):
            Events.from_trains([])
        with pytest.raises(ShapeMismatch, match="batch, time, unit"):
            Events.from_raster(torch.zeros(3, 4), 1e-3)
        with pytest.raises(InvalidEvents, match="not counts"):
            Events.from_raster(torch.full((1, 1, 1), 0.5), 1e-3)
        with pytest.raises(InvalidEvents, match="not counts"):
            Events.from_raster(torch.full((1, 1, 1), -1), 1e-3)
        with pytest.raises(InvalidEvents, match="dt = 0"):
            small().raster(0.0)
        with pytest.raises(ShapeMismatch):
            Events.from_padded(torch.zeros(2, 3), torch.zeros(2, 2), 1)

    def test_events_after_the_end(self):
        with pytest.raises(InvalidEvents, match="drive: all 5 events are after the end.*scale=1e-3 reads ms"):
            small().check_within(0.5e-3)
        with pytest.warns(SpikeloopWarning, match=r"'input': 2 of 5 events are after the end \(0.002 s\)"):
            small().check_within(2e-3, "drive 'input'")
        small().check_within(5e-3)

    @pytest.mark.parametrize("index", [3, -4, [0, 3], torch.tensor([True, False]), [[0]], [0.5]])
    def test_bad_index(self, index):
        with pytest.raises(IndexError):
            small()[index]


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


class TestFiles:
    def test_roundtrip(self, tmp_path):
        path = tmp_path / "my.events"
        small().save(path)
        assert equal(Events.load(path), small())
        assert list(tmp_path.iterdir()) == [path]
        live = Events(small().time.requires_grad_(), small().unit, small().start, 2)
        live.save(str(path))
        assert not Events.load(str(path)).time.requires_grad

    def test_missing_foreign_truncated_newer(self, tmp_path):
        path = tmp_path / "my.npz"
        with pytest.raises(DataError, match="no such file"):
            Events.load(path)
        np.savez(path, time=np.zeros(3))
        with pytest.raises(DataError, match="another kind"):
            Events.load(path)
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(DataError, match="cannot be read"):
            Events.load(path)
        path.write_bytes(b"time,unit\n1,2\n")
        with pytest.raises(DataError, match="cannot be read"):
            Events.load(path)
        small().save(path)
        whole = path.read_bytes()
        for length in (0, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match="cannot be read"):
                Events.load(path)
        np.savez(path, format="spikeloop.events", version=2, time=0, unit=0, start=0, size=0)
        with pytest.raises(DataError, match="version 2.*at most version 1.*update"):
            Events.load(path)

    def test_a_failed_save_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "my.npz"
        small().save(path)

        def full_disk(file, **arrays):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez_compressed", full_disk)
        with pytest.raises(OSError, match="No space left"):
            small()[0].save(path)
        assert equal(Events.load(path), small())
        assert list(tmp_path.iterdir()) == [path]

    def test_my_own_spike_data_from_hdf5(self, tmp_path):
        """The second of the wished scripts: HDF5, milliseconds, one array per sample."""
        generator = np.random.default_rng(0)
        times = [generator.uniform(0, 900, n).astype(np.float32) for n in (5, 0, 17, 3, 8)]
        units = [generator.integers(0, 700, len(t)).astype(np.uint16) for t in times]
        with h5py.File(tmp_path / "my.h5", "w") as f:
            rows = f.create_dataset("spikes/times", 5, h5py.vlen_dtype(np.float32))
            columns = f.create_dataset("spikes/units", 5, h5py.vlen_dtype(np.uint16))
            for b in range(5):
                rows[b], columns[b] = times[b], units[b]
            f["labels"] = np.arange(5, dtype=np.uint8)

        with h5py.File(tmp_path / "my.h5") as f:
            events = Events.from_lists(list(f["spikes/times"]), list(f["spikes/units"]), size=700, scale=1e-3)
            data = EventDataset(events, f["labels"][:])
        train, test = data.split(0.8, seed=0)
        events.save(tmp_path / "my.npz")

        assert repr(events) == "Events(5 samples, 33 events, 700 units)"
        assert torch.equal(events[2].time, torch.from_numpy(np.sort(times[2].astype(float) * 1e-3)))
        assert (len(train), len(test)) == (4, 1)
        assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == [0, 1, 2, 3, 4]
        assert equal(Events.load(tmp_path / "my.npz"), events)
        for drive, label in loader(train, 2):
            assert all(equal(drive[i], events[int(label[i])]) for i in range(2))
