"""Labelled events and images, and batches of them: one gather each, no loop over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from spikeloop._ragged import chosen
from spikeloop.errors import CheckpointError, OutOfRange, ShapeMismatch
from spikeloop.events import Events

_ORDER, _AUGMENT, _SPLIT = 1, 2, 3  # what a random stream is for
_GATHERED = 1 << 17  # events or numbers at once, some MB

Inputs_co = TypeVar("Inputs_co", bound=Events | Tensor, covariant=True)
"""What a data set shows a network: `Events`, or for one that does not spike a tensor."""


class Batches(Protocol[Inputs_co]):
    """What a `Loader` needs of a data set."""

    def __len__(self) -> int: ...

    # May have `random: bool`; where it is False, `batch` is given no generator.

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> tuple[Inputs_co, Tensor]:
        """Inputs_co and labels of the samples `index` (n,) int64; the generator feeds augmentation, if there is any."""
        ...


class EventDataset:
    """Events and one label per sample, whole in memory.

    labels: (B, ...) tensor or array; class numbers are kept as int64, anything else as it is.
    duration: seconds that a sample should run for; None: the user has to say.
    """

    events: Events
    labels: Tensor
    duration: float | None
    random = False

    def __init__(self, events: Events, labels: Tensor | ArrayLike, duration: float | None = None) -> None:
        self.events, self.labels, self.duration = events, labels_for(labels, len(events)), duration

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.events})"

    def __getitem__(self, index: int) -> tuple[Events, Tensor]:
        """One sample as a batch of one, and its label."""
        return self.events[index], self.labels[index]

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> tuple[Events, Tensor]:
        """Events and labels of the samples `index` (n,) int64. Nothing is random here."""
        return self.events[index], self.labels[index]

    def subset(self, index: slice | Sequence[int] | Tensor) -> EventDataset:
        """The samples of a slice, a mask or a sequence of indices."""
        rows = chosen(index, len(self))
        return EventDataset(self.events[rows], self.labels[rows], self.duration)

    def split(self, fraction: float, seed: int = 0) -> tuple[EventDataset, EventDataset]:
        """Two parts drawn at random, the first with `fraction` of the samples, each in the original order."""
        first, second = shares(len(self), fraction, seed)
        return self.subset(first), self.subset(second)


class ImageEvents:
    """Images and one label per sample, turned into events when a batch is asked for.

    images: (B, H, W) uint8, 0 to 255, or floats from 0 to 1; labels: (B, ...).
    encode: images (n, H, W) as float32 from 0 to 1 -> Events of n samples.
    augment: images and generator -> images, drawn anew for every batch. Without it images are encoded once.
    duration: seconds that a sample should run for; None: the user has to say.
    """

    images: Tensor
    labels: Tensor
    encode: Callable[[Tensor], Events]
    augment: Callable[[Tensor, torch.Generator | None], Tensor] | None
    duration: float | None

    def __init__(
        self,
        images: Tensor | ArrayLike,
        labels: Tensor | ArrayLike,
        encode: Callable[[Tensor], Events],
        augment: Callable[[Tensor, torch.Generator | None], Tensor] | None = None,
        duration: float | None = None,
    ) -> None:
        self.images = torch.as_tensor(images)
        if self.images.ndim != 3:
            raise ShapeMismatch(f"images of shape {tuple(self.images.shape)}", expected="(batch, height, width)")
        self.labels = labels_for(labels, len(self.images))
        self.encode, self.augment, self.duration = encode, augment, duration

    @property
    def random(self) -> bool:
        """Whether batches are drawn anew, not only gathered."""
        return self.augment is not None

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __repr__(self) -> str:
        height, width = self.images.shape[1:]
        return f"{type(self).__name__}({len(self)} images of {height} x {width})"

    @cached_property
    def events(self) -> Events:
        """All images encoded as they are, without augmentation."""
        pieces = [self.encode(unit_range(part)) for part in self.images.split(5000)]
        return Events.cat(pieces) if pieces else self.encode(unit_range(self.images))

    def __getitem__(self, index: int) -> tuple[Events, Tensor]:
        """One sample as a batch of one, and its label."""
        return self.batch(chosen(index, len(self)))[0], self.labels[index]

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> tuple[Events, Tensor]:
        """Events and labels of the samples `index` (n,) int64, augmented with draws of `generator`."""
        if self.augment is None:
            return self.events[index], self.labels[index]
        return self.encode(self.augment(unit_range(self.images[index]), generator)), self.labels[index]

    def subset(self, index: slice | Sequence[int] | Tensor) -> ImageEvents:
        """The samples of a slice, a mask or a sequence of indices."""
        rows = chosen(index, len(self))
        return ImageEvents(self.images[rows], self.labels[rows], self.encode, self.augment, self.duration)

    def split(self, fraction: float, seed: int = 0) -> tuple[ImageEvents, ImageEvents]:
        """Two parts drawn at random, the first with `fraction` of the samples, each in the original order."""
        first, second = shares(len(self), fraction, seed)
        return self.subset(first), self.subset(second)


class Loader(Generic[Inputs_co]):
    """Batches of a data set; iterating is one epoch.

    Order and augmentation are a function of (seed, epoch, batch), so those three numbers are the whole state: a
    loader restored with `load_state_dict` in the middle of an epoch goes on with the very batches that were to come.
    `position` counts the batches of the running epoch that were handed out.
    """

    dataset: Batches[Inputs_co]
    batch_size: int
    shuffle: bool
    drop_last: bool
    seed: int
    epoch: int
    position: int

    def __init__(self, dataset: Batches[Inputs_co], batch_size: int, shuffle: bool, seed: int, drop_last: bool) -> None:
        if batch_size < 1:
            raise OutOfRange(f"a batch size of {batch_size}", where="loader", expected="1 or more")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.seed, self.epoch, self.position = seed, 0, 0
        self._restored = False
        self._at_once = 1  # batches that are gathered together

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Inputs_co, Tensor]]:
        return ((inputs, label) for inputs, label, _ in self.several(lambda: 1))

    def several(self, most: Callable[[], int]) -> Iterator[tuple[Inputs_co, Tensor, int]]:
        """An epoch, several batches at once, one after the other, and how many: `most()` at most, and only as they are
        gathered. Raises ShapeMismatch where a data set gathers another number of samples than it is asked for."""
        if not self._restored and self.position:  # an epoch that was left early
            self.epoch, self.position = self.epoch + 1, 0
        self._restored = False
        order = self._order()
        random = getattr(self.dataset, "random", True)
        for batches in self._drawn(order) if random else self._gathered(order, most):
            self.position += batches[2]
            yield batches
        self.epoch, self.position = self.epoch + 1, 0

    def _drawn(self, order: Tensor) -> Iterator[tuple[Inputs_co, Tensor, int]]:
        """Batches that need chance, one by one."""
        for position in range(self.position, len(self)):
            chance = _stream(_AUGMENT, self.epoch, position, self.seed)
            yield *self.dataset.batch(order[position * self.batch_size :][: self.batch_size], chance), 1

    def _gathered(self, order: Tensor, most: Callable[[], int]) -> Iterator[tuple[Inputs_co, Tensor, int]]:
        """The others, several at once: taking a slice costs less than a gather."""
        first, size = self.position, self.batch_size
        while first < len(self):
            last = min(first + self._at_once, len(self))
            index = order[first * size : last * size]
            inputs, label = self.dataset.batch(index)
            if len(label) != len(index):
                raise ShapeMismatch(f"{len(label)} labels", where="data, batch", expected=f"{len(index)}, as asked for",
                                    todo="A data set with `random = True` may return any number")  # fmt: skip
            begin = first
            while begin < last:
                end = min(begin + max(most(), 1), last)
                chosen = slice((begin - first) * size, min((end - first) * size, len(label)))
                yield cast(Inputs_co, inputs[chosen]), label[chosen], end - begin  # a part is of the same kind
                begin = end
            numbers = inputs.time.shape[0] if isinstance(inputs, Events) else inputs.numel()
            most_at_once = _GATHERED * (last - first) // max(numbers, 1)
            self._at_once = min(max(most_at_once, 1), 16 * (last - first))  # the next may not be as empty
            first = last

    def _order(self) -> Tensor:
        """(samples,) int64: the order of the running epoch."""
        if not self.shuffle:
            return torch.arange(len(self.dataset))
        return torch.randperm(len(self.dataset), generator=_stream(_ORDER, self.epoch, 0, self.seed))

    def state_dict(self) -> dict[str, int]:
        """Plain numbers: seed, epoch, position and what they are valid for."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the loader that gave `state` was. Raises CheckpointError if it had other data or batches."""
        mine = self.state_dict()
        if set(state) != set(mine):
            raise CheckpointError("not the state of a loader", where="loader", expected=", ".join(mine))
        for name in ("samples", "batch_size"):
            if state[name] != mine[name]:
                raise CheckpointError(f"{name} is {mine[name]}", where="loader", expected=f"{state[name]}, as saved")
        self.seed, self.epoch, self.position = int(state["seed"]), int(state["epoch"]), int(state["position"])
        self._restored = True


def loader(
    dataset: Batches[Inputs_co],
    batch_size: int,
    shuffle: bool = False,
    seed: int | None = None,
    drop_last: bool = False,
) -> Loader[Inputs_co]:
    """Batches of (inputs, labels), in a new random order each epoch with shuffle=True.

    seed: None draws one from torch's global generator, so that torch.manual_seed decides.
    """
    chosen_seed = int(torch.randint(1 << 62, ())) if seed is None else seed
    return Loader(dataset, batch_size, shuffle, chosen_seed, drop_last)


def _stream(purpose: int, epoch: int, position: int, seed: int) -> torch.Generator:
    """A random stream of its own for each purpose, epoch, position and seed."""
    if seed < 0:
        raise OutOfRange(f"seed {seed}", where="data", expected="0 or more")
    state = np.random.SeedSequence((purpose, epoch, position, seed)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def labels_for(labels: Tensor | ArrayLike, samples: int) -> Tensor:
    """One for each sample; class numbers as int64, anything else as it is."""
    tensor = torch.as_tensor(labels)
    if tensor.ndim == 0 or len(tensor) != samples:
        raise ShapeMismatch(f"labels of shape {tuple(tensor.shape)}", expected=f"one for each of {samples} samples")
    return tensor if tensor.is_floating_point() else tensor.to(torch.int64)


def shares(samples: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Two ascending index tensors that share out the samples at random."""
    if not 0.0 <= fraction <= 1.0:
        raise OutOfRange(f"a fraction of {fraction}", where="split", expected="0 to 1")
    order = torch.randperm(samples, generator=_stream(_SPLIT, 0, 0, seed))
    border = round(fraction * samples)
    return order[:border].sort().values, order[border:].sort().values


def unit_range(images: Tensor) -> Tensor:
    """Images as float32 from 0 to 1."""
    return images.float() / 255.0 if images.dtype == torch.uint8 else images.float()
