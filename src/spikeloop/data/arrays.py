"""Labelled arrays: what networks that do not spike are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from spikeloop._ragged import chosen
from spikeloop.data.dataset import labels_for, shares, unit_range

Augmentation = Callable[[Tensor, torch.Generator | None], Tensor]
Preparation = Callable[[Tensor], Tensor]


class ArrayDataset:
    """Arrays and one label per sample, whole in memory.

    inputs: (B, ...) floats, or uint8, of which 0 to 255 mean 0 to 1; labels: (B, ...), see `EventDataset`.
    augment: inputs (n, ...) as float32 and a generator -> inputs, drawn anew for every batch.
    prepare: inputs (n, ...) -> what the network is shown, after augmentation.
    """

    inputs: Tensor
    labels: Tensor
    augment: Augmentation | None
    prepare: Preparation | None

    def __init__(
        self,
        inputs: Tensor | ArrayLike,
        labels: Tensor | ArrayLike,
        augment: Augmentation | None = None,
        prepare: Preparation | None = None,
    ) -> None:
        self.inputs = torch.as_tensor(inputs)
        self.labels, self.augment, self.prepare = labels_for(labels, len(self.inputs)), augment, prepare

    @property
    def random(self) -> bool:
        """Whether batches are drawn anew, not only gathered."""
        return self.augment is not None

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} arrays of {' x '.join(map(str, self.inputs.shape[1:]))})"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One sample as a batch of one, and its label."""
        return self.batch(chosen(index, len(self)))[0], self.labels[index]

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Inputs as float32 and labels of the samples `index` (n,) int64, augmented with draws of `generator`."""
        inputs = unit_range(self.inputs[index])
        if self.augment is not None:
            inputs = self.augment(inputs, generator)
        return inputs if self.prepare is None else self.prepare(inputs), self.labels[index]

    def subset(self, index: slice | Sequence[int] | Tensor) -> ArrayDataset:
        """The samples of a slice, a mask or a sequence of indices."""
        rows = chosen(index, len(self))
        return ArrayDataset(self.inputs[rows], self.labels[rows], self.augment, self.prepare)

    def split(self, fraction: float, seed: int = 0) -> tuple[ArrayDataset, ArrayDataset]:
        """Two parts drawn at random, the first with `fraction` of the samples, each in the original order."""
        first, second = shares(len(self), fraction, seed)
        return self.subset(first), self.subset(second)
