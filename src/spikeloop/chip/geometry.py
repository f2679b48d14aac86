"""A chip's geometry and its grids, and how arrays of integers for it are checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.errors import OutOfRange, ShapeMismatch, WrongType, kind_of

Integers = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]

HALVES, COLUMNS, ROWS, DRIVERS, BUSES, LINKS, OUTPUTS = 2, 256, 256, 128, 4, 4, 8
CIRCUITS = HALVES * COLUMNS
CYCLE = 8e-9
"""Seconds: events are sent and time-stamped on this grid (hardware.md 1.1)."""
DEPTH = 16
"""Events that may wait where a link or an output is busy (hardware.md 5.1, event capacity)."""
WEIGHT_MAX, LABEL_MAX, CODE_MAX, CAPACITANCE_MAX, COUNTER_MAX = 63, 63, 1022, 63, 255
CADC_PERIOD_MIN = 213
"""Cycles: 1.7 us, the fastest sampling of all columns (hardware.md 1.1)."""
MADC_NEURONS = 2


def whole(value: object, name: str, where: str, least: int | None = None) -> int:
    """``value``, if it is a whole number (of at least ``least``); else raises ``WrongType`` or ``OutOfRange``."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError as error:
        what = f"{name} is {value}" if isinstance(value, float) else f"{name} is {kind_of(value)}"
        raise WrongType(what, where=where, expected="a whole number") from error
    if least is not None and number < least:
        raise OutOfRange(f"{name} is {number}", where=where, expected=f"at least {least}")
    return number


def check(
    name: str,
    value: Integers | Flags,
    shape: tuple[int, ...],
    low: int,
    high: int,
    where: str = "chip configuration",
) -> None:
    """Raise where ``value`` is no array of integers of ``shape``, or one of them is outside ``low`` to ``high``."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub":
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else kind_of(value)
        raise WrongType(f"{name} is {kind}", where=where, expected="an array of integers",
                        todo="Round it yourself: np.asarray(value, np.int64)")  # fmt: skip
    if value.shape != shape:
        raise ShapeMismatch(f"{name} is {value.shape}", where=where, expected=str(shape))
    if value.size and (value.min() < low or value.max() > high):
        first = np.argwhere((value < low) | (value > high))[0]
        found, place = value[tuple(first)], ", ".join(map(str, first))
        raise OutOfRange(f"{name}[{place}] is {found}", where=where, expected=f"{low} to {high}")


def full(shape: tuple[int, ...], value: int, dtype: type = np.int16) -> Callable[[], NDArray[Any]]:
    """Makes an array that holds ``value`` everywhere: the default of a field."""
    return partial(np.full, shape, value, dtype)
