"""A case in pieces: runs that go on from each other's states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spikeloop.conformance.cases import Case
from spikeloop.events import Events
from spikeloop.record import Record


def pieces(run: Callable[..., Record], case: Case, cuts: Sequence[float]) -> list[Record]:
    """What ``run`` (start=, drive=, duration=) makes of the case cut at these times.

    Each piece has the events from its beginning on that are before its end.
    """
    parts, state = list[Record](), None
    for end in (*cuts, case.duration):
        begin = 0.0 if state is None else state.time
        stop = float("inf") if end == case.duration else begin + (end - begin)
        drive = {name: between(events, begin, stop) for name, events in case.drive.items()}
        parts.append(run(start=state, drive=drive, duration=end - begin))
        state = parts[-1].state
    return parts


def between(events: Events, begin: float, end: float) -> Events:
    """The events of begin <= t < end."""
    ones = [events.detach()[[sample]] for sample in range(len(events))]
    inside = [(one.time >= begin) & (one.time < end) for one in ones]
    times = [one.time[some] for one, some in zip(ones, inside, strict=True)]
    units = [one.unit[some] for one, some in zip(ones, inside, strict=True)]
    return Events.from_lists(times, units, events.size)
