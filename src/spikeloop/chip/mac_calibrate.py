"""Which codes make the columns of a chip multiply alike: measured through ``Chip.multiply`` alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from spikeloop._files import read_checked, write_checked
from spikeloop.chip.configuration import CIRCUITS, CODE_MAX, HALVES, WEIGHT_MAX, Chip
from spikeloop.chip.mac import GAIN_UNIT, HEIGHT, NOMINAL_GAIN, RESULT_MAX, RESULT_MIN, WIDTH, ArrayPass, Columns
from spikeloop.chip.mismatch import Float

VERSION = 1
_FORMAT = "spikeloop.chip.columns"
_ACTIVATION, _SAMPLES = 15, 64
_FULL = 46  # steps: results of which no column saturates
WEIGHTS = (-12, -6, 0, 6, 12)
"""Of all synapses, one after the other: results of -46 to 46 steps, so that no column saturates."""
_COARSE, _FINE = 5, 25  # writings that are averaged over, since each leaves other remains in the analog memory
_NEAR_GAIN, _NEAR_OFFSET = 0.15, 5.0  # a column that is farther off in the end has failed


@dataclass(frozen=True, eq=False)
class ColumnCalibration:
    """The codes that make the columns of ``chip`` (its repr) alike, and what was measured with them, (512,) each.

    gain: steps of the result per activation and weight step, at an `ArrayPass` as it is by default.  offset: steps, the
    mean result of nothing.  success: columns that answer, and are like the others.
    """

    chip: str
    columns: Columns
    gain: Float
    offset: Float
    success: NDArray[np.bool_]
    version: int = VERSION

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz that `load` reads."""
        arrays = {"chip": np.array(self.chip), "columns.gain": self.columns.gain, "columns.offset": self.columns.offset}
        arrays |= {name: getattr(self, name) for name in ("gain", "offset", "success")}
        write_checked(path, _FORMAT, self.version, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ColumnCalibration:
        """From a file of `save`. Raises ``DataError`` where it is missing, damaged, foreign or newer."""
        names = ("chip", "columns.gain", "columns.offset", "gain", "offset", "success")
        arrays = read_checked(path, _FORMAT, VERSION, names, "calibrate anew")
        columns = Columns(arrays["columns.gain"], arrays["columns.offset"])
        measured = arrays["gain"], arrays["offset"], arrays["success"]
        return cls(str(arrays["chip"]), columns, *measured, int(arrays["version"]))


def calibrate_columns(chip: Chip, progress: Callable[[str], None] | None = None) -> ColumnCalibration:
    """Search the codes of all columns at once; ``progress`` is told what is being done.

    Gains become that of the median column, mean results of nothing 0.
    """
    tell, trials, columns = progress or (lambda _: None), count(1 << 20), Columns()
    for what, writings in (("columns, roughly", _COARSE), ("columns, finely", _FINE)):
        tell(what)
        found = [_line(chip, _moved(columns, turn), next(trials)) for turn in range(writings)]
        gain, offset = (np.mean([each[k] for each in found], 0) for k in range(2))
        columns = _better(columns, gain, offset)
    tell("columns, as they are now")
    gain, offset = measured(chip, columns, next(trials))
    wanted = float(np.median(gain))
    success = (np.abs(gain - wanted) < _NEAR_GAIN * wanted) & (np.abs(offset) < _NEAR_OFFSET)
    return ColumnCalibration(repr(chip), columns, gain, offset, success)


def measured(chip: Chip, columns: Columns | None = None, trial: int = 0) -> tuple[Float, Float]:
    """(512,) each: the columns' gains and offsets as `ColumnCalibration` has them, with these codes."""
    reading = curves(chip, WEIGHTS, columns, trial)
    product = HEIGHT * _ACTIVATION * np.array(WEIGHTS, np.float64)
    return product @ reading / (product @ product), reading.mean(0)


def share_of_gain(chip: Chip, columns: Columns, rows: int, how: ArrayPass) -> float:
    """What passes of ``rows`` rows, sent as ``how`` says, have of the gain that they ask for: the median column.

    The longer a pass takes, the more of what came first has leaked away when it is read.
    """
    product = _FULL * GAIN_UNIT / (how.sends * how.gain)
    weight = round(product / (rows * _ACTIVATION))
    active = rows if weight else max(round(product / _ACTIVATION), 1)
    matrix = np.zeros((rows, WIDTH), np.int8)
    matrix[np.linspace(0, rows - 1, active).astype(np.int64)] = min(weight, WEIGHT_MAX) or 1
    activations = np.full((_SAMPLES, rows), _ACTIVATION, np.uint8)
    found = [
        sign * chip.multiply(sign * matrix, activations, replace(how, half=half, row=0, column=0, columns=columns))
        for half in range(HALVES)
        for sign in (1, -1)
    ]
    mean = np.array([each.mean(0) for each in found]).reshape(HALVES, 2, WIDTH).mean(1)
    asked = how.sends * how.gain / GAIN_UNIT * float(_ACTIVATION * matrix[:, 0].sum(dtype=np.int64))
    return float(np.median(mean)) / asked


def curves(chip: Chip, weights: Sequence[int], columns: Columns | None = None, trial: int = 0) -> Float:
    """(W, 512): mean results of the columns, all of whose synapses hold one of ``weights`` after the other."""
    activations = np.full((_SAMPLES, HEIGHT), _ACTIVATION, np.uint8)
    reading = np.empty((len(weights), HALVES, WIDTH))
    for number, weight in enumerate(weights):
        matrix = np.full((HEIGHT, WIDTH), weight, np.int8)
        for half in range(HALVES):
            how = ArrayPass(half=half, columns=columns, trial=trial * len(weights) + number)
            reading[number, half] = chip.multiply(matrix, activations, how).mean(0)
    return reading.reshape(len(weights), CIRCUITS)


def _moved(columns: Columns, turn: int) -> Columns:
    """Codes a little apart, others in each turn."""
    gain, offset = columns.gain + 2 * (turn % 5 - 2), columns.offset + (turn // 5 - 2)
    return Columns(np.clip(gain, 0, CODE_MAX), np.clip(offset, RESULT_MIN, RESULT_MAX))


def _line(chip: Chip, columns: Columns, trial: int) -> tuple[Float, Float]:
    """Gains over their codes, and offsets without them."""
    gain, offset = measured(chip, columns, trial)
    return gain / np.maximum(columns.gain, 1), offset - columns.offset


def _better(columns: Columns, gain: Float, offset: Float) -> Columns:
    """Codes after a measurement; a column that does not answer keeps its own."""
    answers = gain > 0.1 * np.median(gain)
    code = NOMINAL_GAIN * np.median(gain) / np.where(answers, gain, 1.0)
    code = np.where(answers, np.rint(np.clip(code, 0, CODE_MAX)), columns.gain)
    return Columns(code.astype(np.int16), np.clip(np.rint(-offset), RESULT_MIN, RESULT_MAX).astype(np.int16))
