"""Six activities of daily living, from the motion sensors of a smartphone at the waist."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikeloop._files import read_arrays, user_cache, write_arrays
from spikeloop._warn import warn
from spikeloop.data.arrays import ArrayDataset, Augmentation, Preparation
from spikeloop.data.fetch import RemoteFile
from spikeloop.data.hapt import LENGTH, NAMES, Arrays, scipy_signal, windows_of
from spikeloop.errors import OutOfRange

Split = Literal["train", "validation", "test", "train+validation"]

ACTIVITIES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "lying")
VALIDATION_PERSONS = (6, 14, 19, 25, 29)  # every fourth of the 21 that the authors chose for the training
WINDOWS = RemoteFile(
    "har", "hapt_windows.npz", "d15b03cc075021352632e466ed2dad3f8cfc1d9bb9971fb996b7693060d80ee3", ()
)  # made of the recordings before; nobody publishes it
ARCHIVE = RemoteFile(
    "har",
    "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
    "4ac4ae064227c07045a99551876b54d204837e995e298b6488559e209b3deb09",
    ("https://archive.ics.uci.edu/static/public/341/",),
)
SMALL_ACCELERATION, SMALL_ROTATION = 0.01, 0.025  # g, rad/s: what a still person's body does
LICENCE = (
    "The HAPT recordings (Reyes-Ortiz et al., Neurocomputing 2015) may be used with a citation; "
    "their authors prohibit any commercial use"
)
_FORMAT, _VERSION = "spikeloop HAR windows", 1


class HAR(ArrayDataset):
    """What a person is doing, from 2.56 s of acceleration and rotation: six `ACTIVITIES`, labels 0 to 5.

    inputs: (B, 9, 128) at 50 Hz: acceleration of the body along x, y, z (g), rotation (rad/s), acceleration with
    gravity (g). persons: (B,), who it was.
    split: by person. "train" (16 people), "validation" (`VALIDATION_PERSONS`), "train+validation" (21), "test" (9).
    augment, prepare: see `ArrayDataset`; for instance `WornAnew` and `compressed`.

    These are the recordings, the people and the split of UCI data set 341 (HAPT), of which UCI HAR is an older
    version; its windows are not the same numbers, so published accuracies are comparable only roughly. They come from
    SPIKELOOP_DATA/har (hapt_windows.npz, or the published archive) or are downloaded and cut here, for which scipy
    (extra `har`) is needed; checksums are verified (DataError).

    Licence: ANY COMMERCIAL USE IS PROHIBITED by the authors; publications must cite J.-L. Reyes-Ortiz, L. Oneto,
    A. Sama, X. Parra, D. Anguita, "Transition-Aware Human Activity Recognition Using Smartphones", Neurocomputing,
    2015. Not to be passed on with other software.
    """

    persons: Tensor

    def __init__(
        self, split: Split = "train", augment: Augmentation | None = None, prepare: Preparation | None = None
    ) -> None:
        if split not in ("train", "validation", "test", "train+validation"):
            raise OutOfRange(f"no split {split!r}", where="har", expected="train, validation, test, train+validation")
        arrays, part = _arrays(), "test" if split == "test" else "train"
        labels, persons = (torch.from_numpy(arrays[f"{name}_{part}"]).to(torch.int64) for name in ("y", "subject"))
        wanted = labels <= len(ACTIVITIES)  # what follows are transitions from one posture to another
        if split in ("train", "validation"):
            held_out = torch.isin(persons, torch.tensor(VALIDATION_PERSONS))
            wanted &= held_out if split == "validation" else ~held_out
        inputs = torch.from_numpy(arrays[f"X_{part}"]).float()
        super().__init__(inputs[wanted], labels[wanted] - 1, augment, prepare)
        self.persons = persons[wanted]


def compressed(windows: Tensor) -> Tensor:
    """Windows with motions on a logarithmic scale, about -3 to 3, as `ArrayDataset` prepares them.

    What tells sitting from standing is how little a still body moves: on the scale of walking a network hardly sees it,
    and five bits nothing of it. asinh(x / 0.01 g) / 2, asinh(x / 0.025 rad/s) / 2; with gravity it is x / 0.5 g.
    """
    body, rotation, whole = windows.split(3, 1)
    small = [(body / SMALL_ACCELERATION).asinh_() / 2.0, (rotation / SMALL_ROTATION).asinh_() / 2.0]
    return torch.cat([*small, whole * 2.0], 1)


@dataclass(frozen=True)
class WornAnew:
    """An augmentation of windows: the phone sits differently, and somebody moves more or less, sooner or later.

    tilt: degrees about each axis, and strength: relative, of acceleration and of rotation (standard deviations).
    shift: samples by which a window is moved at most; what leaves it at one end comes in at the other.
    """

    tilt: float = 10.0
    strength: float = 0.1
    shift: int = 16

    def __call__(self, windows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        moved = self._moved(windows, generator)
        vectors = self._turns(len(moved), generator)[:, None] @ moved.view(-1, 3, 3, LENGTH)
        more, faster = 1.0 + self.strength * torch.randn(2, len(moved), 1, 1, generator=generator)
        body, rotation, whole = vectors.unbind(1)
        gravity = whole - body
        return torch.cat([body * more, rotation * faster, gravity + body * more], 1)

    def _moved(self, windows: Tensor, generator: torch.Generator | None) -> Tensor:
        by = torch.randint(-self.shift, self.shift + 1, (len(windows), 1), generator=generator)
        source = (torch.arange(LENGTH) + by) % LENGTH
        return windows.gather(2, source[:, None].expand_as(windows))

    def _turns(self, samples: int, generator: torch.Generator | None) -> Tensor:
        """(samples, 3, 3): rotation matrices, exponentials of their generators."""
        x, y, z = torch.randn(3, samples, generator=generator) * math.radians(self.tilt)
        zero = torch.zeros(samples)
        return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(samples, 3, 3).matrix_exp()


def _arrays() -> Arrays:
    """The windows of all activities: those at hand, or else cut from the published recordings, and kept."""
    if (path := WINDOWS.at_hand()) is not None:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in NAMES}
    cache = user_cache()
    kept = None if cache is None else cache / WINDOWS.folder / WINDOWS.name
    if kept is not None and kept.exists():
        return read_arrays(kept, _FORMAT, _VERSION, NAMES)
    scipy_signal()  # before 80 MB are downloaded, scipy is missed and the licence told
    warn(LICENCE)
    arrays = windows_of(ARCHIVE.locate())
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(kept, _FORMAT, _VERSION, arrays)
    return arrays
