"""The Yin-Yang task, bit-identical to the authors' generator."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spikeloop.data.dataset import EventDataset
from spikeloop.errors import OutOfRange, ShapeMismatch
from spikeloop.events import Events

_SPLITS = {"train": (5000, 42), "validation": (1000, 41), "test": (1000, 40)}
_OUTSIDE = 3
_ANSWER = 30e-3  # seconds that a network has for its answer


class YinYang(EventDataset):
    """Points of a Yin-Yang symbol and which part they lie in: 0 yin, 1 yang, 2 dot.

    Five input units: x, y, 1 - x, 1 - y, each a spike at early + value * (late - early), and a bias spike at `bias`.
    Times in seconds; the defaults are those of Wunderlich & Pehle 2021 (0 to 30 ms, bias at 0).

    split: "train" (5000 points, seed 42), "validation" (1000, 41) or "test" (1000, 40); size and seed draw others.
    points: (N, 4) float64, the values x, y, 1 - x, 1 - y.  duration: 30 ms beyond the last input, 60 ms as published.

    L. Kriener, J. Göltz, M. A. Petrovici, "The Yin-Yang dataset", NICE 2022, doi 10.1145/3517343.3517380.
    """

    points: Tensor

    early: float
    late: float
    bias: float

    def __init__(
        self,
        split: Literal["train", "validation", "test"] = "train",
        size: int | None = None,
        seed: int | None = None,
        early: float = 0.0,
        late: float = 30e-3,
        bias: float = 0.0,
    ) -> None:
        if split not in _SPLITS:
            raise OutOfRange(f"no split {split!r}", where="YinYang", expected=", ".join(_SPLITS))
        self.early, self.late, self.bias = early, late, bias
        usual_size, usual_seed = _SPLITS[split]
        points, labels = _generate(usual_size if size is None else size, usual_seed if seed is None else seed)
        self.points = torch.from_numpy(points)
        duration = max(early, late, bias) + _ANSWER
        super().__init__(self.encode(self.points[:, :2]), torch.from_numpy(labels), duration)

    def encode(self, points: Tensor | ArrayLike) -> Events:
        """Events of any points (N, 2), with x and y from 0 to 1, encoded like this data set."""
        xy = torch.as_tensor(points, dtype=torch.float64)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise ShapeMismatch(f"points of shape {tuple(xy.shape)}", where="YinYang.encode", expected="(N, 2)")
        time = self.early + torch.cat([xy, 1.0 - xy], 1) * (self.late - self.early)
        time = torch.cat([time, time.new_full((len(xy), 1), self.bias)], 1)
        unit = torch.arange(5).expand_as(time)
        return Events.from_padded(time, unit, 5)


def _generate(
    size: int, seed: int, r_small: float = 0.1, r_big: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values (size, 4) and labels (size,), as from numpy's legacy generator drawn from call by call.

    For each sample the generator draws a class (0, 1, 2: two bits of a 32-bit word, 3 being drawn again), then
    points of the square (four words each) until one lies in that class. Here the words are drawn at once, and each
    is looked at as if a point began there; what is left to do in order is to step from word to word.
    """
    available = 40 * size + 4096
    while True:
        words = np.random.RandomState(seed).randint(0, 1 << 32, available, dtype=np.uint32)
        high, low = (words[:-1] >> 5).astype(np.float64), (words[1:] >> 6).astype(np.float64)
        uniform: NDArray[np.float64] = (high * 2.0**26 + low) / 2.0**53
        x, y = uniform[:-2] * 2.0 * r_big, uniform[2:] * 2.0 * r_big
        label = _part(x, y, r_small, r_big)
        found = _walk(size, (words & 3).tolist(), label.tolist())
        if len(found) == size:
            row = np.array(found, dtype=np.int64)
            return np.stack([x[row], y[row], 1.0 - x[row], 1.0 - y[row]], 1), label[row]
        available *= 2


def _walk(size: int, two_bits: list[int], label: list[int]) -> list[int]:
    """For each sample the word at which its point begins; fewer than `size` if the words do not suffice."""
    found: list[int] = []
    word = 0
    try:
        for _ in range(size):
            while two_bits[word] == 3:
                word += 1
            wanted = two_bits[word]
            word += 1
            while label[word] != wanted:
                word += 4
            found.append(word)
            word += 4
    except IndexError:
        pass
    return found


def _part(x: NDArray[np.float64], y: NDArray[np.float64], r_small: float, r_big: float) -> NDArray[np.int64]:
    """The part of the symbol each point lies in: 0 yin, 1 yang, 2 dot, 3 outside."""
    right = np.sqrt((x - 1.5 * r_big) ** 2 + (y - r_big) ** 2)
    left = np.sqrt((x - 0.5 * r_big) ** 2 + (y - r_big) ** 2)
    yang = (right <= r_small) | ((left > r_small) & (left <= 0.5 * r_big)) | ((y > r_big) & (right > 0.5 * r_big))
    part = yang.astype(np.int64)
    part[(right < r_small) | (left < r_small)] = 2
    part[np.sqrt((x - r_big) ** 2 + (y - r_big) ** 2) > r_big] = _OUTSIDE
    return part
