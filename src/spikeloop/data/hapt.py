"""From the sensor recordings of data set 341 of the UCI repository (HAPT) to windows; needs scipy (extra `har`)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.errors import DataError

RATE = 50.0  # samples per second
LENGTH, STEP = 128, 64  # samples of a window, and from one to the next
NOISE_EDGE, GRAVITY_EDGE = 20.0, 0.3  # Hz
ACCELERATION_STEP = 1.0 / 720.0  # g
ROTATION_STEP = np.deg2rad(0.0175)  # rad/s
TEST_PERSONS = (2, 4, 9, 10, 12, 13, 18, 20, 24)
NAMES = ("X_train", "y_train", "subject_train", "X_test", "y_test", "subject_test")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Recording:
    """One person's run through the protocol. Counts are steps of the sensors, (samples, 3) along x, y, z.

    labels: rows of activity, first and last sample, counted from 1, the last one included.
    """

    person: int
    acceleration: NDArray[np.int16]
    rotation: NDArray[np.int16]
    labels: NDArray[np.int32]

    def windows(self) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
        """(windows, 9, LENGTH): acceleration of the body and rotation, then the whole acceleration; and activities."""
        signals = filtered(self.acceleration * ACCELERATION_STEP, self.rotation * ROTATION_STEP)
        found = [(first, activity) for activity, first in self._starts()]
        cut = [signals[first : first + LENGTH].T for first, _ in found]
        activities = np.array([activity for _, activity in found], np.int8)
        return np.array(cut, np.float16).reshape(-1, 9, LENGTH), activities

    def _starts(self) -> Iterator[tuple[int, int]]:
        """Activity and first sample of every window: they lie within a labelled interval."""
        for activity, first, last in self.labels.tolist():
            for start in range(first - 1, last - LENGTH + 1, STEP):
                yield activity, start


def filtered(acceleration: NDArray[np.floating], rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """(samples, 9) from (samples, 3) each: what a body does, without what the sensors add and without gravity.

    Median of three, then Butterworth low passes of third order, forward and backward: noise above 20 Hz goes, and what
    is left of the acceleration below 0.3 Hz is gravity. The authors name the filters, but not in every detail.
    """
    signal = scipy_signal()

    def low_pass(x: NDArray[np.floating], edge: float) -> NDArray[np.float64]:
        numerator, denominator = signal.butter(3, edge / (RATE / 2))
        return signal.filtfilt(numerator, denominator, x, axis=0)

    whole, turning = (low_pass(signal.medfilt(x, (3, 1)), NOISE_EDGE) for x in (acceleration, rotation))
    return np.concatenate([whole - low_pass(whole, GRAVITY_EDGE), turning, whole], axis=1)


def windows_of(archive: Path) -> Arrays:
    """All windows of the published archive, as `NAMES`: inputs, activities 1 to 12, persons, by the official split."""
    parts: dict[str, list[tuple[NDArray[Any], ...]]] = {"train": [], "test": []}
    for recording in recordings_of(archive):
        inputs, activities = recording.windows()
        part = "test" if recording.person in TEST_PERSONS else "train"
        parts[part].append((inputs, activities, np.full(len(activities), recording.person, np.int8)))
    return {
        f"{name}_{part}": np.concatenate(arrays)
        for part, pieces in parts.items()
        for name, arrays in zip(("X", "y", "subject"), zip(*pieces, strict=True), strict=True)
    }


def recordings_of(archive: Path) -> Iterator[Recording]:
    """The recordings in the archive, one experiment after the other. Raises DataError where it holds something else."""
    try:
        with zipfile.ZipFile(archive) as file:
            files = {name.rpartition("RawData/")[2]: name for name in file.namelist() if "RawData/" in name}
            rows = np.loadtxt(io.BytesIO(file.read(files["labels.txt"])), np.int32, ndmin=2)
            for experiment in np.unique(rows[:, 0]):
                mine = rows[rows[:, 0] == experiment]
                person = int(mine[0, 1])
                acceleration, rotation = (
                    _counts(file.read(files[f"{kind}_exp{experiment:02}_user{person:02}.txt"]), step)
                    for kind, step in (("acc", ACCELERATION_STEP), ("gyro", ROTATION_STEP))
                )
                yield Recording(person, acceleration, rotation, mine[:, 2:])
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot be read ({error})", where=str(archive), expected="the archive of UCI data set 341, RawData in it"
        ) from error


def _counts(text: bytes, step: float) -> NDArray[np.int16]:
    """The published numbers are multiples of the sensors' steps, rounded where they were printed."""
    return np.rint(np.loadtxt(io.BytesIO(text), ndmin=2) / step).astype(np.int16)


def scipy_signal() -> Any:
    """The module scipy.signal. Raises DataError where it is missing."""
    try:
        import scipy.signal  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise DataError("recordings are filtered with scipy, which is not installed", where="har",
                        todo='Install it with pip install "spikeloop[har]"') from error  # fmt: skip
    return scipy.signal
