"""Events: the spike trains of a batch, ragged, in seconds."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spikeloop._files import read_arrays, write_arrays
from spikeloop._ragged import (
    check_layout,
    check_pairs,
    check_values,
    chosen,
    first_rows,
    gather_rows,
    joined,
    order,
    owners,
    positive,
    slots,
    starts,
)
from spikeloop._warn import warn
from spikeloop.engine import _core
from spikeloop.errors import InvalidEvents, ShapeMismatch

_FORMAT, _VERSION = "spikeloop.events", 1
_SLACK = 1e-6  # of a raster bin: an event that rounding put this little before a bin belongs to it


Arrays = tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]
"""time, unit and start of `Events`."""


@dataclass(frozen=True, eq=False, repr=False)
class Events:
    """The spike trains of a batch of samples: one long list of events, sample after sample, without padding.

    time: (S,) float64, seconds, finite, not negative, ascending within a sample; carries the gradient.
    unit: (S,) int32, the neuron or input line, 0 <= unit < size.
    start: (B + 1,) int64; sample b owns the rows start[b]:start[b + 1]. A sample, or the batch, may be empty.
    size: number of units.

    The constructor checks all of this and sorts nothing; `from_lists`, `from_trains`, `from_raster` and `from_padded`
    convert and sort. Everything that rearranges events keeps the graph of `time`.

    Raises InvalidEvents (values) or ShapeMismatch (shapes and dtypes).
    """

    time: Tensor
    unit: Tensor
    start: Tensor
    size: int
    _count: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_layout(self.time, self.unit, self.start)
        check_values(self.time, self.unit, self.start, self.size)

    @classmethod
    def _trusted(cls, time: Tensor, unit: Tensor, start: Tensor, size: int, count: Tensor | None = None) -> Events:
        """Events from parts that are known to be right (an engine's output): nothing is checked."""
        events = object.__new__(cls)
        events.__dict__.update(time=time, unit=unit, start=start, size=size, _count=count)
        return events

    @classmethod
    def _of(cls, arrays: Arrays, size: int, count: Tensor | None = None) -> Events:
        """Events from the arrays of an engine, without copying."""
        time, unit, start = (torch.from_numpy(each) for each in arrays)
        events = cls._trusted(time, unit, start, size, count)
        events.__dict__["_arrays"] = arrays
        return events

    def _with(self, time: Tensor, count: Tensor | None) -> Events:
        """The same events with other tensors, of the same values, in the place of times and counts."""
        events = self._trusted(time, self.unit, self.start, self.size, count)
        for name in ("_slot", "_arrays"):
            if name in self.__dict__:
                events.__dict__[name] = self.__dict__[name]
        return events

    @classmethod
    def _from_rows(cls, time: Tensor, unit: Tensor, sample: Tensor, batch: int, size: int) -> Events:
        """Checked Events from rows in any order; unit may be of any number type."""
        by = order(time, sample)
        start = starts(torch.bincount(sample, minlength=batch))
        time, unit = time[by], unit[by]
        check_values(time, unit, start, size)
        return cls._trusted(time, unit.to(torch.int32), start, size)

    @classmethod
    def from_lists(
        cls, times: Sequence[Tensor | ArrayLike], units: Sequence[Tensor | ArrayLike], size: int, scale: float = 1.0
    ) -> Events:
        """Events from one array of times and one of units per sample, in any order; scale=1e-3 reads milliseconds."""
        if len(times) != len(units):
            raise ShapeMismatch(f"{len(times)} arrays of times, {len(units)} of units", expected="one of each a sample")
        (time, lengths), (unit, unit_lengths) = joined(times), joined(units)
        check_pairs(lengths, unit_lengths)
        return cls._from_rows(time * scale, unit, owners(starts(lengths)), len(times), size)

    @classmethod
    def from_trains(
        cls, trains: Sequence[Sequence[Tensor | ArrayLike]], size: int | None = None, scale: float = 1.0
    ) -> Events:
        """Events from the train of every unit: trains[sample][unit] is an array of times, in any order.

        size may be left out unless the batch is empty; scale=1e-3 reads milliseconds.
        """
        size = len(trains[0]) if size is None and len(trains) else size
        if size is None:
            raise ShapeMismatch("the number of units of an empty batch is unknown", todo="Give size=")
        for b, sample in enumerate(trains):
            if len(sample) != size:
                raise ShapeMismatch(f"{len(sample)} trains", where=f"sample {b}", expected=f"one per unit: {size}")
        time, lengths = joined([train for sample in trains for train in sample])
        row = owners(starts(lengths))
        return cls._from_rows(time * scale, row % max(size, 1), row // max(size, 1), len(trains), size)

    @classmethod
    def from_raster(cls, raster: Tensor | ArrayLike, dt: float, batch_first: bool = True) -> Events:
        """Events from spike counts (B, T, N), or (T, B, N) with batch_first=False, in bins of dt seconds.

        A count of n in bin k gives n events at k dt, where the bin begins.
        """
        dense = torch.as_tensor(raster).detach()
        if dense.ndim != 3:
            raise ShapeMismatch(f"a raster of shape {tuple(dense.shape)}", expected="(batch, time, unit)")
        dense = dense if batch_first else dense.transpose(0, 1)
        counts = dense.to(torch.int64)
        if not torch.equal(counts.to(dense.dtype), dense) or bool((counts < 0).any()):
            raise InvalidEvents("the raster holds values that are not counts", expected="0, 1, 2, ... spikes per bin")
        sample, step, unit = counts.nonzero(as_tuple=True)
        row = torch.repeat_interleave(torch.arange(len(sample)), counts[sample, step, unit])
        time = step[row].double() * positive(dt, "dt")
        return cls._from_rows(time, unit[row], sample[row], len(dense), dense.shape[2])

    @classmethod
    def from_padded(cls, time: Tensor | ArrayLike, unit: Tensor | ArrayLike, size: int, scale: float = 1.0) -> Events:
        """Events from (B, L) times and units in any order; an infinite time or a unit of -1 is padding.

        The inverse of `padded`; scale=1e-3 reads milliseconds.
        """
        times, units = torch.as_tensor(time).double(), torch.as_tensor(unit)
        if times.ndim != 2 or times.shape != units.shape:
            shapes = f"times {tuple(times.shape)}, units {tuple(units.shape)}"
            raise ShapeMismatch(shapes, where="Events.from_padded", expected="both (batch, events)")
        sample, place = ((times != math.inf) & (units != -1)).nonzero(as_tuple=True)
        return cls._from_rows(times[sample, place] * scale, units[sample, place], sample, len(times), size)

    @classmethod
    def cat(cls, batches: Sequence[Events]) -> Events:
        """One batch of all the samples of `batches`, in order."""
        sizes = sorted({events.size for events in batches})
        if len(sizes) != 1:
            raise ShapeMismatch(f"batches of sizes {sizes}", where="Events.cat", expected="one size for all")
        counts = [events.count for events in batches] if any(e._count is not None for e in batches) else None
        return cls._trusted(
            torch.cat([events.time for events in batches]),
            torch.cat([events.unit for events in batches]),
            starts(torch.cat([events.lengths for events in batches])),
            sizes[0],
            None if counts is None else torch.cat(counts),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Events:
        """Events from a file of `save`. Raises DataError if it is missing, truncated, foreign or newer."""
        arrays = read_arrays(path, _FORMAT, _VERSION, ("time", "unit", "start", "size"))
        time, unit, start = (torch.from_numpy(arrays[name]) for name in ("time", "unit", "start"))
        return cls(time, unit, start, int(arrays["size"]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed .npz (format, version, time, unit, start, size) that `load` and numpy read."""
        arrays = {"time": self.time.detach(), "unit": self.unit, "start": self.start, "size": torch.tensor(self.size)}
        write_arrays(path, _FORMAT, _VERSION, {name: array.cpu().numpy() for name, array in arrays.items()})

    def __getstate__(self) -> dict[str, object]:
        """Without what was derived from the fields."""
        return {name: self.__dict__[name] for name in ("time", "unit", "start", "size", "_count")}

    def __len__(self) -> int:
        return self.start.shape[0] - 1

    def __repr__(self) -> str:
        numbers = {"sample": len(self), "event": self.time.shape[0], "unit": self.size}
        return f"Events({', '.join(f'{n} {word}' + 's' * (n != 1) for word, n in numbers.items())})"

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[np.generic] | Tensor) -> Events:
        """The samples of an index, slice, mask or sequence of indices, as a new batch: one gather, or a view."""
        if isinstance(index, slice) and index.step in (None, 1):
            return self._between(*index.indices(len(self))[:2])
        samples = chosen(index, len(self)).to(self.start.device)
        count = None if self._count is None else self._count[samples]
        if self.time.is_cpu and not self.time.requires_grad:
            arrays = _core.gathered(self._arrays, samples.contiguous().numpy(), torch.get_num_threads())
            return self._of(arrays, self.size, count)
        rows, start = gather_rows(self.start, samples)
        return self._trusted(self.time.index_select(0, rows), self.unit.index_select(0, rows), start, self.size, count)

    def _between(self, first: int, last: int) -> Events:
        """Samples first to last - 1, without copying times and units."""
        last = max(last, first)
        time, unit, start = self._arrays
        begin, end = int(start[first]), int(start[last])
        some = slice(begin, end)
        arrays = (time[some], unit[some], start[first : last + 1] - begin)
        count = None if self._count is None else self._count[first:last]
        on_cpu = torch.from_numpy(arrays[2])
        part = self._trusted(self.time[some], self.unit[some], on_cpu.to(self.start.device), self.size, count)
        part.__dict__["_arrays"] = arrays
        return part

    @property
    def lengths(self) -> Tensor:
        """(B,) int64: number of events of each sample."""
        return self.start.diff()

    @cached_property
    def sample(self) -> Tensor:
        """(S,) int64: the sample each event belongs to."""
        return owners(self.start)

    @property
    def count(self) -> Tensor:
        """(B, size) float: number of events of each unit; of a record, its count, where a rule passes gradients."""
        if self._count is not None:
            return self._count
        if self.start.is_cpu:
            count = torch.from_numpy(_core.counts(self._arrays, self.size))
        else:
            count = torch.bincount(self._slot, minlength=len(self) * self.size).view(len(self), self.size)
        dtype = torch.get_default_dtype()
        return count if count.dtype == dtype else count.to(dtype)

    @cached_property
    def _arrays(self) -> Arrays:
        """time, unit and start as contiguous NumPy arrays on the CPU, of the same memory where that is possible."""
        time, unit, start = (part.detach().cpu().contiguous().numpy() for part in (self.time, self.unit, self.start))
        return time, unit, start

    @cached_property
    def _slot(self) -> Tensor:
        """(S,) int64: sample * size + unit."""
        return slots(self.start, self.unit, self.size)

    def first(self, fill: float = math.inf) -> Tensor:
        """(B, size) float64: time of each unit's first event; `fill`, without gradient, where there is none."""
        row = first_rows(self._slot, len(self) * self.size)
        active = (row >= 0).nonzero()[:, 0]
        blank = torch.full_like(row, fill, dtype=self.time.dtype)
        return blank.index_copy(0, active, self.time.index_select(0, row[active])).view(len(self), self.size)

    def merge(self, other: Events, offset: int = 0) -> Events:
        """The events of both, sample by sample; the units of `other` are shifted by `offset`.

        offset=0 merges trains onto the same units (equal sizes); offset=self.size puts the units side by side.
        """
        if len(self) != len(other):
            raise ShapeMismatch(
                f"batches of {len(self)} and {len(other)} samples", where="Events.merge", expected="as many in both"
            )
        if offset < 0 or (offset == 0 and self.size != other.size):
            sizes = f"sizes {self.size} and {other.size} with offset {offset}"
            raise ShapeMismatch(sizes, where="Events.merge", expected="equal sizes, or a positive offset")
        by = order(torch.cat([self.time, other.time]), torch.cat([self.sample, other.sample]))
        time, unit = torch.cat([self.time, other.time])[by], torch.cat([self.unit, other.unit + offset])[by]
        size, count = max(self.size, offset + other.size), None
        if self._count is not None or other._count is not None:
            mine = torch.nn.functional.pad(self.count, (0, size - self.size))
            count = mine + torch.nn.functional.pad(other.count, (offset, size - offset - other.size))
        return self._trusted(time, unit, self.start + other.start, size, count)

    def raster(self, dt: float, duration: float | None = None) -> Tensor:
        """(B, T, size) int64 counts in bins of dt seconds, T = ceil(duration / dt); the inverse of `from_raster`.

        Bin k holds k dt <= t < (k + 1) dt; a millionth of a bin is forgiven to rounding. Without a duration the last
        event is in the last bin; with one, later events are left out.
        """
        step = torch.floor(self.time.detach() / positive(dt, "dt") + _SLACK).to(torch.int64)
        needed = int(step.max()) + 1 if len(step) else 0
        bins = needed if duration is None else math.ceil(duration / dt - _SLACK)
        inside = step < bins
        place = ((self.sample * bins + step) * self.size + self.unit)[inside]
        return torch.bincount(place, minlength=len(self) * bins * self.size).view(len(self), bins, self.size)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Times (B, L) float64 and units (B, L) int32, L of the longest sample; padding is inf and -1."""
        longest = int(self.lengths.max()) if len(self) else 0
        place = self.sample * longest + torch.arange(self.time.shape[0], device=self.time.device) - self._row_start
        time = self.time.new_full((len(self) * longest,), math.inf).index_copy(0, place, self.time)
        unit = self.unit.new_full((len(self) * longest,), -1).index_copy(0, place, self.unit)
        return time.view(len(self), longest), unit.view(len(self), longest)

    @property
    def _row_start(self) -> Tensor:
        """(S,) int64: the first row of the sample each event belongs to."""
        return self.start[:-1][self.sample]

    def to(self, device: torch.device | str) -> Events:
        """The same events on another device."""
        count = None if self._count is None else self._count.to(device)
        return self._trusted(self.time.to(device), self.unit.to(device), self.start.to(device), self.size, count)

    def pin_memory(self) -> Events:
        """The same events in page-locked memory, from where a copy to a GPU need not wait."""
        count = None if self._count is None else self._count.pin_memory()
        parts = (self.time.pin_memory(), self.unit.pin_memory(), self.start.pin_memory())
        return self._trusted(*parts, self.size, count)

    def detach(self) -> Events:
        """The same events without gradients."""
        return self._with(self.time.detach(), None if self._count is None else self._count.detach())

    def later(self, seconds: float) -> Events:
        """The same events, so many seconds later: on the clock of a run that goes on from ``record.state``."""
        if not math.isfinite(seconds):
            raise InvalidEvents(f"events cannot be {seconds} s later", where="Events.later", expected="finite seconds")
        moved = self._trusted(self.time + seconds, self.unit, self.start, self.size, self._count)
        if len(self.time) and float(moved.time.detach().min()) < 0:
            raise InvalidEvents("events would be before 0", where="Events.later", expected="times of at least 0 s")
        return moved

    def check_within(self, duration: float, name: str = "drive", begin: float = 0.0) -> None:
        """Look for events of the drive `name` before `begin` or more than `duration` after it (s).

        Before it, or all of them after the end: InvalidEvents, which suspects another clock, or the unit of time. Some
        of them after the end: SpikeloopWarning with the number.
        """
        seconds, end = self._arrays[0], begin + duration
        if begin > 0 and seconds.min(initial=begin) < begin:  # none is before 0
            raise InvalidEvents(
                f"{int((seconds < begin).sum())} of {len(seconds)} events are before the beginning",
                where=name,
                expected=f"times from {begin:g} to {end:g} s: the run goes on with the clock of its start",
                todo="events.later(start.time) moves events that begin at 0",
            )
        if not len(seconds) or seconds.take(self._arrays[2][1:] - 1).max() <= end:  # the last of each sample
            return
        late = int((seconds > end).sum())
        if late == self.time.shape[0]:
            raise InvalidEvents(
                f"all {late} events are after the end, the first at {float(self.time.min()):g} s",
                where=name,
                expected=f"times from {begin:g} to {end:g} s",
                todo="Events are in seconds; scale=1e-3 reads ms",
            )
        message = f"{name}: {late} of {self.time.shape[0]} events are after the end ({end:g} s) and have no effect."
        warn(message)
