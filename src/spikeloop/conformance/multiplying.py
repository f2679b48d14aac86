"""What a chip promises where its array multiplies; nothing is assumed about mismatch, calibration or noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import CIRCUITS, Chip
from spikeloop.chip.mac import HEIGHT, WIDTH, ArrayPass, Columns
from spikeloop.chip.wire import from_bytes, to_bytes
from spikeloop.errors import SpikeloopError, Unsupported

_BATCH = 3
_STEPS = 8.0  # of the result: more than noise and floors do to the mean over all columns


def can_multiply(chip: Chip) -> bool:
    """Whether it does not say ``Unsupported`` to the plainest of products."""
    try:
        chip.multiply(*_factors())
    except Unsupported:
        return False
    except Exception:  # whatever it is, a contract will say so
        return True
    return True


def _factors(rows: int = HEIGHT, columns: int = WIDTH) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Weights of both signs and activations, the same in every call."""
    random = np.random.default_rng(1)
    weights = random.integers(-63, 64, (rows, columns), np.int8)
    return weights, random.integers(0, 32, (_BATCH, rows), np.uint8)


def _shapes(chip: Chip) -> Iterator[str]:
    for rows, columns in ((HEIGHT, WIDTH), (1, 1), (5, 33), (HEIGHT, 7)):
        weights, activations = _factors(rows, columns)
        for batch in (_BATCH, 0):
            out: Any = chip.multiply(weights, activations[:batch], ArrayPass())
            shape, kind = getattr(out, "shape", None), getattr(out, "dtype", type(out).__name__)
            if shape != (batch, columns) or kind != np.int8:
                yield (
                    f"({batch}, {rows}) times ({rows}, {columns}) is {kind}, {shape}, expected int8, {(batch, columns)}"
                )


def _repeats(chip: Chip) -> Iterator[str]:
    for how in (ArrayPass(), ArrayPass(trial=1), ArrayPass(half=1)):
        one, other = (chip.multiply(*_factors(), how) for _ in range(2))
        if not np.array_equal(one, other):
            yield f"two times trial {how.trial} on half {how.half} differ"


def _sums(chip: Chip) -> Iterator[str]:
    """Signs, sizes and sends as they should be, in the mean over all columns."""
    for half in range(2):
        found: dict[tuple[int, int], float] = {}
        for weight, sends in ((0, 1), (8, 1), (-8, 1), (8, 2), (16, 1)):
            matrix = np.full((HEIGHT, WIDTH), weight, np.int8)
            how = ArrayPass(half=half, sends=sends)
            found[weight, sends] = float(chip.multiply(matrix, np.full((8, HEIGHT), 12, np.uint8), how).mean())
        nothing, once = found[0, 1], found[8, 1] - found[0, 1]
        if abs(nothing) > _STEPS:
            yield f"weights of 0 give {nothing:.1f} on half {half}"
        if not once > _STEPS or not nothing - found[-8, 1] > _STEPS:
            yield f"weights of 8, 0 and -8 give {found[8, 1]:.1f}, {nothing:.1f} and {found[-8, 1]:.1f} on half {half}"
        for what, key in (("sent twice", (8, 2)), ("weights of 16", (16, 1))):
            if abs(found[key] - nothing - 2 * once) > 0.15 * once + _STEPS / 2:
                yield f"{what}: {found[key] - nothing:.1f} on half {half}, expected twice {once:.1f}"


def _rows(chip: Chip) -> Iterator[str]:
    """Rows whose number has a bit hold weights; one sample is active there, one on all other rows, one nowhere."""
    for bit, rows in _bits(HEIGHT):
        matrix = np.where(rows[:, None], np.int8(24), np.int8(0)).repeat(WIDTH, axis=1)
        activations = np.array([13 * rows, 13 * ~rows, 0 * rows], np.uint8)
        here, elsewhere, nowhere = (float(each.mean()) for each in chip.multiply(matrix, activations, ArrayPass()))
        if not here - nowhere > _STEPS or abs(elsewhere - nowhere) > _STEPS / 2:
            yield (
                f"with weights on the rows of bit {bit}, samples that are active there, elsewhere and nowhere give "
                f"{here:.1f}, {elsewhere:.1f} and {nowhere:.1f}"
            )


def _columns(chip: Chip) -> Iterator[str]:
    """Likewise columns whose number has a bit."""
    activations = np.full((8, HEIGHT), 12, np.uint8)
    nothing = chip.multiply(np.zeros((HEIGHT, WIDTH), np.int8), activations, ArrayPass()).mean(0)
    for bit, columns in _bits(WIDTH):
        matrix = np.where(columns, np.int8(12), np.int8(0))[None].repeat(HEIGHT, axis=0)
        moved = chip.multiply(matrix, activations, ArrayPass()).mean(0) - nothing
        here, elsewhere = float(moved[columns].mean()), float(moved[~columns].mean())
        if not here > _STEPS or abs(elsewhere) > _STEPS / 2:
            yield f"weights on the columns of bit {bit} move those by {here:.1f} and others by {elsewhere:.1f}"


def _bits(size: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Each bit, and which of ``size`` numbers have it: together they tell all numbers apart."""
    numbers = np.arange(size)
    for bit in range((size - 1).bit_length()):
        yield bit, (numbers >> bit & 1).astype(bool)


def _places(chip: Chip) -> Iterator[str]:
    """Weights in a corner of either half are multiplied; what leaves the array is refused."""
    weights, activations = _factors(4, 3)
    for half in range(2):
        how = ArrayPass(half=half, row=HEIGHT - 4, column=WIDTH - 3)
        if np.shape(chip.multiply(weights, activations, how)) != (_BATCH, 3):
            yield f"the last corner of half {half} does not multiply"
        for name in ("row", "column"):
            beyond = replace(how, **{name: getattr(how, name) + 1})
            if (why := _refusal(chip, weights, activations, beyond, name)) is not None:
                yield f"weights beyond the last {name} {why}"


def _codes(chip: Chip) -> Iterator[str]:
    """The columns' codes shift and stretch what is read."""
    weights, activations = np.full((HEIGHT, WIDTH), 8, np.int8), np.full((8, HEIGHT), 12, np.uint8)

    def mean(gain: int, offset: int) -> float:
        columns = Columns(np.full(CIRCUITS, gain), np.full(CIRCUITS, offset))
        return float(chip.multiply(weights, activations, ArrayPass(columns=columns)).mean())

    plain, moved, doubled = mean(500, 0), mean(500, 20), mean(1000, 0)
    if abs(moved - plain - 20) > _STEPS / 2:
        yield f"an offset of 20 moves results by {moved - plain:.1f}"
    if doubled - plain < 0.5 * plain:
        yield f"twice the gain makes {doubled:.1f} of {plain:.1f}"


def _codes_of_a_half(chip: Chip) -> Iterator[str]:
    """The upper columns of one half get an offset; they alone show it."""
    weights, activations = np.zeros((HEIGHT, WIDTH), np.int8), np.zeros((8, HEIGHT), np.uint8)
    upper = np.arange(WIDTH) >= WIDTH // 2
    for coded in range(2):
        columns = Columns(offset=np.where(np.arange(CIRCUITS) // WIDTH == coded, np.tile(20 * upper, 2), 0))
        for half in range(2):
            plain, other = (
                chip.multiply(weights, activations, ArrayPass(half=half, columns=each)).mean(0)
                for each in (Columns(), columns)
            )
            for name, which in (("lower", ~upper), ("upper", upper)):
                moved, expected = float((other - plain)[which].mean()), 20 * (half == coded and name == "upper")
                if abs(moved - expected) > _STEPS / 2:
                    yield (
                        f"an offset of 20 on the upper columns of half {coded} moves the {name} ones of half {half} "
                        f"by {moved:.1f}"
                    )


def _draws(chip: Chip) -> Iterator[str]:
    """Whether results are noisy shows in equal samples of one pass."""
    weights, activations = _factors()
    equal = activations[:1].repeat(8, axis=0)
    one, other = (chip.multiply(weights, equal, ArrayPass(trial=trial)) for trial in range(2))
    if (one != one[:1]).any() and np.array_equal(one, other):
        yield "equal samples differ, and trials 0 and 1 do not"


def _leaves_alone(chip: Chip) -> Iterator[str]:
    weights, activations = _factors()
    chip.multiply(weights, activations, ArrayPass(trial=2))
    for name, one, other in zip(("weights", "activations"), (weights, activations), _factors(), strict=True):
        if not np.array_equal(one, other):
            yield f"{name} were changed in place"


def _refuses(chip: Chip) -> Iterator[str]:
    """Numbers out of range, factors that do not fit: by the name of what is wrong."""
    weights, activations = (each.astype(np.int64) for each in _factors(6, 4))
    for name, low, high in (("weights", -64, 64), ("activations", -1, 32)):
        for value in (low, high):
            given = {"weights": weights.copy(), "activations": activations.copy()}
            given[name][1, 2] = value
            if (why := _refusal(chip, given["weights"], given["activations"], ArrayPass(), name)) is not None:
                yield f"{name} of {value} {why}"
    fractions: dict[str, Any] = {"weights": weights + 0.5, "activations": activations * 0.5}
    for name, value in fractions.items():
        given = {"weights": weights, "activations": activations} | {name: value}
        if (why := _refusal(chip, given["weights"], given["activations"], ArrayPass(), name)) is not None:
            yield f"{name} in floats {why}"
    if (why := _refusal(chip, weights, activations[:, 1:], ArrayPass(), "activations")) is not None:
        yield f"a missing activation {why}"


def _refusal(chip: Chip, weights: Any, activations: Any, how: ArrayPass, name: str) -> str | None:
    """What is wrong with how the chip refuses it; None if nothing is."""
    try:
        chip.multiply(weights, activations, how)
    except SpikeloopError as error:
        return None if name in str(error) else f"are refused without the word {name!r}: {error}"
    return "are not refused"


def _wire(chip: Chip) -> Iterator[str]:
    columns = Columns(offset=np.arange(CIRCUITS, dtype=np.int16) % 7)
    for how in (ArrayPass(half=1, sends=3, trial=5), ArrayPass(gain=30, columns=columns)):
        back = from_bytes(ArrayPass, to_bytes(how))
        one, other = (chip.multiply(*_factors(), each) for each in (how, back))
        if abs(float(one.mean()) - float(other.mean())) > _STEPS or to_bytes(back) != to_bytes(how):
            yield f"{how} is another as bytes"


MULTIPLYING: dict[str, Callable[[Chip], Iterator[str]]] = {
    "products are int8 vectors of the batch's shape": _shapes,
    "the same pass of the same factors gives the same product": _repeats,
    "products go with weights, activations and sends": _sums,
    "each row's weights meet the activations of that row and sample": _rows,
    "each column's weights show in that column": _columns,
    "a part of the array lies within it": _places,
    "the columns' codes shift and stretch products": _codes,
    "codes belong to the columns of one half": _codes_of_a_half,
    "where results are noisy, another trial is another draw": _draws,
    "weights and activations are left as they are": _leaves_alone,
    "factors that are out of range or do not fit are refused": _refuses,
    "an array pass survives the wire": _wire,
}
"""What is checked, by name."""
REPEATS = _repeats
"""Of those, what an instrument that cannot repeat a trial need not keep."""
