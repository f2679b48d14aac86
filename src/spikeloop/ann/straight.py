"""From model units to the array's integers and back, differentiable as if nothing had been rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikeloop.chip.configuration import WEIGHT_MAX
from spikeloop.chip.mac import ACTIVATION_MAX, GAIN_UNIT
from spikeloop.errors import OutOfRange, Unsupported

if TYPE_CHECKING:
    from spikeloop.ann.layers import OnArray

Sums = Callable[["OnArray", Tensor, Tensor], Tensor]
"""Weight codes (shaped like the weight) and activation codes (like the input, first dimension a batch) to (V, N) sums
of results over the blocks of rows."""


def straight_through(layer: OnArray, given: Tensor, sums: Sums) -> Tensor:
    """``given`` times the layer's weight, carried out in integers by ``sums``.

    With activations ``a = round(x / s_x)`` in 0..31 and weights ``w = round(W / s_w)`` in -63..63, an output is ``y =
    s_x s_w / (sends gain) result(a, w)``, hence ``s_x s_w a @ w`` but for what the array rounds, cuts and disturbs. The
    backward pass is that of the latter, so gain, sends and scales are in it: it is the derivative at the numbers that
    were multiplied. An input gets no gradient where it was clipped; a weight that was clipped gets what would bring it
    back into its range, and none that would push it out further. Results that were cut at -128 or 127 pass gradients
    on: a layer can leave saturation.
    """
    output: Tensor = _Straight.apply(given, layer.weight, layer, sums)  # type: ignore[assignment]
    return output


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, layer: OnArray, sums: Sums) -> Tensor:
        setting = layer.setting
        fewest = -ACTIVATION_MAX if setting.signed else 0
        if not bool(torch.isfinite(given.sum())) and not bool(torch.isfinite(given).all()):
            raise OutOfRange("the input has NaN or infinite values", where=layer.title, expected="finite numbers")
        codes = (given / layer.input_scale).round_().clamp_(fewest, ACTIVATION_MAX)
        per_weight = layer.per_weight(layer.weight_scale)
        weights = (weight / per_weight).round_().clamp_(-WEIGHT_MAX, WEIGHT_MAX)
        result = _signed(layer, weights, codes, sums) if setting.signed else sums(layer, weights, codes)
        ctx.layer, ctx.fewest = layer, fewest
        ctx.save_for_backward(given, weight, codes, weights, layer.input_scale, per_weight)
        unit = layer.input_scale * layer.weight_scale * (GAIN_UNIT / setting.factor)
        return layer.lifted(result, unit, given)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise Unsupported("a layer of the array cannot be differentiated twice", where="backward",
                              todo="Leave out create_graph=True: second order is not done")  # fmt: skip
        given, weight, codes, weights, input_scale, weight_scale = ctx.saved_tensors
        wants = ctx.needs_input_grad[:2]
        by_input, by_weight = ctx.layer.gradients(cotangents[0], codes * input_scale, weights * weight_scale, wants)
        if by_input is not None:
            by_input = by_input * ((given >= ctx.fewest * input_scale) & (given <= ACTIVATION_MAX * input_scale))
        if by_weight is not None:
            beyond = weight.abs() > WEIGHT_MAX * weight_scale
            by_weight = by_weight * ~(beyond & (by_weight * weight < 0))
        return by_input, by_weight, None, None


def _signed(layer: OnArray, weights: Tensor, codes: Tensor, sums: Sums) -> Tensor:
    """Activations have no sign: positive and negative ones go separately through the same weights, in one batch."""
    split = torch.cat([codes.clamp(min=0), codes.neg().clamp_(min=0)])
    positive, negative = sums(layer, weights, split).chunk(2)
    return positive - negative
