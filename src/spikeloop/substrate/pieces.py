"""Parts of trials, and records of parts put together: samples of a batch, one after the other in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.observe import Observe, When, neurons_of, times_of
from spikeloop.protocols import Trial
from spikeloop.record import Cost, Peak, Record, Samples, State

Pieces = Sequence[Sequence[Record]]
"""Records by segment and sample."""


def part_of(trial: Trial, network: Network, start: State | None, sample: int, begin: float, end: float) -> Trial:
    """What happens from ``begin`` to ``end`` in one sample of ``trial``, in a ``network`` of its own."""
    wished = {
        trace: {name: _within(_times(trial, when), begin, end, trial.begin) for name, when in given.items()}
        for trace, given in trial.observe.traces()
    }
    traces = {trace: {name: at for name, at in given.items() if len(at)} for trace, given in wished.items()}
    return replace(
        trial,
        network=network,
        drive={name: _cut(events, sample, begin, end) for name, events in trial.drive.items()},
        duration=_span(begin, end),
        observe=Observe(
            traces["membrane"],
            trial.observe.peak,
            state=True,
            adaptation=traces["adaptation"],
            current=traces["current"],
        ),
        start=start,
        silent={name: silent[sample : sample + 1] for name, silent in trial.silent.items()},
        steps={name: steps.of(slice(sample, sample + 1)) for name, steps in trial.steps.items()},
    )


def _span(begin: float, end: float) -> float:
    """The duration that, added to ``begin``, makes ``end``: the difference, or a number beside it."""
    about = end - begin
    beside = (about, math.nextafter(about, 0), math.nextafter(about, math.inf))
    return next((span for span in beside if begin + span == end), about)


def _times(trial: Trial, when: When) -> Tensor:
    return times_of(when, trial.duration, trial.begin)


def _within(times: Tensor, begin: float, end: float, first: float) -> Tensor:
    """Those after ``begin`` until ``end``, as runs that follow each other share them."""
    return times[((times >= begin) if begin == first else (times > begin)) & (times <= end)]


def _cut(events: Events, sample: int, begin: float, end: float) -> Events:
    time, unit, start = events._arrays
    low, high = start[sample], start[sample + 1]
    first, last = low + np.searchsorted(time[low:high], (begin, end))
    part = torch.from_numpy(time[first:last]), torch.from_numpy(unit[first:last])
    return Events._trusted(*part, torch.tensor([0, int(last - first)]), events.size)


def joined(trial: Trial, pieces: Pieces, wall_time: float) -> Record:
    """One record of all samples and segments."""
    first = pieces[0][0]
    spikes = {name: _spikes(pieces, name) for name in first.spikes if name not in trial.drive}
    traces = {
        trace: {name: _samples(trial, pieces, trace, name) for name in given} for trace, given in trial.observe.traces()
    }
    return Record(
        {**trial.drive, **spikes},
        trial.duration,
        {name: _counts(pieces, name) for name in first.count},
        traces["membrane"],
        {name: _peak(pieces, name) for name in first.peak},
        number=trial.number,
        cost=_cost(pieces, wall_time),
        adaptation=traces["adaptation"],
        current=traces["current"],
        begin=trial.begin,
    )


def _by_sample(pieces: Pieces, take: Callable[[Record], Any]) -> list[list[Any]]:
    return [[take(record) for record in records] for records in zip(*pieces, strict=True)]


def _counts(pieces: Pieces, name: str) -> Tensor:
    return torch.stack([torch.cat([record.count[name] for record in records]) for records in pieces]).sum(0)


def _spikes(pieces: Pieces, name: str) -> Events:
    samples = _by_sample(pieces, lambda record: record.spikes[name])
    parts = [events for each in samples for events in each]
    lengths = torch.tensor([0, *(sum(len(events.time) for events in each) for each in samples)])
    time, unit = torch.cat([events.time for events in parts]), torch.cat([events.unit for events in parts])
    return Events._trusted(time, unit, lengths.cumsum(0), parts[0].size)


def _samples(trial: Trial, pieces: Pieces, trace: str, name: str) -> Samples:
    when = dict(trial.observe.traces())[trace][name]
    size = trial.network.populations[trial.network.place("observe", name)[0]].size
    chosen, times = neurons_of(when, size), _times(trial, when)
    values = [
        torch.cat([getattr(record, trace)[name].value for record in each if name in getattr(record, trace)], 1)
        for each in _by_sample(pieces, lambda record: record)
        if len(times)
    ]
    value = torch.cat(values) if values else torch.empty(len(pieces[0]), 0, size, dtype=torch.float64)
    return Samples(times, chosen, value[:, :, chosen])


def _peak(pieces: Pieces, name: str) -> Peak:
    """The highest of all segments, the first of equal ones."""
    times = torch.stack([torch.cat([record.peak[name].time for record in records]) for records in pieces])
    values = torch.stack([torch.cat([record.peak[name].value for record in records]) for records in pieces])
    best = values.argmax(0, keepdim=True)
    return Peak(times.gather(0, best)[0], values.gather(0, best)[0])


def _cost(pieces: Pieces, wall_time: float) -> Cost:
    costs = [record.cost for records in pieces for record in records]
    return Cost(wall_time, spikes=sum(c.spikes for c in costs), synaptic_events=sum(c.synaptic_events for c in costs))
