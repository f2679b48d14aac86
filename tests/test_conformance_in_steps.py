"""Substrates and rules keep their contracts on AdEx neurons and compartments, which are run in steps."""

import pytest
import torch

from spikeloop import Ideal, Network, Observe, SuperSpike, run
from spikeloop.conformance import ConformanceError, check_rule, check_substrate, structured
from spikeloop.conformance.cases import random_drive
from spikeloop.protocols import Cotangent, Gradients, Trial
from spikeloop.record import Record


def fields(network: Network) -> set[str]:
    """All that is learned in it."""
    return {name.rpartition(".")[2].removeprefix("log_").removeprefix("raw_") for name, _ in network.named_parameters()}


def test_the_network_is_active() -> None:
    """So that its contracts say something: plateaus and spikes in every sample."""
    network = structured()
    record = run(network, random_drive(network, 60e-3), 60e-3, observe=Observe({"output.dendrite": 1e-3}))
    assert all(bool((record.count[name].sum(1) >= 3).all()) for name in ("hidden", "output"))
    assert bool((record.membrane["output.dendrite"].value > 1.5).any(1).any(1).all())


@pytest.mark.parametrize("substrate", [Ideal(), Ideal(step=0.1e-3)], ids=repr)
def test_a_substrate_keeps_every_contract(substrate: Ideal) -> None:
    check_substrate(substrate, structured())


@pytest.mark.parametrize("rule", [SuperSpike(0.5e-3), SuperSpike(0.2e-3, replay=True)], ids=repr)
def test_a_rule_keeps_every_contract(rule: SuperSpike) -> None:
    network = structured()
    names = fields(network)
    assert {"weight", "refractory", "dendrite_duration", "dendrite_potential", "coupling_soma_dendrite"} <= names
    check_rule(rule, Ideal(), network, tolerance=None, fields=names)


class Careless(SuperSpike):
    """Forgets a number of the dendrite."""

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        return {key: g for key, g in super().vjp(trial, record, cotangent).items() if key[1] != "dendrite_duration"}


def test_a_rule_that_forgets_a_number_is_found_out() -> None:
    network = structured()
    with pytest.raises(ConformanceError, match="dendrite_duration"):
        check_rule(Careless(0.5e-3), Ideal(), network, tolerance=None, fields=fields(network))


class Forgetful(Ideal):
    """Goes on without what is left of plateaus."""

    def run(self, trial: Trial) -> Record:
        record = super().run(trial)
        if record.state is not None:
            for paused in record.state.parts["stepped"].values():  # type: ignore[attr-defined]
                paused.state.free[:] = -torch.inf
        return record


def test_a_substrate_that_forgets_plateaus_is_found_out() -> None:
    with pytest.raises(ConformanceError, match="cut and continued"):
        check_substrate(Forgetful(), structured())
