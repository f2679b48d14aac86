"""A network that is too large for one run: part after part, what was recorded of one driving the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeVar, cast

import torch
from torch import Tensor

from spikeloop.chip.host import Continued
from spikeloop.chip.lower_weights import synapses_of
from spikeloop.chip.mismatch import keyed
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.chip.split import Part
from spikeloop.errors import ShapeMismatch, Unsupported
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.plasticity.memory import PART as LEARNED
from spikeloop.plasticity.memory import Learned, learned_of
from spikeloop.protocols import Observe, Trial
from spikeloop.record import Cost, Lowering, Peak, Record, State
from spikeloop.steps import Steps
from spikeloop.substrate.chip_state import PART
from spikeloop.substrate.one_chip import emulated

V = TypeVar("V")
_BY_NAME = ("membrane", "weights", "sources", "history", "recorded")


@dataclass(frozen=True, eq=False)
class PartsContinued:
    """A chip's part of a `State` of a network in parts: that of each of them, and the draw of the first one's noise."""

    each: tuple[Continued, ...]
    number: int

    def __len__(self) -> int:
        return len(self.each[0])


def known_parts(trial: Trial, count: int) -> PartsContinued | None:
    """Where the ``count`` parts of a network were left by the state that ``trial`` starts from.

    Raises ``Unsupported`` where it has no such, ``ShapeMismatch`` where that is of another batch.
    """
    if trial.start is None:
        return None
    known = trial.start.parts.get(PART)
    if not isinstance(known, PartsContinued) or len(known.each) != count:
        raise Unsupported(f"a network in {count} parts cannot continue from a state of another place", where="start",
                          expected="record.state of a run of it in parts", todo="Leave out start=")  # fmt: skip
    if len(known) != trial.batch:
        what = f"the state is of {len(known)} samples"
        raise ShapeMismatch(what, where="start", expected=f"{trial.batch}, as the drive")
    return known


def in_parts(trial: Trial, parts: Sequence[tuple[Part, Wish]], number: int) -> Record:
    """Carry out ``trial`` run by run; the first has the trial's own draw of the noise, ``number``."""
    known, records, before = dict(trial.drive), list[Record](), known_parts(trial, len(parts))
    for k, (part, wish) in enumerate(parts):
        draw = number if k == 0 else int(keyed(number, k)) >> 1
        network = part.taken(trial.network)
        start = None if before is None else _start(trial, network, before.each[k])
        records.append(emulated(_trial(trial, part, network, known, start), setup_of(network, wish), draw))
        for name in part.first:
            if network.populations[name].spiking:
                _append(known, name, records[-1].spikes[name], part.first[name])
    of = [part for part, _ in parts]
    return replace(
        records[0],
        spikes=known,
        **{name: _united([getattr(record, name) for record in records]) for name in _BY_NAME},
        state=_state(trial, records, number),
        peak=_joined([record.peak for record in records], _side_by_side),
        executed=_executed(trial.network, of, records),
        number=number,
        lowering=_lowering(of, records),
        cost=reduce(_sum, (record.cost for record in records)),
    )


def _united(found: Sequence[Mapping[str, V]]) -> dict[str, V]:
    """What has one name in one part each."""
    return {name: value for each in found for name, value in each.items()}


def _start(trial: Trial, network: Network, chip: Continued) -> State:
    """Where a part goes on from, with what was learned in it, or told to its rules since."""
    assert trial.start is not None
    learned, parts = learned_of(trial.start), dict[str, object]({PART: chip})
    if network.programs and learned is not None:
        names, projections = network.programs.keys(), network.projections.keys()
        parts[LEARNED] = Learned(
            _of(learned.weight, projections), _of(learned.source, projections), _of(learned.memory, names),
            _of(learned.calls, names), learned.requested & names,
        )  # fmt: skip
    return State(time=trial.start.time, parts=parts)


def _of(found: Mapping[str, V], names: Collection[str]) -> dict[str, V]:
    return {name: value for name, value in found.items() if name in names}


def _state(trial: Trial, records: Sequence[Record], number: int) -> State | None:
    if not trial.observe.state:
        return None
    states = [record.state for record in records if record.state is not None]
    chips = tuple(cast("Continued", state.parts[PART]) for state in states)
    parts: dict[str, object] = {PART: PartsContinued(chips, number)}
    learned = [each for each in map(learned_of, states) if each is not None]
    if learned:
        weight, source, memory, calls = (
            _united([getattr(each, name) for each in learned]) for name in ("weight", "source", "memory", "calls")
        )
        parts[LEARNED] = Learned(weight, source, memory, calls)
    return State(time=trial.end, parts=parts)


def _trial(whole: Trial, part: Part, network: Network, known: dict[str, Events], start: State | None) -> Trial:
    """What the part is asked for: driven by what is known of its inputs."""
    observe = whole.observe
    silent = {
        name: muted[:, part.first[name] : part.first[name] + network.populations[name].size]
        for name, muted in whole.silent.items()
        if name in part.first
    }
    wish = Observe(
        _within(observe.membrane, part),
        frozenset(name for name in observe.peak if name.partition(".")[0] in part.first),
        observe.state,
        history=frozenset(observe.history) & network.projections.keys(),
    )
    drive = {name: known[name] for name in network.inputs}
    steps = {name: _some(name, given, part, network) for name, given in _within(whole.steps, part).items()}
    return Trial(network, drive, whole.duration, wish, start, training=whole.training, silent=silent, steps=steps)


def _within(found: Mapping[str, V], part: Part) -> dict[str, V]:
    """Of populations and compartments, those of the part."""
    return {name: value for name, value in found.items() if name.partition(".")[0] in part.first}


def _some(name: str, steps: Steps, part: Part, network: Network) -> Steps:
    """The currents of the part's neurons."""
    population = name.partition(".")[0]
    first = part.first[population]
    return Steps(steps.time, steps.value[..., first : first + network.populations[population].size])


def _append(known: dict[str, Events], name: str, spikes: Events, first: int) -> None:
    """Slices come in the order of their neurons."""
    known[name] = known[name].merge(spikes, offset=first) if first else spikes


def _executed(network: Network, parts: Sequence[Part], records: Sequence[Record]) -> dict[str, Tensor]:
    """The whole's weights; the mean where synapses of several runs share one."""
    found: dict[str, Tensor] = {}
    for name, projection in network.projections.items():
        total = torch.zeros(projection.weight.numel(), dtype=torch.float64)
        count = torch.zeros_like(total)
        for part, record in zip(parts, records, strict=True):
            if name in part.index:
                total.index_add_(0, part.index[name], record.executed[name].reshape(-1).to(torch.float64))
                count.index_add_(0, part.index[name], torch.ones(len(part.index[name]), dtype=torch.float64))
        mean = (total / count.clamp(min=1)).reshape(projection.weight.shape)
        found[name] = mean.to(projection.weight.dtype)
    return found


def _lowering(parts: Sequence[Part], records: Sequence[Record]) -> Lowering:
    each = [record.lowering for record in records if record.lowering is not None]
    synapses = [sum(synapses_of(p) for p in part.network.projections.values()) for part in parts]
    squares = sum(n * one.rounding**2 for n, one in zip(synapses, each, strict=True))
    return Lowering(
        clipped=sum(one.clipped for one in each),
        rounded=sum(one.rounded for one in each),
        rounding=math.sqrt(squares / max(sum(synapses), 1)),
        placed=sum(one.placed for one in each),
        failed=sum(one.failed for one in each),
        masked=sum(one.masked for one in each),
        dropped=sum(one.dropped for one in each),
        placement=_joined([one.placement for one in each], torch.cat),
        run=_joined([{n: of + k for n, of in one.run.items()} for k, one in enumerate(each)], torch.cat),
        runs=len(each),
        calibration="; ".join(dict.fromkeys(one.calibration or "" for one in each)),
    )


def _joined(parts: Sequence[Mapping[str, V]], join: Callable[[list[V]], V]) -> dict[str, V]:
    """By population what ``join`` makes of its slices."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: join([part[name] for part in parts if name in part]) for name in names}


def _side_by_side(peaks: list[Peak]) -> Peak:
    return Peak(torch.cat([each.time for each in peaks], 1), torch.cat([each.value for each in peaks], 1))


def _sum(one: Cost, other: Cost) -> Cost:
    """Of two runs, one after the other."""
    return Cost(
        wall_time=one.wall_time + other.wall_time,
        chip_time=(one.chip_time or 0.0) + (other.chip_time or 0.0),
        spikes=one.spikes + other.spikes,
        events_lost=one.events_lost + other.events_lost,
    )
