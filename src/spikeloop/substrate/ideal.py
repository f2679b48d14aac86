"""The ideal substrate: the numbers as written, in exact continuous time wherever neurons have an exact solution."""

from __future__ import annotations

import math
import time
import weakref
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.engine.arrays import FIELDS, Ask, Neurons, Peaks, Run, Sampling, Stage, Trains
from spikeloop.engine.currents import driven
from spikeloop.engine.failures import Explosion
from spikeloop.engine.plan import on_a_grid, together
from spikeloop.engine.stepped import SteppedStage
from spikeloop.engine.synaptic import sampled
from spikeloop.engine.trial import (
    anchors_of,
    currents_of,
    empty_anchors,
    empty_states,
    events_of,
    exact_stages,
    run_of,
    stages_of,
    start_of,
    state_of,
    trains_of,
)
from spikeloop.errors import ActivityExplosion, OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.observe import NOTHING, Every, Observe, neurons_of, times_of
from spikeloop.protocols import Trial
from spikeloop.record import Cost, Peak, Record, Samples
from spikeloop.substrate.in_steps import InSteps
from spikeloop.substrate.plastic import learning

_ANY_TIMES = Every(0.0)
_offers: weakref.WeakKeyDictionary[Network, tuple[list[object], Observe]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Ideal:
    """Runs a network event by event, exactly, with as many threads as ``torch.get_num_threads()`` says.

    Membranes can be sampled at any times, peaks are exact, results do not depend on the number of threads. A neuron
    that spikes more than ``spike_limit`` times in one sample raises ``ActivityExplosion``.

    Neurons without an exact solution (`AdEx`, `Compartments`), and whatever is in a loop with them, are integrated in
    steps of ``step`` seconds; None: a round number of at most a tenth of their shortest time constant.
    Spike times and samples lie between the steps, with errors of the third order in the step; but a spike that takes
    less than a step from neuron to neuron within such a loop arrives at the beginning of the next one. Populations of
    LIF and LI in other stages of the same network are run exactly. A step of more than a fifth of it raises
    ``OutOfRange``.
    """

    steady: ClassVar[bool] = True
    """See `Substrate`."""

    spike_limit: int = 10_000
    step: float | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.spike_limit, int) and self.spike_limit >= 0):
            raise OutOfRange(
                f"spike_limit is {self.spike_limit!r}", where="Ideal", expected="a number of spikes, an integer"
            )
        if self.step is not None and not 0 < self.step < math.inf:
            raise OutOfRange(f"step is {self.step!r}", where="Ideal", expected="seconds, above zero, or None")

    def offers(self, network: Network) -> Observe:
        """Every membrane and current at any times, every adaptation that there is, every peak, the final state, the
        history of every plastic projection.
        """
        made_of: list[object] = [*network.populations.items(), *network.programs.items()]
        known, offers = _offers.get(network, (None, NOTHING))
        if known != made_of:
            names = [name for name, population in network.populations.items() if population.kind is not None]
            plastic = {name for program in network.programs.values() for name in program.projections}
            traces = {place: _ANY_TIMES for name in names for place in network.places(name)}
            adapting = {place: _ANY_TIMES for name in on_a_grid(network) for place in network.places(name)}
            offers = Observe(traces, frozenset(names), state=True, adaptation=adapting, current=traces, history=plastic)
            _offers[network] = made_of, offers
        return offers

    def beyond(self, found: Explosion) -> ActivityExplosion:
        """What is raised where a neuron spikes more often than it may."""
        return ActivityExplosion(
            f"neuron {found.unit} spikes more than {self.spike_limit} times",
            where=f"population {found.population!r}, sample {found.sample}",
            expected="an activity that does not run away",
            todo="Lower the weights or the leak, give a refractory period, or raise Ideal(spike_limit=...)",
        )

    def run(self, trial: Trial) -> Record:
        """Carry out ``trial``."""
        if trial.start is not None and trial.start.opaque:
            raise Unsupported("the state is a chip's: it shows no membranes", where="start",
                              expected="that of a run here", todo="Use OnChip")  # fmt: skip
        return learning(self._run, trial) if trial.network.programs else self._run(trial)

    def _run(self, trial: Trial) -> Record:
        began = time.perf_counter()
        run, stages = run_of(trial), stages_of(trial)
        asks = {
            n.name: _ask(trial, n, run.batch) for stage in stages if isinstance(stage, Stage) for n in stage.populations
        }
        stepped = [stage for stage in stages if isinstance(stage, SteppedStage)]
        in_steps = InSteps.of(trial, stepped, self.step, self.spike_limit)
        trains = {name: trains_of(events) for name, events in trial.drive.items()}
        currents = currents_of(trial)
        try:
            for stage in together(stages):
                if isinstance(stage, SteppedStage):
                    trains |= in_steps.forward(stage, trains, run)
                else:
                    trains = driven(stage, trains, run, asks, self.spike_limit, currents)
        except Explosion as found:
            raise self.beyond(found) from None
        cost = Cost(wall_time=time.perf_counter() - began, **_events(trial, trains))
        record = _record(trial, trains, asks, in_steps, run, cost)
        if not trial.observe.state:
            return record
        state = state_of(trial, asks, trains, run, in_steps.clock.step if stepped else 0.0, in_steps.recovered)
        return record._with(state=in_steps.added(state, stepped) if stepped else state)


def _ask(trial: Trial, neurons: Neurons, batch: int) -> Ask:
    observe, name, size = trial.observe, neurons.name, neurons.size
    ask = Ask(count=np.zeros((batch, size), np.float32) if neurons.spiking else None)
    if name in observe.membrane:
        times = observe.times(name, trial.duration, trial.begin).numpy().reshape(1, -1)
        unit = observe.neurons(name, size).to(torch.int32).numpy()
        ask.sampling = Sampling(np.ascontiguousarray(times), unit, np.empty((batch, times.shape[1], len(unit))))
    if name in observe.peak:
        ask.peaks = Peaks(np.empty((batch, size)), np.empty((batch, size)))
    if name in trial.silent:
        ask.silent = np.ascontiguousarray(trial.silent[name].numpy(), dtype=np.uint8)
    if trial.start is not None:
        ask.start = start_of(trial, name)
        ask.anchors = anchors_of(trial, neurons, ask.start, ask.silent)
    if observe.state:
        ask.end, ask.reached = empty_states(batch, size), empty_anchors(batch, size)
    return ask


def _record(
    trial: Trial, trains: dict[str, Trains], asks: dict[str, Ask], in_steps: InSteps, run: Run, cost: Cost
) -> Record:
    spikes = dict(trial.drive)
    count: dict[str, Tensor] = {}
    membrane: dict[str, Samples] = {}
    peak: dict[str, Peak] = {}
    adaptation: dict[str, Samples] = {}
    current = _currents(trial, trains, run) if trial.observe.current else {}
    for name, ask in asks.items():
        if ask.count is not None:
            spikes[name], count[name] = events_of(trains[name], ask.count.shape[1]), _count(ask.count)
        if ask.sampling is not None:
            membrane[name] = _samples(ask.sampling)
        if ask.peaks is not None:
            peak[name] = _peak(ask.peaks)
    for name, ask in in_steps.asks.items():
        population = trial.network.populations[name]
        if population.spiking:
            spikes[name] = events_of(trains[name], population.size)
            count[name] = spikes[name].count
        if ask.peaks is not None:
            peak[name] = _peak(ask.peaks)
    if in_steps.asks:
        membrane |= in_steps.samples(trial, "membrane")
        adaptation |= in_steps.samples(trial, "adaptation")
        current = in_steps.samples(trial, "current") | current
    return Record(
        spikes, trial.duration, count, membrane, peak, number=trial.number, cost=cost, adaptation=adaptation,
        current=current, begin=trial.begin,
    )  # fmt: skip


def _currents(trial: Trial, trains: dict[str, Trains], run: Run) -> dict[str, Samples]:
    """The currents that are asked for of what is run event by event."""
    found: dict[str, Samples] = {}
    for onto, neurons in [(of.links, neurons) for of in exact_stages(trial) for neurons in of.populations]:
        when = trial.observe.current.get(neurons.name)
        if when is not None:
            time, unit = times_of(when, trial.duration, trial.begin), neurons_of(when, neurons.size)
            start = start_of(trial, neurons.name)
            links = [link for link in onto if link.target == neurons.name]
            value = sampled(
                links, trains, run, neurons.values[FIELDS.index("tau_syn")], None if start is None else start.current,
                time.numpy(), unit.to(torch.int32).numpy(),
            )  # fmt: skip
            found[neurons.name] = Samples(time, unit, torch.from_numpy(value))
    return found


def _count(count: NDArray[np.float32]) -> Tensor:
    counted, dtype = torch.from_numpy(count), torch.get_default_dtype()
    return counted if counted.dtype == dtype else counted.to(dtype)


def _samples(sampled: Sampling) -> Samples:
    time, unit, value = (torch.from_numpy(array) for array in (sampled.time[0], sampled.unit, sampled.value))
    return Samples(time, unit.to(torch.int64), value)


def _peak(peaks: Peaks) -> Peak:
    return Peak(torch.from_numpy(peaks.time), torch.from_numpy(peaks.value))


def _events(trial: Trial, trains: dict[str, Trains]) -> dict[str, int]:
    """How many spikes were emitted, and about how many synapses they reached."""
    made = trial.standing.made
    if _fans not in made:
        made[_fans] = _fans(trial.network)
    spikes = reached = 0
    for name, train in trains.items():
        if name not in trial.drive:
            spikes += len(train[0])
    for source, fan_out in made[_fans]:
        reached += round(len(trains[source][0]) * fan_out)
    return {"spikes": spikes, "synaptic_events": reached}


def _fans(network: Network) -> list[tuple[str, float]]:
    """Of every projection, its source and how many synapses a unit of that has."""
    found: list[tuple[str, float]] = []
    for projection in network.projections.values():
        synapses, source = projection.synapses, network.populations[projection.source].size
        fan_out = network.populations[projection.target].size if synapses is None else synapses.target.shape[0] / source
        found.append((projection.source, fan_out))
    return found
