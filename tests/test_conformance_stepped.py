"""Substrates and rules are tried on neurons that are run in steps, too."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from spikeloop import Ideal, Record, SuperSpike, Trial, run
from spikeloop.conformance import ConformanceError, check_rule, check_substrate
from spikeloop.conformance.cases import random_drive, structured
from spikeloop.protocols import Cotangent

DURATION = 60e-3
FIELDS = frozenset(what for _, what in structured().quantities()) - {"delay"}


@dataclass(frozen=True)
class Around:
    """An ideal substrate that changes what it has observed."""

    compartment: str

    def offers(self, network: Any) -> Any:
        return Ideal().offers(network)

    def run(self, trial: Trial) -> Record:
        record = Ideal().run(trial)
        membrane = dict(record.membrane)
        if self.compartment in membrane:
            samples = membrane[self.compartment]
            membrane[self.compartment] = replace(samples, value=samples.value[..., :-1])
        return replace(record, membrane=membrane)


@dataclass(frozen=True)
class Bent:
    """A rule that loses the gradient of one number."""

    lost: str
    own: ClassVar = SuperSpike(0.5e-3)

    @property
    def accepts(self) -> frozenset[str]:
        return self.own.accepts

    def needs(self, network: Any) -> Any:
        return self.own.needs(network)

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Mapping[Any, Any]:
        return {key: g for key, g in self.own.vjp(trial, record, cotangent).items() if key[1] != self.lost}


def test_the_network_spikes_everywhere_and_ideal_keeps_every_contract_on_it() -> None:
    network = structured()
    drive = random_drive(network, DURATION)
    record = run(network, drive, DURATION)
    assert all(int(record.count[name].detach().sum()) > 0 for name in ("hidden", "output"))
    check_substrate(Ideal(), network, drive, DURATION)
    check_substrate(Ideal(step=0.1e-3), network, drive, DURATION)


@pytest.mark.parametrize("replay", [False, True])
def test_surrogate_gradients_of_every_number_keep_every_contract(replay: bool) -> None:
    assert {"a", "slope_factor", "refractory", "dendrite_duration", "soma_tau_mem", "coupling_soma_dendrite"} <= FIELDS
    check_rule(SuperSpike(0.5e-3, replay=replay), network=structured(), tolerance=None, fields=FIELDS)


def test_what_is_wrong_with_a_compartment_or_a_number_of_it_is_found() -> None:
    with pytest.raises(ConformanceError, match=r"output\.dendrite"):
        check_substrate(Around("output.dendrite"), structured())
    with pytest.raises(ConformanceError, match="dendrite_duration"):
        check_rule(Bent("dendrite_duration"), network=structured(), tolerance=None, fields=FIELDS)
