"""Ragged rows as plain tensors, sample b owning the rows start[b]:start[b + 1]: arranged and checked without loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spikeloop.errors import InvalidEvents, ShapeMismatch, WrongType, kind_of


def array_of(tensor: Tensor) -> NDArray[Any]:
    """Its values, as they lie in memory where that is possible; ``numpy(force=True)`` touches five times as much."""
    try:
        return (tensor.detach() if tensor.requires_grad else tensor).numpy()
    except (RuntimeError, TypeError):  # elsewhere, or not resolved
        return tensor.numpy(force=True)


def starts(lengths: Tensor) -> Tensor:
    """(B + 1,) int64: where each sample begins, and the end."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def owners(start: Tensor) -> Tensor:
    """(S,) int64: the sample each row belongs to."""
    if start.device.type != "cpu":
        return torch.repeat_interleave(torch.arange(start.shape[0] - 1, device=start.device), start.diff())
    border = start.numpy()
    return torch.from_numpy(np.repeat(np.arange(len(border) - 1), np.diff(border)))


def slots(start: Tensor, unit: Tensor, size: int) -> Tensor:
    """(S,) int64: sample * size + unit of each row."""
    if start.device.type != "cpu":
        return owners(start) * size + unit
    border = start.numpy()
    sample = np.repeat(np.arange(len(border) - 1) * size, np.diff(border))
    return torch.from_numpy(sample + unit.numpy())


def gather_rows(start: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (S',) int64 of the samples `index`, one sample after the other, and their new start (len(index) + 1,)."""
    border, sample = start.cpu().numpy(), index.cpu().numpy()  # NumPy: torch would start its threads for so little
    begin = border[sample]
    lengths = border[sample + 1] - begin
    new = np.zeros(len(lengths) + 1, np.int64)
    lengths.cumsum(out=new[1:])
    rows = np.arange(new[-1]) + np.repeat(begin - new[:-1], lengths)
    return torch.from_numpy(rows).to(start.device), torch.from_numpy(new).to(start.device)


def first_rows(slot: Tensor, slots: int) -> Tensor:
    """(slots,) int64: the first row of each slot, -1 where there is none."""
    if slot.device.type != "cpu":
        row = torch.full((slots,), len(slot), dtype=torch.int64, device=slot.device)
        row = row.scatter_reduce(0, slot, torch.arange(len(slot), device=slot.device), "amin")
        return torch.where(row < len(slot), row, -1)
    first = np.full(slots, -1)
    first[slot.numpy()[::-1]] = np.arange(slot.shape[0])[::-1]  # of equal indices the last assignment stays
    return torch.from_numpy(first)


def order(time: Tensor, sample: Tensor) -> Tensor:
    """Permutation (S,) that sorts by (sample, time), stable."""
    by_time = torch.argsort(time.detach(), stable=True)
    return by_time[torch.argsort(sample[by_time], stable=True)]


def _check_rows(rows: Sequence[Tensor] | Sequence[NDArray[np.float64]]) -> None:
    for b, row in enumerate(rows):
        if row.ndim != 1:
            raise ShapeMismatch(
                f"row {b} has shape {tuple(row.shape)}", where="Events", expected="a list of one-dimensional arrays"
            )


def joined(rows: Sequence[Tensor | ArrayLike]) -> tuple[Tensor, Tensor]:
    """One float64 tensor of all `rows` (each one-dimensional) and their lengths (len(rows),) int64; keeps graphs."""
    if any(isinstance(row, Tensor) for row in rows):
        tensors = [torch.as_tensor(row, dtype=torch.float64) for row in rows]
        _check_rows(tensors)
        return torch.cat(tensors), torch.tensor([len(row) for row in tensors], dtype=torch.int64)
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    _check_rows(arrays)
    lengths = torch.tensor([len(row) for row in arrays], dtype=torch.int64)
    return torch.from_numpy(np.concatenate(arrays) if arrays else np.empty(0)), lengths


def chosen(index: int | slice | Sequence[int] | ArrayLike | Tensor, length: int) -> Tensor:
    """(n,) int64, not negative: the samples that an index, slice, sequence of indices or mask selects."""
    if isinstance(index, slice):
        return torch.from_numpy(np.arange(length)[index].copy())
    rows = torch.atleast_1d(torch.as_tensor(index))
    if rows.dtype == torch.bool:
        if rows.shape != (length,):
            raise IndexError(f"a mask of shape {tuple(rows.shape)} on {length} samples")
        return rows.nonzero()[:, 0]
    if rows.ndim != 1 or (rows.is_floating_point() and len(rows)):
        raise IndexError(f"samples are chosen by an int, a slice, a mask or a list of ints, not by {index!r}")
    rows = rows.to(torch.int64)
    low, high = (int(side) for side in rows.aminmax()) if rows.shape[0] else (0, -1)
    if low < -length or high >= length:
        raise IndexError(f"sample {high if high >= length else low} of {length}")
    return torch.where(rows < 0, rows + length, rows) if low < 0 else rows


def positive(seconds: float, name: str) -> float:
    """The seconds given, if they are a positive number."""
    if not (seconds > 0 and math.isfinite(seconds)):
        raise InvalidEvents(f"{name} = {seconds}", where="Events", expected="a positive number of seconds")
    return seconds


def check_layout(time: Tensor, unit: Tensor, start: Tensor) -> None:
    """Shapes and dtypes."""
    wanted = (("time", time, torch.float64), ("unit", unit, torch.int32), ("start", start, torch.int64))
    for name, tensor, dtype in wanted:
        if not isinstance(tensor, Tensor):
            raise WrongType(
                f"{name} is {kind_of(tensor)}",
                where="Events",
                expected=f"a tensor of {dtype}",
                todo="Events.from_lists and its sisters convert",
            )
        if tensor.ndim != 1 or tensor.dtype != dtype:
            raise ShapeMismatch(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}",
                where="Events",
                expected=f"{dtype}, one-dimensional",
                todo="Events.from_lists and its sisters convert",
            )
    if len(time) != len(unit):
        raise ShapeMismatch(
            f"{len(time)} times, but {len(unit)} units", where="Events", expected="one of each for every event"
        )
    if not len(start) or int(start[0]) != 0 or int(start[-1]) != len(time) or bool((start.diff() < 0).any()):
        raise ShapeMismatch(
            "start does not divide the events into samples",
            where="Events",
            expected=f"ascending from 0 to the number of events, {len(time)}, one more entry than samples",
        )


def check_pairs(times: Tensor, units: Tensor) -> None:
    """As many units as times in every sample, given the numbers of both (B,)."""
    if not torch.equal(times, units):
        b = int((times != units).nonzero()[0])
        raise ShapeMismatch(
            f"{int(times[b])} times, but {int(units[b])} units",
            where=f"sample {b}",
            expected="one of each for every event",
        )


def check_values(time: Tensor, unit: Tensor, start: Tensor, size: int) -> None:
    """Finite, not negative, ascending times; whole units in range."""
    if not hasattr(size, "__index__") or size < 0:
        raise InvalidEvents(f"size is {size!r}", where="Events", expected="the number of units, an integer")
    seconds = time.detach()
    row_of_sample = torch.zeros_like(seconds, dtype=torch.bool)
    row_of_sample[start[:-1][start.diff() > 0]] = True
    falling = torch.zeros_like(row_of_sample)
    falling[1:] = (seconds.diff() < 0) & ~row_of_sample[1:]
    faults = (
        (~torch.isfinite(seconds), seconds, "a time of {} s", "finite times", None),
        (seconds < 0, seconds, "a negative time, {} s", "times from 0 on, in seconds", None),
        ((unit < 0) | (unit >= size), unit, "unit {}", f"units from 0 to {size - 1}, size being {size}", None),
        (unit != unit.round(), unit, "unit {}", "whole numbers", None),
        (falling, seconds, "{} s follows a later event", "ascending times", "Events.from_lists sorts"),
    )
    for fault, values, what, expected, todo in faults:
        if bool(fault.any()):
            row = int(fault.nonzero()[0])
            sample = int(torch.searchsorted(start, torch.tensor(row), right=True)) - 1
            where = f"sample {sample}, event {row - int(start[sample])}"
            raise InvalidEvents(what.format(values[row].item()), where=where, expected=expected, todo=todo)
