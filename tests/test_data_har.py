import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from spikeloop.data import HAR, WornAnew, compressed, hapt, har
from spikeloop.data.hapt import ACCELERATION_STEP, ROTATION_STEP, Recording, filtered, recordings_of, windows_of
from spikeloop.errors import DataError, OutOfRange, SpikeloopWarning

needs_data = pytest.mark.skipif("SPIKELOOP_DATA" not in os.environ, reason="SPIKELOOP_DATA absent")
TRAIN = [1226, 1073, 987, 1293, 1423, 1413]
TEST = [496, 471, 420, 508, 556, 545]


def recording(person: int, samples: int = 700, labels=((1, 1, 300), (12, 301, 449), (6, 450, 577))) -> Recording:
    """A person of whom nothing was measured but chance."""
    counts = np.random.default_rng(person).integers(-2000, 2000, (2, samples, 3)).astype(np.int16)
    return Recording(person, *counts, np.array(labels, np.int32))


def publish(path: Path, recordings: list[Recording], folder: str = "HAPT Data Set/") -> Path:
    """An archive of them as the repository has it: numbers as text, in g and rad/s."""
    with zipfile.ZipFile(path, "w") as file:
        rows = [(i, r.person, *label) for i, r in enumerate(recordings, 1) for label in r.labels.tolist()]
        file.writestr(f"{folder}RawData/labels.txt", "\n".join(" ".join(map(str, row)) for row in rows))
        for i, r in enumerate(recordings, 1):
            for kind, counts, step in (
                ("acc", r.acceleration, ACCELERATION_STEP),
                ("gyro", r.rotation, ROTATION_STEP),
            ):
                text = "\n".join(" ".join(f"{x:.16g}" for x in np.float32(row * step)) for row in counts)
                file.writestr(f"{folder}RawData/{kind}_exp{i:02}_user{r.person:02}.txt", text)
    return path


@needs_data
def test_splits_are_by_person():
    whole, train, validation, test = (HAR(s) for s in ("train+validation", "train", "validation", "test"))
    assert torch.bincount(whole.labels).tolist() == TRAIN
    assert torch.bincount(test.labels).tolist() == TEST
    assert set(test.persons.tolist()) == set(hapt.TEST_PERSONS)
    assert set(validation.persons.tolist()) == set(har.VALIDATION_PERSONS)
    assert not set(train.persons.tolist()) & {*har.VALIDATION_PERSONS, *hapt.TEST_PERSONS}
    assert len(set(train.persons.tolist())) == 16
    assert len(train) + len(validation) == len(whole)
    assert all(d.inputs.shape == (len(d), 9, 128) and d.inputs.dtype == torch.float32 for d in (whole, test))
    lying = whole.inputs[whole.labels == 5, 6].mean()  # x points up where one stands
    assert whole.inputs[whole.labels == 4, 6].mean() > 0.9
    assert lying < 0.5


@needs_data
def test_windows_are_cut_from_the_recordings():
    """Two of the recordings, filtered and cut here, are the windows of the file, bit for bit."""
    folder = Path(os.environ["SPIKELOOP_DATA"]) / "har"
    if not (folder / "hapt_raw.npz").exists():
        pytest.skip("the recordings are absent")
    with np.load(folder / "hapt_raw.npz") as file, np.load(folder / "hapt_windows.npz") as more:
        raw, windows = dict(file), dict(more)
    for number in (0, 2):  # of persons 1 and 2, one for the training and one for the test
        rows, labels = slice(*raw["offsets"][number : number + 2]), raw["labels"]
        mine = labels[labels[:, 0] == raw["experiment"][number]]
        person = int(raw["user"][number])
        inputs, activities = Recording(person, raw["acc"][rows], raw["gyro"][rows], mine[:, 2:]).windows()
        part = "test" if person in hapt.TEST_PERSONS else "train"
        there = windows[f"experiment_{part}"] == raw["experiment"][number]
        assert np.array_equal(inputs, windows[f"X_{part}"][there])
        assert np.array_equal(activities, windows[f"y_{part}"][there])


def test_windows_lie_within_the_labelled_intervals():
    inputs, activities = recording(3).windows()
    assert activities.tolist() == [1, 1, 1, 12, 6]  # 300 samples hold three windows, 149 and 128 one, 127 none
    assert inputs.shape == (5, 9, 128)
    assert np.array_equal(inputs[0, :, 64:], inputs[1, :, :64])
    nothing, none = recording(3, labels=((1, 1, 127),)).windows()
    assert nothing.shape == (0, 9, 128)
    assert not len(none)


def test_filters_take_away_noise_and_gravity():
    time = np.arange(2000) / hapt.RATE
    steady, slow, quick = np.ones_like(time), np.sin(2 * np.pi * 2 * time), np.cos(2 * np.pi * 25 * time)
    flattened = 1 - np.cos(2 * np.pi * 2 / hapt.RATE)  # at most, where a median of three meets a peak
    acceleration = np.stack([steady, steady + slow, steady + quick], 1)
    out = filtered(acceleration, np.stack([steady, slow, quick], 1))[400:-400]
    body, turning, whole = out[:, :3], out[:, 3:6], out[:, 6:]
    assert np.abs(whole - np.stack([steady, steady + slow, steady], 1)[400:-400]).max() < flattened
    assert np.abs(body - np.stack([0 * steady, slow, 0 * steady], 1)[400:-400]).max() < flattened
    assert np.abs(turning - np.stack([steady, slow, 0 * steady], 1)[400:-400]).max() < flattened


@pytest.mark.parametrize("folder", ["", "HAPT Data Set/"])
def test_the_archive_gives_what_was_recorded(tmp_path, folder):
    recordings = [recording(2), recording(3)]
    archive = publish(tmp_path / "hapt.zip", recordings, folder)
    for found, put in zip(recordings_of(archive), recordings, strict=True):
        assert found.person == put.person
        for name in ("acceleration", "rotation", "labels"):
            assert np.array_equal(getattr(found, name), getattr(put, name))
    arrays = windows_of(archive)
    for part, put in zip(("test", "train"), recordings, strict=True):
        inputs, activities = put.windows()
        assert np.array_equal(arrays[f"X_{part}"], inputs)
        assert np.array_equal(arrays[f"y_{part}"], activities)
        assert set(arrays[f"subject_{part}"]) == {put.person}


@pytest.mark.parametrize("broken", ["no zip", "no recordings", "no numbers"])
def test_another_archive_is_refused(tmp_path, broken):
    archive = tmp_path / "other.zip"
    archive.write_bytes(b"something else")
    if broken != "no zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("RawData/labels.txt", "1 1 5 1 300" if broken == "no recordings" else "one two")
    with pytest.raises(DataError, match=r"other\.zip: cannot be read.*UCI data set 341"):
        list(recordings_of(archive))


@pytest.fixture
def without_windows(tmp_path, monkeypatch):
    """A machine with the archive of a made-up experiment and no windows; its cache."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("SPIKELOOP_DATA", str(tmp_path))
    (tmp_path / "har").mkdir()
    publish(tmp_path / "har" / har.ARCHIVE.name, [recording(person) for person in (1, 2, 6)])
    return tmp_path / "cache" / "spikeloop" / "har" / "hapt_windows.npz"


def test_published_recordings_are_cut_once(without_windows, monkeypatch):
    refused = pytest.raises(DataError, match=f"Expected: {har.ARCHIVE.sha256}")
    with pytest.warns(SpikeloopWarning, match="prohibit any commercial use"), refused:  # before anything is fetched
        HAR("test")
    monkeypatch.setattr("spikeloop.data.fetch.verify", lambda path, sha256: None)
    with pytest.warns(SpikeloopWarning, match="prohibit any commercial use"):
        test = HAR("test")
    assert test.labels.tolist() == [0, 0, 0, 5]
    assert test.persons.tolist() == [2] * 4
    assert without_windows.exists()
    monkeypatch.setattr(har, "windows_of", None)
    assert [HAR(s).persons.tolist() for s in ("train", "validation")] == [[1] * 4, [6] * 4]


def test_without_scipy_names_the_extra_before_anything_is_fetched(without_windows, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    with pytest.raises(DataError, match=r"scipy, which is not installed.*spikeloop\[har\]"):
        HAR("test")


@needs_data
def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    source = Path(os.environ["SPIKELOOP_DATA"]) / "har" / har.WINDOWS.name
    (tmp_path / "har").mkdir()
    damaged = tmp_path / "har" / har.WINDOWS.name
    shutil.copyfile(source, damaged)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    monkeypatch.setenv("SPIKELOOP_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"hapt_windows\.npz: sha256"):
        HAR("test")


def still_and_walking() -> torch.Tensor:
    """(2, 9, 128): a still person upright, and one that moves, each with gravity along x."""
    generator = torch.Generator().manual_seed(0)
    body, turning = torch.randn(2, 2, 3, 128, generator=generator) * torch.tensor([0.005, 0.3])[:, None, None]
    return torch.cat([body, turning, body + torch.tensor([1.0, 0.0, 0.0])[:, None]], 1)


def test_small_motions_are_seen_beside_large_ones():
    windows = still_and_walking()
    before = windows.clone()
    seen = compressed(windows)
    assert torch.equal(windows, before)
    assert seen[:, :6].abs().max() < 3
    small, large = seen[0, :6].std(), seen[1, :6].std()
    assert windows[1, :6].std() > 50 * windows[0, :6].std()
    assert large < 25 * small
    assert torch.allclose(torch.sinh(2 * seen[:, :3]) * 0.01, windows[:, :3], atol=1e-6)
    assert torch.allclose(torch.sinh(2 * seen[:, 3:6]) * 0.025, windows[:, 3:6], atol=1e-6)
    assert torch.equal(seen[:, 6:] / 2, windows[:, 6:])


def test_worn_anew():
    windows = still_and_walking().repeat(200, 1, 1)
    same = WornAnew(0.0, 0.0, 0)
    assert torch.allclose(same(windows), windows, atol=1e-6)
    one, two = (WornAnew()(windows, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two)
    turned = WornAnew(10.0, 0.0, 0)(windows)
    length, turned_length = (w.view(-1, 3, 3, 128).norm(dim=2) for w in (windows, turned))
    assert torch.allclose(turned_length, length, atol=1e-5)
    upright = (turned[:, 6:] - turned[:, :3]).mean(2)  # gravity, of length 1
    tilt = torch.rad2deg(upright[:, 1:].norm(dim=1).asin())
    assert tilt.square().mean().sqrt() == pytest.approx(10 * 2**0.5, rel=0.1)
    stronger = WornAnew(0.0, 0.1, 0)(windows)
    factors = (stronger[1::2, 0] / windows[1::2, 0]).mean(1)
    assert torch.allclose(stronger[1::2, 0], windows[1::2, 0] * factors[:, None], atol=1e-5)
    assert factors.std().item() == pytest.approx(0.1, rel=0.2)
    assert torch.allclose(stronger[:, 6:] - stronger[:, :3], windows[:, 6:] - windows[:, :3], atol=1e-6)
    moved = WornAnew(0.0, 0.0, 16)(windows)
    assert torch.allclose(moved.sort(2).values, windows.sort(2).values, atol=1e-6)
    peaks = (moved[1::2, 0].argmax(1) - windows[1, 0].argmax()) % 128
    assert set(peaks.tolist()) == {k % 128 for k in range(-16, 17)}


def test_bad_arguments():
    with pytest.raises(OutOfRange, match="no split 'all'"):
        HAR("all")  # type: ignore[arg-type]
