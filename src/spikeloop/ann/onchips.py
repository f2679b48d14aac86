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

from spikeloop._warn import warn
from spikeloop.ann.layers import OnArray, Setting
from spikeloop.ann.straight import straight_through
from spikeloop.chip.array_cost import Cost
from spikeloop.chip.configuration import HALVES, Chip
from spikeloop.chip.mac import WIDTH, ArrayPass
from spikeloop.chip.mac_calibrate import ColumnCalibration, calibrate_columns, share_of_gain
from spikeloop.chip.schedule import Entry, Matrix, Schedule, partition
from spikeloop.errors import InvalidNetwork, OutOfRange, ShapeMismatch, Unsupported, WrongType, kind_of

_APART = 1 << 30  # a trial that no run has
Codes = NDArray[np.int8]
Parts = dict[tuple[int, int], NDArray[np.uint8]]
"""By a block of rows: what of all vectors is sent to it."""


@dataclass(frozen=True)
class OnChips:
    """The arrays of ``chips``, several at once, or of one in turns: where an `Experiment` has its layers computed.

    One batch of vectors at a time goes through each part of an array; results of parts that belong to the same columns
    are added up digitally, in as many bits as it takes.

    calibrations: for each chip the codes of its columns; without them each is calibrated on first use, in a tenth of a
    second. What was measured is allowed for digitally: the offset of each column, and what passes of as many rows and
    sends have of their gain.
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
        if self.calibrations is not None:
            _check_calibrations(self.calibrations, given)

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


def _check_calibrations(calibrations: Sequence[ColumnCalibration], chips: Sequence[Chip]) -> None:
    if len(calibrations) != len(chips):
        raise ShapeMismatch(f"{len(calibrations)} calibrations of {len(chips)} chips", where="OnChips",
                            expected="one for each chip")  # fmt: skip
    for each, chip in zip(calibrations, chips, strict=True):
        if not isinstance(each, ColumnCalibration):
            raise WrongType(f"{kind_of(each)} is no calibration of columns", where="OnChips",
                            expected="a ColumnCalibration", todo="Use calibrate_columns(chip)")  # fmt: skip
        if each.chip != repr(chip):
            raise OutOfRange(f"a calibration is of {each.chip}", where="OnChips", expected=f"one of {chip!r}",
                             todo="Use calibrate_columns(chip), or leave calibrations out")  # fmt: skip


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
    shares: dict[tuple[int, int, Setting], float]
    written: list[list[tuple[Entry, Codes]]]
    number: int
    position: int
    passes: int
    samples: int
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
        self.shares = {}
        for chip, calibration in enumerate(calibrations or ()):
            self._measure(chip, calibration)
        self.written = [[] for _ in chips]
        self.begin(0)

    def _measure(self, chip: int, calibration: ColumnCalibration) -> None:
        """Which share of its gain each kind of pass has on a chip; warns of failed columns in use."""
        used = np.zeros((HALVES, WIDTH), bool)
        for layer, entries in self.entries.items():
            setting = layer.setting
            for entry in entries:
                if entry.chip != chip:
                    continue
                used[entry.half, entry.column : entry.column + entry.shape[1]] = True
                kind = (chip, entry.shape[0], setting)
                if kind not in self.shares:
                    how = ArrayPass(sends=setting.sends, wait=setting.wait, gain=setting.gain, trial=_APART)
                    self.shares[kind] = share_of_gain(self.chips[chip], calibration.columns, entry.shape[0], how)
        failed = int((used.ravel() & ~calibration.success).sum())
        if failed:
            warn(f"{self.chips[chip]!r}: {failed} of {int(used.sum())} columns in use failed their calibration.")

    def begin(self, number: int) -> None:
        """Before a run of the model; ``number`` chooses the draws of the chips' noise."""
        self.number, self.position, self.passes, self.samples = number, 0, 0, 0
        self.rewritten = []
        self.inside = self.emulation = 0.0

    def end(self, wall_time: float) -> Cost:
        """After a run of the model: what it took."""
        return replace(
            self.schedule.cost(self.samples, self.rewritten), passes=self.passes, wall_time=wall_time,
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
        """(V, N): the results of the layer's entries, added up, as if columns had the gain asked for and no offsets."""
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
        self.samples = max(self.samples, len(vectors) // max(layer.setting.vectors, 1))
        self.rewritten += [entry for job in jobs for entry in job.rewritten]
        return torch.from_numpy(sum((job.total for job in jobs[1:]), jobs[0].total)).to(codes.dtype)


class _Job:
    """What one chip does for one layer, entry after entry."""

    def __init__(self, run: Run, layer: OnArray, chip: int, matrix: Codes, parts: Parts) -> None:
        first = run.number * len(run.schedule.entries)
        self.todo = [(entry, first + run.index[entry]) for entry in run.entries[layer] if entry.chip == chip]
        self.setting, self.matrix, self.parts = layer.setting, matrix, parts
        self.chip, self.written = run.chips[chip], run.written[chip]
        self.calibration = run.calibrations[chip] if run.calibrations else None
        self.shares = [run.shares.get((chip, entry.shape[0], self.setting), 1.0) for entry, _ in self.todo]
        self.rewritten: list[Entry] = []
        self.seconds = 0.0

    def run(self) -> None:
        """Multiply, and add up."""
        setting, columns = self.setting, self.calibration and self.calibration.columns
        number = len(next(iter(self.parts.values())))
        self.total = np.zeros((number, self.matrix.shape[1]), np.float32)  # sums of whole numbers are exact
        for (entry, trial), share in zip(self.todo, self.shares, strict=True):
            weights = np.ascontiguousarray(self.matrix[slice(*entry.rows), slice(*entry.columns)])
            self._write(entry, weights)
            how = ArrayPass(
                entry.half, entry.row, entry.column, setting.sends, setting.wait, setting.gain, trial, columns
            )
            began = time.perf_counter()
            result = self.chip.multiply(weights, self.parts[entry.rows], how)
            self.seconds += time.perf_counter() - began
            if self.calibration is None:
                self.total[:, slice(*entry.columns)] += result
                continue
            first = entry.half * WIDTH + entry.column
            offset = self.calibration.offset[first : first + entry.shape[1]].astype(np.float32)
            self.total[:, slice(*entry.columns)] += (result - offset) * np.float32(1 / share)

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
