"""Every contract is kept by what we ship, and each breach of one is found and named."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
import torch

from spikeloop import LI, LIF, EventProp, Events, Every, Ideal, Network, Normal, Observe, Peak, Record, Samples, Trial
from spikeloop import Population as Pop
from spikeloop import Projection as Link
from spikeloop.conformance import ConformanceError, check_rule, check_substrate
from spikeloop.conformance import rule as rules
from spikeloop.conformance import substrate as substrates
from spikeloop.errors import ShapeMismatch


def own() -> tuple[Network, Events]:
    """A network that has not all things trainable, float32 weights and a fixed delay for each synapse."""
    torch.manual_seed(0)
    populations = {"pixels": Pop(6), "middle": Pop(7, LIF(20e-3, 5e-3)), "last": Pop(2, LI(20e-3, 5e-3))}
    delay = 2e-3 * torch.rand(7, 2)
    links = [Link("pixels", "middle", Normal(0.6, 0.2)), Link("middle", "last", Normal(0.2, 0.2), delay)]
    return Network(populations, links), Events.from_padded(0.03 * torch.rand(4, 20), torch.randint(6, (4, 20)), 6)


def test_what_we_ship_keeps_every_contract() -> None:
    check_substrate(Ideal())
    check_rule(EventProp())
    check_rule(EventProp(count_gradient=False))
    check_rule(EventProp(slope_floor=0.5), tolerance=None)


def test_on_a_network_of_ones_own() -> None:
    network, drive = own()
    check_substrate(Ideal(), network, drive, 40e-3)
    check_substrate(Ideal(), network, duration=40e-3)
    check_rule(EventProp(), Ideal(), network, {"pixels": drive}, 40e-3)
    two = Network({"a": Pop(2), "b": Pop(2), "out": Pop(1, LIF(1e-2, 5e-3))}, [Link("a", "out", torch.ones(2, 1))])
    check_substrate(Ideal(), two)
    with pytest.raises(ShapeMismatch, match="2 inputs"):
        check_substrate(Ideal(), two, drive)


Alter = Callable[[Trial, Record], Record]


@dataclass
class Spoilt:
    """`Ideal` with something done to the trial before, to the record after, or to the offer."""

    record: Alter = lambda trial, record: record
    trial: Callable[[Trial], Trial] = lambda trial: trial
    offer: Callable[[Observe], Observe] = lambda offer: offer

    def offers(self, network: Network) -> Observe:
        return self.offer(Ideal().offers(network))

    def run(self, trial: Trial) -> Record:
        return self.record(trial, Ideal().run(self.trial(trial)))


class Speechless:
    def run(self, trial: Trial) -> Record:
        return Ideal().run(trial)


def hidden(change: Callable[[Events], Events]) -> Alter:
    return lambda trial, record: replace(record, spikes={**record.spikes, "hidden": change(record.spikes["hidden"])})


def trusted(events: Events, **parts: object) -> Events:
    given = {"time": events.time, "unit": events.unit, "start": events.start, "size": events.size} | parts
    return Events._trusted(**given)  # type: ignore[arg-type]


def sampled(change: Callable[[Samples], Samples]) -> Alter:
    return lambda trial, record: replace(record, membrane={n: change(s) for n, s in record.membrane.items()})


def peaks(change: Callable[[Peak], Peak]) -> Alter:
    return lambda trial, record: replace(record, peak={n: change(p) for n, p in record.peak.items()})


def without_neurons(trial: Trial) -> Trial:
    membrane = {
        name: Every(given.period) if isinstance(given, Every) else given
        for name, given in trial.observe.membrane.items()
    }
    return replace(trial, observe=replace(trial.observe, membrane=membrane))


def on_its_own_grid(trial: Trial) -> Trial:
    return replace(trial, observe=replace(trial.observe, membrane=dict.fromkeys(trial.observe.membrane, 1e-3)))


def clamped(trial: Trial) -> Trial:
    for projection in trial.network.projections.values():
        projection.weight.clamp_(-0.1, 0.1)
    return trial


def refuses_nothing(trial: Trial) -> Trial:
    if not all(len(events.time) for events in trial.drive.values()):
        raise IndexError("max of nothing")
    return trial


def refuses_a_start(trial: Trial) -> Trial:
    if trial.start is not None:
        raise NotImplementedError("from rest only")
    return trial


def noisy(trial: Trial, record: Record) -> Record:
    return hidden(lambda e: trusted(e, time=e.time * (1 - 1e-6 * torch.rand(()).item())))(trial, record)


def in_the_way(trial: Trial, record: Record) -> Record:
    """Observing costs the last spikes."""
    return hidden(lambda e: e[:0].cat([e[:1], e[1:][[0]], e[[0]]]))(trial, record) if trial.observe.peak else record


def graph(trial: Trial, record: Record) -> Record:
    return replace(record, executed={name: p.weight for name, p in trial.network.projections.items()})


calls = count()
AFTER = 61e-3

BROKEN_SUBSTRATES = {
    "offers is missing": (Speechless(), "it has offers", "it lacks one of the two"),
    "run returns a dict": (Spoilt(lambda t, r: vars(r)), "it has offers", "run returns a dict"),  # type: ignore[arg-type,return-value]
    "an input has no membrane": (
        Spoilt(offer=lambda o: Observe({**o.membrane, "input": 1e-3}, o.peak, o.state)),
        "offers names",
        "'input' is offered",
    ),
    "an offer that changes": (
        Spoilt(offer=lambda o: Observe(o.membrane, o.peak, next(calls) % 2 == 0)),
        "offers names",
        "something else",
    ),
    "a population is missing": (
        Spoilt(lambda t, r: replace(r, spikes={n: e for n, e in r.spikes.items() if n != "hidden"})),
        "spikes are Events",
        r"spikes of \['input'",
    ),
    "unsorted": (Spoilt(hidden(lambda e: trusted(e, time=e.time.flip(0)))), "spikes are Events", "follows a later"),
    "a unit too many": (Spoilt(hidden(lambda e: trusted(e, unit=e.unit + 5))), "spikes are Events", "hidden: .*unit"),
    "float32 times": (
        Spoilt(hidden(lambda e: trusted(e, time=e.time.float()))),
        "spikes are Events",
        "time is torch.float32",
    ),
    "a sample too few": (Spoilt(hidden(lambda e: e[1:])), "spikes are Events", "hidden: 2 samples"),
    "a spike after the end": (
        Spoilt(hidden(lambda e: trusted(e, time=e.time + AFTER))),
        "spikes are Events",
        "the run ends at 0.06 s",
    ),
    "no drive": (
        Spoilt(lambda t, r: replace(r, spikes={n: e for n, e in r.spikes.items() if n not in t.drive})),
        "the drive is part",
        "'input' are not the drive",
    ),
    "another duration": (Spoilt(lambda t, r: replace(r, duration=1.0)), "the record is of the trial", "duration 1.0"),
    "another number": (Spoilt(lambda t, r: replace(r, number=None)), "the record is of the trial", "number None"),
    "more than was asked for": (
        Spoilt(trial=lambda t: replace(t, observe=Observe(t.observe.membrane, {"hidden"}, t.observe.state))),
        "the record is of the trial",
        "the peak of hidden",
    ),
    "less than was asked for": (
        Spoilt(lambda t, r: replace(r, membrane={})),
        "what is offered and asked for",
        r"the membrane of \[\]",
    ),
    "time before batch": (
        Spoilt(sampled(lambda s: replace(s, value=s.value.transpose(0, 1)))),
        "what is offered and asked for",
        r"expected \(B, T, M\)",
    ),
    "samples that are not finite": (
        Spoilt(sampled(lambda s: replace(s, value=s.value / 0))),
        "what is offered and asked for",
        "not finite",
    ),
    "samples at other times": (
        Spoilt(sampled(lambda s: replace(s, time=s.time + 1e-6))),
        "what is offered and asked for",
        "no sample at a time",
    ),
    "sample times in milliseconds": (
        Spoilt(sampled(lambda s: replace(s, time=(s.time * 1e3).round().to(torch.int64)))),
        "what is offered and asked for",
        "times are torch.int64",
    ),
    "no samples": (
        Spoilt(sampled(lambda s: replace(s, time=s.time[:0], value=s.value[:, :0]))),
        "what is offered and asked for",
        "no samples",
    ),
    "a peak lower than a sample": (
        Spoilt(peaks(lambda p: replace(p, value=p.value - 1))),
        "what is offered and asked for",
        "a sample of the same run is higher",
    ),
    "a peak after the end": (
        Spoilt(peaks(lambda p: replace(p, time=p.time + 1))),
        "what is offered and asked for",
        "outside the run",
    ),
    "a peak of the wrong shape": (
        Spoilt(peaks(lambda p: replace(p, value=p.value.t()))),
        "what is offered and asked for",
        "peak of hidden: times",
    ),
    "all neurons instead of one": (Spoilt(trial=without_neurons), "a part of a membrane", r"asked for \[0\]"),
    "other times than those chosen": (Spoilt(trial=on_its_own_grid), "a part of a membrane", "no sample at a time"),
    "a graph": (Spoilt(graph), "plain numbers", "executed.input_to_hidden carries a graph"),
    "weights of nothing": (
        Spoilt(lambda t, r: replace(r, executed={"all": torch.ones(1)})),
        "executed holds weights",
        "no projection",
    ),
    "weights transposed": (
        Spoilt(lambda t, r: replace(r, executed={"input_to_hidden": torch.ones(5, 4, 1)})),
        "executed holds weights",
        "shape",
    ),
    "noise without a number": (Spoilt(noisy), "the same trial with the same number", "spikes.hidden.time differs"),
    "observation disturbs": (Spoilt(in_the_way), "the same trial with the same number", "when more is observed"),
    "weights clamped in place": (Spoilt(trial=clamped), "left as it is", "input_to_hidden.weight was changed"),
    "an empty sample fails": (Spoilt(trial=refuses_nothing), "an empty batch", "an empty batch: IndexError: max of"),
    "dropout ignored": (Spoilt(trial=lambda t: replace(t, silent={})), "that a trial silences", "'hidden' spikes"),
    "no state": (Spoilt(lambda t, r: replace(r, state=None)), "a state that is offered", "is not there"),
    "half a state": (
        Spoilt(lambda t, r: replace(r, state=r.state and replace(r.state, held={}))),
        "a state that is offered",
        "held of 'hidden' is None",
    ),
    "no start": (Spoilt(trial=refuses_a_start), "a state that is offered", "NotImplementedError: from rest only"),
}


def broken(error: ConformanceError, contract: str) -> list[str]:
    return [breach.found for breach in error.breaches if contract in breach.contract]


@pytest.mark.parametrize("name", BROKEN_SUBSTRATES)
def test_a_broken_substrate_is_found_out(name: str) -> None:
    substrate, contract, what = BROKEN_SUBSTRATES[name]
    with pytest.raises(ConformanceError, match=what) as caught:
        check_substrate(substrate)  # type: ignore[arg-type]
    assert broken(caught.value, contract)


def test_every_contract_of_a_substrate_is_broken_by_one_of_them() -> None:
    named = {contract for _, contract, _ in BROKEN_SUBSTRATES.values()}
    assert not [text for text in substrates.CONTRACTS if not any(contract in text for contract in named)]


def test_an_instrument_need_not_repeat_itself() -> None:
    check_substrate(Spoilt(noisy), deterministic=False)


@dataclass
class Bent:
    """`EventProp` with something done to what it returns."""

    change: Callable[[Trial, Record, rules.Cotangent, dict], dict]
    accepts: frozenset[str] = frozenset({"time", "count", "membrane", "peak"})
    wish: Observe = field(default_factory=Observe)

    def needs(self, network: Network) -> Observe:
        return self.wish

    def vjp(self, trial: Trial, record: Record, cotangent: rules.Cotangent) -> dict:
        return self.change(trial, record, cotangent, dict(EventProp().vjp(trial, record, cotangent)))


def every(change: Callable[[torch.Tensor], torch.Tensor]) -> Bent:
    return Bent(lambda trial, record, cotangent, found: {key: change(value) for key, value in found.items()})


def in_place(trial: Trial, record: Record, cotangent: rules.Cotangent, found: dict) -> dict:
    for value in cotangent.time.values():
        value.zero_()
    return found


def knows_ideal(trial: Trial, record: Record, cotangent: rules.Cotangent, found: dict) -> dict:
    with torch.no_grad():
        again = Ideal().run(replace(trial, observe=Observe()))
    if not torch.equal(again.spikes["hidden"].start, record.spikes["hidden"].start):
        raise ValueError("this is not what Ideal did")
    return found


def no_empty_batch(trial: Trial, record: Record, cotangent: rules.Cotangent, found: dict) -> dict:
    torch.stack([events.first().min() for events in record.spikes.values()])
    return found


class Half:
    accepts = frozenset({"time"})


def keep(trial: Trial, record: Record, cotangent: rules.Cotangent, found: dict) -> dict:
    return found


BROKEN_RULES = {
    "half a rule": (Half(), "it has accepts", "it lacks one of the three"),
    "accepts something else": (Bent(keep, frozenset({"times"})), "it has accepts", r"it accepts \['times'\]"),
    "needs a stranger": (Bent(keep, wish=Observe(peak={"middle"})), "what it needs", "no 'middle'"),
    "keys too few": (Bent(lambda t, r, c, f: dict(list(f.items())[1:])), "vjp returns", "asked for"),
    "keys too many": (
        Bent(lambda t, r, c, f: {**f, ("hidden", "charm"): torch.ones(())}),
        "vjp returns",
        "hidden.charm",
    ),
    "one sample too flat": (every(torch.flatten), "vjp returns", r"input_to_hidden.weight has shape \(20,\)"),
    "not a number": (every(lambda g: g / 0), "vjp returns", "is not finite"),
    "a gradient with a graph": (every(lambda g: g.clone().requires_grad_()), "vjp returns", "carries a graph"),
    "what else is wanted matters": (
        Bent(lambda t, r, c, f: {key: value * len(f) for key, value in f.items()}),
        "vjp returns",
        "depends on what else is wanted",
    ),
    "weight decay": (every(lambda g: g + 1), "a cotangent of zero", "is not zero for zeros"),
    "clipped": (every(lambda g: g.clamp(-1e-3, 1e-3)), "is linear", "2 times that of a"),
    "looks at the cost": (
        Bent(lambda t, r, c, f: {key: value * (1 + r.cost.spikes) for key, value in f.items()}),
        "a copy of a record",
        "is another for a copy",
    ),
    "runs the network again": (Bent(knows_ideal), "a record made elsewhere", "not what Ideal did"),
    "changes the cotangent": (Bent(in_place), "left as they are", "cotangent.time.hidden was changed in place"),
    "an empty batch fails": (Bent(no_empty_batch), "an empty batch", "RuntimeError|IndexError"),
    "no gradient at all": (Bent(lambda t, r, c, f: {}), "attach makes", "no parameter gets a gradient"),
    "one per cent too much": (every(lambda g: 1.01 * g), "is the slope", "relative difference 0.0[012]"),
    "the wrong sign": (every(lambda g: -g), "is the slope", "relative difference 2"),
}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_a_broken_rule_is_found_out(name: str) -> None:
    rule, contract, what = BROKEN_RULES[name]
    with pytest.raises(ConformanceError, match=what) as caught:
        check_rule(rule, tolerance=1e-6 if contract == "is the slope" else None)  # type: ignore[arg-type]
    assert broken(caught.value, contract)


def test_every_contract_of_a_rule_is_broken_by_one_of_them() -> None:
    named = {contract for _, contract, _ in BROKEN_RULES.values()}
    assert not [text for text in rules.CONTRACTS if not any(contract in text for contract in named)]


def test_a_rule_that_is_not_exact_says_so() -> None:
    check_rule(every(lambda g: 1.01 * g), tolerance=None)
    check_rule(EventProp(slope_floor=0.5), tolerance=None)
    with pytest.raises(ConformanceError, match="is the slope of what the substrate does"):
        check_rule(EventProp(slope_floor=0.5))


def test_a_rule_that_needs_more_than_the_substrate_offers() -> None:
    blind = Spoilt(offer=lambda offer: Observe())
    with pytest.raises(ConformanceError, match="the membrane of 'hidden' cannot be sampled"):
        check_rule(Bent(keep, wish=Observe({"hidden": 1e-3})), blind)
    check_rule(EventProp(), blind)


def test_the_error_lists_everything_that_is_broken() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_substrate(Spoilt(lambda trial, record: replace(record, number=None, duration=1.0)))
    text = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert caught.value.where is not None
    assert "Spoilt(" in caught.value.where
    assert {breach.case for breach in caught.value.breaches} == {"chain", "loop"}
    assert all(str(breach) in text for breach in caught.value.breaches)
