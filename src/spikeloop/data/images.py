"""Images as batches (B, H, W): reading IDX files, shrinking, rotating."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.errors import DataError, OutOfRange

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file, plain or gzipped.

    The format, big-endian: two zero bytes, a type code, the number of dimensions, each dimension as a 32-bit number,
    the entries in C order. Raises DataError if the file is truncated or of another format.
    """
    where, expected = str(path), "an IDX file, plain or gzipped"
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read ({error})", where=where, expected=expected) from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or len(raw) < 4 + 4 * raw[3]:
        raise DataError("not an IDX file", where=where, expected=expected)
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    kind = np.dtype(_IDX_TYPES[raw[2]])
    header, size = 4 + 4 * raw[3], math.prod(shape) * kind.itemsize
    if len(raw) != header + size:
        raise DataError(f"{len(raw) - header} bytes of entries", where=where, expected=f"{size}, for shape {shape}")
    return np.frombuffer(raw, kind, offset=header).reshape(shape).astype(kind.newbyteorder("="))


def shrink(images: Tensor, border: int, size: int) -> Tensor:
    """Images (B, H, W) without `border` rows and columns on each side, averaged down to (B, size, size).

    A pixel of the result is the mean over the area it covers, border pixels counted by the part that is covered.
    """
    height, width = images.shape[1] - 2 * border, images.shape[2] - 2 * border
    cropped = images[:, border : border + height, border : border + width].float()
    return _area(height, size) @ cropped @ _area(width, size).T


@lru_cache(maxsize=16)
def _area(old: int, new: int) -> Tensor:
    """(new, old): the share of each old pixel in each new one, along one axis."""
    edge = torch.arange(new + 1, dtype=torch.float64) * old / new
    pixel = torch.arange(old, dtype=torch.float64)
    overlap = torch.minimum(edge[1:, None], pixel + 1) - torch.maximum(edge[:-1, None], pixel)
    return (overlap.clamp(min=0.0) * new / old).float()


def rotate(images: Tensor, max_degrees: float, generator: torch.Generator | None = None) -> Tensor:
    """Images (B, H, W), each turned about its centre by a random angle from -max_degrees to max_degrees; bilinear.

    What comes in from outside is 0. Angles are uniform, drawn from the generator (torch's global one if None).
    """
    angle = (2.0 * torch.rand(len(images), generator=generator) - 1.0) * math.radians(max_degrees)
    height, width = images.shape[1:]
    y, x = torch.meshgrid(_centred(height), _centred(width), indexing="ij")  # pixels from the centre
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    source = torch.stack([(cosine * x - sine * y) * 2.0 / width, (sine * x + cosine * y) * 2.0 / height], 3)
    return torch.nn.functional.grid_sample(images[:, None].float(), source, align_corners=False)[:, 0]


def _centred(pixels: int) -> Tensor:
    """(pixels,): position of each pixel, 0 in the middle."""
    return torch.arange(pixels) - (pixels - 1) / 2


def rotation(max_degrees: float) -> Callable[[Tensor, torch.Generator | None], Tensor]:
    """An augmentation for `ImageEvents`: `rotate` by up to max_degrees (0 to 180)."""
    if not 0.0 <= max_degrees <= 180.0:
        raise OutOfRange(f"max_degrees = {max_degrees}", where="rotation", expected="0 to 180")
    return lambda images, generator: rotate(images, max_degrees, generator)


def shift(images: Tensor, most: int, generator: torch.Generator | None = None) -> Tensor:
    """Images (B, ..., H, W), each moved by up to `most` pixels up or down and left or right; what comes in is 0."""
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    down, right = torch.randint(2 * most + 1, (2, len(images), 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    sample = torch.arange(len(images))[:, None, None]
    moved = padded.movedim(0, -3)[..., sample, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-3, 0)


def shifting(most: int) -> Callable[[Tensor, torch.Generator | None], Tensor]:
    """An augmentation: `shift` by up to `most` pixels (0 or more)."""
    if most < 0:
        raise OutOfRange(f"most = {most}", where="shifting", expected="0 pixels or more")
    return lambda images, generator: shift(images, most, generator)
