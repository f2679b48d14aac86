"""What is timed: a network, weights and events included, as plain NumPy. No torch, no spikeloop: peers read it, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """Layers of LIF neurons, the last of LI neurons if `readout`, the hidden ones with loops if `recurrent`.

    Times in seconds. One sample in `batch` at a training step, in `many` where only the answer is wanted.
    """

    sizes: tuple[int, ...]
    tau_mem: float
    tau_syn: float
    duration: float
    batch: int
    many: int
    readout: bool = True
    recurrent: bool = False


@dataclass(frozen=True)
class Batch:
    """Events of some samples, sample b being rows start[b]:start[b + 1], and their labels."""

    time: Array
    unit: Array
    start: Array
    label: Array


@dataclass(frozen=True)
class Problem:
    """A `Shape`; weights (source, target) from layer to layer; loops of the hidden layers; events of many samples.

    spikes: of each hidden layer per sample, in continuous time.
    """

    shape: Shape
    weights: list[Array]
    loops: list[Array]
    events: Batch
    spikes: list[float]

    def batches(self, size: int, most: int = 1000) -> Iterator[Batch]:
        """The samples in whole batches of `size`, `most` of them at the most."""
        every = self.events
        for first in range(0, min(len(every.label) // size, most) * size, size):
            begin, end = every.start[first], every.start[first + size]
            start = every.start[first : first + size + 1] - begin
            yield Batch(
                every.time[begin:end].copy(), every.unit[begin:end].copy(), start, every.label[first : first + size]
            )

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        arrays = {f"weight{k}": w for k, w in enumerate(self.weights)} | {
            f"loop{k}": w for k, w in enumerate(self.loops)
        }
        part = path.with_suffix(".part.npz")
        np.savez(part, shape=json.dumps(asdict(self.shape)), spikes=self.spikes, **arrays, **asdict(self.events))
        part.rename(path)

    @classmethod
    def load(cls, path: Path, batches: int | None = None) -> Problem:
        """All samples, or only so many batches."""
        with np.load(path) as file:
            shape = json.loads(str(file["shape"]))
            lists = [[file[n] for n in file.files if n.startswith(kind)] for kind in ("weight", "loop")]
            events, spikes = (
                Batch(*(file[name] for name in ("time", "unit", "start", "label"))),
                file["spikes"].tolist(),
            )
        problem = cls(Shape(**shape | {"sizes": tuple(shape["sizes"])}), *lists, events, spikes)
        if batches is None:
            return problem
        return replace(problem, events=next(problem.batches(batches * problem.shape.batch)))
