"""The array as a multiplier, the chip's other use: activations times signed weights, integers in, integers out.

Each row of a matrix takes a pair of synapse rows, one excitatory and one inhibitory, and each column a column; an
activation is the length of a pulse, a column's membrane adds up what its synapses send, and the column ADC reads it
(hardware.md 3). Of one pass, without imperfections: ``clip(floor(sends gain / 10000 (activations @ weights)), -128,
127)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spikeloop.chip.configuration import (
    CIRCUITS,
    CODE_MAX,
    COLUMNS,
    DRIVERS,
    HALVES,
    WEIGHT_MAX,
    Integers,
    check,
    full,
    whole,
)
from spikeloop.errors import OutOfRange, ShapeMismatch, WrongType, kind_of

HEIGHT, WIDTH = DRIVERS, COLUMNS
"""Signed rows and columns of one half."""
ACTIVATION_MAX = 31
RESULT_MIN, RESULT_MAX = -128, 127
GAIN_UNIT = 10_000
"""`ArrayPass.gain` that would make one ADC step of one activation step times one weight step."""
NOMINAL_GAIN = 500
LIMITS = {
    "half": (0, HALVES - 1), "row": (0, HEIGHT - 1), "column": (0, WIDTH - 1), "sends": (1, 256), "wait": (1, 50),
    "gain": (15, 45),
}  # fmt: skip
_PASS = "array pass"


@dataclass(frozen=True, eq=False)
class Columns:
    """What is written into the columns' analog memory for multiplying, (512,): half * 256 + column.

    gain: 0..1022, code of the synaptic input's transconductance; 500 is nominal, the gain goes with it.
    offset: -128..127, added to the result before it is cut to 8 bits.
    """

    gain: Integers = field(default_factory=full((CIRCUITS,), NOMINAL_GAIN))
    offset: Integers = field(default_factory=full((CIRCUITS,), 0))

    def __post_init__(self) -> None:
        check("gain", self.gain, (CIRCUITS,), 0, CODE_MAX, "columns")
        check("offset", self.offset, (CIRCUITS,), RESULT_MIN, RESULT_MAX, "columns")


@dataclass(frozen=True)
class ArrayPass:
    """One use of a part of one half of the array.

    half, row, column: where ``weights[0, 0]`` lies.  sends: how often each activation is sent, 1..256: multiplies the
    signal, not the noise.  wait: cycles of 8 ns from one event to the next, 1..50.  gain: 1e-4 steps of the result per
    activation and weight step, 15..45.  trial: which draw of the noise a twin makes: passes that shall not have the
    same noise need others.  columns: their calibration; None: nominal codes.
    """

    half: int = 0
    row: int = 0
    column: int = 0
    sends: int = 1
    wait: int = 5
    gain: int = 20
    trial: int = 0
    columns: Columns | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = whole(getattr(self, name), name, _PASS)
            if not low <= value <= high:
                raise OutOfRange(f"{name} is {value}", where=_PASS, expected=f"{low} to {high}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "trial", whole(self.trial, "trial", _PASS))
        if self.columns is not None and not isinstance(self.columns, Columns):
            raise WrongType(f"columns is {kind_of(self.columns)}", where=_PASS, expected="Columns, or None")

    @property
    def place(self) -> int:
        """A number that no other place of ``weights[0, 0]`` has."""
        return (self.half * HEIGHT + self.row) * WIDTH + self.column


def check_factors(weights: Integers, activations: Integers, how: ArrayPass, where: str) -> None:
    """Raise where these cannot be multiplied: ``weights`` (K, N), ``activations`` (B, K), in the region of ``how``."""
    if not isinstance(how, ArrayPass):
        raise WrongType(f"the pass is {kind_of(how)}", where=where, expected="an ArrayPass")
    for name, value, low, high in (
        ("weights", weights, -WEIGHT_MAX, WEIGHT_MAX),
        ("activations", activations, 0, ACTIVATION_MAX),
    ):
        if np.ndim(value) != 2:
            raise ShapeMismatch(f"{name} is {np.shape(value)}", where=where, expected="two dimensions")
        check(name, value, np.shape(value), low, high, where)
    (height, width), given = weights.shape, activations.shape[1]
    if given != height:
        raise ShapeMismatch(f"activations (B, {given}) times weights ({height}, {width})", where=where,
                            expected=f"activations (B, {height})")  # fmt: skip
    for name, first, size, limit in (("row", how.row, height, HEIGHT), ("column", how.column, width, WIDTH)):
        if first + size > limit:
            raise OutOfRange(f"{size} {name}s from {name} {first} on end at {first + size - 1}", where=where,
                             expected=f"{name}s 0 to {limit - 1}", todo="Give the rest to another pass")  # fmt: skip
