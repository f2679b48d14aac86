"""Short-term plasticity on a grid of steps: what events met, and what one more spike of a step would change. No torch.

One more spike in a step would take the fraction U of what the step's first observed spike met there, or of what is
there in the step's middle, and be as large as a spike that meets this; the events after it would find so much less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikeloop.engine import _core
from spikeloop.engine.arrays import Float, Recovery, Trains, Weights
from spikeloop.engine.arriving import joined
from spikeloop.engine.short_term import Course, Index, Projected, recent_sizes, resources, rested, sizes_of

BEFORE = int(np.iinfo(np.int64).min)
"""The step of events from before the run: they are given, and have no derivative."""


@dataclass(frozen=True, eq=False)
class Draws:
    """The events of a short-term link, those from before the run first, and what they met.

    trains: all of them, E.  size, x: (E,).  previous: (E,), which was the one before, of the run, or -1.  step: (E,).
    first, last: (B, S), x at the latest events before the run, and when these were.
    """

    recovery: Recovery
    trains: Trains
    size: Float
    x: Float
    previous: Index
    step: Index
    first: Float
    last: Float

    @classmethod
    def of(cls, link: Projected, own: Trains, run: Course, step_of: Callable[[Float, Index], Index]) -> Draws:
        """own: the run's own spikes of the link's source.  step_of: from times and samples."""
        assert link.short_term is not None
        start, recent = run.recovered.get(link.name), run.recent.get(link.source)
        found = resources(own, link.short_term, start)
        sample = np.repeat(np.arange(run.batch), np.diff(own[2]))
        size, step = sizes_of(found.x, own[1], link.short_term), step_of(own[0], sample)
        x, previous, trains = found.x, found.previous, own
        if recent is not None:
            before, after = np.zeros(len(recent[0]), np.int64), recent[2][1:][sample]  # how many from before come first
            shifted = np.where(previous < 0, -1, previous + after)
            trains = joined(recent, own)
            size = joined((recent_sizes(link, run), *recent[1:]), (size, *own[1:]))[0]
            x, previous, step = (
                joined((old, *recent[1:]), (new, *own[1:]))[0]  # type: ignore[arg-type]
                for old, new in ((before, x), (before - 1, shifted), (before + BEFORE, step))
            )
        first, last = (np.ascontiguousarray(part) for part in rested(run.batch, link.short_term, start))
        return cls(link.short_term, trains, size, x, previous.astype(np.int64), step.astype(np.int64), first, last)

    def given(self) -> Any:
        """As the native stepped engine takes them, beside the trains."""
        return self.x, self.previous, self.step, (*self.recovery.arrays(), self.first, self.last)


@dataclass(eq=False)
class DrawnBack:
    """A sweep back through the steps; by_size: (E,), dL/d(size) of every event, is filled before its step is passed."""

    draws: Draws
    by_size: Float = field(init=False)

    def __post_init__(self) -> None:
        self.by_size = np.zeros(len(self.draws.size))
        shape = self.draws.first.shape
        ahead, coming, latest = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._state = (ahead, coming, latest, np.zeros(shape[0], np.int64))
        _core.set_out(self._given, self._state)

    @property
    def _given(self) -> Any:
        x, previous, step, of = self.draws.given()
        return (*self.draws.trains, x, previous, step, *of)

    def __call__(self, first: int, origin: Float, dt: float, felt: Weights) -> None:
        """Pass the steps from ``first`` on of which ``felt`` (steps, B, S) is what one more spike is worth that has
        the size 1 and takes nothing: in its place comes dL/dS. Later steps have been passed.
        """
        door: Any = _core.draw_back_single if felt.dtype == np.float32 else _core.draw_back_double
        door(self._given, self._state, first, origin, dt, self.by_size, felt)
