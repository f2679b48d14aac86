"""The ideal substrate: the numbers as written, in exact continuous time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikeloop.engine.arrays import Ask, Peaks, Run, Sampling, Trains
from spikeloop.engine.exact import Explosion, forward
from spikeloop.engine.plan import on_a_grid
from spikeloop.engine.trial import (
    anchors_of,
    empty_anchors,
    empty_states,
    events_of,
    run_of,
    stages_of,
    start_of,
    state_of,
    trains_of,
)
from spikeloop.errors import ActivityExplosion, OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.population import Population
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Cost, Peak, Record, Samples
from spikeloop.substrate.plastic import learning


@dataclass(frozen=True)
class Ideal:
    """Runs a network event by event, exactly, with as many threads as ``torch.get_num_threads()`` says.

    Membranes can be sampled at any times, peaks are exact, results do not depend on the number of threads. A neuron
    that spikes more than ``spike_limit`` times in one sample raises ``ActivityExplosion``.
    """

    spike_limit: int = 10_000

    def __post_init__(self) -> None:
        if not (isinstance(self.spike_limit, int) and self.spike_limit >= 0):
            raise OutOfRange(
                f"spike_limit is {self.spike_limit!r}", where="Ideal", expected="a number of spikes, an integer"
            )

    def offers(self, network: Network) -> Observe:
        """Every membrane at any times, every peak, the final state, the history of every plastic projection."""
        names = [name for name, population in network.populations.items() if population.kind is not None]
        plastic = {name for program in network.programs.values() for name in program.projections}
        return Observe({name: Every(0.0) for name in names}, frozenset(names), state=True, history=plastic)

    def run(self, trial: Trial) -> Record:
        """Carry out ``trial``."""
        return learning(self._run, trial) if trial.network.programs else self._run(trial)

    def _run(self, trial: Trial) -> Record:
        began = time.perf_counter()
        for name in on_a_grid(trial.network):
            raise Unsupported("such neurons cannot be run yet", where=f"population {name!r}")
        network, run = trial.network, run_of(trial)
        drive = {name: trains_of(events) for name, events in trial.drive.items()}
        neurons = {name: p for name, p in network.populations.items() if p.kind is not None}
        asks = {name: _ask(trial, name, population, run.batch) for name, population in neurons.items()}
        try:
            trains = forward(stages_of(trial), drive, run, asks, self.spike_limit)
        except Explosion as found:
            raise ActivityExplosion(
                f"neuron {found.unit} spikes more than {self.spike_limit} times",
                where=f"population {found.population!r}, sample {found.sample}",
                expected="an activity that does not run away",
                todo="Lower the weights or the leak, give a refractory period, or raise Ideal(spike_limit=...)",
            ) from None
        cost = Cost(wall_time=time.perf_counter() - began, **_events(network, trains))
        return _record(trial, run, trains, asks, cost)


def _ask(trial: Trial, name: str, population: Population, batch: int) -> Ask:
    observe, size = trial.observe, population.size
    sampling = peaks = None
    if name in observe.membrane:
        times = observe.times(name, trial.duration, trial.begin).numpy().reshape(1, -1)
        unit = observe.neurons(name, size).to(torch.int32).numpy()
        sampling = Sampling(np.ascontiguousarray(times), unit, np.empty((batch, times.shape[1], len(unit))))
    if name in observe.peak:
        peaks = Peaks(np.empty((batch, size)), np.empty((batch, size)))
    dropped, start = trial.silent.get(name), start_of(trial, name)
    silent = None if dropped is None else np.ascontiguousarray(dropped.numpy(), dtype=np.uint8)
    return Ask(
        silent=silent,
        start=start,
        end=empty_states(batch, size) if observe.state else None,
        anchors=anchors_of(trial, name, start, silent),
        reached=empty_anchors(batch, size) if observe.state else None,
        sampling=sampling,
        peaks=peaks,
        count=np.zeros((batch, size), np.float32) if population.spiking else None,
    )


def _record(trial: Trial, run: Run, trains: dict[str, Trains], asks: dict[str, Ask], cost: Cost) -> Record:
    network, spikes = trial.network, dict(trial.drive)
    count, membrane, peak = dict[str, Tensor](), dict[str, Samples](), dict[str, Peak]()
    for name, ask in asks.items():
        population = network.populations[name]
        if population.spiking:
            spikes[name] = events_of(trains[name], population.size)
        if ask.count is not None:
            count[name] = torch.from_numpy(ask.count).to(torch.get_default_dtype())
        if ask.sampling is not None:
            sampled = ask.sampling
            time, unit, value = (torch.from_numpy(a) for a in (sampled.time[0], sampled.unit, sampled.value))
            membrane[name] = Samples(time, unit.to(torch.int64), value)
        if ask.peaks is not None:
            peak[name] = Peak(torch.from_numpy(ask.peaks.time), torch.from_numpy(ask.peaks.value))
    return Record(
        spikes,
        trial.duration,
        count,
        membrane,
        peak,
        state=state_of(trial, asks, trains, run) if trial.observe.state else None,
        number=trial.number,
        cost=cost,
        begin=trial.begin,
    )


def _events(network: Network, trains: dict[str, Trains]) -> dict[str, int]:
    """How many spikes were emitted, and about how many synapses they reached."""
    emitted = {name: len(time) for name, (time, _, _) in trains.items()}
    inputs = network.inputs
    reached = 0
    for projection in network.projections.values():
        source = network.populations[projection.source].size
        synapses = projection.synapses
        fan_out = network.populations[projection.target].size if synapses is None else synapses.target.shape[0] / source
        reached += round(emitted[projection.source] * fan_out)
    inner = sum(n for name, n in emitted.items() if name not in inputs)
    return {"spikes": inner, "synaptic_events": reached}
