"""Trial to arrays and back: drives, states to continue from, and spikes that are still on their way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from spikeloop.engine.arrays import Run, Stage, States, Trains
from spikeloop.engine.plan import plan
from spikeloop.engine.stepped import SteppedStage
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.protocols import Trial
from spikeloop.record import State


def trains_of(events: Events) -> Trains:
    """Events as arrays, without copying."""
    return events._arrays


def events_of(trains: Trains, size: int) -> Events:
    """Arrays that the engine made as Events, without copying."""
    time, unit, start = trains
    events = Events._trusted(torch.from_numpy(time), torch.from_numpy(unit), torch.from_numpy(start), size)
    events.__dict__["_arrays"] = trains
    return events


def stages_of(trial: Trial) -> list[Stage | SteppedStage]:
    """The network's stages as `trial` runs them: made once, for its adjoint too."""
    stages = trial.__dict__.get("_stages")
    if stages is None:
        stages = trial.__dict__["_stages"] = plan(trial.network)
    return stages


def run_of(trial: Trial) -> Run:
    """How ``trial`` is carried out here: as many threads as torch uses."""
    batch = trial.batch
    recent = {} if trial.start is None else {name: _sent(ages) for name, ages in trial.start.recent.items()}
    return Run(batch, trial.duration, torch.get_num_threads(), recent)


def start_of(trial: Trial, population: str) -> States | None:
    """The state ``population`` starts from; None: at rest."""
    start = trial.start
    if start is None or population not in start.membrane:
        return None
    parts = (start.membrane[population], start.current[population], start.held[population])
    return States(*(np.ascontiguousarray(part.detach().to(torch.float64).numpy()) for part in parts))


def empty_states(batch: int, size: int) -> States:
    """Room for a state."""
    return States(*(np.empty((batch, size)) for _ in range(3)))


def state_of(network: Network, ends: Mapping[str, States], trains: Mapping[str, Trains], trial: Trial) -> State:
    """The state to continue from: neurons, and spikes whose delays reach beyond the end."""
    fields = {
        field: {name: torch.from_numpy(getattr(end, field)) for name, end in ends.items()}
        for field in ("membrane", "current", "held")
    }
    reach: dict[str, float] = {}
    for projection in network.projections.values():
        longest = float(projection.delay.detach().max()) if projection.delay.numel() else 0.0
        reach[projection.source] = max(reach.get(projection.source, 0.0), longest)
    waiting = {
        name: _waiting(trains[name], network.populations[name].size, trial, longest, name)
        for name, longest in reach.items()
        if longest > 0
    }
    return State(**fields, recent=waiting)


def _waiting(trains: Trains, size: int, trial: Trial, reach: float, name: str) -> Events:
    """Spikes of one population that may still arrive, as ages before the end."""
    new = events_of(trains, size)
    time, unit, sample = trial.duration - new.time, new.unit, new.sample
    if trial.start is not None and name in trial.start.recent:
        old = trial.start.recent[name]
        time, unit = torch.cat([old.time + trial.duration, time]), torch.cat([old.unit, unit])
        sample = torch.cat([old.sample, sample])
    keep = (time >= 0) & (time <= reach)
    return Events._from_rows(time[keep], unit[keep], sample[keep], len(new), size)


def _sent(ages: Events) -> Trains:
    """Ages before the start as negative times, ascending."""
    sample = ages.sample.numpy()
    time = -ages.time.detach().numpy()
    order = np.lexsort((time, sample))
    return time[order], ages.unit.numpy()[order], ages.start.numpy()
