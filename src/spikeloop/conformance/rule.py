"""What a rule promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from spikeloop._attach import attach
from spikeloop._run import IDEAL
from spikeloop.conformance.cases import (
    Case,
    ConformanceError,
    breaches,
    cases,
    copied,
    differences,
    empty_drive,
    tensors,
)
from spikeloop.conformance.slopes import errors
from spikeloop.events import Events
from spikeloop.network import Key, Network
from spikeloop.protocols import Cotangent, Every, Gradients, Observe, Rule, Substrate, Trial
from spikeloop.record import Cost, Record

KINDS = frozenset({"time", "count", "membrane", "peak"})
_ROUNDING = 1e-5  # relative: weights may be float32


def check_rule(
    rule: Rule,
    substrate: Substrate = IDEAL,
    network: Network | None = None,
    drive: Events | Mapping[str, Events] | None = None,
    duration: float = 60e-3,
    *,
    tolerance: float | None = 1e-6,
    fields: Collection[str] | None = None,
) -> None:
    """Raise `ConformanceError` where ``rule`` breaks a contract on records made by ``substrate``; provisional.

    It is tried on two small networks in which everything is trainable, or on ``network`` with ``drive`` (random events
    without one) for ``duration`` seconds.

    tolerance: of exact rules, the largest difference to central differences (for losses of spike times, membranes and
    peaks), relative to the norm of each gradient. None: the rule is not exact, or the substrate has noise.
    fields: what the rule differentiates ("weight", "tau_mem", ..., and "time" for the drive), where it is not
    everything: only that is trainable in the networks that come along, and asked for.
    """
    found = [
        breach
        for case in cases(network, drive, duration, fields, substrate)
        for breach in breaches(CONTRACTS, Bench(rule, substrate, case, tolerance, fields), case.name)
    ]
    if found:
        raise ConformanceError(repr(rule), found)


@dataclass(frozen=True, eq=False)
class Bench:
    """A rule, and a trial that was recorded for it."""

    rule: Rule
    substrate: Substrate
    case: Case
    tolerance: float | None
    fields: Collection[str] | None = None

    @cached_property
    def observe(self) -> Observe:
        """What the rule needs, and membranes and peaks if it accepts cotangents of them."""
        needs, offer = self.rule.needs(self.case.network), self.substrate.offers(self.case.network)
        membrane, peak = dict(needs.membrane), set(needs.peak)
        for name, given in offer.membrane.items() if "membrane" in self.rule.accepts else ():
            period = given.period if isinstance(given, Every) else 0.0
            wish = Every(max(period, self.case.duration / 25), given.neurons) if isinstance(given, Every) else given
            membrane.setdefault(name, wish)
        if "peak" in self.rule.accepts:
            peak |= set(offer.peak)
        return Observe(membrane, peak, needs.state)

    @cached_property
    def wants(self) -> frozenset[Key]:
        """All gradients that can be asked for here."""
        every = frozenset(self.case.network.trainable()) | {(name, "time") for name in self.case.drive}
        return every if self.fields is None else frozenset(key for key in every if key[1] in self.fields)

    def recorded(self, case: Case | None = None) -> tuple[Trial, Record]:
        """A trial and what the substrate observes of it."""
        trial = (case or self.case).trial(observe=self.observe)
        with torch.no_grad():
            return trial, self.substrate.run(trial)

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> dict[Key, Tensor]:
        """As `attach` calls it."""
        with torch.no_grad():
            return dict(self.rule.vjp(trial, record, cotangent))

    def cotangent(self, record: Record, seed: int, scale: float = 1.0) -> Cotangent:
        """A random one of every kind that the rule accepts."""
        generator = torch.Generator().manual_seed(seed)

        def like(value: Tensor, unit: float = 1.0) -> Tensor:
            drawn = torch.randn(value.shape, dtype=torch.float64, generator=generator)
            return (scale * unit * drawn).to(value.dtype)

        own = {name: events for name, events in record.spikes.items() if name not in self.case.drive}
        made = {
            "time": {name: like(events.time, 6 / record.duration) for name, events in own.items()},
            "count": {name: like(events.count) for name, events in own.items()},
            "membrane": {name: like(samples.value) for name, samples in record.membrane.items()},
            "peak": {name: like(peak.value) for name, peak in record.peak.items()},
        }
        return Cotangent(**{kind: made[kind] for kind in KINDS & self.rule.accepts}, wants=self.wants)


def _is_one(bench: Bench) -> Iterator[str]:
    if not isinstance(bench.rule, Rule):
        yield "it lacks one of the three"
    elif not bench.rule.accepts or not bench.rule.accepts <= KINDS:
        yield f"it accepts {sorted(bench.rule.accepts)}, expected some of {sorted(KINDS)}"


def _needs(bench: Bench) -> Iterator[str]:
    needs = bench.rule.needs(bench.case.network)
    needs.check(bench.case.network, bench.case.duration)
    missing = bench.substrate.offers(bench.case.network).missing(needs)
    if missing is not None:
        yield f"{bench.substrate!r}: {missing}"


def _shapes(bench: Bench) -> Iterator[str]:
    trial, record = bench.recorded()
    found = bench.vjp(trial, record, bench.cotangent(record, 0))
    yield from _shape_faults(bench, trial, found, bench.wants)
    half = frozenset(sorted(bench.wants)[::2])
    less = bench.vjp(trial, record, replace(bench.cotangent(record, 0), wants=half))
    yield from _shape_faults(bench, trial, less, half)
    for key in half & less.keys() & found.keys():
        if _distance(less[key], found[key]) > _ROUNDING:
            yield f"{'.'.join(key)} depends on what else is wanted"


def _shape_faults(bench: Bench, trial: Trial, found: Gradients, wants: frozenset[Key]) -> Iterator[str]:
    if found.keys() != wants:
        yield f"gradients of {sorted(map('.'.join, found))}, asked for {sorted(map('.'.join, wants))}"
    quantities = trial.network.quantities()
    for key in found.keys() & wants:
        expected = (trial.drive[key[0]].time if key[0] in trial.drive else quantities[key]).shape
        if found[key].shape != expected:
            yield f"{'.'.join(key)} has shape {tuple(found[key].shape)}, expected {tuple(expected)}"
        elif not bool(found[key].isfinite().all()):
            yield f"{'.'.join(key)} is not finite"
        elif found[key].requires_grad:
            yield f"{'.'.join(key)} carries a graph"


def _zero(bench: Bench) -> Iterator[str]:
    trial, record = bench.recorded()
    zeros = {"zeros": bench.cotangent(record, 0, scale=0.0), "no cotangent": Cotangent(wants=bench.wants)}
    for what, cotangent in zeros.items():
        for key, gradient in bench.vjp(trial, record, cotangent).items():
            if bool((gradient != 0).any()):
                yield f"{'.'.join(key)} is not zero for {what}"


def _linear(bench: Bench) -> Iterator[str]:
    trial, record = bench.recorded()
    one, two = bench.cotangent(record, 1), bench.cotangent(record, 2)
    parts = {
        kind: {name: 2 * value - 3 * getattr(two, kind)[name] for name, value in getattr(one, kind).items()}
        for kind in KINDS
    }
    first, second, both = (bench.vjp(trial, record, c) for c in (one, two, Cotangent(**parts, wants=bench.wants)))
    for key in both.keys() & first.keys() & second.keys():
        if _distance(both[key], 2 * first[key] - 3 * second[key]) > _ROUNDING:
            yield f"{'.'.join(key)} of 2 a - 3 b is not 2 times that of a minus 3 times that of b"


def _distance(one: Tensor, other: Tensor) -> float:
    """Relative to the larger norm; 0 where both are zero."""
    if one.shape != other.shape:
        return math.inf
    size = max(float(one.norm()), float(other.norm()))
    return float((one - other).norm()) / size if size else 0.0


def _stored(bench: Bench) -> Iterator[str]:
    trial, record = bench.recorded()
    stored = Record(
        {n: Events(e.time.clone(), e.unit.clone(), e.start.clone(), e.size) for n, e in record.spikes.items()},
        record.duration,
        membrane={n: replace(s, value=s.value.clone(), time=s.time.clone()) for n, s in record.membrane.items()},
        peak={n: replace(p, value=p.value.clone(), time=p.time.clone()) for n, p in record.peak.items()},
        executed={name: weight.clone() for name, weight in record.executed.items()},
        state=record.state,
        cost=Cost(),
    )
    found = [bench.vjp(trial, each, bench.cotangent(record, 0)) for each in (record, stored)]
    for key in found[0].keys() & found[1].keys():
        if _distance(found[0][key], found[1][key]) > _ROUNDING:
            yield f"{'.'.join(key)} is another for a copy of the record"


def _elsewhere(bench: Bench) -> Iterator[str]:
    """Spikes a little off and some missing: what a chip would have observed of this network."""
    trial, record = bench.recorded()
    spikes = dict(record.spikes)
    for name, events in record.spikes.items():
        if name in trial.drive or not len(events.time):
            continue
        shift = torch.randn(len(events.time), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        time = (events.time + 0.005 * record.duration * shift).clamp(0.0, record.duration)[1:]
        spikes[name] = Events._from_rows(time, events.unit[1:], events.sample[1:], len(events), events.size)
    other = replace(record, spikes=spikes, count={}, state=None)
    found = bench.vjp(trial, other, bench.cotangent(other, 0))
    yield from _shape_faults(bench, trial, found, bench.wants)


def _leaves_alone(bench: Bench) -> Iterator[str]:
    trial, record = bench.recorded()
    cotangent = bench.cotangent(record, 0)
    held = dict(tensors(record, "record")) | dict(tensors(cotangent, "cotangent"))
    before = copied(held)
    bench.vjp(trial, record, cotangent)
    for name in bench.case.changed() + differences(before.items(), held.items()):
        yield f"{name} was changed in place"


def _empty(bench: Bench) -> Iterator[str]:
    for batch in (0, 2):
        case = replace(bench.case, drive=empty_drive(bench.case.network, batch))
        trial, record = bench.recorded(case)
        found = bench.vjp(trial, record, bench.cotangent(record, 0))
        for fault in _shape_faults(bench, trial, found, bench.wants):
            yield f"{batch} samples without events: {fault}"
        for key, gradient in found.items():
            if not batch and bool((gradient != 0).any()):
                yield f"an empty batch: {'.'.join(key)} is not zero"


def _attaches(bench: Bench) -> Iterator[str]:
    trial, record = bench.recorded()
    attached = attach(trial, record, bench.rule)
    loss = torch.zeros((), dtype=torch.float64)
    for name in record.spikes.keys() - trial.drive.keys() if "time" in bench.rule.accepts else ():
        loss = loss + attached.spikes[name].time.sum()
    for what in ("count", "membrane", "peak"):
        for value in getattr(attached, what).values() if what in bench.rule.accepts else ():
            loss = loss + (value if isinstance(value, Tensor) else value.value).sum()
    leaves = [parameter for parameter in trial.network.parameters() if parameter.requires_grad]
    if leaves and not loss.requires_grad:
        yield "no loss of the attached record requires a gradient"
    elif leaves and not any(gradient is not None for gradient in torch.autograd.grad(loss, leaves, allow_unused=True)):
        yield "no parameter gets a gradient"


def _exact(bench: Bench) -> Iterator[str]:
    kinds = bench.rule.accepts - {"count"}
    if bench.tolerance is None or not kinds:
        return
    for name, error in errors(bench.case, bench.rule, bench.substrate, bench.observe, kinds).items():
        if error is None:
            yield f"{name}: the number of spikes changes with the smallest step: take another network or drive"
        elif not error <= bench.tolerance:
            yield f"{name}: relative difference {error:.2g}, allowed {bench.tolerance:.2g}"


CONTRACTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "it has accepts (of time, count, membrane, peak), needs(network) and vjp(trial, record, cotangent)": _is_one,
    "what it needs exists, and the substrate offers it": _needs,
    "vjp returns what is wanted and nothing else, finite, in the right shapes": _shapes,
    "a cotangent of zero gives a gradient of zero": _zero,
    "the gradient is linear in the cotangent": _linear,
    "a copy of a record gives the same gradient": _stored,
    "a record made elsewhere gives a finite gradient": _elsewhere,
    "the trial, the record and the cotangent are left as they are": _leaves_alone,
    "an empty batch and samples without events are legal": _empty,
    "attach makes a record differentiable with it": _attaches,
    "the gradient is the slope of what the substrate does": _exact,
}
"""What is checked, by name."""
