"""What was seen at the calls of a plasticity program, sample by sample, side by side in one `Recorded`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.record import Recorded

Seen = Mapping[float, tuple[float, NDArray[Any]]]
"""Of one sample, by when a call was due: when it was made, and what was seen; only of calls that saw something."""


def side_by_side(samples: Sequence[Seen], shape: tuple[int, ...] = ()) -> Recorded:
    """`Recorded` of a batch: a row for each due call in which some sample saw something.

    Where a sample did not, both time and value are NaN, and integers become floating-point numbers for that.
    shape: of what is seen, for when there are no calls.
    """
    due = sorted({each for seen in samples for each in seen})
    time, value = _table(samples, due, shape)
    if not due or bool((time == time[:, :1]).all()):
        time = time[:, 0]
    return Recorded(torch.from_numpy(np.ascontiguousarray(time)), torch.from_numpy(value))


def _table(samples: Sequence[Seen], due: Sequence[float], shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(U, B) times and (U, B, ...) values."""
    found = {(u, b): seen[each] for b, seen in enumerate(samples) for u, each in enumerate(due) if each in seen}
    kinds = {value.dtype for _, value in found.values()} or {np.dtype(np.float64)}
    if len(found) < len(due) * len(samples):
        kinds.add(np.dtype(np.float64))
    shape = next((value.shape for _, value in found.values()), shape)
    time = np.full((len(due), len(samples)), np.nan)
    value = np.zeros((len(due), len(samples), *shape), np.result_type(*kinds))
    if len(found) < time.size:
        value[...] = np.nan
    for at, (when, seen) in found.items():
        time[at], value[at] = when, seen
    return time, value
