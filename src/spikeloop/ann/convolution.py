"""Convolutions: every window of the input is a vector, the kernel is the matrix."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeloop.ann.layers import OnArray
from spikeloop.ann.place import here
from spikeloop.chip.configuration import whole
from spikeloop.chip.mac import HEIGHT, WIDTH
from spikeloop.errors import ShapeMismatch, Unsupported


class _Convolution(OnArray):
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        mode: str = self.padding_mode  # type: ignore[attr-defined]
        if mode != "zeros":
            raise Unsupported(f"padding_mode is {mode!r}", where=self.title, expected="'zeros'",
                              todo="Pad before the layer, with torch.nn.ReflectionPad and its like")  # fmt: skip

    @property
    def title(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, {'x'.join(map(str, self.kernel_size))}"
        return f"{type(self).__name__}({sizes})"

    @property
    def reach(self) -> tuple[int, ...]:
        """How far a window reaches, in each dimension."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Zeros before and after the input, in each dimension."""
        if self.padding == "valid":
            return [(0, 0) for _ in self.reach]
        if self.padding == "same":
            return [((reach - 1) // 2, reach // 2) for reach in self.reach]
        return [(int(each), int(each)) for each in self.padding]

    def sizes(self, given: Tensor) -> tuple[int, ...]:
        """Of the output for the batch ``given``, without batch and channels."""
        padded = (size + sum(edge) for size, edge in zip(given.shape[2:], self.edges, strict=True))
        return tuple((p - reach) // s + 1 for p, reach, s in zip(padded, self.reach, self.stride, strict=True))

    def padded(self, given: Tensor) -> Tensor:
        """With its zeros."""
        edges = [each for edge in reversed(self.edges) for each in edge]
        return functional.pad(given, edges) if any(edges) else given

    def output(self, given: Tensor) -> Tensor:
        dimensions = len(self.kernel_size)
        if given.ndim == dimensions + 1:
            return self.output(given[None])[0]
        fits = given.ndim == dimensions + 2 and given.shape[1] == self.in_channels
        if not fits or min(self.sizes(given)) < 1:
            least = ", ".join(str(reach - sum(edge)) for reach, edge in zip(self.reach, self.edges, strict=True))
            raise ShapeMismatch(f"the input is {tuple(given.shape)}", where=self.title,
                                expected=f"(batch, {self.in_channels}, at least {least})")  # fmt: skip
        product = here().compute(self, given)
        return product if self.bias is None else product + self.bias.reshape(-1, *[1] * dimensions)

    def product(self, given: Tensor, weight: Tensor) -> Tensor:
        convolve = functional.conv1d if len(self.kernel_size) == 1 else functional.conv2d
        return convolve(self.padded(given), weight, None, self.stride, 0, self.dilation, self.groups)

    def vectors(self, codes: Tensor) -> Tensor:
        padded, sizes = self.padded(codes), self.sizes(codes)
        return _windows(padded, sizes, self.kernel_size, self.stride, self.dilation)

    def matrix(self, weights: Tensor) -> Tensor:
        return self.dense(weights).reshape(self.out_channels, -1).T

    def dense(self, weights: Tensor) -> Tensor:
        """``weights`` for every input channel: zeros where the groups of a convolution do not meet."""
        if self.groups == 1:
            return weights
        of_group = weights.reshape(self.groups, -1, *weights.shape[1:])
        dense = weights.new_zeros(self.groups, of_group.shape[1], self.groups, *weights.shape[1:])
        for group in range(self.groups):
            dense[group, :, group] = of_group[group]
        return dense.reshape(self.out_channels, self.in_channels, *self.kernel_size)

    def lifted(self, results: Tensor, unit: Tensor, given: Tensor) -> Tensor:
        return (results * unit).reshape(len(given), *self.sizes(given), self.out_channels).movedim(-1, 1)

    def gradients(
        self, cotangent: Tensor, given: Tensor, weight: Tensor, wants: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        padded = self.padded(given)
        by_padded, by_weight, _ = torch.ops.aten.convolution_backward(
            cotangent, padded, weight, None, self.stride, [0] * len(self.stride), self.dilation,
            False, [0] * len(self.stride), self.groups, (*wants, False),
        )  # fmt: skip
        if by_padded is not None:
            inner = zip(self.edges, given.shape[2:], strict=True)
            by_padded = by_padded[(..., *(slice(before, before + size) for (before, _), size in inner))]
        return by_padded, by_weight


class Conv1d(_Convolution, nn.Conv1d):
    """`torch.nn.Conv1d` on the array: a row per input channel and step of the kernel, a column per output channel.

    Channels of different groups meet in synapses with the weight 0.
    """


class Conv2d(_Convolution, nn.Conv2d):
    """`torch.nn.Conv2d` on the array: a row per input channel and pixel of the kernel, a column per output channel.

    Channels of different groups meet in synapses with the weight 0.
    """


class ExpandedConv1d(Conv1d):
    """A `Conv1d` that computes several neighbouring outputs at once, with several copies of its kernel in the array.

    Copy j of the kernel stands j strides further down and in columns of its own, in one matrix of longer windows; a
    sample then takes fewer vectors. num_expansions: how many copies; None: as many as one half of an array holds.
    """

    def __init__(self, *args: Any, num_expansions: int | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        if num_expansions is not None:
            whole(num_expansions, "num_expansions", self.title, 1)
        self.num_expansions = num_expansions

    @property
    def copies(self) -> int:
        """Copies of the kernel in the array."""
        if self.num_expansions is not None:
            return self.num_expansions
        more = (HEIGHT // self.in_channels - self.reach[0]) // self.stride[0]
        return max(1, min(more + 1, WIDTH // self.out_channels))

    @property
    def window(self) -> int:
        """Steps of the input that all copies reach together."""
        return self.reach[0] + (self.copies - 1) * self.stride[0]

    def vectors(self, codes: Tensor) -> Tensor:
        step = self.copies * self.stride[0]
        number = -(-self.sizes(codes)[0] // self.copies)
        padded = self.padded(codes)
        short = (number - 1) * step + self.window - padded.shape[-1]
        padded = functional.pad(padded, (0, short)) if short > 0 else padded
        return _windows(padded, (number,), (self.window,), (step,), (1,))

    def matrix(self, weights: Tensor) -> Tensor:
        dense = self.dense(weights).permute(1, 2, 0)  # channel, step of the kernel, output
        matrix = weights.new_zeros(self.in_channels, self.window, self.copies, self.out_channels)
        for copy in range(self.copies):
            first = copy * self.stride[0]
            matrix[:, first : first + self.reach[0] : self.dilation[0], copy] = dense
        return matrix.reshape(self.in_channels * self.window, -1)

    def lifted(self, results: Tensor, unit: Tensor, given: Tensor) -> Tensor:
        outputs = results.reshape(len(given), -1, self.out_channels) * unit
        return outputs[:, : self.sizes(given)[0]].movedim(-1, 1)


def _windows(
    given: Tensor, sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Tensor:
    """(V, K): the windows of a batch, ``sizes`` of them per dimension; within one by channel, then as the kernel."""
    given = given.contiguous()
    batch, channels = given.shape[:2]
    apart, along = given.stride()[:2], given.stride()[2:]
    between = [step * each for step, each in zip(along, stride, strict=True)]
    within = [step * each for step, each in zip(along, dilation, strict=True)]
    shape = (batch, *sizes, channels, *kernel)
    view = given.as_strided(shape, (apart[0], *between, apart[1], *within))
    return view.reshape(batch * prod(sizes), channels * prod(kernel))
