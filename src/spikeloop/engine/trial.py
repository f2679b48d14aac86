"""Trial to arrays and back: drives, states to continue from, and spikes that are still on their way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.engine.arrays import Anchors, Ask, Float, Recovered, Run, Stage, States, Trains
from spikeloop.engine.arriving import joined
from spikeloop.engine.plan import plan
from spikeloop.engine.short_term import recovered
from spikeloop.engine.snapshot import Kept, Snapshot
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.protocols import Trial
from spikeloop.record import State

PART = "exact"
"""Whose part of a state this is."""
SHORT_TERM = "short_term"
"""And that of short-term plasticity: `Recovered` by projection."""


def trains_of(events: Events) -> Trains:
    """Events as arrays, without copying."""
    return events._arrays


def events_of(trains: Trains, size: int) -> Events:
    """Arrays that the engine made as Events, without copying."""
    time, unit, start = trains
    events = Events._trusted(torch.from_numpy(time), torch.from_numpy(unit), torch.from_numpy(start), size)
    events.__dict__["_arrays"] = trains
    return events


def stages_of(trial: Trial) -> list[Stage]:
    """The network's stages as `trial` runs them: made once, for its adjoint too."""
    stages = trial.__dict__.get("_stages")
    if stages is None:
        stages = trial.__dict__["_stages"] = plan(trial.network)
    return stages


def run_of(trial: Trial) -> Run:
    """How ``trial`` is carried out here: as many threads as torch uses."""
    batch = len(next(iter(trial.drive.values())))
    return Run(batch, trial.duration, torch.get_num_threads(), _recent(trial), trial.begin, _recovered(trial))


def start_of(trial: Trial, population: str) -> States | None:
    """The state ``population`` starts from; None: at rest."""
    start = trial.start
    if start is None or population not in start.membrane:
        return None
    parts = (start.membrane[population], start.current[population], start.held[population])
    return States(*(np.ascontiguousarray(part.detach().to(torch.float64).numpy()) for part in parts))


def anchors_of(trial: Trial, population: str, start: States | None, silent: NDArray[np.uint8] | None) -> Anchors | None:
    """From where ``population`` goes on as if nothing had been cut; None: from ``start``."""
    snapshot = _snapshot(trial)
    kept = None if snapshot is None else snapshot.populations.get(population)
    if kept is None or start is None:
        return None
    (stage,) = (s for s in stages_of(trial) if population in (n.name for n in s.populations))
    (neurons,) = (n for n in stage.populations if n.name == population)
    return kept.anchors_from(start, silent, neurons, trial.begin) if kept.fits(neurons, stage.dense) else None


def empty_states(batch: int, size: int) -> States:
    """Room for a state."""
    return States(*(np.empty((batch, size)) for _ in range(3)))


def empty_anchors(batch: int, size: int) -> Anchors:
    """Room for anchors."""
    return Anchors(*(np.empty((batch, size)) for _ in range(4)))


def state_of(trial: Trial, asks: Mapping[str, Ask], trains: Mapping[str, Trains], run: Run) -> State:
    """The state to continue from: neurons, and spikes whose delays reach to the end or beyond it."""
    fields = {
        field: {name: torch.from_numpy(getattr(ask.end, field)) for name, ask in asks.items()}
        for field in ("membrane", "current", "held")
    }
    waiting: dict[str, Trains] = {}
    for name, longest in _reach(trial.network).items():
        coming = joined(run.recent[name], trains[name]) if name in run.recent else trains[name]
        late = _waiting(coming, run.end, longest)
        if longest > 0 or len(late[0]):
            waiting[name] = late
    recent, ages = dict[str, Events](), dict[str, Float]()
    for name, (time, unit, start) in waiting.items():
        ages[name] = run.end - time
        sample = np.repeat(np.arange(run.batch), np.diff(start))
        parts = (torch.from_numpy(part) for part in (ages[name], unit, sample))
        recent[name] = Events._from_rows(*parts, run.batch, trial.network.populations[name].size)
    kept = {
        neurons.name: _kept(asks[neurons.name], neurons.values, stage)
        for stage in stages_of(trial)
        for neurons in stage.populations
    }
    snapshot = Snapshot(run.end, kept, waiting, {name: trains_of(events)[0].copy() for name, events in recent.items()})
    parts: dict[str, object] = {PART: snapshot}
    if ended := _ended(trial, trains, run, set(waiting)):
        parts[SHORT_TERM] = ended
    return State(**fields, recent=recent, time=run.end, parts=parts)


def _ended(trial: Trial, trains: Mapping[str, Trains], run: Run, waiting: set[str]) -> dict[str, Recovered]:
    """Where the short-term plasticity of each link is at the end."""
    found, reach = dict[str, Recovered](), _reach(trial.network)
    for link in (link for stage in stages_of(trial) for link in stage.links if link.short_term is not None):
        name = link.source
        time = joined(run.recent[name], trains[name])[0] if name in run.recent else trains[name][0]
        still = _still(time, run.end, reach[name]) if name in waiting else np.zeros(len(time), bool)
        found[link.name] = recovered(link, trains[name], run, still)
    return found


def _recovered(trial: Trial) -> dict[str, Recovered]:
    found = None if trial.start is None else trial.start.parts.get(SHORT_TERM)
    return dict(found) if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _kept(ask: Ask, values: Float, stage: Stage) -> Kept:
    assert ask.end is not None and ask.reached is not None
    return Kept(ask.reached, States(*(part.copy() for part in ask.end.fields())), values, ask.silent, stage.dense)


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


def _reach(network: Network) -> dict[str, float]:
    """By population, the longest of its delays."""
    reach: dict[str, float] = {}
    for projection in network.projections.values():
        longest = float(projection.delay.detach().max()) if projection.delay.numel() else 0.0
        reach[projection.source] = max(reach.get(projection.source, 0.0), longest)
    return reach


def _waiting(trains: Trains, end: float, reach: float) -> Trains:
    """The spikes until ``end`` that have not, or may not have, arrived by then."""
    time, unit, start = trains
    keep = _still(time, end, reach)
    before = np.concatenate([[0], np.cumsum(keep)])
    return time[keep], unit[keep], before[start]


def _still(time: Float, end: float, reach: float) -> NDArray[np.bool_]:
    return (time <= end) & (time + reach >= end)


def _sent(ages: Events, begin: float) -> Trains:
    """Ages before the start as times, ascending."""
    sample = ages.sample.numpy()
    time = begin - ages.time.detach().numpy()
    order = np.lexsort((time, sample))
    return time[order], ages.unit.numpy()[order], ages.start.numpy()
