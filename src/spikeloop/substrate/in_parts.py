"""A network that is too large for one run: part after part, what was recorded of one driving the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor

from spikeloop.chip.lower import synapses_of
from spikeloop.chip.mismatch import keyed
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.chip.split import Part
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.protocols import Observe, Trial
from spikeloop.record import Cost, Lowering, Peak, Record
from spikeloop.substrate.one_chip import emulated

V = TypeVar("V")


def in_parts(trial: Trial, parts: Sequence[tuple[Part, Wish]], number: int) -> Record:
    """Carry out ``trial`` run by run; the first has the trial's own draw of the noise, ``number``."""
    known, records = dict(trial.drive), list[Record]()
    for k, (part, wish) in enumerate(parts):
        draw = number if k == 0 else int(keyed(number, k)) >> 1
        network = part.taken(trial.network)
        records.append(emulated(_trial(trial, part, network, known), setup_of(network, wish), draw))
        for name in part.first:
            if network.populations[name].spiking:
                _append(known, name, records[-1].spikes[name], part.first[name])
    of = [part for part, _ in parts]
    return replace(
        records[0],
        spikes=known,
        membrane={name: samples for record in records for name, samples in record.membrane.items()},
        peak=_joined([record.peak for record in records], _side_by_side),
        executed=_executed(trial.network, of, records),
        number=number,
        lowering=_lowering(of, records),
        cost=reduce(_sum, (record.cost for record in records)),
    )


def _trial(whole: Trial, part: Part, network: Network, known: dict[str, Events]) -> Trial:
    """What the part is asked for: driven by what is known of its inputs."""
    observe = whole.observe
    silent = {
        name: muted[:, part.first[name] : part.first[name] + network.populations[name].size]
        for name, muted in whole.silent.items()
        if name in part.first
    }
    wish = Observe(
        {name: given for name, given in observe.membrane.items() if name in part.first},
        frozenset(name for name in observe.peak if name in part.first),
    )
    drive = {name: known[name] for name in network.inputs}
    return Trial(network, drive, whole.duration, wish, training=whole.training, silent=silent)


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
