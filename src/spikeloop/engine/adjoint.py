"""The exact adjoint: gradients of weights, delays, neuron parameters and drive times, from spikes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import FIELDS, Delays, Float, Link, Pull, Run, Slopes, Stage, Trains, Weights
from spikeloop.engine.arriving import arriving
from spikeloop.engine.exact import calls, queue_sources, states
from spikeloop.engine.short_term import Unrolled, times_of, unrolled

Key = tuple[str, str]
NO_PULL = Pull()


@dataclass
class Backward:
    """A backward pass over all stages: what is wanted, and what has been gathered so far.

    trains: observed spikes of all populations.  pulls: what the loss says of each.  wants: keys of the gradients.
    time: dL/dt of the spikes of each population, filled from the last stage to the drive.  moving: populations of whose
    spike times a wanted gradient makes use; owning: projections and populations of which a gradient is wanted;
    mattering: the stages that have one, or hear of one.
    """

    stages: Sequence[Stage]
    trains: Mapping[str, Trains]
    run: Run
    pulls: Mapping[str, Pull]
    wants: frozenset[Key]
    slope_floor: float = 0.0
    time: dict[str, Float] = field(init=False)
    gradients: dict[Key, Float | Weights] = field(init=False)
    slopes: Slopes = field(default_factory=Slopes)
    moving: set[str] = field(init=False)
    owning: set[str] = field(init=False)
    mattering: list[Stage] = field(init=False)

    def __post_init__(self) -> None:
        self.time, self.gradients = {}, {}
        self.moving = {owner for owner, what in self.wants if what == "time"}
        self.owning = {owner for owner, what in self.wants if what != "time"}
        self.mattering = []
        owners = {owner for owner, _ in self.wants}
        for stage in self.stages:
            populations = [neurons.name for neurons in stage.populations]
            matters = not owners.isdisjoint(populations)
            for link in stage.links:
                matters = matters or link.name in owners or link.source in self.moving
            if matters:
                self.mattering.append(stage)
                self.moving.update(populations)

    def __call__(self) -> None:
        """Sweep the stages from the last to the first."""
        for name in self.moving:
            given = self.pulls.get(name, NO_PULL).time
            self.time[name] = np.zeros(len(self.trains[name][0])) if given is None else given.copy()
        for together in reversed(calls(self.mattering, self.run)):
            self._sweep(together)
        for name, what in self.wants:
            if what == "time":
                self.gradients[name, what] = self.time[name]

    def _sweep(self, together: list[Stage]) -> None:
        wanted = self.wants
        first, links = unrolled(together[0], self.trains, self.run)
        for link in links:
            self._open(link)
        _dense(self, [first, *together[1:]]) if first.dense else _queue(self, first)
        self.wants = wanted
        for link in links:
            self._fold(link)

    def _open(self, link: Unrolled) -> None:
        """Make an unrolled link part of the pass."""
        events = link.link.source
        self.trains = {**self.trains, events: link.events}
        if link.original.source in self.moving:
            self.moving.add(events)
            self.time[events] = np.zeros(len(link.events[0]))
            self.wants |= {(link.link.name, "weight")}

    def _fold(self, link: Unrolled) -> None:
        """From an unrolled link's gradients to those of the link itself and of its source's spikes."""
        name, source = link.original.name, link.original.source
        by_event = self.gradients.pop((name, "weight"), None)
        if (name, "weight") in self.wants and by_event is not None:
            self.gradients[name, "weight"] = link.weight_gradient(by_event)
        if (name, "delay") in self.wants:
            self.gradients[name, "delay"] = _folded_delay(link, self.gradients[name, "delay"])
        if source in self.moving and by_event is not None:
            recent, new = self.run.recent.get(source), self.trains[source]
            own = slice(None) if recent is None else _new_events(recent, new)
            assert link.original.short_term is not None
            by_size = link.size_gradient(by_event)[own]
            self.time[source] += self.time.pop(link.link.source)[own]
            self.time[source] += times_of(link.found, new, link.original.short_term, by_size)

    def wants_neuron(self, stage: Stage) -> bool:
        """Whether the gradient of any neuron parameter is wanted."""
        return not self.owning.isdisjoint([neurons.name for neurons in stage.populations])

    def wants_tau(self, stage: Stage) -> bool:
        """Whether a time constant's gradient, which needs integrals, is wanted."""
        for neurons in stage.populations:
            name = neurons.name
            if name in self.owning and ((name, "tau_mem") in self.wants or (name, "tau_syn") in self.wants):
                return True
        return False

    def weights(self, link: Link) -> Weights | None:
        """Zeros to add the link's weight gradient to, if it is wanted."""
        if (link.name, "weight") not in self.wants:
            return None
        self.gradients[link.name, "weight"] = zeros = np.zeros(link.weight.shape, link.weight.dtype)
        return zeros

    def cotangent(self, name: str) -> Any:
        """What is known of a population, as the native engine takes it."""
        pull = self.pulls.get(name, NO_PULL)
        sampling = None if pull.sampling is None else (pull.sampling.time, pull.sampling.unit, pull.sampling.value)
        peaks = None if pull.peaks is None else (pull.peaks.time, pull.peaks.value)
        return (self.trains[name], self.time[name], sampling, peaks, states(pull.start))

    def current(self, name: str) -> NDArray[np.float32] | None:
        """Those at the spikes, if the run made these very spikes and kept them."""
        trains, current = self.run.at_spikes.get(name, (None, None))
        return current if trains is self.trains[name] else None

    def keep(self, stage: Stage, neuron: Float, spikes: int, floored: int) -> None:
        """Take over what the native engine found for a stage's neurons."""
        first = 0
        for neurons in stage.populations:
            if neurons.name in self.owning:
                for row, what in enumerate(FIELDS):
                    if (neurons.name, what) in self.wants:
                        self.gradients[neurons.name, what] = neuron[row, first : first + neurons.size]
            first += neurons.size
        self.slopes.spikes += spikes
        self.slopes.floored += floored

    def add_times(self, link: Link, arrival: Float) -> None:
        """Add the derivatives by a link's arrival times to those of its source's spikes."""
        recent = self.run.recent.get(link.source)
        self.time[link.source] += arrival if recent is None else arrival[_new_events(recent, self.trains[link.source])]


def _dense(back: Backward, stages: Sequence[Stage]) -> None:
    run = back.run
    given: list[Any] = []
    own_times: list[Float | None] = []
    for stage in stages:
        (neurons,) = stage.populations
        sources: list[tuple[Trains, Weights, Float]] = []
        weights: list[Weights | None] = []
        times: list[Float | None] = []
        of_sources: list[Float | None] = []
        for link in stage.links:
            events = arriving(link, back.trains, run)
            own_time = (link.name, "delay") in back.wants or (run.recent and link.source in back.moving)
            sources.append((events, link.weight, link.delay))
            weights.append(back.weights(link))
            times.append(np.zeros(len(events[0])) if own_time else None)
            of_sources.append(None if run.recent else back.time.get(link.source))
        own_times += times
        given.append((
            sources, neurons.values, neurons.spiking, back.cotangent(neurons.name), back.current(neurons.name),
            weights, times, of_sources, back.wants_neuron(stage), back.wants_tau(stage),
        ))  # fmt: skip
    found = _core.dense_adjoint(given, run.batch, run.begin, run.duration, back.slope_floor, run.threads)
    for stage, (neuron, spikes, floored) in zip(stages, found, strict=True):
        back.keep(stage, neuron, spikes, floored)
    links = [link for stage in stages for link in stage.links]
    for link, time in zip(links, own_times, strict=True):
        if time is None:
            continue
        if (link.name, "delay") in back.wants:
            common, unit = link.delays is Delays.COMMON, arriving(link, back.trains, run)[1]
            back.gradients[link.name, "delay"] = time.sum(keepdims=True) if common else _summed(unit, time, link)
        if run.recent and link.source in back.moving:
            back.add_times(link, time)


def _queue(back: Backward, stage: Stage) -> None:
    run = back.run
    names = {neurons.name for neurons in stage.populations}
    sources = queue_sources(stage, back.trains, run, back=True)
    weights = [back.weights(link) for link in stage.links]
    delays = [
        np.zeros(len(link.rows.target)) if link.rows and (link.name, "delay") in back.wants else None
        for link in stage.links
    ]
    times = [
        np.zeros(len(source[0][0])) if link.source not in names and link.source in back.moving else None
        for source, link in zip(sources, stage.links, strict=True)
    ]
    neuron, spikes, floored = _core.queue_adjoint(
        sources, [(n.values, n.spiking) for n in stage.populations], run.batch, run.begin, run.duration,
        [back.cotangent(n.name) for n in stage.populations], weights, delays, times,
        back.wants_tau(stage), back.slope_floor, run.threads,
    )  # fmt: skip
    back.keep(stage, neuron, spikes, floored)
    for link, delay, time in zip(stage.links, delays, times, strict=True):
        if delay is not None:
            back.gradients[link.name, "delay"] = _shared_delay(link, delay)
        if time is not None:
            back.add_times(link, time)


def _folded_delay(link: Unrolled, gradient: Float | Weights) -> Float | Weights:
    """From one delay per event, or per synapse and event, to those of the link itself."""
    original = link.original
    if original.delays is Delays.COMMON:
        return gradient
    if original.delays is Delays.PER_UNIT:
        return _total(link.unit, gradient, len(original.delay))
    return _shared_delay(original, _total(link.row, gradient, len(original.delay)))


def _shared_delay(link: Link, delay: Float) -> Float:
    """From one value per synapse, in order of the rows, to one per delay, in the projection's order."""
    assert link.rows is not None
    if link.delays is Delays.COMMON:
        return delay.sum(keepdims=True)
    if link.delays is Delays.PER_UNIT:
        return _summed(np.repeat(np.arange(len(link.delay)), np.diff(link.rows.begin)), delay, link)
    if link.rows.synapse is None:
        return delay
    own = np.empty_like(delay)
    own[link.rows.synapse] = delay
    return own


def _total(place: NDArray[np.int64], values: Float | Weights, count: int) -> Float:
    return np.bincount(place, values, count).astype(np.float64, copy=False)


def _summed(unit: NDArray[np.integer[Any]], values: Float, link: Link) -> Float:
    """``values`` added up by presynaptic unit."""
    return np.bincount(unit, values, len(link.delay)).astype(np.float64, copy=False)


def _new_events(recent: Trains, new: Trains) -> NDArray[np.int64]:
    """Where the events of ``new`` stand in ``joined(recent, new)``."""
    batch = len(new[2]) - 1
    sample = np.repeat(np.arange(batch), np.diff(new[2]))
    return np.arange(len(new[0])) + recent[2][1:][sample]
