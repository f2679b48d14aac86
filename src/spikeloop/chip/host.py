"""The host's side of a run that is cut: events that it has not sent yet, and the link that it sends them through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip.configuration import CYCLE, DEPTH, AddressedEvents
from spikeloop.chip.lanes import Flight, Lanes, empty_lanes
from spikeloop.chip.mapping import Placement
from spikeloop.events import Events

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Backlog:
    """What the host still has to send: events by input, cycles and addresses, and those whose turn comes later.

    line: when the link passes the next, if it passes one a cycle.
    """

    waiting: Mapping[str, Flight]
    later: Flight
    line: Lanes

    @classmethod
    def none(cls, batch: int) -> Backlog:
        """Nothing."""
        return cls({}, Flight.none(), empty_lanes(batch, 1, np.inf))


@dataclass(frozen=True, eq=False)
class Continued:
    """A chip's part of a `State`: what the chip gave, the draw of its noise, the clock in cycles, the backlog."""

    chip: object
    number: int
    cycle: int
    backlog: Backlog

    def __len__(self) -> int:
        return len(self.backlog.line.free)


def send(
    drive: Mapping[str, Events],
    placement: Placement,
    speedup: float,
    last: int,
    backlog: Backlog,
) -> tuple[Flight, Backlog]:
    """The events that are sent before cycle ``last``, cycles and addresses, and what is left.

    As in `lower_events`: of many at once some are sent later, for the link passes one a cycle and keeps few.
    """
    waiting = dict[str, Flight]()
    due, order = list[Flight](), list[Indices]()
    for number, (name, events) in enumerate(drive.items()):
        address = placement.address[name]
        start = events.start.numpy()
        cycle = np.rint(events.time.detach().numpy() / (speedup * CYCLE))
        sample = np.repeat(np.arange(len(start) - 1), np.diff(start))
        new = Flight(sample, cycle, address[events.unit.numpy()])
        before = backlog.waiting.get(name, Flight.none())
        both = Flight.joined([before, new])
        early = both.time < last
        due.append(both[early])
        order.append(np.full(int(early.sum()), number))
        waiting[name] = both[~early]
    now, by = Flight.joined(due), np.concatenate([np.zeros(0, np.int64), *order])
    place = np.lexsort((np.arange(len(now)), by, now.time, now.sample))
    now = Flight(now.sample[place], now.time[place], now.unit[place])
    passed, line = backlog.line.passed(now, np.zeros(len(now), np.int64), torch.get_num_threads())
    sent = Flight.joined([backlog.later, Flight(now.sample, np.maximum(now.time, passed - DEPTH), now.unit)])
    turn = np.lexsort((np.arange(len(sent)), sent.time, sent.sample))
    sent = Flight(sent.sample[turn], sent.time[turn], sent.unit[turn])
    early = sent.time < last
    return sent[early], Backlog(waiting, sent[~early], line)


def addressed(events: Flight, batch: int, muted: NDArray[np.bool_], trial: int) -> AddressedEvents:
    """As a chip takes them."""
    return AddressedEvents(events.time.astype(np.int64), events.unit, events.start(batch), muted=muted, trial=trial)
