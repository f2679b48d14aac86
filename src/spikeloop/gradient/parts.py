"""Some samples of a trial, its record and a cotangent: what need not fit into memory at once is done part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from spikeloop.engine.trial import SHORT_TERM, recovered_of
from spikeloop.events import Events
from spikeloop.gradient.resumed import part_of
from spikeloop.network import Network
from spikeloop.protocols import Cotangent, Trial
from spikeloop.record import Peak, Record, Samples, State


def part(trial: Trial, record: Record, cotangent: Cotangent, some: slice) -> tuple[Trial, Record, Cotangent]:
    """The samples ``some`` of all three."""
    start = None if trial.start is None else _state(trial.start, some, trial.network)
    drive = _events(trial.drive, some)
    record = replace(
        record,
        spikes={**_events({n: e for n, e in record.spikes.items() if n not in drive}, some), **drive},
        count={},
        membrane={name: _samples(samples, some) for name, samples in record.membrane.items()},
        peak={name: Peak(peak.time[some], peak.value.detach()[some]) for name, peak in record.peak.items()},
        state=None,
        adaptation={},
        current={},
    )
    cotangent = replace(
        cotangent,
        count=_rows(cotangent.count, some),
        membrane=_rows(cotangent.membrane, some),
        peak=_rows(cotangent.peak, some),
    )
    steps = {name: each.of(some) for name, each in trial.steps.items()}
    part = replace(trial, drive=drive, start=start, silent=_rows(trial.silent, some), steps=steps)
    return part, record, cotangent


def _rows(tensors: Mapping[str, Tensor], some: slice) -> dict[str, Tensor]:
    return {name: tensor[some] for name, tensor in tensors.items()}


def _events(events: Mapping[str, Events], some: slice) -> dict[str, Events]:
    return {name: each.detach()[some] for name, each in events.items()}


def _samples(samples: Samples, some: slice) -> Samples:
    time = samples.time[some] if samples.time.ndim == 2 else samples.time
    return Samples(time, samples.unit, samples.value.detach()[some])


def _state(state: State, some: slice, network: Network) -> State:
    membrane, current, held = (_rows(field, some) for field in (state.membrane, state.current, state.held))
    resources = recovered_of(state, network, some)
    parts = part_of(state.parts, some) | ({SHORT_TERM: resources} if resources else {})
    return State(membrane, current, held, _events(state.recent, some), state.time, parts)
