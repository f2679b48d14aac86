"""Losses of what was observed, and cures for too much and too little activity. All are means over the batch.

None of them is NaN or skips a sample because a neuron is silent: spike times cannot tell a silent neuron to spike, so
there the gradient goes through ``Events.count`` (`Record.count`), for which a rule states a pseudo-gradient.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop._function import Function
from spikeloop._ragged import array_of
from spikeloop.engine import _core
from spikeloop.errors import OutOfRange, ShapeMismatch, Unsupported, WrongType, kind_of
from spikeloop.events import Events
from spikeloop.record import Peak, Samples

__all__ = [
    "activity_target",
    "first_spike_class",
    "first_spike_cross_entropy",
    "max_over_time",
    "max_over_time_cross_entropy",
    "silent_neurons",
    "spike_budget",
    "spike_count_cross_entropy",
]

Slopes = NDArray[np.floating[Any]]

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_SINGLE = np.dtype(np.float32)
_MEMBRANES = (Peak, Samples)
_COUNTED = (Tensor, Events)
SILENT_PUSH = 10.0  # how much a label's unit that is silent costs
STEEPEST = 50.0  # times in units of tau1 beyond which the early-spike term grows no more: exp stays finite


def first_spike_class(events: Events) -> Tensor:
    """(B,) int64: the unit that spikes first, -1 for a sample without spikes.

    Of simultaneous ones it is the one listed first; substrates list the lowest first.
    """
    _check(events, Events, 'events such as record.spikes["output"]')
    _, unit, start = events._arrays
    begin = start[:-1]
    first = unit.take(begin, mode="clip") if len(unit) else np.zeros_like(begin)  # clip: the last samples may be silent
    found = torch.from_numpy(np.where(start[1:] > begin, first, -1).astype(np.int64))
    return found if events.unit.is_cpu else found.to(events.unit.device)


def first_spike_cross_entropy(
    events: Events,
    label: Tensor,
    tau0: float = 0.5e-3,
    tau1: float = 6.4e-3,
    alpha: float = 3e-3,
    silent_push: float = SILENT_PUSH,
) -> Tensor:
    """The unit named by ``label`` (B,) shall spike first, and early.

    ``-log softmax(-t / tau0)[label] + alpha (exp(t_label / tau1) - 1)`` with t the first spike of each unit in seconds.
    A silent unit counts as spiking ``tau1`` after the last spike of the batch. Where the label's unit is silent there
    is no early-spike term but ``silent_push * relu(1 - count_label)``: through the gradient of the count it is made to
    spike.

    The defaults are those of Wunderlich & Pehle 2021 (inputs within 30 ms, tau_mem 20 ms, tau_syn 5 ms).
    """
    value, by_time, by_count = first_spike_slopes(events, label, tau0, tau1, alpha, silent_push)
    if by_count is None:
        return _Known.apply(value, (by_time,), events.time)
    return _Known.apply(value, (by_time, by_count), events.time, events.count)


def first_spike_slopes(
    events: Events, label: Tensor, tau0: float, tau1: float, alpha: float, silent_push: float = SILENT_PUSH
) -> tuple[float, Slopes, Slopes | None]:
    """`first_spike_cross_entropy`, its derivatives by ``events.time`` and, where a label's unit is silent, by
    ``events.count``; without torch's graph.
    """
    _check(events, Events, 'events such as record.spikes["output"]')
    trains, samples = events._arrays, len(events)
    wanted = _wanted(label, samples, events.size)
    silent, by_time = np.zeros(samples, np.uint8), np.zeros(len(trains[0]))
    value = _core.first_spike_cross_entropy(
        trains, wanted.numpy(), events.size, tau0, tau1, alpha, STEEPEST, silent, by_time
    )
    if math.isnan(value):
        _labels(label, samples, events.size)  # says which
    if not np.count_nonzero(silent):
        return value, by_time, None
    more, by_count = silent_slopes(events, wanted, silent, silent_push)
    return value + more, by_time, by_count


def silent_slopes(
    events: Events, label: Tensor, silent: NDArray[np.uint8], silent_push: float = SILENT_PUSH
) -> tuple[float, Slopes]:
    """Of `first_spike_cross_entropy` what pushes the label's unit where it is silent, as ``silent`` (B,) says, and its
    derivatives by ``events.count``.
    """
    count = events.count.detach().cpu().numpy()
    where = np.flatnonzero(silent)
    asked = label.numpy()[where]
    missing = 1.0 - count[where, asked]
    by_count = np.zeros_like(count)
    by_count[where, asked] = -silent_push / len(count) * (missing > 0)
    return silent_push / len(count) * float(np.maximum(missing, 0.0).sum()), by_count


class _Known(Function):
    """A number whose derivatives by some tensors are known."""

    @staticmethod
    def forward(ctx: Any, value: float, slopes: tuple[Slopes, ...], *by: Tensor) -> Tensor:
        ctx.slopes = slopes
        ctx.devices = [None if t.is_cpu else t.device for t in by]
        number = torch.from_numpy(np.array(value, slopes[0].dtype))
        return number if by[0].is_cpu and by[0].dtype == number.dtype else number.to(by[0])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise Unsupported(
                "this loss cannot be differentiated twice", where="backward", todo="Leave out create_graph=True"
            )
        unscaled = _is_one(cotangents[0])  # a copy, then: a product of torch's takes long between calls of the engine
        made = [torch.from_numpy(slope.copy() if unscaled else slope) for slope in ctx.slopes]
        made = [m if on is None else m.to(on) for m, on in zip(made, ctx.devices, strict=True)]
        return None, None, *(made if unscaled else [m * cotangents[0] for m in made])


def _is_one(cotangent: Tensor) -> bool:
    try:
        return float(cotangent) == 1.0
    except RuntimeError:  # many in one, under `vmap`
        return False


def max_over_time(observed: Peak | Samples) -> Tensor:
    """(B, N): the highest value of each membrane, exact for a `Peak`, of the samples for `Samples`."""
    _check(observed, _MEMBRANES, 'record.peak["output"] or record.membrane["output"]')
    return observed.value if isinstance(observed, Peak) else observed.value.max(1).values


def max_over_time_cross_entropy(observed: Peak | Samples, label: Tensor, scale: float = 10.0) -> Tensor:
    """Cross entropy of ``softmax(scale * max_t V)`` and ``label`` (B,): the highest membrane names the class.

    ``scale`` is one over a temperature, in units of the potential.
    """
    return _cross_entropy(max_over_time(observed), label, scale)


def spike_count_cross_entropy(count: Tensor | Events, label: Tensor, scale: float = 1.0) -> Tensor:
    """Cross entropy of ``softmax(scale * count)`` and ``label`` (B,): the busiest unit names the class."""
    return _cross_entropy(_counts(count), label, scale)


def spike_budget(count: Tensor | Events, budget: float) -> Tensor:
    """``mean_b relu(sum_n count - budget)``: a population may emit ``budget`` spikes per sample, each more costs 1."""
    return _mean((_counts(count).sum(1) - budget).relu())


def activity_target(count: Tensor | Events, target: float) -> Tensor:
    """``mean_n (mean_b count - target)^2 / 2``: every neuron shall spike ``target`` times per sample on average."""
    return _mean((_batch_mean(_counts(count)) - target).square()) / 2


def silent_neurons(count: Tensor | Events, minimum: float = 0.1) -> Tensor:
    """``sum_n relu(minimum - mean_b count)``: lifts the neurons that are silent over the batch, and no others.

    A neuron whose mean count per sample is at least ``minimum`` gets no gradient.
    """
    return (minimum - _batch_mean(_counts(count))).relu().sum()


def _counts(count: Tensor | Events) -> Tensor:
    _check(count, _COUNTED, 'record.count["output"] or record.spikes["output"]')
    return count.count if isinstance(count, Events) else count


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)


def _batch_mean(values: Tensor) -> Tensor:
    return values.sum(0) / max(len(values), 1)


def _cross_entropy(values: Tensor, label: Tensor, scale: float) -> Tensor:
    values = values if values.dtype.is_floating_point else values.to(torch.get_default_dtype())
    value, slope = cross_entropy_slopes(values, label, scale)
    return _Known.apply(value, (slope,), values)


def cross_entropy_slopes(values: Tensor, label: Tensor, scale: float) -> tuple[float, Slopes]:
    """-log softmax(scale * values)[label], and its derivatives by ``values`` (B, N); without torch's graph.

    Not torch's, which wakes its threads for however little there is.
    """
    batch, classes = values.shape
    wanted = _wanted(label, batch, classes)
    given = array_of(values)
    given = np.ascontiguousarray(given, given.dtype if given.dtype == _SINGLE else np.float64)
    slope = np.empty_like(given)
    value = _core.cross_entropy(given, wanted.numpy(), scale, slope)
    if math.isnan(value):
        _labels(label, batch, classes)  # says which
    return value, slope


def _wanted(label: Tensor, batch: int, classes: int) -> Tensor:
    """(B,) int64 on the CPU; where it is what most labels are, values are left to be looked at."""
    return label if is_plain(label, batch) else _labels(label, batch, classes).cpu().contiguous()


def is_plain(label: object, batch: int) -> TypeGuard[Tensor]:
    """Whether labels are of the usual kind: (B,) int64 on the CPU."""
    return (
        isinstance(label, Tensor)
        and label.dtype == torch.int64
        and label.shape == (batch,)
        and label.is_cpu
        and label.is_contiguous()
    )


def _labels(label: Tensor, batch: int, classes: int) -> Tensor:
    """(B,) int64, each naming one of the classes."""
    expected = f"({batch},), one whole number from 0 to {classes - 1} per sample"
    if not isinstance(label, Tensor):
        raise WrongType(f"the labels are {kind_of(label)}", where="label", expected=f"a tensor {expected}")
    if tuple(label.shape) != (batch,):
        raise ShapeMismatch(f"the labels have shape {tuple(label.shape)}", where="label", expected=expected)
    if label.dtype not in _WHOLE:
        raise WrongType(f"the labels are of {label.dtype}", where="label", expected=expected, todo="Use label.long()")
    values = label.cpu().numpy()
    inside = values.astype(np.uint64) < classes  # a negative one is a large one then
    if np.count_nonzero(inside) < batch:
        raise OutOfRange(f"a label of {values[~inside][0]} names no unit", where="label", expected=expected)
    return label.to(torch.int64)


def _check(given: object, kind: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(given, kind):
        raise WrongType(f"{kind_of(given)} was given", where="loss", expected=expected)
