"""A trial that goes on with the clock of its start, and its record, as if it began at 0: what rules differentiate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spikeloop.engine.arrays import Recovered
from spikeloop.engine.snapshot import STEPPED
from spikeloop.engine.trial import SHORT_TERM
from spikeloop.errors import Unsupported
from spikeloop.events import Events
from spikeloop.gradient.resumed import resumed
from spikeloop.protocols import Trial
from spikeloop.record import Peak, Record, Samples
from spikeloop.steps import Steps


def from_zero(trial: Trial, record: Record) -> tuple[Trial, Record]:
    """Both with all times counted from the trial's beginning; derivatives by times are the same."""
    begin, start = trial.begin, trial.start
    if start is None:
        return trial, record
    drive = {name: _sooner(events, begin) for name, events in trial.drive.items()}
    moved = replace(
        record,
        begin=0.0,
        spikes={name: _sooner(events, begin) for name, events in record.spikes.items() if name not in drive} | drive,
        membrane={name: Samples(s.time - begin, s.unit, s.value) for name, s in record.membrane.items()},
        peak={name: Peak(peak.time - begin, peak.value) for name, peak in record.peak.items()},
    )
    steps = {name: _earlier(each, begin) for name, each in trial.steps.items()}
    parts = {STEPPED: resumed(start, begin), **_resources(start.parts, begin)}
    return replace(trial, drive=drive, steps=steps, start=replace(start, time=0.0, parts=parts)), moved


def _resources(parts: Mapping[str, object], begin: float) -> dict[str, object]:
    """What short-term links go on with, counted from ``begin``, too."""
    found: Any = parts.get(SHORT_TERM)
    if not isinstance(found, dict):
        return {}
    given: dict[str, Recovered] = found  # pyright: ignore[reportUnknownVariableType]
    return {SHORT_TERM: {name: replace(each, last=each.last - begin) for name, each in given.items()}}


def without_currents(trial: Trial, rule: str) -> None:
    """Raise ``Unsupported`` where ``trial`` has currents, for a rule that knows what membranes do only without them."""
    for name in trial.steps:
        raise Unsupported(
            f"{rule} has no gradient of a trial with currents",
            where=f"drive {name!r}",
            expected="events alone",
            todo="Use SuperSpike(dt), which observes membranes, or drive it by events",
        )


def _sooner(events: Events, seconds: float) -> Events:
    return Events._trusted(events.time.detach() - seconds, events.unit, events.start, events.size, events._count)


def _earlier(steps: Steps, seconds: float) -> Steps:
    """What it is from ``seconds`` on."""
    first = max(int((steps.time <= seconds).sum()) - 1, 0)
    return Steps((steps.time[first:] - seconds).clamp_min(0.0), steps.value[..., first:, :])
