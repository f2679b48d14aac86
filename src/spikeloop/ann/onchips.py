"""Layers on chips: a schedule carried out entry by entry."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeloop.ann.layers import OnArray, Setting
from spikeloop.ann.straight import straight_through
from spikeloop.chip.array_cost import Cost
from spikeloop.chip.configuration import Chip
from spikeloop.chip.mac import GAIN_UNIT, WIDTH, ArrayPass
from spikeloop.chip.mac_calibrate import ColumnCalibration, calibrate_columns
from spikeloop.chip.schedule import Entry, Matrix, Schedule, partition
from spikeloop.errors import InvalidNetwork, OutOfRange, ShapeMismatch, Unsupported, WrongType, kind_of

Codes = NDArray[np.int8]
Parts = dict[tuple[int, int], NDArray[np.uint8]]
"""By a block of rows: what of all vectors is sent to it."""


@dataclass(frozen=True)
class OnChips:
    """The arrays of ``chips``, several at once, or of one in turns: where an `Experiment` has its layers computed.

    One batch of vectors at a time goes through each part of an array; results of parts that belong to the same columns
    are added up digitally, in as many bits as it takes.

    calibrations: for each chip the codes of its columns; without them each is calibrated on first use, in a tenth of a
    second. What the calibration measured is allowed for digitally: the offset of each column, and the gain of the chip.
    """

    chips: Chip | Sequence[Chip]
    calibrations: Sequence[ColumnCalibration] | None = None

    def __post_init__(self) -> None:
        given = self.chips if isinstance(self.chips, Sequence) else (self.chips,)
        if not given:
            raise OutOfRange("no chip is given", where="OnChips", expected="a chip, or a list of them")
        for chip in given:
            if isinstance(chip, type) or not hasattr(chip, "multiply"):
                todo = f"Write {chip.__name__}(...): an object of it" if isinstance(chip, type) else None
                raise WrongType(f"{kind_of(chip)} is no chip", where="OnChips", expected="a chip, or a list of them",
                                todo=todo or "Write OnChips(Twin(7))")  # fmt: skip
        object.__setattr__(self, "chips", tuple(given))
        if self.calibrations is not None and len(self.calibrations) != len(given):
            raise ShapeMismatch(f"{len(self.calibrations)} calibrations of {len(given)} chips", where="OnChips",
                                expected="one for each chip")  # fmt: skip

    def __repr__(self) -> str:
        return f"OnChips([{', '.join(map(repr, self.each))}])"

    @property
    def each(self) -> tuple[Chip, ...]:
        """The chips."""
        assert isinstance(self.chips, tuple)
        return self.chips

    @cached_property
    def calibrated(self) -> tuple[ColumnCalibration, ...]:
        """The chips' calibrations."""
        return tuple(self.calibrations or map(calibrate_columns, self.each))


def layers_of(model: nn.Module) -> dict[str, OnArray]:
    """The layers of ``model`` on the array by name, in the order in which they run.

    Raises ``InvalidNetwork`` where there are none, or one was not calibrated.
    """
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, OnArray)}
    if not found:
        raise InvalidNetwork("the model has no layer on the array", where="ann", expected="layers of spikeloop.ann",
                             todo="Build it of them, or use ann.convert(model, sample)")  # fmt: skip
    for name, layer in found.items():
        if not layer.calibrated:
            raise InvalidNetwork("it has no scales", where=f"layer {name!r}", expected="a calibrated layer",
                                 todo="Use ann.calibrate(model, sample)")  # fmt: skip
    return dict(sorted(found.items(), key=lambda item: item[1].setting.order))


def matrices_of(layers: Mapping[str, OnArray]) -> list[Matrix]:
    """The layers as a schedule sees them."""
    return [_matrix(name, layer.setting) for name, layer in layers.items()]


def _matrix(name: str, setting: Setting) -> Matrix:
    return Matrix(name, setting.rows, setting.columns, setting.vectors, setting.sends, setting.wait)


def matrices_in(tensors: Mapping[str, Tensor]) -> list[Matrix]:
    """The layers among the ``tensors`` of a checkpoint, in their order, without the model that they were built of."""
    found = [(name, Setting(*value.tolist())) for name, value in tensors.items() if name.rpartition(".")[2] == "passes"]
    found = [(name.rpartition(".")[0], setting) for name, setting in found if setting.sends]
    return [_matrix(*each) for each in sorted(found, key=lambda each: each[1].order)]


class Run:
    """A model's layers on chips: a place that counts what it does. Weights stay on the chips from run to run.

    calibrations: one for each chip; None: columns are as they are, and nothing is allowed for.
    """

    rounds: bool = True
    chips: Sequence[Chip]
    calibrations: Sequence[ColumnCalibration] | None
    schedule: Schedule
    layers: list[OnArray]
    entries: dict[OnArray, Sequence[Entry]]
    index: dict[Entry, int]
    written: list[list[tuple[Entry, Codes]]]
    number: int
    position: int
    passes: int
    rewritten: list[Entry]
    inside: float
    emulation: float

    def __init__(
        self,
        chips: Sequence[Chip],
        layers: Mapping[str, OnArray],
        calibrations: Sequence[ColumnCalibration] | None = None,
    ) -> None:
        self.chips, self.calibrations = chips, calibrations
        self.schedule = partition(matrices_of(layers), len(chips))
        self.layers = list(layers.values())
        self.entries = {layer: self.schedule.of(name) for name, layer in layers.items()}
        self.index = {entry: k for k, entry in enumerate(self.schedule.entries)}
        self.written = [[] for _ in chips]
        self.begin(0)

    def begin(self, number: int) -> None:
        """Before a run of the model; ``number`` chooses the draws of the chips' noise."""
        self.number, self.position, self.passes = number, 0, 0
        self.rewritten = []
        self.inside = self.emulation = 0.0

    def end(self, samples: int, wall_time: float) -> Cost:
        """After a run of the model: what it took."""
        return replace(
            self.schedule.cost(samples, self.rewritten), passes=self.passes, wall_time=wall_time,
            emulation=self.emulation, transfer=self.inside - self.emulation,
        )  # fmt: skip

    def compute(self, layer: OnArray, given: Tensor) -> Tensor:
        """``given`` times the layer's weight, in the arrays."""
        began = time.perf_counter()
        if self.position >= len(self.layers) or self.layers[self.position] is not layer:
            raise Unsupported("it runs in another order than when the model was calibrated", where=layer.title,
                              expected="every layer once, in the same order for every input")  # fmt: skip
        self.position += 1
        output = straight_through(layer, given, self.sums)
        self.inside += time.perf_counter() - began
        return output

    def sums(self, layer: OnArray, weights: Tensor, codes: Tensor) -> Tensor:
        """(V, N): the results of the layer's entries, added up, without the columns' offsets."""
        entries = self.entries[layer]
        vectors = layer.vectors(codes.to(torch.uint8)).numpy()
        matrix = layer.matrix(weights).to(torch.int8).numpy()
        parts = {rows: np.ascontiguousarray(vectors[:, slice(*rows)]) for rows in {entry.rows for entry in entries}}
        jobs = [_Job(self, layer, chip, matrix, parts) for chip in sorted({entry.chip for entry in entries})]
        if len(jobs) == 1:
            jobs[0].run()
        else:
            with ThreadPoolExecutor(len(jobs)) as pool:
                list(pool.map(_Job.run, jobs))
        self.emulation += max(job.seconds for job in jobs)
        self.passes += len(vectors) * len(entries)
        self.rewritten += [entry for job in jobs for entry in job.rewritten]
        return sum((job.lifted(codes.dtype) for job in jobs[1:]), jobs[0].lifted(codes.dtype))


class _Job:
    """What one chip does for one layer, entry after entry."""

    def __init__(self, run: Run, layer: OnArray, chip: int, matrix: Codes, parts: Parts) -> None:
        first = run.number * len(run.schedule.entries)
        self.todo = [(entry, first + run.index[entry]) for entry in run.entries[layer] if entry.chip == chip]
        self.setting, self.matrix, self.parts = layer.setting, matrix, parts
        self.chip, self.written = run.chips[chip], run.written[chip]
        self.calibration = run.calibrations[chip] if run.calibrations else None
        self.rewritten: list[Entry] = []
        self.seconds = 0.0

    def run(self) -> None:
        """Multiply, and add up."""
        setting, columns = self.setting, self.calibration and self.calibration.columns
        number = len(next(iter(self.parts.values())))
        self.total, self.offset = np.zeros((number, self.matrix.shape[1]), np.int32), np.zeros(self.matrix.shape[1])
        for entry, trial in self.todo:
            weights = np.ascontiguousarray(self.matrix[slice(*entry.rows), slice(*entry.columns)])
            self._write(entry, weights)
            how = ArrayPass(
                entry.half, entry.row, entry.column, setting.sends, setting.wait, setting.gain, trial, columns
            )
            began = time.perf_counter()
            result = self.chip.multiply(weights, self.parts[entry.rows], how)
            self.seconds += time.perf_counter() - began
            self.total[:, slice(*entry.columns)] += result
            if self.calibration is not None:
                first = entry.half * WIDTH + entry.column
                self.offset[slice(*entry.columns)] += self.calibration.offset[first : first + entry.shape[1]]

    def lifted(self, dtype: torch.dtype) -> Tensor:
        """(V, N): the sums as if the columns had no offsets, and the chip the gain that it shall have."""
        total = torch.from_numpy(self.total).to(dtype)
        if self.calibration is None:
            return total
        gain = float(np.median(self.calibration.gain))
        return total.sub_(torch.from_numpy(self.offset).to(dtype)).mul_(ArrayPass.gain / GAIN_UNIT / gain)

    def _write(self, entry: Entry, weights: Codes) -> None:
        """Notes what lies where now, and that it was written, unless it was there."""
        for k, (each, codes) in enumerate(self.written):
            if each is entry:
                if not np.array_equal(codes, weights):
                    self.written[k] = entry, weights
                    self.rewritten.append(entry)
                return
        self.written[:] = [(each, codes) for each, codes in self.written if not each.overlaps(entry)]
        self.written.append((entry, weights))
        self.rewritten.append(entry)
