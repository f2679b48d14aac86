"""Numbers into spikes. Every encoder takes a whole batch at once and returns Events, in seconds."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from spikeloop._ragged import owners, positive, starts
from spikeloop.errors import OutOfRange, ShapeMismatch
from spikeloop.events import Events

_BITS_OF_ONE, _LAST = 0x3F800000, 1 << 62


def latency(values: Tensor | ArrayLike, duration: float, threshold: float = 0.0) -> Events:
    """One spike per value (B, N) from 0 to 1, the larger the earlier: t = (1 - value) duration.

    Values at or below `threshold` stay silent. Differentiable in the values.
    """
    rows = _rows(values, 0.0, 1.0)
    active = rows > threshold  # in the precision of the values: 1 / 255 equals a pixel of 1
    positive(duration, "duration")
    if rows.dtype == torch.float32 and not rows.requires_grad:
        return _brightest_first(rows, active, duration)
    return _one_each((1.0 - rows.double()) * duration, active)


def logarithmic_latency(values: Tensor | ArrayLike, tau: float, threshold: float, duration: float = math.inf) -> Events:
    """One spike per value (B, N), when a leaky integrator driven by it reaches the threshold.

    t = tau log(value / (value - threshold)), tau in seconds. Silent: values at or below `threshold` (positive), and
    spikes that would come after `duration`. Differentiable in the values.
    """
    if threshold <= 0.0:
        raise OutOfRange(f"a threshold of {threshold}", where="logarithmic_latency", expected="above 0")
    rows = _rows(values, 0.0, math.inf)
    above = rows > threshold
    reachable = torch.where(above, rows.double(), 2.0 * threshold)
    time = -positive(tau, "tau") * torch.log1p(-threshold / reachable)
    return _one_each(time, above & (time <= duration))


def poisson(rates: Tensor | ArrayLike, duration: float, generator: torch.Generator | None = None) -> Events:
    """Homogeneous Poisson trains with rates (B, N) in 1/s, from 0 to `duration`."""
    rows = _rows(rates, 0.0, math.inf).detach().double()
    number = torch.poisson(rows * positive(duration, "duration"), generator).to(torch.int64)
    train = owners(starts(number.flatten()))
    time = torch.rand(len(train), dtype=torch.float64, generator=generator) * duration
    batch, size = rows.shape
    return Events._from_rows(time, train % max(size, 1), train // max(size, 1), batch, size)


def population(
    values: Tensor | ArrayLike, units: int, duration: float, width: float | None = None, threshold: float = 0.05
) -> Events:
    """Every value (B, F) from 0 to 1 seen by `units` neurons with Gaussian receptive fields; F * units in all.

    Neuron k of a value, unit f * units + k, responds with exp(-(value - centre)^2 / (2 width^2)), centres evenly from
    0 to 1, and spikes at (1 - response) duration; responses at or below `threshold` stay silent. width: of a field,
    by default two thirds of the distance of centres. Differentiable in the values.

    After Bohte, Kok & La Poutré, Neurocomputing 48, 2002.
    """
    if units < 2:
        raise OutOfRange(f"{units} neurons for a value", where="population", expected="2 or more")
    centre = torch.linspace(0.0, 1.0, units, dtype=torch.float64)
    sigma = 2.0 / (3.0 * (units - 1)) if width is None else positive(width, "width")
    distance = (_rows(values, 0.0, 1.0).double()[:, :, None] - centre) / sigma
    return latency(torch.exp(-0.5 * distance**2).flatten(1), duration, threshold)


def _rows(values: Tensor | ArrayLike, low: float, high: float) -> Tensor:
    """(B, N) float32 or float64, everything from `low` to `high`; further axes are flattened into N."""
    rows = torch.as_tensor(values)
    rows = rows if rows.dtype == torch.float32 else rows.double()
    if rows.ndim < 2:
        raise ShapeMismatch(f"values of shape {tuple(rows.shape)}", expected="(batch, units)")
    wrong = ~((rows >= low) & (rows <= high) & (rows < math.inf))
    if bool(wrong.any()):
        raise OutOfRange(f"a value of {rows[wrong][0].item():g}", expected=f"finite, {low:g} to {high:g}")
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _one_each(time: Tensor, active: Tensor) -> Events:
    """Events of times (B, N), one for each active unit."""
    sample, unit = active.nonzero(as_tuple=True)
    return Events._from_rows(time[sample, unit], unit, sample, *time.shape)


def _brightest_first(rows: Tensor, active: Tensor, duration: float) -> Events:
    """`latency` of float32 values (B, N), several times faster: value and unit are sorted as one 64-bit integer.

    The bits of floats from 0 to 1, read as integers, ascend with the floats.
    """
    darkness = _BITS_OF_ONE - (rows + 0.0).view(torch.int32).to(torch.int64)
    key = (darkness << 32) | torch.arange(rows.shape[1])
    ordered = torch.from_numpy(np.sort(key.masked_fill(~active, _LAST).numpy(), axis=1))
    key = ordered[ordered < _LAST]
    value = (_BITS_OF_ONE - (key >> 32)).to(torch.int32).view(torch.float32).double()
    unit = (key & 0xFFFFFFFF).to(torch.int32)
    return Events._trusted((1.0 - value) * duration, unit, starts(active.sum(1)), rows.shape[1])
