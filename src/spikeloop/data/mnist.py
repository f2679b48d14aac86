"""MNIST and Fashion-MNIST as spike latencies, 28 x 28 or 16 x 16 pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeloop.data.dataset import ImageEvents
from spikeloop.data.encode import latency
from spikeloop.data.fetch import RemoteFile
from spikeloop.data.images import read_idx, shrink
from spikeloop.errors import OutOfRange
from spikeloop.events import Events

Split = Literal["train", "validation", "test", "train+validation"]
Augmentation = Callable[[Tensor, torch.Generator | None], Tensor]

_DURATION = 40e-3  # seconds: inputs within the first 20 ms, as long again for the answer
_VALIDATION = 5000  # the first of the 60000 training images, as in Wunderlich & Pehle 2021
_PARTS: dict[str, tuple[str, slice]] = {
    "train": ("train", slice(_VALIDATION, None)),
    "validation": ("train", slice(_VALIDATION)),
    "train+validation": ("train", slice(None)),
    "test": ("t10k", slice(None)),
}
_MNIST_SOURCES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_FASHION_SOURCES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
_FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


@dataclass(frozen=True)
class PixelLatency:
    """Images (B, 28, 28) from 0 to 1 -> one spike per bright pixel, t = (1 - value) duration; one unit per pixel.

    size: 28, or less: then two rows and columns are cut off at each side and the rest is averaged to size x size.
    threshold: darker pixels, and those equal to it, stay silent; 1/255 means values above 1 of 255.
    """

    size: int = 28
    duration: float = 20e-3
    threshold: float = 1.0 / 255.0

    def __call__(self, images: Tensor) -> Events:
        pixels = images if self.size == images.shape[1] else shrink(images, 2, self.size)
        return latency(pixels.flatten(1).clamp(0.0, 1.0), self.duration, self.threshold)


class _Images(ImageEvents):
    """70000 images of ten classes, in the files and the format of MNIST."""

    _folder: ClassVar[str]
    _sha256: ClassVar[dict[str, str]]
    _sources: ClassVar[Sequence[str]]

    def __init__(
        self,
        split: Split = "train",
        size: int = 28,
        encode: Callable[[Tensor], Events] | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        images, labels = _read(self._folder, split, self._sha256, self._sources)
        super().__init__(images, labels, encode or _pixel_latency(size), augment, None if encode else _DURATION)


class MNIST(_Images):
    """Handwritten digits 0 to 9 as spike latencies: t = (1 - p / 255) 20 ms for pixels p > 1, others silent.

    split: "train" (55000: all but the first 5000 training images), "validation" (these 5000), "test" (10000) or
    "train+validation" (60000). size: 28 or 16 (see `PixelLatency`). encode: another encoder of images (B, 28, 28).
    augment: for instance `rotation(15)`; acts on the 28 x 28 images, in every batch anew. Samples last 40 ms, with an
    encoder of your own as long as you say.

    The files come from SPIKELOOP_DATA/mnist or are downloaded; checksums are verified (DataError).
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86(11), 1998; encoding of Wunderlich & Pehle 2021.
    """

    _folder, _sha256, _sources = "mnist", _MNIST_SHA256, _MNIST_SOURCES


class FashionMNIST(_Images):
    """Pictures of clothes in ten classes, in every respect like `MNIST`.

    T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.

    The files come from SPIKELOOP_DATA/fashion_mnist or are downloaded; checksums are verified (DataError).
    H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747, 2017.
    """

    _folder, _sha256, _sources = "fashion_mnist", _FASHION_SHA256, _FASHION_SOURCES


def _pixel_latency(size: int) -> PixelLatency:
    if size not in (28, 16):
        raise OutOfRange(f"images of size {size}", expected="28 or 16", todo="Give encode= for anything else")
    return PixelLatency(size)


def _read(folder: str, split: str, sha256: dict[str, str], sources: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Images (B, 28, 28) uint8 and labels (B,) int64 of a split."""
    if split not in _PARTS:
        raise OutOfRange(f"no split {split!r}", where=folder, expected=", ".join(_PARTS))
    file, rows = _PARTS[split]
    images, labels = (
        read_idx(RemoteFile(folder, name, sha256[name], sources).locate())
        for name in (f"{file}-images-idx3-ubyte.gz", f"{file}-labels-idx1-ubyte.gz")
    )
    return torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]).to(torch.int64)
