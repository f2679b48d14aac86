"""Layers whose products an analog array computes. Each is its namesake of `torch.nn` in everything else."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeloop.ann.place import here
from spikeloop.chip.mac import HEIGHT
from spikeloop.errors import OutOfRange, ShapeMismatch, WrongType, kind_of


class Setting(NamedTuple):
    """What `calibrate` found for a layer besides its scales, kept in the buffer ``passes``.

    sends, gain, wait: as in `ArrayPass`.  signed: whether negative inputs are sent, too.  vectors: of a sample: as
    many as a convolution has windows.  order: the how manieth of the model's layers it is.  rows, columns: of its
    matrix.
    """

    sends: int = 0
    gain: int = 0
    wait: int = 0
    signed: int = 0
    vectors: int = 0
    order: int = 0
    rows: int = 0
    columns: int = 0

    @property
    def factor(self) -> int:
        """Result per activation and weight step, in 1e-4."""
        return self.sends * self.gain

    @property
    def blocks(self) -> int:
        """Parts of at most 128 rows, each of which is rounded on its own."""
        return -(-self.rows // HEIGHT)


class OnArray(nn.Module):
    """What all layers share that run on the array: scales, and a place to run at.

    input_scale: (), model units per activation step.  weight_scale: (outputs,), model units per weight step.  Both are
    NaN until `calibrate` finds them; so long the layer computes in floating point. The bias is added digitally, in
    model units, after the results were read.
    """

    weight: Tensor
    bias: Tensor | None
    input_scale: Tensor
    weight_scale: Tensor
    passes: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        unknown = self.weight.detach().new_full((), math.nan)
        self.register_buffer("input_scale", unknown)
        self.register_buffer("weight_scale", unknown.repeat(len(self.weight)))
        self.register_buffer("passes", torch.tensor(Setting()))

    @property
    def setting(self) -> Setting:
        """What was found for its passes of the array."""
        return Setting(*self.passes.tolist())

    @property
    def calibrated(self) -> bool:
        """Whether it has scales."""
        return self.setting.sends > 0

    @property
    def title(self) -> str:
        """The layer in a few words: ``Linear(500, 128)``."""
        sizes = ", ".join(map(str, reversed(self.weight.shape)))
        return f"{type(self).__name__}({sizes})"

    def forward(self, input: Tensor) -> Tensor:
        """The output in model units."""
        if not isinstance(input, Tensor) or input.dtype != self.weight.dtype:
            given = input.dtype if isinstance(input, Tensor) else kind_of(input)
            raise WrongType(f"the input is {given}", where=self.title, expected=f"a tensor of {self.weight.dtype}")
        self.check_weight()
        return self.output(input)

    def check_weight(self) -> None:
        """Raise ``OutOfRange`` where it is not finite."""
        if not bool(torch.isfinite(self.weight).all()):
            raise OutOfRange("the weight has NaN or infinite values", where=self.title, expected="finite numbers",
                             todo="Lower the learning rate, or go back to a checkpoint")  # fmt: skip

    def output(self, given: Tensor) -> Tensor:
        """The output for an input that was checked for its type."""
        raise NotImplementedError

    def product(self, given: Tensor, weight: Tensor) -> Tensor:
        """The layer's product in floating point, without bias."""
        raise NotImplementedError

    def vectors(self, codes: Tensor) -> Tensor:
        """(V, K): what is sent to the array for the input ``codes``."""
        raise NotImplementedError

    def matrix(self, weights: Tensor) -> Tensor:
        """(K, N): what is written into the array for ``weights``."""
        raise NotImplementedError

    def lifted(self, results: Tensor, unit: Tensor, given: Tensor) -> Tensor:
        """(V, N) results of the input ``given`` in model units, ``unit`` (outputs,) each, in the output's shape."""
        raise NotImplementedError

    def gradients(
        self, cotangent: Tensor, given: Tensor, weight: Tensor, wants: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of `product`, by ``given`` and by ``weight``, as far as they are wanted."""
        raise NotImplementedError

    def per_weight(self, values: Tensor) -> Tensor:
        """One value per output, (outputs,), so that it multiplies the weight."""
        return values.reshape(-1, *[1] * (self.weight.ndim - 1))


class Linear(OnArray, nn.Linear):
    """`torch.nn.Linear` on the array: a row per input, a column per output."""

    def output(self, given: Tensor) -> Tensor:
        if given.shape[-1:] != (self.in_features,):
            raise ShapeMismatch(f"the input is {tuple(given.shape)}", where=self.title,
                                expected=f"(..., {self.in_features})")  # fmt: skip
        product = here().compute(self, given)
        return product if self.bias is None else product + self.bias

    def product(self, given: Tensor, weight: Tensor) -> Tensor:
        return given @ weight.T

    def vectors(self, codes: Tensor) -> Tensor:
        return codes.reshape(-1, self.in_features)

    def matrix(self, weights: Tensor) -> Tensor:
        return weights.T

    def lifted(self, results: Tensor, unit: Tensor, given: Tensor) -> Tensor:
        return (results * unit).reshape(*given.shape[:-1], self.out_features)

    def gradients(
        self, cotangent: Tensor, given: Tensor, weight: Tensor, wants: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        by_input = cotangent @ weight if wants[0] else None
        by_weight = cotangent.reshape(-1, self.out_features).T @ given.reshape(-1, self.in_features)
        return by_input, by_weight if wants[1] else None
