"""Trial to arrays and back: drives, states to continue from, and spikes that are still on their way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.engine.arrays import Anchors, Ask, Float, Neurons, Recovered, Run, Stage, States, Trains
from spikeloop.engine.arriving import coming, only
from spikeloop.engine.currents import Currents, leak_at
from spikeloop.engine.plan import plan
from spikeloop.engine.short_term import recovered, samples_of
from spikeloop.engine.snapshot import Kept, Snapshot, mark
from spikeloop.engine.stepped import SteppedStage
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.protocols import Trial
from spikeloop.record import State

PART = "exact"
"""Whose part of a state this is."""
SHORT_TERM = "short_term"
"""And that of short-term plasticity: `Recovered` by projection."""
_TINY = 1e-9  # relative: what rounding makes of a step


def trains_of(events: Events) -> Trains:
    """Events as arrays, without copying."""
    return events._arrays


def events_of(trains: Trains, size: int) -> Events:
    """Arrays that the engine made as Events, without copying."""
    return Events._of(trains, size)


def stages_of(trial: Trial) -> list[Stage | SteppedStage]:
    """The network's stages as `trial` runs them: made once, for its adjoint too."""
    stages = trial.__dict__.get("_stages")
    if stages is None:
        stages = trial.__dict__["_stages"] = plan(trial.network, standing=trial.standing)
    return stages


def exact_stages(trial: Trial) -> list[Stage]:
    """Those that are run event by event."""
    return [stage for stage in stages_of(trial) if isinstance(stage, Stage)]


def run_of(trial: Trial) -> Run:
    """How ``trial`` is carried out here, as many threads as torch uses: made once, for its adjoint too."""
    run: Run | None = trial.__dict__.get("_run")
    threads = torch.get_num_threads()
    if run is None:
        recent, recovered = _recent(trial), recovered_in(trial.start)
        run = Run(trial.batch, trial.duration, threads, recent, trial.begin, None, recovered, {})
        trial.__dict__["_run"] = run
    return run if run.threads == threads else replace(run, threads=threads)


def start_of(trial: Trial, population: str) -> States | None:
    """The state ``population`` starts from; None: at rest."""
    start = trial.start
    if start is None or population not in start.membrane:
        return None
    parts = (start.membrane[population], start.current[population], start.held[population])
    return States(*(np.ascontiguousarray(part.detach().to(torch.float64).numpy()) for part in parts))


def anchors_of(
    trial: Trial, neurons: Neurons, start: States | None, silent: NDArray[np.uint8] | None
) -> Anchors | None:
    """From where a population goes on as if nothing had been cut; None: from ``start``."""
    snapshot = _snapshot(trial)
    kept = None if snapshot is None else snapshot.populations.get(neurons.name)
    if snapshot is None or kept is None or start is None or not np.array_equal(kept.values, neurons.values):
        return None
    (dense,) = (stage.dense for stage in exact_stages(trial) if neurons in stage.populations)
    if dense != (neurons.name in snapshot.dense):
        return None
    leak = leak_at(neurons, currents_of(trial).get(neurons.name), trial.begin)
    return kept.anchors_from(start, silent, leak, trial.begin)


def currents_of(trial: Trial) -> dict[str, Currents]:
    """J by population, of those that have one."""
    return {name: Currents(*steps._arrays) for name, steps in trial.steps.items()}


def empty_states(batch: int, size: int) -> States:
    """Room for a state."""
    return States(*np.empty((3, batch, size)))


def empty_anchors(batch: int, size: int) -> Anchors:
    """Room for anchors."""
    return Anchors(*np.empty((4, batch, size)))


def state_of(
    trial: Trial, asks: Mapping[str, Ask], trains: Mapping[str, Trains], run: Run, step: float = 0.0,
    inside: Mapping[str, Recovered] | None = None,
) -> State:  # fmt: skip
    """The state to continue from: neurons, and spikes whose delays reach to the end or beyond it.

    step: of what is run in steps and made anew by the next run from the beginning of the last one on.  inside: of its
    short-term links within a stage, with the sizes of all spikes.
    """
    fields = {
        field: {name: torch.from_numpy(getattr(ask.end, field)) for name, ask in asks.items()}
        for field in ("membrane", "current", "held")
    }
    reach = _reach(trial, step)
    waiting = _all_waiting(reach, trains, run)
    recent = {name: _aged(late, run, trial.network.populations[name].size) for name, late in waiting.items()}
    currents, ages = currents_of(trial), {name: trains_of(events)[0].copy() for name, events in recent.items()}
    kept = {
        neurons.name: _kept(asks[neurons.name], neurons, leak_at(neurons, currents.get(neurons.name), run.end, "left"))
        for stage in exact_stages(trial)
        for neurons in stage.populations
    }
    dense = frozenset(neurons.name for stage in exact_stages(trial) if stage.dense for neurons in stage.populations)
    parts: dict[str, object] = {PART: Snapshot(run.end, kept, dense, waiting, ages)}
    if ended := _ended(trial, trains, run, reach, inside or {}):
        parts[SHORT_TERM] = ended
    return State(**fields, recent=recent, time=run.end, parts=parts)


def _ended(
    trial: Trial, trains: Mapping[str, Trains], run: Run, reach: Mapping[str, float], inside: Mapping[str, Recovered]
) -> dict[str, Recovered]:
    """Where the short-term plasticity of each link is at the end."""
    found = dict[str, Recovered]()
    for link in (link for stage in stages_of(trial) for link in stage.links if link.short_term is not None):
        waiting = _still(coming(link.source, trains, run.recent)[0], run, reach[link.source])
        if link.name in inside:
            found[link.name] = replace(inside[link.name], size=inside[link.name].size[waiting])
        else:
            found[link.name] = recovered(link, trains[link.source], run, waiting)
    return found


def recovered_of(state: State, network: Network, some: slice) -> dict[str, Recovered]:
    """Where the short-term plasticity of each link was in the samples ``some`` of a state."""
    recent = {name: trains_of(events) for name, events in state.recent.items()}
    return {
        name: samples_of(each, recent.get(network.projections[name].source), some)
        for name, each in recovered_in(state).items()
        if name in network.projections
    }


def recovered_in(state: State | None) -> dict[str, Recovered]:
    """Where the short-term plasticity of each link was, by a state."""
    found = None if state is None else state.parts.get(SHORT_TERM)
    return dict(found) if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _kept(ask: Ask, neurons: Neurons, leak: Float) -> Kept:
    assert ask.end is not None
    assert ask.reached is not None
    return Kept(ask.reached, mark(ask.end), neurons.values, leak, ask.silent)


def _snapshot(trial: Trial) -> Snapshot | None:
    """That of the state it starts from, if it is of this time."""
    found = None if trial.start is None else trial.start.parts.get(PART)
    return found if isinstance(found, Snapshot) and found.time == trial.begin else None


def _recent(trial: Trial) -> dict[str, Trains]:
    if trial.start is None:
        return {}
    snapshot, found = _snapshot(trial), dict[str, Trains]()
    for name, ages in trial.start.recent.items():
        kept = None if snapshot is None else snapshot.ages.get(name)
        same = kept is not None and np.array_equal(trains_of(ages)[0], kept)
        found[name] = snapshot.recent[name] if snapshot is not None and same else _sent(ages, trial.begin)
    return found


def _reach(trial: Trial, step: float) -> dict[str, float]:
    """By population, how long before the end a spike may have been sent that the next run still needs.

    That is its longest delay and ``step``, which is made anew. Within a stage that is run in steps a spike arrives in
    the step after that in which it was sent, at the soonest: one of the step before that which is made anew counts.
    """
    in_steps = {
        cells.name for stage in stages_of(trial) if isinstance(stage, SteppedStage) for cells in stage.populations
    }
    reach = dict[str, float]()
    for projection in trial.network.projections.values():
        longest = float(projection.delay.detach().max()) if projection.delay.numel() else 0.0
        least = step * (1 + _TINY) if projection.source in in_steps else 0.0
        reach[projection.source] = max(reach.get(projection.source, 0.0), max(longest, least) + step)
    return reach


def _all_waiting(reach: Mapping[str, float], trains: Mapping[str, Trains], run: Run) -> dict[str, Trains]:
    """The spikes until the end that may not have arrived by then."""
    found: dict[str, Trains] = {}
    for name, longest in reach.items():
        spikes = coming(name, trains, run.recent)
        keep = _still(spikes[0], run, longest)
        if longest > 0 or keep.any():
            found[name] = only(spikes, keep)
    return found


def _aged(late: Trains, run: Run, size: int) -> Events:
    time, unit, start = late
    sample = np.repeat(np.arange(run.batch), np.diff(start))
    parts = (torch.from_numpy(part) for part in (run.end - time, unit, sample))
    return Events._from_rows(*parts, batch=run.batch, size=size)


def _still(time: Float, run: Run, reach: float) -> NDArray[np.bool_]:
    """Which spikes may not have arrived at the end."""
    return (time <= run.end) & (time + reach >= run.end)


def _sent(ages: Events, begin: float) -> Trains:
    """Ages before the start as times, ascending."""
    sample = ages.sample.numpy()
    time = begin - ages.time.detach().numpy()
    order = np.lexsort((time, sample))
    return time[order], ages.unit.numpy()[order], ages.start.numpy()
