import os
import shutil
from pathlib import Path

import pytest
import torch

from spikeloop.data import MNIST, FashionMNIST, PixelLatency, loader, rotation, shrink
from spikeloop.errors import DataError, OutOfRange

needs_data = pytest.mark.skipif("SPIKELOOP_DATA" not in os.environ, reason="SPIKELOOP_DATA absent")
TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_data
def test_splits_shapes_and_histograms():
    whole, train, validation, test = (MNIST(s) for s in ("train+validation", "train", "validation", "test"))
    assert [tuple(d.images.shape) for d in (whole, train, validation, test)] == [
        (n, 28, 28) for n in (60000, 55000, 5000, 10000)
    ]
    assert torch.bincount(whole.labels).tolist() == TRAIN
    assert torch.bincount(test.labels).tolist() == TEST
    assert torch.equal(torch.cat([validation.images, train.images]), whole.images)
    assert torch.equal(torch.cat([validation.labels, train.labels]), whole.labels)
    assert whole.images.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)


@needs_data
def test_fashion():
    train, test = FashionMNIST("train+validation"), FashionMNIST("test", size=16)
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert train.images.float().mean().item() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert test.batch(torch.arange(5))[0].size == 256


@needs_data
def test_every_pixel_above_one_gives_its_spike():
    data = MNIST("test").subset(slice(0, 500))
    pixels = data.images.flatten(1).double()
    wanted = torch.where(pixels > 1, (1 - pixels / 255) * 20e-3, torch.inf)
    assert data.events.size == 784
    assert len(data.events.time) == int((pixels > 1).sum())
    assert torch.allclose(data.events.first(), wanted, rtol=0, atol=1e-9)


@needs_data
def test_sixteen():
    data = MNIST("test", size=16).subset(slice(0, 50))
    pixels = shrink(data.images, 2, 16).flatten(1).double() / 255
    first = data.events.first(fill=20e-3)
    assert torch.allclose(first[pixels > 0.005], ((1 - pixels) * 20e-3)[pixels > 0.005], rtol=0, atol=1e-8)
    assert data.events.count.max() == 1


@needs_data
def test_augmented_epoch():
    data = MNIST("validation", size=16, augment=rotation(15))
    one, two = (list(loader(data, 500, shuffle=True, seed=3)) for _ in range(2))
    for (drive, label), (again, same_label) in zip(one, two, strict=True):
        assert torch.equal(label, same_label)
        assert torch.equal(drive.time, again.time)
    plain = data.events.count.sum() / len(data)
    assert sum(len(drive.time) for drive, _ in one) / len(data) == pytest.approx(plain.item(), rel=0.3)


@needs_data
def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    source = Path(os.environ["SPIKELOOP_DATA"]) / "mnist"
    (tmp_path / "mnist").mkdir()
    for path in source.glob("t10k*"):
        shutil.copyfile(path, tmp_path / "mnist" / path.name)
    monkeypatch.setenv("SPIKELOOP_DATA", str(tmp_path))
    assert len(MNIST("test")) == 10000
    damaged = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz: sha256"):
        MNIST("test")


@needs_data
def test_bad_arguments():
    with pytest.raises(OutOfRange, match="28 or 16"):
        MNIST("test", size=20)
    with pytest.raises(OutOfRange, match="no split 'all'"):
        MNIST("all")  # type: ignore[arg-type]


def test_pixel_latency():
    images = torch.zeros(2, 28, 28)
    images[0, 14, 14], images[1, 0, 0] = 1.0, 1.0
    assert PixelLatency()(images).count.sum(1).tolist() == [1, 1]
    small = PixelLatency(16)(images)
    assert small.size == 256
    assert small.count.sum(1).tolist() == [1, 0]  # the border is cut off; pixel 12 of 24 lies in pixel 8 of 16
    assert small.unit.tolist() == [8 * 16 + 8]
    assert small.time.item() == pytest.approx((1 - 4 / 9) * 20e-3)
