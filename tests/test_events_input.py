"""Events that are wrong, late, or come from files."""

import math

import h5py
import numpy as np
import pytest
import torch
from event_batches import equal, small, triple

from spikeloop.data import EventDataset, loader
from spikeloop.errors import DataError, InvalidEvents, ShapeMismatch, SpikeloopWarning
from spikeloop.events import Events


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
        np.savez(path, format="spikeloop.events", version=2, moment=0)
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
