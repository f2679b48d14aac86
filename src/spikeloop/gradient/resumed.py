"""Where neurons that are run in steps were when a trial began that goes on from a state: given, not differentiated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Recovered, Trains
from spikeloop.engine.arriving import only
from spikeloop.engine.short_term_stepped import before, drawing, since
from spikeloop.engine.snapshot import STEPPED, Paused, stepped_part
from spikeloop.engine.stepped import Current, SteppedAsk, SteppedRun, SteppedStage, SteppedState, forward
from spikeloop.errors import Unsupported
from spikeloop.record import State

_TINY = 1e-9  # of a step
_NO_LIMIT = 1 << 40


@dataclass(frozen=True, eq=False)
class Resumed:
    """A population ``age`` seconds before the trial's beginning, from where all times count: the run before it, in
    steps of ``step``, ended within one. currents: those that it had from then on.
    """

    age: float
    step: float
    state: SteppedState
    currents: tuple[Current, ...]

    @classmethod
    def of(cls, paused: Paused, begin: float) -> Resumed:
        """``paused`` on an absolute clock, of a trial that goes on at ``begin``."""
        age = begin - paused.number * paused.step
        age = 0.0 if age < _TINY * paused.step else age
        return cls(age, paused.step, _later(paused.state, -begin), tuple(_shifted(c, -begin) for c in paused.currents))

    def part(self, some: slice) -> Resumed:
        """Of the samples ``some``."""
        state = stepped_part(self.state, some)
        return replace(self, state=state, currents=tuple(_some(current, some) for current in self.currents))


def resumed(state: State, begin: float) -> dict[str, Resumed]:
    """By population, those of a state that ``Ideal`` left."""
    found = state.parts.get(STEPPED)
    given: Mapping[str, object] = found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    return {name: Resumed.of(each, begin) for name, each in given.items() if isinstance(each, Paused)}


def part_of(parts: Mapping[str, object], some: slice) -> dict[str, object]:
    """Of the samples ``some``, what `resumed` put into the parts of a state."""
    found = parts.get(STEPPED)
    if not isinstance(found, dict):
        return {}
    return {STEPPED: {name: each.part(some) for name, each in found.items()}}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def states_at_beginning(
    stage: SteppedStage,
    given: object,
    coming: Mapping[str, Trains],
    silent: Mapping[str, NDArray[np.uint8] | None],
    run: SteppedRun,
) -> dict[str, SteppedState]:
    """By population of ``stage``, the state in which the trial begins: one shorter step on from what a state gives.

    stage: with the sizes of events that are not alike.  given: what `resumed` found.  coming: what comes from outside
    the stage.  run: with the spikes that are on their way, and short-term links where the state says they are. Times
    count from the beginning.
    """
    found, age = _resumed(stage, given), _age(stage, given)
    if age == 0:
        return {name: _as(each.state, stage) for name, each in found.items()}
    ends = {c.name: SteppedState.empty(c, run.batch, stage.dtype) for c in stage.populations}
    asks = {
        name: SteppedAsk(
            silent[name], _later(_as(each.state, stage), age), ends[name],
            currents=tuple(_shifted(c, age) for c in each.currents),
        )
        for name, each in found.items()
    }  # fmt: skip
    recent = {name: _until(_moved(trains, age), 0.0) for name, trains in run.recent.items()}
    heard = {name: _moved(trains, age) for name, trains in coming.items()}
    resources = {link.name: _recovered_later(before(link, run, -age), age) for link in drawing(stage)}
    span = (run.batch, age, 1, 0, run.threads, _NO_LIMIT)
    forward(stage, heard, SteppedRun(*span, recent, resources, -_step(stage, given)), asks)
    return {name: _later(end, -age) for name, end in ends.items()}


def at_beginning(stage: SteppedStage, given: object, run: SteppedRun) -> SteppedRun:
    """``run`` with short-term links where they are when the trial begins: a state has those within ``stage`` before its
    last step, the others at its end. What this step sent arrives at the beginning at the soonest, what was sent before
    it may have arrived in it.  given, run: as `states_at_beginning` has them.
    """
    if given is None:
        return run
    age = _age(stage, given)
    settled = -age if age > 0 else -_step(stage, given)
    recovered = {**run.recovered, **{link.name: since(link, run, -age) for link in drawing(stage)}}
    return replace(run, recovered=recovered, settled=settled)


def _resumed(stage: SteppedStage, given: object) -> dict[str, Resumed]:
    return {cells.name: _of(given, cells.name) for cells in stage.populations}


def _age(stage: SteppedStage, given: object) -> float:
    return max(each.age for each in _resumed(stage, given).values())


def _step(stage: SteppedStage, given: object) -> float:
    return max(each.step for each in _resumed(stage, given).values())


def _of(given: object, name: str) -> Resumed:
    found = given.get(name) if isinstance(given, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if not isinstance(found, Resumed):
        raise Unsupported(
            "a state without what belongs to neurons that are run in steps",
            where=f"start, population {name!r}",
            expected="record.state of a run of the same network on Ideal",
        )
    return found


def _as(state: SteppedState, stage: SteppedStage) -> SteppedState:
    """In the stage's precision, and in memory of its own."""
    membrane, adaptation, current = (
        np.ascontiguousarray(each, stage.dtype) for each in (state.membrane, state.adaptation, state.current)
    )
    free, noise, shift = (np.ascontiguousarray(each, np.float64) for each in (state.free, state.noise, state.shift))
    return SteppedState(membrane, adaptation, current, free, noise, shift, np.ascontiguousarray(state.fired))


def _later(state: SteppedState, seconds: float) -> SteppedState:
    return replace(state, free=state.free + seconds)


def _recovered_later(recovered: Recovered, seconds: float) -> Recovered:
    return replace(recovered, last=recovered.last + seconds)


def _shifted(current: Current, seconds: float) -> Current:
    return replace(current, time=current.time + seconds)


def _some(current: Current, some: slice) -> Current:
    return current if len(current.value) == 1 else replace(current, value=np.ascontiguousarray(current.value[some]))


def _moved(trains: Trains, seconds: float) -> Trains:
    return trains[0] + seconds, trains[1], trains[2]


def _until(trains: Trains, end: float) -> Trains:
    return only(trains, trains[0] < end)
