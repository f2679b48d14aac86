"""What a substrate promises."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikeloop._run import run
from spikeloop.conformance.cases import (
    Case,
    ConformanceError,
    breaches,
    cases,
    differences,
    empty_drive,
    refusal,
    same,
    structured_case,
    tensors,
    tried,
)
from spikeloop.conformance.cut import pieces
from spikeloop.conformance.observed import event_faults, peak_faults, sample_faults
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.protocols import NOTHING, Every, Observe, Substrate
from spikeloop.record import Record, Samples

_ROUNDING = 1e-5  # of the duration: float32 states may be rounded elsewhere when more is observed


def check_substrate(
    substrate: Substrate,
    network: Network | None = None,
    drive: Events | Mapping[str, Events] | None = None,
    duration: float = 60e-3,
    *,
    deterministic: bool = True,
) -> tuple[str, ...]:
    """Raise `ConformanceError` where ``substrate`` breaks a contract; returns what else it refuses, and why.

    It is tried on two small networks of LIF neurons and on `structured`, or on ``network`` with ``drive`` (random
    events without one) for ``duration`` seconds: choose what fits. A substrate need not run `structured`, but has to
    say so: by ``Unsupported``. ``deterministic=False`` is for instruments that cannot repeat a trial. Provisional.
    """
    repeating = () if deterministic else (_repeats, _joins)
    contracts = {name: look for name, look in CONTRACTS.items() if look not in repeating}
    chosen, further = cases(network, drive, duration, substrate=substrate), structured_case(duration)
    refused = None if network is not None else refusal(substrate, further)
    if network is None and refused is None:
        chosen.append(further)
    found = [breach for case in chosen for breach in breaches(contracts, Bench(substrate, case), case.name)]
    if found:
        raise ConformanceError(repr(substrate), found)
    return () if refused is None else (refused,)


@dataclass(frozen=True, eq=False)
class Bench:
    """A substrate and what it is tried on."""

    substrate: Substrate
    case: Case

    def run(self, **changes: Any) -> Record:
        """As `spikeloop.run` calls it."""
        with torch.no_grad():
            return self.substrate.run(self.case.trial(**changes))

    def everything(self) -> Observe:
        """All that is offered, membranes at 25 times or as often as possible."""
        offer, membrane = self.substrate.offers(self.case.network), dict[str, Every | Tensor]()
        for name, given in offer.membrane.items():
            if isinstance(given, Every):
                membrane[name] = Every(max(given.period, self.case.duration / 25), given.neurons)
            elif isinstance(given, Tensor):
                membrane[name] = given[given <= self.case.duration]
        return Observe(membrane, offer.peak, offer.state)

    def samples(self, wish: Observe, name: str, samples: Samples) -> Iterator[str]:
        """What is wrong with the samples of a membrane."""
        given = self.substrate.offers(self.case.network).membrane[name]
        return sample_faults(self.case, wish, name, samples, given.period if isinstance(given, Every) else 0.0)


def _is_one(bench: Bench) -> Iterator[str]:
    if not isinstance(bench.substrate, Substrate):
        yield "it lacks one of the two"
    elif not isinstance(bench.run(), Record):
        yield f"run returns a {type(bench.run()).__name__}"


def _offers(bench: Bench) -> Iterator[str]:
    one, two = (bench.substrate.offers(bench.case.network) for _ in range(2))
    network = bench.case.network
    places = {place for name in bench.case.neurons for place in network.places(name)}
    for name in sorted({*one.membrane} - places | {*one.peak} - bench.case.neurons.keys()):
        yield f"{name!r} is offered and has no membrane"
    if not (one.covers(two) and two.covers(one)):
        yield "the second call offers something else"


def _spikes(bench: Bench) -> Iterator[str]:
    case, record = bench.case, bench.run()
    expected = {name for name, p in case.network.populations.items() if p.spiking}
    if record.spikes.keys() != expected:
        yield f"there are spikes of {sorted(record.spikes)}, expected of {sorted(expected)}"
    for name in sorted(record.spikes.keys() & expected):
        yield from event_faults(record.spikes[name], name, case)


def _drive(bench: Bench) -> Iterator[str]:
    spikes = bench.run().spikes
    for name, events in bench.case.drive.items():
        if name not in spikes or differences(tensors(events), tensors(spikes[name])):
            yield f"the spikes of {name!r} are not the drive"
    record = run(bench.case.network, bench.case.drive, bench.case.duration, substrate=bench.substrate)
    for name, events in bench.case.drive.items():
        if record.spikes[name] is not events:
            yield f"run(...).spikes[{name!r}] is not the drive"


def _nothing_more(bench: Bench) -> Iterator[str]:
    record = bench.run(number=5)
    if record.duration != bench.case.duration or record.number != 5:
        yield f"duration {record.duration} and number {record.number}, asked for {bench.case.duration} and 5"
    for what in ("membrane", "peak"):
        if getattr(record, what):
            yield f"the {what} of {', '.join(getattr(record, what))}, which nobody asked for"
    if record.state is not None:
        yield "the state, which nobody asked for"


def _observations(bench: Bench) -> Iterator[str]:
    wish = bench.everything()
    record = bench.run(observe=wish)
    for what in ("membrane", "peak"):
        asked, got = set(getattr(wish, what)), set(getattr(record, what))
        if asked != got:
            yield f"the {what} of {sorted(got)}, asked for {sorted(asked)}"
    for name in wish.membrane.keys() & record.membrane.keys():
        yield from bench.samples(wish, name, record.membrane[name])
    for name in wish.peak & record.peak.keys():
        yield from peak_faults(bench.case, name, record.peak[name], record.membrane.get(name))


def _few(bench: Bench) -> Iterator[str]:
    """One neuron, and where any time may be chosen, three odd times."""
    offer = bench.substrate.offers(bench.case.network)
    for name, given in bench.everything().membrane.items():
        if not isinstance(given, Every):
            continue
        one = Every(given.period, [0 if given.neurons is None else given.neurons[-1]])
        wishes: list[Every | Tensor] = [one]
        limit = offer.membrane[name]
        if isinstance(limit, Every) and limit.period == 0 and limit.neurons is None:
            wishes.append(torch.tensor([0.0, 0.1234, 1.0], dtype=torch.float64) * bench.case.duration)
        for wanted in wishes:
            wish = Observe({name: wanted})
            record = bench.run(observe=wish)
            if set(record.membrane) != {name} or record.peak:
                yield f"{[*record.membrane, *record.peak]}, asked for the membrane of {name!r} alone"
            else:
                yield from bench.samples(wish, name, record.membrane[name])


def _plain_numbers(bench: Bench) -> Iterator[str]:
    for name, tensor in tensors(bench.run(observe=bench.everything())):
        if tensor.requires_grad:
            yield f"{name} carries a graph"
        if tensor.device.type != "cpu":
            yield f"{name} is on {tensor.device}"


def _executed(bench: Bench) -> Iterator[str]:
    for name, weight in bench.run().executed.items():
        if name not in bench.case.network.projections:
            yield f"{name!r} is no projection"
        elif weight.shape != bench.case.network.projections[name].weight.shape:
            yield f"{name}: shape {tuple(weight.shape)}"


def _repeats(bench: Bench) -> Iterator[str]:
    wish = bench.everything()
    one, two = (dict(tensors(bench.run(observe=wish, number=3))) for _ in range(2))
    for name in differences(one.items(), two.items()):
        yield f"{name} differs between two runs of one trial"
    for name, events in bench.run(number=3, observe=wish).spikes.items():
        fewer = bench.run(number=3, observe=Observe(state=wish.state)).spikes[name]  # whose sake may take another way
        many = not same(events.start, fewer.start) or not same(events.unit, fewer.unit)
        if many or bool(((events.time - fewer.time).abs() > _ROUNDING * bench.case.duration).any()):
            yield f"the spikes of {name!r} change when more is observed"


def _leaves_alone(bench: Bench) -> Iterator[str]:
    bench.run(observe=bench.everything())
    for name in bench.case.changed():
        yield f"{name} was changed in place"


def _empty(bench: Bench) -> Iterator[str]:
    network, wish = bench.case.network, bench.everything()
    first = {name: events[[0]] for name, events in bench.case.drive.items()}
    none = empty_drive(network, 1)
    mixed = {name: Events.cat([none[name], first[name], none[name]]) for name in first}
    quiet = copy.deepcopy(network)
    for projection in quiet.projections.values():
        projection.weight.data.zero_()
    legal = {
        "an empty batch": Case("", network, empty_drive(network, 0), bench.case.duration),
        "samples without events": Case("", network, mixed, bench.case.duration),
        "weights of zero": Case("", quiet, bench.case.drive, bench.case.duration),
    }
    for what, case in legal.items():
        other = Bench(bench.substrate, case)
        for look in (_spikes, _observations):
            yield from (f"{what}: {fault}" for fault in tried(look, other))
        if {name: len(e) for name, e in other.run(observe=wish).spikes.items() if len(e) != case.batch}:
            yield f"{what}: another number of samples"


def _silenced(bench: Bench) -> Iterator[str]:
    for name, population in bench.case.neurons.items():
        if population.spiking:
            silent = torch.zeros(bench.case.batch, population.size, dtype=torch.bool)
            silent[:, 0] = True
            if bool((bench.run(silent={name: silent}).spikes[name].unit == 0).any()):
                yield f"a neuron of {name!r} spikes"


def _continues(bench: Bench) -> Iterator[str]:
    if not bench.substrate.offers(bench.case.network).state:
        return
    state = bench.run(observe=Observe(state=True)).state
    if state is None:
        yield "the state was asked for and is not there"
        return
    for what in ("membrane", "current", "held") if state.membrane or not state.parts else ():  # else nobody's business
        for name, population in bench.case.neurons.items():
            value = getattr(state, what).get(name)
            if value is None or tuple(value.shape) != (bench.case.batch, population.size):
                yield f"{what} of {name!r} is {None if value is None else tuple(value.shape)}, expected (B, N)"
    drive = {name: events.later(state.time) for name, events in bench.case.drive.items()}
    again = bench.run(start=state, observe=NOTHING, drive=drive)
    if state.time != bench.case.duration or again.begin != state.time:
        yield f"the clock says {state.time:g} s and {again.begin:g} s where the next run begins, the run took that long"


def _joins(bench: Bench) -> Iterator[str]:
    """Cut in three, one of the cuts at an event: the spikes, the samples and the state at the end of the whole run."""
    if not bench.substrate.offers(bench.case.network).state:
        return
    everything = bench.everything()
    periodic = {name: when for name, when in everything.membrane.items() if isinstance(when, Every)}
    wish, end = Observe(periodic, state=True), bench.case.duration
    first = [float(events.time[0]) for events in bench.case.drive.values() if len(events.time)]
    parts = pieces(partial(bench.run, observe=wish), bench.case, sorted({*first[:1], 0.61803 * end}))
    whole = bench.run(observe=wish, duration=parts[-1].begin + parts[-1].duration)
    for name in whole.spikes.keys() - bench.case.drive.keys():
        for sample in range(bench.case.batch):
            one, each = whole.spikes[name][[sample]], [part.spikes[name][[sample]] for part in parts]
            if not (
                same(one.time, torch.cat([e.time for e in each])) and same(one.unit, torch.cat([e.unit for e in each]))
            ):
                yield f"the spikes of {name!r} in sample {sample} differ"
    for name, samples in whole.membrane.items():
        if not same(samples.value, torch.cat([part.membrane[name].value for part in parts], 1)):
            yield f"the membrane of {name!r} differs"
    for name in differences(tensors(whole.state), tensors(parts[-1].state)):
        yield f"the state at the end differs: {name}"


CONTRACTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "it has offers(network) and run(trial), which returns a Record": _is_one,
    "offers names membranes and peaks of populations with neurons, always the same": _offers,
    "spikes are Events of every spiking population, sorted, within the run": _spikes,
    "the drive is part of the record": _drive,
    "the record is of the trial asked for, with nothing observed beyond it": _nothing_more,
    "what is offered and asked for is observed, in the right shapes and at the right times": _observations,
    "a part of a membrane may be asked for": _few,
    "the record's tensors are plain numbers on the CPU": _plain_numbers,
    "executed holds weights by projection": _executed,
    "the same trial with the same number gives the same record": _repeats,
    "the trial is left as it is": _leaves_alone,
    "an empty batch, a sample without events and a silent network are legal": _empty,
    "neurons that a trial silences do not spike": _silenced,
    "a state that is offered can be continued from": _continues,
    "a run that is cut and continued is the whole run, bit for bit": _joins,
}
"""What is checked, by name."""
