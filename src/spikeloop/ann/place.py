"""Where the layers of `spikeloop.ann` compute: in floating point, in integers as the array does, or on chips.

One model, several places: a place is given to a run of the model, not to its layers.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from spikeloop.ann.straight import straight_through
from spikeloop.chip.mac import GAIN_UNIT, HEIGHT, RESULT_MAX, RESULT_MIN
from spikeloop.errors import OutOfRange, WrongType, kind_of

if TYPE_CHECKING:
    from spikeloop.ann.layers import OnArray


class Place(Protocol):
    """Where a model's layers compute."""

    @property
    def rounds(self) -> bool:
        """Whether values are rounded and cut to what the array takes and gives."""
        ...

    def compute(self, layer: OnArray, given: Tensor) -> Tensor:
        """The output of ``layer`` in model units, without its bias."""
        ...


@dataclass(frozen=True)
class Float:
    """Floating point: every layer as its namesake in `torch.nn`."""

    rounds = False

    def compute(self, layer: OnArray, given: Tensor) -> Tensor:
        """``given`` times the weight."""
        return layer.product(given, layer.weight)


@dataclass(frozen=True)
class Quantised:
    """The array's arithmetic without a chip: ``clip(floor(sends gain (a @ w)), -128, 127)`` per 128 rows, then sums.

    noise: standard deviation, in steps of the result, of a normal deviate that is added to each result before it is
    rounded (from torch's global generator); on the chip it is about 2 (hardware.md 3). A model that is trained with it
    loses less when it is moved to a chip. A layer that was not calibrated computes in floating point.
    """

    noise: float = 0.0
    rounds = True

    def __post_init__(self) -> None:
        if not isinstance(self.noise, Real):
            raise WrongType(f"the noise is {kind_of(self.noise)}", where="Quantised", expected="a number of steps")
        if not 0 <= self.noise < RESULT_MAX:
            raise OutOfRange(f"the noise is {self.noise}", where="Quantised", expected="steps of the result, 0 to 127")

    def compute(self, layer: OnArray, given: Tensor) -> Tensor:
        """``given`` times the weight, as the array would have it."""
        if not layer.calibrated:
            return layer.product(given, layer.weight)
        return straight_through(layer, given, self.sums)

    def sums(self, layer: OnArray, weights: Tensor, codes: Tensor) -> Tensor:
        """(V, N): the results of all blocks of rows, added up, with the half step that a floor takes on average."""
        vectors, matrix = layer.vectors(codes), layer.matrix(weights)
        factor = layer.setting.factor
        blocks = range(0, matrix.shape[0], HEIGHT)
        total = vectors.new_tensor(0.5 * len(blocks))
        for row in blocks:
            total = total + self._block(vectors[:, row : row + HEIGHT], matrix[row : row + HEIGHT], factor)
        return total

    def _block(self, vectors: Tensor, matrix: Tensor, factor: int) -> Tensor:
        """What one part of the array gives. Exact also in float32: sums are integers below 2^24, and so are those that
        are not far beyond the edges after they were multiplied; their quotients differ from integers by 1e-4 or not."""
        beyond = -(RESULT_MIN * GAIN_UNIT) // factor + 1
        result = (vectors @ matrix).clamp_(-beyond, beyond).mul_(factor).div_(GAIN_UNIT)
        if self.noise:
            result.add_(torch.randn_like(result), alpha=self.noise)
        return result.floor_().clamp_(RESULT_MIN, RESULT_MAX)


QUANTISED = Quantised()
"""Where a model computes unless another place is given."""

_place: ContextVar[Place] = ContextVar("place", default=QUANTISED)


def here() -> Place:
    """Where layers compute now."""
    return _place.get()


@contextmanager
def computing(place: Place) -> Generator[None]:
    """Within this block, layers compute at ``place``."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)
