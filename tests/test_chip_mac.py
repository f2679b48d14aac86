"""The array as a multiplier: exact where nothing is imperfect, else as stated; what does not fit is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import reference
from bad_input import check_error

from spikeloop import errors as wrong
from spikeloop.chip.mac import ArrayPass, Columns
from spikeloop.chip.twin import EVERYTHING, Twin

IDEAL = Twin(7, ideal=EVERYTHING)


def factors(rows: int, columns: int, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights and activations that use their whole range."""
    random = np.random.default_rng(seed)
    weights = random.integers(-63, 64, (rows, columns), np.int8)
    return weights, random.integers(0, 32, (batch, rows), np.uint8)


SHAPES = [(1, 1, 1), (128, 256, 5), (3, 33, 7), (100, 17, 1), (128, 31, 13), (5, 64, 0), (2, 0, 3), (0, 5, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_without_imperfections_it_is_integer_arithmetic(shape):
    weights, activations = factors(*shape)
    for how in (ArrayPass(), ArrayPass(sends=3, gain=45), ArrayPass(gain=15, half=1), ArrayPass(sends=256, wait=1)):
        out = IDEAL.multiply(weights, activations, how)
        assert out.dtype == np.int8
        np.testing.assert_array_equal(out, reference.multiply(weights, activations, how))


def test_whole_steps_stay_whole_and_negative_ones_are_floored():
    """Every product near a multiple of one step, where a sum of floats would fall short."""
    weights = np.array([[63] * 7, [1, 2, 5, 10, 20, 25, 50]], np.int8)
    for sign in (1, -1):
        for gain in (16, 20, 25, 40):
            for sends in (1, 2, 4, 5, 8, 25, 50, 125):
                how = ArrayPass(gain=gain, sends=sends)
                activations = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(-1, 2).astype(np.uint8)
                exact = np.clip(
                    sends * gain * (activations.astype(int) @ (sign * weights).astype(int)) // 10_000, -128, 127
                )
                np.testing.assert_array_equal(IDEAL.multiply(sign * weights, activations, how), exact)


def multiplied(weights=((1, 2), (3, 4)), activations=((1, 2),), **how) -> Callable[[], object]:
    return lambda: Twin(7).multiply(np.asarray(weights), np.asarray(activations), ArrayPass(**how))


def codes(**values: int) -> Callable[[], object]:
    return lambda: Columns(**{name: np.full(512, value) for name, value in values.items()})


TOO_MANY = np.zeros((129, 1), np.int8), np.zeros((1, 129), np.uint8)
BAD = {
    "a large activation": (multiplied(activations=[[0, 32]]), wrong.OutOfRange, r"activations\[0, 1\] is 32", "0 to"),
    "a negative one": (multiplied(activations=[[-1, 0]]), wrong.OutOfRange, r"activations\[0, 0\] is -1", "0 to 31"),
    "a large weight": (multiplied([[0, 64], [0, 0]]), wrong.OutOfRange, r"weights\[0, 1\] is 64", "-63 to 63"),
    "a weight of -64": (multiplied([[0, 0], [0, -64]]), wrong.OutOfRange, r"weights\[1, 1\] is -64", "-63 to 63"),
    "weights in floats": (multiplied([[0.5, 1], [1, 1]]), wrong.OutOfRange, "weights is of float64", "integers"),
    "activations in floats": (multiplied(activations=[[1.0, 2]]), wrong.OutOfRange, "activations is of float64", "int"),
    "lists": (
        lambda: Twin(7).multiply([[1]], np.ones((1, 1), int)),  # type: ignore[arg-type]
        wrong.OutOfRange, "weights is of list", "an array",
    ),
    "a vector": (multiplied(activations=[1, 2]), wrong.ShapeMismatch, r"activations is \(2,\)", "two dimensions"),
    "other inputs": (
        multiplied(activations=[[1, 2, 3]]), wrong.ShapeMismatch, r"\(B, 3\) times weights \(2, 2\)", r"\(B, 2\)",
    ),
    "too many rows": (
        multiplied(*TOO_MANY), wrong.OutOfRange, "129 rows from row 0 on end at 128", "rows 0 to 127.*another pass",
    ),
    "beyond the last row": (multiplied(row=127), wrong.OutOfRange, "2 rows from row 127 on end at 128", "0 to 127"),
    "beyond the last column": (
        multiplied(column=255), wrong.OutOfRange, "2 columns from column 255 on end at 256", "0 to 255",
    ),
    "no such half": (multiplied(half=2), wrong.OutOfRange, "array pass: half is 2", "0 to 1"),
    "no such row": (multiplied(row=-1), wrong.OutOfRange, "row is -1", "0 to 127"),
    "never sent": (multiplied(sends=0), wrong.OutOfRange, "sends is 0", "1 to 256"),
    "half a send": (multiplied(sends=1.5), wrong.WrongType, "sends is 1.5", "a whole number"),
    "no wait": (multiplied(wait=0), wrong.OutOfRange, "wait is 0", "1 to 50"),
    "a small gain": (multiplied(gain=14), wrong.OutOfRange, "gain is 14", "15 to 45"),
    "a trial in words": (multiplied(trial="first"), wrong.WrongType, "trial is a str", "a whole number"),
    "codes that are none": (multiplied(columns=3), wrong.WrongType, "columns is an int", "Columns"),
    "a large code": (codes(gain=1023), wrong.OutOfRange, r"gain\[0\] is 1023", "0 to 1022"),
    "a large offset": (codes(offset=-129), wrong.OutOfRange, r"offset\[0\] is -129", "-128 to 127"),
    "codes of one half": (
        lambda: Columns(offset=np.zeros(256, int)), wrong.ShapeMismatch, r"offset is \(256,\)", r"\(512,\)",
    ),
    "a dictionary": (
        lambda: Twin(7).multiply(*factors(2, 2, 2), {"sends": 2}),  # type: ignore[arg-type]
        wrong.WrongType, "the pass is a dict", "an ArrayPass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("item", BAD)
def test_what_does_not_fit_is_refused(item):
    check_error(*BAD[item])
