"""What is done with the array's 8-bit results before they are sent again: by the chip's processors, or by a host."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeloop.ann.place import here
from spikeloop.chip.mac import ACTIVATION_MAX, RESULT_MAX, RESULT_MIN
from spikeloop.errors import OutOfRange, ShapeMismatch


class OnResults(nn.Module):
    """What takes results in steps of ``scale`` model units, a buffer; `calibrate` finds it. 1: it is given codes."""

    scale: Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 < scale < float("inf"):
            raise OutOfRange(f"scale is {scale}", where=type(self).__name__, expected="model units per step, above 0")
        self.register_buffer("scale", torch.tensor(float(scale)))


class ConvertingReLU(OnResults):
    """Results become activations: ``clip(relu(y) >> shift, 0, 31)``, in units of ``2^shift`` steps.

    The gradient is 1 between 0 and the largest activation, 0 elsewhere. In floating point it is a plain ReLU.
    """

    def __init__(self, shift: int = 2, scale: float = 1.0) -> None:
        super().__init__(scale)
        if not isinstance(shift, int) or not 0 <= shift <= 7:
            raise OutOfRange(f"shift is {shift!r}", where="ConvertingReLU", expected="0 to 7 bits")
        self.shift = shift

    @property
    def step(self) -> Tensor:
        """Model units of one activation step."""
        return self.scale * 2**self.shift

    def forward(self, input: Tensor) -> Tensor:
        """Activations, in model units."""
        return self.converted(input) if here().rounds else input.relu()

    def converted(self, given: Tensor) -> Tensor:
        """Activations, in model units, wherever it runs."""
        step = self.step.to(given.dtype)
        clipped = torch.minimum(given.relu(), ACTIVATION_MAX * step)
        return clipped + ((clipped / step).floor() * step - clipped).detach()

    def extra_repr(self) -> str:
        """``shift=1``"""
        return f"shift={self.shift}"


class Add(OnResults):
    """The sum of two results, cut to 8 bits: ``clip(y + alpha z, -128, 127)``. The gradient is 0 where it was cut."""

    def __init__(self, alpha: float = 1.0, scale: float = 1.0) -> None:
        super().__init__(scale)
        self.alpha = alpha

    def forward(self, input: Tensor, other: Tensor) -> Tensor:
        """``input + alpha other``."""
        if input.shape != other.shape:
            raise ShapeMismatch(f"{tuple(input.shape)} and {tuple(other.shape)}", where="Add", expected="the same")
        total = input + self.alpha * other
        if not here().rounds:
            return total
        scale = self.scale.to(input.dtype)
        clipped = torch.clamp(total, RESULT_MIN * scale, RESULT_MAX * scale)
        codes = ((input / scale).round() + (self.alpha * other / scale).round()).clamp(RESULT_MIN, RESULT_MAX)
        return clipped + (codes * scale - clipped).detach()


class ArgMax(nn.Module):
    """Which of the results along ``dim`` is the largest; of equal ones the first. Has no gradient."""

    dim: int
    keepdim: bool

    def __init__(self, dim: int = -1, keepdim: bool = False) -> None:
        super().__init__()
        self.dim, self.keepdim = dim, keepdim

    def forward(self, input: Tensor) -> Tensor:
        """Indices."""
        return input.argmax(self.dim, self.keepdim)
