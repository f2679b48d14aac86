"""What it takes to go on from the end of a run as if nothing had been cut, to the last bit.

A run's end is no event: a neuron's crossings follow from where it was when an event last happened to it. So a state
keeps that, beside where the neuron is at the end, and the spikes that are still on their way, at their own times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class Paused:
    """Where a population was after step ``number - 1``, and the currents that it had from there on."""

    step: float
    number: int
    state: SteppedState
    currents: tuple[Current, ...]

    def shown(self, cells: Cells, end: float) -> dict[str, Float]:
        """(B, N) each: membrane, current and remaining hold of the output compartment."""
        c, state = cells.output, self.state
        return {
            "membrane": state.membrane[:, c].astype(np.float64) + cells.field("leak")[c],
            "current": state.current[:, :, c].sum(1).astype(np.float64),
            "held": np.maximum(state.free[:, c] - end, 0.0),
        }
