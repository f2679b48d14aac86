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
    "a part of the array lies within it": _places,
    "the columns' codes shift and stretch products": _codes,
    "weights and activations are left as they are": _leaves_alone,
    "factors that are out of range or do not fit are refused": _refuses,
    "an array pass survives the wire": _wire,
}
"""What is checked, by name."""
REPEATS = _repeats
"""Of those, what an instrument that cannot repeat a trial need not keep."""
