"""What it takes to go on from the end of a run as if nothing had been cut, to the last bit.

A run's end is no event: a neuron's crossings follow from where it was when an event last happened to it. So a state
keeps that, beside where the neuron is at the end, and the spikes that are still on their way, at their own times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import arriving
from spikeloop.engine.arrays import Anchors, Float, States, Trains
from spikeloop.engine.stepped import Cells, Current, SteppedState

STEPPED = "stepped"
"""The part of a state that belongs to neurons that are run in steps: `Paused` by population."""


@dataclass(frozen=True, eq=False)
class Kept:
    """One population's part: from where it goes on, and for whom.

    An anchor holds as long as the neuron is the same, may spike as before, and nobody changed the state at the end
    itself, of which there is a mark.  leak: (1, N) or (B, N), where a current drew the membranes to then.
    """

    anchors: Anchors
    mark: NDArray[np.uint64]
    values: Float
    leak: Float
    silent: NDArray[np.uint8] | None

    def anchors_from(self, start: States, silent: NDArray[np.uint8] | None, leak: Float, begin: float) -> Anchors:
        """Where to go on from: the anchors of the samples for which they hold, ``start`` for the others."""
        same = (self.mark == mark(start)).all(0) & (self.leak == leak).all(1)
        if silent is not None or self.silent is not None:
            mine, theirs = (
                np.zeros_like(same[:, None]) if s is None else s.astype(bool) for s in (self.silent, silent)
            )
            same &= (mine == theirs).all(1)
        if same.all():
            return self.anchors
        here = (np.full_like(start.held, begin), start.membrane - leak, start.current, begin + start.held)
        kept = self.anchors.fields()
        return Anchors(*(np.where(same[:, None], mine, other) for mine, other in zip(kept, here, strict=True)))

    def part(self, some: slice) -> Kept:
        """Of the samples ``some``."""
        anchors = Anchors(*(field[some] for field in self.anchors.fields()))
        silent = None if self.silent is None else self.silent[some]
        return Kept(anchors, self.mark[:, some], self.values, _rows(self.leak, some), silent)

    @classmethod
    def batch(cls, parts: Sequence[Kept]) -> Kept:
        """Parts of single samples as one."""
        anchors = Anchors(*map(np.concatenate, zip(*(part.anchors.fields() for part in parts), strict=True)))
        silent = [part.silent for part in parts if part.silent is not None]
        mark, leak = np.concatenate([p.mark for p in parts], 1), np.concatenate([p.leak for p in parts])
        return cls(anchors, mark, parts[0].values, leak, np.concatenate(silent) if silent else None)


def mark(state: States) -> NDArray[np.uint64]:
    """(3, B): a number for each field of each sample: the sum of its bits times odd numbers, modulo 2^64."""
    place = np.arange(1, state.membrane.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    odd = (place ^ (place >> np.uint64(29))) | np.uint64(1)
    return np.stack([np.ascontiguousarray(field).view(np.uint64) @ odd for field in state.fields()])


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All populations', at ``time``.

    dense: those of them in a dense stage, where all neurons of a sample have one anchor in time.  recent: trains by
    population, and the ages of their spikes then.
    """

    time: float
    populations: Mapping[str, Kept]
    dense: frozenset[str]
    recent: Mapping[str, Trains]
    ages: Mapping[str, Float]

    def part(self, some: slice) -> Snapshot:
        """Of the samples ``some``."""
        recent = {name: arriving.samples_of(trains, some) for name, trains in self.recent.items()}
        ages = {
            name: arriving.samples_of((self.ages[name], *trains[1:]), some)[0] for name, trains in self.recent.items()
        }
        populations = {name: kept.part(some) for name, kept in self.populations.items()}
        return replace(self, populations=populations, recent=recent, ages=ages)

    @classmethod
    def batch(cls, parts: Sequence[Snapshot]) -> Snapshot:
        """Parts of single samples as one."""
        first, names = parts[0], {name for part in parts for name in part.recent}
        populations = {name: Kept.batch([part.populations[name] for part in parts]) for name in first.populations}
        none = arriving.nothing(1)
        recent = {name: arriving.batch_of([part.recent.get(name, none) for part in parts]) for name in names}
        ages = {name: np.concatenate([part.ages.get(name, none[0]) for part in parts]) for name in names}
        return cls(first.time, populations, first.dense, recent, ages)


@dataclass(frozen=True, eq=False)
class Paused:
    """Where a population was after step ``number - 1``, and the currents that it had from there on."""

    step: float
    number: int
    state: SteppedState
    currents: tuple[Current, ...]

    def part(self, some: slice) -> Paused:
        """Of the samples ``some``."""
        currents = tuple(replace(current, value=_rows(current.value, some)) for current in self.currents)
        return replace(self, state=stepped_part(self.state, some), currents=currents)

    @classmethod
    def batch(cls, parts: Sequence[Paused]) -> Paused:
        """Parts of single samples as one."""
        state = SteppedState(*map(np.concatenate, zip(*(part.state.arrays() for part in parts), strict=True)))
        currents = tuple(_together(each) for each in zip(*(part.currents for part in parts), strict=True))
        return replace(parts[0], state=state, currents=currents)

    def shown(self, cells: Cells, end: float) -> dict[str, Float]:
        """(B, N) each: membrane, current and remaining hold of the output compartment."""
        c, state = cells.output, self.state
        return {
            "membrane": state.membrane[:, c].astype(np.float64) + cells.field("leak")[c],
            "current": state.current[:, :, c].sum(1).astype(np.float64),
            "held": np.maximum(state.free[:, c] - end, 0.0),
        }


def stepped_part(state: SteppedState, some: slice) -> SteppedState:
    """Of the samples ``some``."""
    return SteppedState(*(array[some] for array in state.arrays()))


def _rows(value: Any, some: slice) -> Any:
    """Of the samples ``some``, of an array with one row for all or one for each."""
    return value if len(value) == 1 else np.ascontiguousarray(value[some])


def _together(currents: Sequence[Current]) -> Current:
    """Currents of single samples into one compartment, each with times of its own, as one."""
    time = np.unique(np.concatenate([current.time for current in currents]))
    values: list[Float] = []
    for current in currents:
        nothing = np.zeros((1, 1, current.value.shape[2]))  # before its first time
        at = np.searchsorted(current.time, time, side="right")
        values.append(np.concatenate([nothing, current.value], 1)[:, at])
    return replace(currents[0], time=time, value=np.concatenate(values))
