"""Piecewise constant currents in the exact engine: while J is constant it is a shift of the leak.

A run goes from one change to the next. A change is an event for the neurons it reaches, and for no others: these go
on as if nothing had been there, so that the result does not depend on where a run is cut, nor on the other samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from spikeloop.engine.arrays import (
    Anchors,
    Ask,
    Float,
    Link,
    Neurons,
    Peaks,
    Recovered,
    Run,
    Sampling,
    Stage,
    States,
    Trains,
)
from spikeloop.engine.arriving import arriving, joined
from spikeloop.engine.exact import forward
from spikeloop.engine.failures import Explosion
from spikeloop.engine.short_term import recent_sizes, recovered, rested, samples_of, unrolled
from spikeloop.engine.snapshot import Kept, mark

_LEAK, _THRESHOLD, _RESET = 3, 2, 4  # rows of `Neurons.values`
_ROUNDING = 1e-15  # relative: a sample this little after a change belongs before it, as in the native engine


@dataclass(frozen=True, eq=False)
class Currents:
    """J of a population: time (T,), value (1, T, N), or (B, T, N): from time[k] on value[:, k], 0 before time[0]."""

    time: Float
    value: Float

    def at(self, time: float, side: str = "right") -> Float:
        """(1, N) or (B, N): J from ``time`` on, or (``side`` "left") until then."""
        k = int(np.searchsorted(self.time, time, "right" if side == "right" else "left")) - 1
        return np.zeros_like(self.value[:, 0]) if k < 0 else self.value[:, k]

    def changes(self, begin: float, end: float) -> Iterator[float]:
        """When any J changes, strictly between."""
        for k in np.flatnonzero((self.time > begin) & (self.time < end)):
            before = self.value[:, k - 1] if k > 0 else np.zeros_like(self.value[:, 0])
            if (self.value[:, k] != before).any():
                yield float(self.time[k])

    def of(self, some: slice) -> Currents:
        """Those of some samples."""
        return self if len(self.value) == 1 else Currents(self.time, self.value[some])


def leak_at(neurons: Neurons, current: Currents | None, time: float, side: str = "right") -> Float:
    """(1, N) or (B, N): where the membranes are drawn to from ``time`` on, or until then."""
    leak = neurons.values[_LEAK][None]
    return leak if current is None else leak + current.at(time, side)


def driven(
    stages: Sequence[Stage],
    trains: Mapping[str, Trains],
    run: Run,
    asks: Mapping[str, Ask],
    spike_limit: int,
    currents: Mapping[str, Currents],
) -> dict[str, Trains]:
    """`exact.forward` with ``currents`` into some of the populations."""
    if not any(neurons.name in currents for stage in stages for neurons in stage.populations):
        return forward(stages, trains, run, asks, spike_limit)
    found = dict(trains)
    for stage in stages:
        mine = {n.name: currents[n.name] for n in stage.populations if n.name in currents}
        if mine:
            found |= _Driven(stage, mine, run, spike_limit)(found, asks)
        else:
            found = forward([stage], found, run, asks, spike_limit)
    return found


@dataclass(frozen=True, eq=False)
class _Driven:
    """A stage with currents into some of its populations."""

    stage: Stage
    currents: Mapping[str, Currents]
    run: Run
    spike_limit: int

    def __call__(self, trains: Mapping[str, Trains], asks: Mapping[str, Ask]) -> dict[str, Trains]:
        """The trains of its populations, from change to change; sample by sample where currents are of one each."""
        inside = {neurons.name for neurons in self.stage.populations}
        stage, links = unrolled(self.stage, trains, self.run)
        coming = {link.link.source: link.events for link in links}
        for link in stage.links:
            if link.source not in inside and link.source not in coming:
                coming[link.source] = arriving(link, trains, self.run)
        alike = all(len(current.value) == 1 for current in self.currents.values())
        some = [slice(0, self.run.batch)] if alike else [slice(b, b + 1) for b in range(self.run.batch)]
        found = [replace(self, stage=stage)._samples(each, coming, asks) for each in some]
        return {name: _stacked([part[name] for part in found]) for name in inside}

    def _samples(self, some: slice, coming: Mapping[str, Trains], asks: Mapping[str, Ask]) -> dict[str, Trains]:
        currents = {name: current.of(some) for name, current in self.currents.items()}
        begin, end = self.run.begin, self.run.end
        changes = {time for current in currents.values() for time in current.changes(begin, end)}
        external = {name: _part(train, some) for name, train in coming.items()}
        names = [neurons.name for neurons in self.stage.populations]
        spikes = {name: _part(self.run.recent[name], some) for name in names if name in self.run.recent}
        found: dict[str, list[Trains]] = {name: [] for name in names}
        drawing = [link for link in self.stage.links if link.short_term is not None]
        resources = {link.name: self._recovered(link, some) for link in drawing}
        courses = {n.name: _Course(n, asks[n.name], some) for n in self.stage.populations}
        for first, last in pairwise([begin, *sorted(changes), end]):
            leaks = {n.name: leak_at(n, currents.get(n.name), first) for n in self.stage.populations}
            stage = replace(self.stage, populations=tuple(courses[name].neurons(leaks[name]) for name in names))
            span = (last - first, self.run.threads, dict(spikes), first, last)
            run = Run(some.stop - some.start, *span, dict(resources))
            pieces = {name: courses[name].ask(leaks[name], first, last, end) for name in names}
            try:
                made = forward([stage], external, run, pieces, self.spike_limit)
            except Explosion as where:
                raise Explosion(where.population, where.sample + some.start, where.unit) from None
            for link in drawing:
                everything = np.ones(len(arriving(link, made, run)[0]), bool)
                resources[link.name] = recovered(link, made[link.source], run, everything)
            for name in names:
                courses[name].keep(pieces[name], leaks[name], self.spike_limit)
                found[name].append(made[name])
                spikes[name] = joined(spikes[name], made[name]) if name in spikes else made[name]
        for course in courses.values():
            course.finish()
        return {name: _following(parts) for name, parts in found.items()}

    def _recovered(self, link: Link, some: slice) -> Recovered:
        """Where a short-term link within the stage is when the run begins, of some samples."""
        assert link.short_term is not None
        x, last = rested(self.run.batch, link.short_term, self.run.recovered.get(link.name))
        whole = Recovered(x, last, recent_sizes(link, self.run))
        return samples_of(whole, self.run.recent.get(link.source), some)


class _Course:
    """Some samples of one population on their way from change to change, and what is asked of them."""

    def __init__(self, neurons: Neurons, ask: Ask, some: slice) -> None:
        self._neurons, self._whole, self._some = neurons, ask, some
        self._silent = None if ask.silent is None else ask.silent[some]
        self._kept: Kept | None = None
        self._end = States(*np.empty((3, 0, 0)))
        self._sampled = slice(0, 0)
        self._first = True

    def neurons(self, leak: Float) -> Neurons:
        """The population, drawn to ``leak`` (1, N)."""
        values = self._neurons.values.copy()
        values[_LEAK] = leak[0]
        return replace(self._neurons, values=values)

    def ask(self, leak: Float, first: float, last: float, end: float) -> Ask:
        """What is asked of it from ``first`` to ``last``."""
        some, whole, shape = self._some, self._whole, (self._some.stop - self._some.start, self._neurons.size)
        start, anchors = self._start(leak, first)
        sampling = peaks = None
        if whole.sampling is not None:
            times, k = whole.sampling.time[0], self._sampled.stop
            until = np.searchsorted(times, last * (1 + _ROUNDING), "right") if last < end else len(times)
            self._sampled = slice(k, max(int(until), k))
            count = self._sampled.stop - k
            value = np.empty((shape[0], count, len(whole.sampling.unit)))
            sampling = Sampling(np.ascontiguousarray(times[self._sampled][None]), whole.sampling.unit, value)
        if whole.peaks is not None:
            peaks = Peaks(np.empty(shape), np.empty(shape))
        count = None if whole.count is None else whole.count[some]
        room, more = States(*np.empty((3, *shape))), Anchors(*np.empty((4, *shape)))
        return Ask(self._silent, start, room, anchors, more, sampling, peaks, count)

    def _start(self, leak: Float, first: float) -> tuple[States, Anchors | None]:
        whole, some = self._whole, self._some
        if self._kept is not None:
            return self._end, self._kept.anchors_from(self._end, self._silent, leak, first)
        if whole.start is not None:
            anchors = None if whole.anchors is None else Anchors(*(part[some] for part in whole.anchors.fields()))
            return States(*(part[some] for part in whole.start.fields())), anchors
        values, samples = self._neurons.values, some.stop - some.start
        rest = np.where(values[_LEAK] >= values[_THRESHOLD], values[_RESET], values[_LEAK])
        return States(np.tile(rest, (samples, 1)), *(np.zeros((samples, len(rest))) for _ in range(2))), None

    def keep(self, piece: Ask, leak: Float, spike_limit: int) -> None:
        """Take over what was found."""
        assert piece.end is not None
        assert piece.reached is not None
        self._end = piece.end
        self._kept = Kept(piece.reached, mark(piece.end), self._neurons.values, leak, self._silent)
        whole, some = self._whole, self._some
        if whole.sampling is not None and piece.sampling is not None:
            whole.sampling.value[some, self._sampled] = piece.sampling.value
        if whole.peaks is not None and piece.peaks is not None:
            time, value, new = whole.peaks.time[some], whole.peaks.value[some], piece.peaks
            higher = (new.value > value) | self._first
            time[higher], value[higher] = new.time[higher], new.value[higher]
        self._first = False
        if piece.count is not None and (piece.count > spike_limit).any():
            sample, unit = np.argwhere(piece.count > spike_limit)[0]
            raise Explosion(self._neurons.name, int(sample) + some.start, int(unit))

    def finish(self) -> None:
        """Hand over where the course ended."""
        assert self._kept is not None
        for whole, kept in ((self._whole.end, self._end), (self._whole.reached, self._kept.anchors)):
            if whole is not None:
                for mine, new in zip(whole.fields(), kept.fields(), strict=True):
                    mine[self._some] = new


def _part(trains: Trains, some: slice) -> Trains:
    time, unit, start = trains
    first, last = int(start[some.start]), int(start[some.stop])
    return time[first:last], unit[first:last], start[some.start : some.stop + 1] - first


def _stacked(parts: Sequence[Trains]) -> Trains:
    """Trains of samples after each other."""
    starts = np.cumsum([0, *(len(time) for time, _, _ in parts)])
    start = [parts[0][2][:1], *(part[2][1:] + first for part, first in zip(parts, starts, strict=False))]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), np.concatenate(start)


def _following(parts: Sequence[Trains]) -> Trains:
    """Trains of the same samples after each other in time."""
    whole = parts[0]
    for part in parts[1:]:
        whole = joined(whole, part)
    return whole
