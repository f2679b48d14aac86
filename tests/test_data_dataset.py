import copy
import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeloop.data import EventDataset, ImageEvents, Loader, latency, loader
from spikeloop.data.images import rotation
from spikeloop.errors import CheckpointError, OutOfRange, ShapeMismatch
from spikeloop.events import Events


def numbered(samples: int) -> EventDataset:
    """Sample b has b % 3 events, all of unit 0, the first at b seconds; its label is b."""
    times = [[float(b + k) for k in range(b % 3)] for b in range(samples)]
    return EventDataset(Events.from_lists(times, [[0] * len(t) for t in times], 1), range(samples))


def pictures(augmented: bool = True) -> ImageEvents:
    images = torch.randint(0, 256, (23, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageEvents(
        images, torch.arange(23), lambda x: latency(x.flatten(1), 20e-3), rotation(20) if augmented else None
    )


def labels_of(batches: Loader) -> list[list[int]]:
    return [label.tolist() for _, label in batches]


def same(a: Events, b: Events) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("time", "unit", "start"))


class TestDatasets:
    def test_parts_last_as_long_as_the_whole(self):
        events = numbered(6).events
        images = ImageEvents(torch.rand(6, 2, 2), range(6), lambda x: latency(x.flatten(1), 20e-3), duration=40e-3)
        for data in (EventDataset(events, range(6), duration=40e-3), images):
            assert [part.duration for part in (data, data.subset([1]), *data.split(0.5))] == [40e-3] * 4
        assert numbered(6).duration is None

    def test_only_what_is_drawn_anew_is_given_chance(self):
        class Chance(EventDataset):
            given = False

            def batch(self, index, generator=None):
                self.given = generator is not None
                return super().batch(index)

        for random in (True, False):
            data = Chance(numbered(3).events, range(3))
            data.random = random
            next(iter(loader(data, 2)))
            assert data.given is random
        assert [pictures(augmented).random for augmented in (True, False)] == [True, False]

    def test_labels_keep_classes_and_targets(self):
        data = numbered(4)
        assert data.labels.dtype == torch.int64
        assert EventDataset(data.events, torch.rand(4, 2)).labels.shape == (4, 2)
        assert EventDataset(data.events, torch.tensor([1, 0, 1, 0], dtype=torch.uint8)).labels.dtype == torch.int64
        with pytest.raises(ShapeMismatch, match="one for each of 4 samples"):
            EventDataset(data.events, [1, 2])
        with pytest.raises(ShapeMismatch):
            EventDataset(data.events, 4)

    @pytest.mark.parametrize("data", [numbered(40), pictures()], ids=["events", "images"])
    def test_split_by_seed(self, data):
        first, second = data.split(0.8, seed=1)
        again, _ = data.split(0.8, seed=1)
        other, _ = data.split(0.8, seed=2)
        assert len(first) == round(0.8 * len(data))
        assert sorted([*first.labels.tolist(), *second.labels.tolist()]) == list(range(len(data)))
        assert first.labels.tolist() == again.labels.tolist() == sorted(first.labels.tolist())
        assert first.labels.tolist() != other.labels.tolist()
        index = first.labels[:5]
        assert same(first.events[:5], data.events[index])
        assert [len(part) for part in data.split(1.0)] == [len(data), 0]
        with pytest.raises(OutOfRange, match="0 to 1"):
            data.split(1.5)

    def test_single_samples(self):
        data = numbered(5)
        events, label = data[2]
        assert events.time.tolist() == [2.0, 3.0]
        assert label == 2
        assert data.subset(slice(3, None)).labels.tolist() == [3, 4]
        assert repr(data) == "EventDataset(Events(5 samples, 4 events, 1 unit))"

    def test_images_are_encoded_once_without_augmentation(self):
        calls = []

        def encode(images):
            calls.append(len(images))
            return latency(images.flatten(1), 20e-3)

        data = ImageEvents(torch.rand(5, 2, 2), range(5), encode)
        for _ in range(3):
            for drive, label in loader(data, 2):
                assert same(drive, latency(data.images[label].flatten(1), 20e-3))
        assert sum(calls) == 5
        assert same(data[3][0], data.events[3])
        assert repr(data) == "ImageEvents(5 images of 2 x 2)"

    def test_augmentation_follows_the_generator(self):
        data, index = pictures(), torch.tensor([3, 1, 20])
        one, two, three = (data.batch(index, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
        assert same(one, two)
        assert not same(one, three)
        assert not same(one, data.events[index])

    def test_images_must_be_images(self):
        with pytest.raises(ShapeMismatch, match="batch, height, width"):
            ImageEvents(torch.rand(5, 4), range(5), lambda x: latency(x, 1.0))

    def test_no_images(self):
        data = ImageEvents(torch.zeros(0, 2, 2), [], lambda x: latency(x.flatten(1), 1.0))
        assert len(data.events) == 0
        assert list(loader(data, 3)) == []


class TestLoader:
    def test_in_order(self):
        batches = loader(numbered(7), 3)
        assert labels_of(batches) == labels_of(batches) == [[0, 1, 2], [3, 4, 5], [6]]
        assert len(batches) == 3
        dropping = loader(numbered(7), 3, drop_last=True)
        assert labels_of(dropping) == [[0, 1, 2], [3, 4, 5]]
        assert len(dropping) == 2
        assert len(loader(numbered(0), 3)) == 0

    @given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 2**62))
    def test_every_sample_once_with_its_events(self, samples, batch_size, seed):
        data = numbered(samples)
        batches = loader(data, batch_size, shuffle=True, seed=seed)
        seen = []
        for drive, label in batches:
            seen += label.tolist()
            assert same(drive, data.events[label])
        assert sorted(seen) == list(range(samples))

    @given(st.integers(0, 40), st.integers(1, 12), st.lists(st.integers(0, 5), min_size=1))
    def test_several_at_once_are_the_same_batches(self, samples, batch_size, most):
        data = numbered(samples)
        one, several = (loader(data, batch_size, shuffle=True, seed=3) for _ in range(2))
        wanted, found, asked = labels_of(one), [], itertools.cycle(most)
        for drive, label, count in several.several(lambda: next(asked)):
            assert same(drive, data.events[label])
            found += [part.tolist() for part in label.split(batch_size)]
            assert len(label.split(batch_size)) == count
            assert several.position == len(found)
        assert found == wanted
        assert (several.epoch, several.position) == (1, 0)

    def test_as_many_are_gathered_as_have_so_many_events(self, monkeypatch):
        asked = []

        class Watched(EventDataset):
            def batch(self, index, generator=None):
                asked.append(len(index))
                return super().batch(index)

        full, empty = (Events.from_lists([[0.0] * n] * b, [[0] * n] * b, 1) for n, b in ((10, 400), (0, 20)))
        monkeypatch.setattr("spikeloop.data.dataset._GATHERED", 1000)
        list(loader(Watched(full, range(400)), 20))
        assert asked == [20, 100, 100, 100, 80]
        asked.clear()
        list(loader(Watched(Events.cat([empty, full]), range(420)), 20))  # what is empty says little of the next
        assert asked == [20, 320, 80]

    def test_another_number_of_samples_than_asked_for(self):
        class Twice(EventDataset):
            def batch(self, index, generator=None):
                return super().batch(index.repeat(2))

        data = Twice(numbered(10).events, range(10))
        with pytest.raises(ShapeMismatch, match="10 labels"):
            list(loader(data, 5))
        data.random = True
        assert [count for *_, count in loader(data, 5).several(lambda: 7)] == [1, 1]
        assert [len(label) for _, label in loader(data, 5)] == [10, 10]

    def test_a_new_order_each_epoch_and_the_same_for_the_same_seed(self):
        one, two = (loader(numbered(50), 8, shuffle=True, seed=4) for _ in range(2))
        epochs = [labels_of(one) for _ in range(3)]
        assert epochs == [labels_of(two) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
        assert labels_of(loader(numbered(50), 8, shuffle=True, seed=5)) != epochs[0]
        assert one.epoch == 3

    def test_torch_decides_without_a_seed(self):
        orders = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            orders.append(labels_of(loader(numbered(50), 8, shuffle=True)))
        assert orders[0] == orders[1] != orders[2]

    def test_an_epoch_left_early_is_not_continued(self):
        batches = loader(numbered(50), 8, shuffle=True, seed=4)
        first, second = labels_of(batches), labels_of(batches)
        batches = loader(numbered(50), 8, shuffle=True, seed=4)
        assert next(iter(batches))[1].tolist() == first[0]
        assert labels_of(batches) == second

    @pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 5, 7, 12])
    def test_stopped_and_restored_equals_never_stopped(self, stop):
        def stream(batches: Loader, number: int) -> list[tuple[Events, torch.Tensor]]:
            found = []
            while len(found) < number:
                for batch in batches:
                    found.append(batch)
                    if len(found) == number:
                        state.update(batches.state_dict())
                        break
            return found

        state: dict[str, int] = {}
        whole = stream(loader(pictures(), 5, shuffle=True, seed=9), 15)  # three epochs of five batches
        begun = loader(pictures(), 5, shuffle=True, seed=9)
        state.update(begun.state_dict())
        before = stream(begun, stop)
        resumed = loader(pictures(), 5, shuffle=True, seed=1)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        after = stream(resumed, 15 - stop)
        for (drive, label), (wanted, wanted_label) in zip(before + after, whole, strict=True):
            assert torch.equal(label, wanted_label)
            assert same(drive, wanted)

    def test_state_of_something_else_is_refused(self):
        batches = loader(numbered(50), 8, seed=0)
        good = batches.state_dict()
        with pytest.raises(CheckpointError, match="batch_size is 8. Expected: 9"):
            batches.load_state_dict({**good, "batch_size": 9})
        with pytest.raises(CheckpointError, match="samples is 50"):
            batches.load_state_dict({**good, "samples": 49})
        with pytest.raises(CheckpointError, match="not the state of a loader"):
            batches.load_state_dict({"epoch": 3})
        copy.deepcopy(batches).load_state_dict(good)

    def test_bad_arguments(self):
        with pytest.raises(OutOfRange, match="1 or more"):
            loader(numbered(3), 0)
        with pytest.raises(OutOfRange, match="0 or more"):
            labels_of(loader(numbered(3), 1, shuffle=True, seed=-1))
