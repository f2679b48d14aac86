"""The exact forward pass: the spikes of every population, and what else is asked for. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spikeloop.engine import _core
from spikeloop.engine.arrays import Anchors, Ask, Delays, Run, Stage, States, Trains
from spikeloop.engine.arriving import arriving
from spikeloop.engine.failures import Explosion
from spikeloop.engine.short_term import driver, outside, unrolled

NOTHING = Ask()


def forward(
    stages: Sequence[Stage], drive: Mapping[str, Trains], run: Run, asks: Mapping[str, Ask], spike_limit: int
) -> dict[str, Trains]:
    """Run ``stages`` on ``drive``: the spike trains of all populations by name, the drive's included.

    Times in seconds, on the run's clock; what would arrive before it begins or when it has ended is not delivered.
    Raises ``Explosion``.
    """
    trains = dict(drive)
    for together in calls(stages, run):
        kernel = _dense if together[0].dense else _queue
        first, links = unrolled(together[0], trains, run)
        heard = {**trains, **{link.link.source: link.events for link in links}} if links else trains
        trains.update(kernel([first, *together[1:]], heard, run, asks, spike_limit))
    return trains


def calls(stages: Sequence[Stage], run: Run) -> list[list[Stage]]:
    """Stages that one call of the native engine carries out: dense ones of one precision that follow each other.
    One with short-term links, which are made for the spikes they bring, comes first.

    Spikes that are still on their way from before join those of a stage between the calls.
    """
    together: list[list[Stage]] = []
    for stage in stages:
        before = together[-1][-1] if together else None
        alike = before is not None and before.dense and stage.dense and before.dtype == stage.dtype
        if alike and not run.recent and not any(outside(stage, link) for link in stage.links):
            together[-1].append(stage)
        else:
            together.append([stage])
    return together


def _dense(
    stages: Sequence[Stage], trains: Mapping[str, Trains], run: Run, asks: Mapping[str, Ask], spike_limit: int
) -> dict[str, Trains]:
    inside = {stage.populations[0].name: number for number, stage in enumerate(stages)}
    given: list[Any] = []
    for stage in stages:
        (neurons,) = stage.populations
        sources = [
            (inside[link.source] if link.source in inside else arriving(link, trains, run), link.weight, link.delay)
            for link in stage.links
        ]
        given.append((sources, neurons.values, neurons.spiking, _asked(asks.get(neurons.name, NOTHING))))
    try:
        made = _core.dense_forward(given, run.batch, run.begin, run.end, spike_limit, run.threads)
    except _core.Explosion as where:
        raise explosion(stages, where) from None
    found: dict[str, Trains] = {}
    for name, (spikes, current) in zip(inside, made, strict=True):
        found[name] = spikes
        if current is not None:
            run.at_spikes[name] = spikes, current
    return found


def _queue(
    stages: Sequence[Stage], trains: Mapping[str, Trains], run: Run, asks: Mapping[str, Ask], spike_limit: int
) -> dict[str, Trains]:
    (stage,) = stages
    populations = [(neurons.values, neurons.spiking) for neurons in stage.populations]
    wishes = [_asked(asks.get(neurons.name, NOTHING)) for neurons in stage.populations]
    sources = queue_sources(stage, trains, run)
    try:
        made = _core.queue_forward(
            sources, populations, run.batch, run.begin, run.end, wishes, spike_limit, run.threads
        )
    except _core.Explosion as where:
        raise explosion(stages, where) from None
    return dict(zip((neurons.name for neurons in stage.populations), made, strict=True))


def queue_sources(stage: Stage, trains: Mapping[str, Trains], run: Run, back: bool = False) -> list[Any]:
    """The links of an event-queue stage as the native engine takes them; ``back``: its adjoint."""
    first = first_neurons(stage)
    sources: list[Any] = []
    for link in stage.links:
        rows = link.rows
        assert rows is not None
        internal = link.source in first
        events = run.recent.get(link.source) if internal else arriving(link, trains, run)
        ends = (first.get(link.source, -1), first[link.target])
        synapses = (rows.begin, rows.target, rows.weight, link.weight, link.delay, int(Delays(link.delays)))
        plasticity = driver(link, run, trains[link.source] if back else None) if internal else None
        sources.append((events, *ends, *synapses, plasticity))
    return sources


def first_neurons(stage: Stage) -> dict[str, int]:
    """Where each population starts in the stage's numbering of neurons."""
    sizes = [neurons.size for neurons in stage.populations]
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    return dict(zip((neurons.name for neurons in stage.populations), firsts, strict=True))


def _asked(ask: Ask) -> Any:
    sampling = None if ask.sampling is None else (ask.sampling.time, ask.sampling.unit, ask.sampling.value)
    peaks = None if ask.peaks is None else (ask.peaks.time, ask.peaks.value)
    if ask.start is None and ask.end is None:  # neither are there anchors
        return (ask.silent, None, None, None, None, sampling, peaks, ask.count)
    anchors = (_anchors(ask.anchors), _anchors(ask.reached))
    return (ask.silent, states(ask.start), states(ask.end), *anchors, sampling, peaks, ask.count)


def states(given: States | None) -> Any:
    """A state as the native engine takes it."""
    return None if given is None else given.fields()


def _anchors(given: Anchors | None) -> Any:
    return None if given is None else given.fields()


def explosion(stages: Sequence[Stage], where: _core.Explosion) -> Explosion:
    """Which neuron of which population it was."""
    sample, unit, number = map(int, where.args)
    firsts = first_neurons(stages[number])
    name, first = max(((name, first) for name, first in firsts.items() if first <= unit), key=lambda pair: pair[1])
    return Explosion(name, sample, unit - first)
