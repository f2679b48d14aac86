import csv
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeloop.data import YinYang
from spikeloop.errors import OutOfRange, ShapeMismatch

SHA256 = {
    "train": (
        "f5a4054d56f2a058f8250fba7ff9720458e1625db7af78a295e45701745b2228",
        "534d12acda4f9dbc7208a99d3646115a4aa7d74ca31d6d23f822079a568559b7",
    ),
    "validation": (
        "5eac358bdf2122763dce3703a79f3005e56e46a4db25ec329a07333d0f7b8093",
        "5a4c2f605814a620f514c1091f10441ce562cd81e902ce701b3cf94ae7576f7d",
    ),
    "test": (
        "7bab3ed668ed4992679cff6339fe21bfe7d0c921ddc6187eaa3bc6ef34b888d7",
        "daa0f8f4e3b37b1ddec2afee22f09afb768f0e575f3f568e7469f1ebc6af73c1",
    ),
}
HISTOGRAM = {"train": [1681, 1702, 1617], "validation": [316, 336, 348], "test": [350, 316, 334]}


def sha256(array: np.ndarray, dtype: str) -> str:
    return hashlib.sha256(array.astype(dtype).tobytes()).hexdigest()


@pytest.mark.parametrize("split", SHA256)
def test_bit_identical_to_the_authors_data(split):
    data = YinYang(split)
    assert (sha256(data.points.numpy(), "<f8"), sha256(data.labels.numpy(), "<i8")) == SHA256[split]
    assert torch.bincount(data.labels).tolist() == HISTOGRAM[split]


@pytest.mark.skipif("SPIKELOOP_DATA" not in os.environ, reason="SPIKELOOP_DATA absent")
@pytest.mark.parametrize("split", SHA256)
def test_reference_samples(split):
    folder = Path(os.environ["SPIKELOOP_DATA"]) / "yin_yang"
    data = YinYang(split)
    with np.load(folder / "yin_yang_reference.npz") as reference:
        assert np.array_equal(data.points[:100].numpy(), reference[f"x_{split}"])
        assert np.array_equal(data.labels[:100].numpy(), reference[f"y_{split}"])
    with (folder / "yin_yang_reference.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    assert len(rows) == 100
    for row in rows:
        here = data.points[int(row["index"])]
        assert [float(row[name]) for name in ("x1", "y1", "x2", "y2")] == here.tolist()


def test_against_the_definition_call_by_call():
    """The generator as its paper describes it, one draw after the other, for another seed."""
    draw = np.random.RandomState(7)
    wanted = []
    while len(wanted) < 50:
        goal = draw.randint(3)
        while True:
            x, y = draw.rand(2)
            if part(x, y) == goal:
                break
        wanted.append((x, y, goal))
    data = YinYang("train", size=50, seed=7)
    assert np.array_equal(np.array(wanted), torch.cat([data.points[:, :2], data.labels[:, None]], 1).numpy())


def part(x: float, y: float) -> int | None:
    """0 yin, 1 yang, 2 dot, None outside of the unit circle's disc (diameter 1, centre 0.5, 0.5)."""
    left, right = np.hypot(x - 0.25, y - 0.5), np.hypot(x - 0.75, y - 0.5)
    if np.hypot(x - 0.5, y - 0.5) > 0.5:
        return None
    if min(left, right) < 0.1:
        return 2
    return int(left <= 0.25 or (y > 0.5 and right > 0.25))


def test_a_shorter_set_is_the_beginning_of_a_longer_one():
    short, long = YinYang("test", size=10), YinYang("test")
    assert torch.equal(short.points, long.points[:10])
    assert len(YinYang("test", size=0)) == 0


def test_encoding():
    data = YinYang("test")
    assert repr(data) == "YinYang(Events(1000 samples, 5000 events, 5 units))"
    assert torch.equal(data.events.first()[:, :4], data.points * 30e-3)
    assert (data.events.first()[:, 4] == 0).all()
    late = YinYang("test", early=2e-3, late=26e-3, bias=1e-3)
    assert torch.allclose(late.events.first()[:, :4], 2e-3 + data.points * 24e-3, rtol=0, atol=1e-17)
    assert (late.events.first()[:, 4] == 1e-3).all()
    assert torch.equal(late.encode(data.points[:3, :2]).time, late.events[:3].time)


def test_one_sample_and_a_batch():
    data = YinYang("test")
    events, label = data[5]
    batch, labels = data.batch(torch.tensor([5, 9]))
    assert torch.equal(events.time, batch[0].time)
    assert label == labels[0]


def test_bad_arguments():
    with pytest.raises(OutOfRange, match="no split 'tset'.*train, validation, test"):
        YinYang("tset")  # type: ignore[arg-type]
    with pytest.raises(ShapeMismatch, match=r"\(N, 2\)"):
        YinYang("test", size=1).encode(torch.zeros(3, 4))


def test_the_training_set_takes_a_tenth_of_a_second():
    def seconds() -> float:
        began = time.process_time()
        YinYang("train")
        return time.process_time() - began

    assert min(seconds() for _ in range(5)) < 0.1
