"""The populations of a trial that are integrated in steps: which step, what is asked of the engine, what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from spikeloop.engine.arrays import Peaks, Recovered, Run, Trains
from spikeloop.engine.arriving import coming, joined
from spikeloop.engine.failures import Divergence
from spikeloop.engine.short_term_stepped import Inside, sized
from spikeloop.engine.snapshot import STEPPED, Paused
from spikeloop.engine.stepped import (
    Cells,
    Quantity,
    SteppedAsk,
    SteppedRun,
    SteppedSampling,
    SteppedStage,
    SteppedState,
    forward,
    largest_step,
)
from spikeloop.engine.trial_stepped import currents_into, place_of
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.observe import When, neurons_of, times_of
from spikeloop.protocols import Trial
from spikeloop.record import Samples, State
from spikeloop.substrate.step_grid import Clock, before, between, joined_currents, of_the_run, within

_TINY = 1e-9  # relative: what rounding makes of a step
_ROUND = (5.0, 2.0, 1.0)  # a step chosen here is one of these times a power of ten
_QUANTITIES = {"membrane": Quantity.MEMBRANE, "adaptation": Quantity.ADAPTATION, "current": Quantity.CURRENT}


@dataclass(frozen=True, eq=False)
class InSteps:
    """How the stepped stages of a trial are run: from where, on which grid, and what is asked of each population.

    paused: where the run it goes on from was at the end of its last whole step.  reached: the same of this run, filled
    where the trial asks for its state.  recovered: likewise, of short-term links within a stage, with the sizes of all
    spikes.
    """

    clock: Clock
    spike_limit: int
    asks: Mapping[str, SteppedAsk]
    paused: Mapping[str, Paused]
    reached: dict[str, Paused] = field(default_factory=dict[str, Paused])
    recovered: dict[str, Recovered] = field(default_factory=dict[str, Recovered])

    @classmethod
    def of(cls, trial: Trial, stages: Sequence[SteppedStage], step: float | None, spike_limit: int) -> InSteps:
        """For these stages of ``trial``. Raises ``OutOfRange`` (the step), ``Unsupported`` (the start)."""
        if not stages:
            return _NOTHING
        cells = [each for stage in stages for each in stage.populations]
        clock = Clock(step_for(cells, step), trial.begin, trial.end, trial.observe.state)
        paused = {each.name: _paused(trial, each.name, clock) for each in cells} if trial.start else {}
        asks = {each.name: ask_of(trial, each, paused.get(each.name)) for each in cells}
        return cls(clock, spike_limit, asks, paused)

    def forward(self, stage: SteppedStage, trains: Mapping[str, Trains], run: Run) -> dict[str, Trains]:
        """The spikes of the stage's populations within the run."""
        names = [cells.name for cells in stage.populations]
        outside = {name: coming(name, trains, run.recent) for name in {link.source for link in stage.links} - {*names}}
        found: dict[str, Trains] = {}
        sent = {name: before(self.clock.start, run.recent[name]) for name in names if name in run.recent}
        asks = {name: self.asks[name] for name in names}
        stage, inside = sized(stage, trains, run), Inside(stage, run, self.clock.start)
        for first, last, whole in self.clock.pieces():
            if self.clock.keeps and whole:
                asks = {
                    cells.name: replace(ask, end=SteppedState.empty(cells, run.batch, stage.dtype))
                    for cells, ask in zip(stage.populations, asks.values(), strict=True)
                }
            span = (self.clock.step, last - first, first, run.threads, self.spike_limit)
            how = SteppedRun(run.batch, *span, sent, inside.now)
            made = _made(stage, outside, how, asks)
            inside.go_on(made, how)
            found = {name: joined(found[name], train) if name in found else train for name, train in made.items()}
            sent = {name: joined(sent[name], train) if name in sent else train for name, train in made.items()}
            if self.clock.keeps and whole:
                asks = self._pause(asks, last)
                inside.pause()
        if self.clock.keeps:
            self.recovered.update(
                inside.ended(run, {name: of_the_run(self.clock, train) for name, train in found.items()})
            )
        for name, ask in asks.items():
            _keep_higher(self.asks[name].peaks, ask.peaks)
        return {name: within(self.clock, train) for name, train in found.items()}

    def _pause(self, asks: Mapping[str, SteppedAsk], step: int) -> dict[str, SteppedAsk]:
        """Keep where it is after the last whole step, and go on from there."""
        further: dict[str, SteppedAsk] = {}
        for name, ask in asks.items():
            assert ask.end is not None
            self.reached[name] = Paused(self.clock.step, step, ask.end, ask.currents)
            peaks = None if ask.peaks is None else Peaks(np.empty_like(ask.peaks.time), np.empty_like(ask.peaks.value))
            further[name] = replace(ask, start=ask.end, end=None, peaks=peaks)
        return further

    def samples(self, trial: Trial, trace: str) -> dict[str, Samples]:
        """What was sampled of a trace: by the name it was asked for under."""
        found: dict[str, Samples] = {}
        for name, ask in self.asks.items():
            for (which, key, _), made in zip(_wishes(trial, name), ask.samplings, strict=True):
                if which == trace:
                    time, unit, value = (torch.from_numpy(array) for array in (made.time[0], made.unit, made.value))
                    found[key] = Samples(time, unit.to(torch.int64), value)
        return found

    def added(self, state: State, stages: Sequence[SteppedStage]) -> State:
        """``state`` with the populations that are run in steps: their outputs' numbers, and all in its own part."""
        fields = {"membrane": dict(state.membrane), "current": dict(state.current), "held": dict(state.held)}
        for cells in (each for stage in stages for each in stage.populations):
            for what, value in self.reached[cells.name].shown(cells, self.clock.end).items():
                fields[what][cells.name] = torch.from_numpy(value)
        return replace(state, **fields, parts={**state.parts, STEPPED: dict(self.reached)})


_NOTHING = InSteps(Clock(math.inf, 0.0, 0.0, False), 0, {}, {})


def _made(
    stage: SteppedStage, trains: Mapping[str, Trains], run: SteppedRun, asks: Mapping[str, SteppedAsk]
) -> dict[str, Trains]:
    """`forward`, which names whose membrane is no number."""
    try:
        return forward(stage, trains, run, asks)
    except Divergence as found:
        raise OutOfRange(
            f"a step of {run.step:g} s is too large for the conductances or the adaptation of neuron {found.unit}: its "
            "membrane is no number",
            where=f"population {found.population!r}, sample {found.sample}",
            expected="steps in which nothing grows without bound",
            todo="Give Ideal(step=...) a smaller one, or lower the weights",
        ) from None


def step_for(cells: Sequence[Cells], wanted: float | None) -> float:
    """The step in seconds: ``wanted``, or the largest round number below half of what the time constants allow.

    Raises ``OutOfRange`` where the wanted one is larger than they do.
    """
    largest, name = min((largest_step(each), each.name) for each in cells)
    if wanted is None:
        most = largest / 2
        power = 10.0 ** math.floor(math.log10(most))
        return next(power * part for part in _ROUND if power * part <= most * (1 + _TINY))
    if wanted > largest * (1 + _TINY):
        raise OutOfRange(
            f"a step of {wanted:g} s is too large for its time constants",
            where=f"population {name!r}",
            expected=f"at most {largest:g} s",
            todo="Lower Ideal(step=...), or leave it out",
        )
    return wanted


def ask_of(trial: Trial, cells: Cells, paused: Paused | None) -> SteppedAsk:
    """What ``trial`` asks of a population, which goes on from where another run paused."""
    name, batch, size = cells.name, trial.batch, cells.size
    silent = trial.silent.get(name)
    peaks = name in trial.observe.peak
    currents = currents_into(trial, name)
    return SteppedAsk(
        silent=None if silent is None else np.ascontiguousarray(silent.numpy(), dtype=np.uint8),
        start=None if paused is None else paused.state,
        samplings=tuple(_sampling(trial, trace, key, when, batch) for trace, key, when in _wishes(trial, name)),
        currents=currents if paused is None else joined_currents(paused.currents, currents, trial.begin),
        peaks=Peaks(np.empty((batch, size)), np.empty((batch, size))) if peaks else None,
    )


def _paused(trial: Trial, name: str, clock: Clock) -> Paused:
    """Where ``name`` was when the run that ``trial`` goes on from had made its last whole step."""
    assert trial.start is not None
    parts = trial.start.parts.get(STEPPED)
    found = parts.get(name) if isinstance(parts, dict) else None
    if not isinstance(found, Paused):
        raise Unsupported(
            "a state without what belongs to neurons that are run in steps",
            where=f"start, population {name!r}",
            expected="record.state of a run of the same network on Ideal",
            todo="Such a state cannot be made by hand: start without one, and drive it to where it shall be",
        )
    if not math.isclose(found.step, clock.step, rel_tol=_TINY):
        raise OutOfRange(
            f"the step is {clock.step:g} s",
            where=f"start, population {name!r}",
            expected=f"{found.step:g} s, as in the run that ended in this state",
            todo=f"Use Ideal(step={found.step:g})",
        )
    if found.step * found.number > trial.begin or not between(found, clock):
        raise OutOfRange(
            f"the clock is {trial.begin:g} s",
            where=f"start, population {name!r}",
            expected=f"that of the run that ended in it, within a step of {found.step * found.number:g} s",
        )
    return found


def _wishes(trial: Trial, name: str) -> list[tuple[str, str, When]]:
    """(trace, key, when) of everything that is to be sampled of a population and its compartments."""
    return [
        (trace, key, when)
        for trace, given in trial.observe.traces()
        for key, when in given.items()
        if key.partition(".")[0] == name
    ]


def _sampling(trial: Trial, trace: str, key: str, when: When, batch: int) -> SteppedSampling:
    population, number = place_of(trial.network, key)
    time = np.ascontiguousarray(times_of(when, trial.duration, trial.begin).numpy().reshape(1, -1))
    unit = neurons_of(when, trial.network.populations[population].size).to(torch.int32).numpy()
    compartment = np.full(len(unit), number, np.int32)
    return SteppedSampling(time, unit, compartment, np.empty((batch, time.shape[1], len(unit))), _QUANTITIES[trace])


def _keep_higher(peaks: Peaks | None, later: Peaks | None) -> None:
    """Make ``peaks`` those of both."""
    if peaks is None or later is None or later is peaks:
        return
    higher = later.value > peaks.value
    peaks.value[higher], peaks.time[higher] = later.value[higher], later.time[higher]
