"""States of batches as states of single samples, and back, to the last bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from spikeloop.engine.arrays import Recovered
from spikeloop.engine.snapshot import STEPPED, Paused, Snapshot
from spikeloop.engine.trial import PART as EXACT
from spikeloop.engine.trial import SHORT_TERM, recovered_in, recovered_of
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.record import State

V = TypeVar("V")


def samples_of(state: State | None, network: Network, batch: int) -> list[State | None]:
    """``state`` of a batch as states of single samples, of ``parts`` with what the engine goes on from."""
    if state is None:
        return [None] * batch
    taken = {part.name: getattr(state, part.name) for part in fields(state) if part.name != "parts"}
    return [
        State(**{name: _sample(value, b) for name, value in taken.items()}, parts=_parts(state, network, b))
        for b in range(batch)
    ]


def _parts(state: State, network: Network, sample: int) -> dict[str, object]:
    some, found = slice(sample, sample + 1), dict[str, object]()
    snapshot = state.parts.get(EXACT)
    if isinstance(snapshot, Snapshot):
        found[EXACT] = snapshot.part(some)
    if paused := _paused(state):
        found[STEPPED] = {name: each.part(some) for name, each in paused.items()}
    if resources := recovered_of(state, network, some):
        found[SHORT_TERM] = resources
    return found


def _paused(state: State) -> dict[str, Paused]:
    found: Any = state.parts.get(STEPPED, {})
    return {name: each for name, each in found.items() if isinstance(each, Paused)}


def _sample(value: Any, sample: int) -> Any:
    if isinstance(value, Tensor | Events):
        return value[sample : sample + 1]
    return {name: _sample(each, sample) for name, each in value.items()} if isinstance(value, Mapping) else value


def batch_of(states: Sequence[State], parts: Mapping[str, object]) -> State:
    """States of single samples as one, with these ``parts`` beside those that the engine goes on from."""
    taken = {
        part.name: [getattr(state, part.name) for state in states] for part in fields(State) if part.name != "parts"
    }
    return State(**{name: _batch(values) for name, values in taken.items()}, parts={**_joined(states), **parts})


def _joined(states: Sequence[State]) -> dict[str, object]:
    found: dict[str, object] = {EXACT: Snapshot.batch([cast("Snapshot", state.parts[EXACT]) for state in states])}
    if paused := _by_name(map(_paused, states)):
        found[STEPPED] = {name: Paused.batch(each) for name, each in paused.items()}
    if resources := _by_name(map(recovered_in, states)):
        found[SHORT_TERM] = {name: _recovered(each) for name, each in resources.items()}
    return found


def _by_name(given: Iterable[Mapping[str, V]]) -> dict[str, list[V]]:
    samples = list(given)
    return {name: [sample[name] for sample in samples] for name in samples[0]}


def _recovered(parts: Sequence[Recovered]) -> Recovered:
    fields = ((part.x, part.last, part.size) for part in parts)
    return Recovered(*map(np.concatenate, zip(*fields, strict=True)))


def _batch(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, Events):
        return Events.cat(values)
    if not isinstance(first, Mapping):
        return first
    found = {name: value for each in values for name, value in each.items()}
    return {name: _batch([each.get(name, _nothing_like(value)) for each in values]) for name, value in found.items()}


def _nothing_like(value: Any) -> Any:
    """What a sample has of which only others have something: no spikes on their way."""
    return Events.from_lists([[]], [[]], value.size) if isinstance(value, Events) else None
