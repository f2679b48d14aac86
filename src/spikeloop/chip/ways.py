"""Events on their ways: over the links into a chip that is run in steps, and out of its circuits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import COLUMNS, CYCLE, DEPTH, LINKS, OUTPUTS, AddressedEvents
from spikeloop.chip.groups import Chipful
from spikeloop.chip.lanes import Flight, Lanes, empty_lanes, flight_of
from spikeloop.chip.mismatch import Float, Quantity, keyed, normals_at
from spikeloop.engine.arrays import Trains
from spikeloop.engine.arriving import only

Indices = NDArray[np.int64]

LATENCY = 3.0
"""Standard deviations of the jitter between a crossing and its event, and where the jitter is cut off."""


@dataclass(frozen=True, eq=False)
class Span:
    """A stretch of a batch's runs: of which trial, cycles ``first`` to before ``last``, in steps of ``step`` cycles."""

    chip: Chipful
    batch: int
    threads: int
    trial: int
    first: int
    last: int
    step: int

    def key(self, quantity: Quantity) -> int:
        """The stream of a quantity in this trial."""
        return int(keyed(keyed(self.chip.pattern.seed, quantity), self.trial))

    @property
    def since(self) -> float:
        """Seconds: when the engine's last step begins."""
        return (self.last - self.step) * CYCLE


@dataclass(frozen=True, eq=False)
class Incoming:
    """What is on its way into a chip: links, in cycles; arrivals to come, cycles and addresses."""

    links: Lanes
    arrivals: Flight

    def __len__(self) -> int:
        return len(self.links.free)


@dataclass(frozen=True, eq=False)
class Sender:
    """What of one step's events is under way: requests to its outputs, exits from them; seconds; outputs in cycles.

    recent: spikes of the engine's last step, which reach neurons of the same group of stages in its next one; by group.
    """

    outputs: Lanes
    requests: Flight
    exits: Flight
    recent: Mapping[str, Trains]


class Ways:
    """The ways of one stretch; lost: events of every run so far."""

    span: Span
    lost: Indices

    def __init__(self, span: Span) -> None:
        self.span, self.lost = span, np.zeros(span.batch, np.int64)

    def into(self, drive: AddressedEvents, before: Incoming | None) -> tuple[Flight, Incoming]:
        """Arrivals in seconds, with addresses as units; what is on its way after that."""
        span = self.span
        links = empty_lanes(span.batch, LINKS, DEPTH) if before is None else before.links
        sample = np.repeat(np.arange(span.batch), np.diff(drive.start))
        events = Flight(sample, drive.cycle.astype(np.float64), drive.address.astype(np.int64))
        inside = (events.time >= span.first) & (events.time < span.last)
        if not inside.all():  # what comes when the run is over is lost, too
            self._lose(sample[~inside])
            events = events[inside]
        if span.chip.capacity:
            passed, links = links.passed(events, events.unit >> 14, span.threads)
            self._lose(events.sample[passed < 0])
            events = Flight(events.sample, passed, events.unit)[passed >= 0]
        waiting = Flight.none() if before is None else before.arrivals
        now, later = Flight.merged([waiting, events]).until(span.last)
        return Flight(now.sample, now.time * CYCLE, now.unit), Incoming(links, later)

    def out(self, number: int, spikes: Mapping[str, Trains], before: Sender | None) -> tuple[Flight, Sender]:
        """Events of a step of the plan that leave until the end, and what is left; spikes: by group."""
        span, step = self.span, self.span.chip.plan.steps[number]
        outputs = empty_lanes(span.batch, OUTPUTS, DEPTH) if before is None else before.outputs
        waiting, leaving = (Flight.none(), Flight.none()) if before is None else (before.requests, before.exits)
        fired = Flight.merged(self.fired(number, spikes))
        if not span.chip.capacity:
            fired = fired[step.sending[fired.unit]]
        head = step.head
        late = Flight(fired.sample, fired.time + self._jitter(fired, head), fired.unit)
        now, requests = Flight.merged([waiting, late]).until(span.last * CYCLE)
        if span.chip.capacity:
            cycles = Flight(now.sample, now.time / CYCLE, now.unit)
            passed, outputs = outputs.passed(cycles, head[now.unit] % COLUMNS // (COLUMNS // OUTPUTS), span.threads)
            sends = step.sending[now.unit]
            self._lose(now.sample[(passed < 0) & sends])
            now = Flight(now.sample, passed * CYCLE, now.unit)[(passed >= 0) & sends]
        exits, later = Flight.merged([leaving, now]).until(span.last * CYCLE)
        recent = {name: only(trains, trains[0] >= span.since) for name, trains in spikes.items()}
        return exits, Sender(outputs, requests, later, recent)

    def fired(self, number: int, spikes: Mapping[str, Trains]) -> list[Flight]:
        """By group, the spikes of a step's neurons."""
        found: list[Flight] = []
        for group in self.span.chip.groups[number]:
            fired = flight_of(spikes[group.name])
            found.append(Flight(fired.sample, fired.time, group.place[group.alike.output][fired.unit]))
        return found

    def _lose(self, sample: Indices) -> None:
        self.lost += np.bincount(sample, minlength=self.span.batch)

    def _jitter(self, fired: Flight, head: Indices) -> Float:
        """Seconds that each event takes to leave."""
        rms = self.span.chip.noise.jitter
        if not rms:
            return np.zeros(len(fired))
        key = keyed(self.span.key(Quantity.JITTER), fired.sample.astype(np.uint64))
        drawn = normals_at(
            keyed(keyed(key, head[fired.unit].astype(np.uint64)), cycle_of(fired.time).astype(np.uint64))
        )
        return rms * (LATENCY + np.clip(drawn, -LATENCY, LATENCY))


def cycle_of(time: Float) -> Indices:
    """The cycle that each time lies in, as the engine has it: from k CYCLE to before (k + 1) CYCLE."""
    cycle = np.floor(time / CYCLE).astype(np.int64)
    cycle += (cycle + 1) * CYCLE <= time
    return cycle - (cycle * CYCLE > time)
