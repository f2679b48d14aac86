"""Every contract of a rule is kept by what we ship, and each breach of one is found and named."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from test_conformance import broken, own

from spikeloop import EventProp, Ideal, Network, Observe, Record, Trial
from spikeloop.conformance import ConformanceError, check_rule
from spikeloop.conformance import rule as rules


def test_what_we_ship_keeps_every_contract() -> None:
    check_rule(EventProp())
    check_rule(EventProp(count_gradient=False))
    check_rule(EventProp(slope_floor=0.5), tolerance=None)


def test_on_a_network_of_ones_own() -> None:
    network, drive = own()
    check_rule(EventProp(), Ideal(), network, {"pixels": drive}, 40e-3)


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


class Blind:
    """`Ideal`, of which only spikes can be seen."""

    def offers(self, network: Network) -> Observe:
        return Observe()

    def run(self, trial: Trial) -> Record:
        return Ideal().run(trial)


def test_a_rule_that_needs_more_than_the_substrate_offers() -> None:
    with pytest.raises(ConformanceError, match="the membrane of 'hidden' cannot be sampled"):
        check_rule(Bent(keep, wish=Observe({"hidden": 1e-3})), Blind())
    check_rule(EventProp(), Blind())
