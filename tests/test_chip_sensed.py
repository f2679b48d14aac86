"""What rules see on the twin beside `Ideal`: spikes of outputs, sensors that follow their synapses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from chips import ready, some_events

from spikeloop import Compartment, Compartments, Events, Ideal, Network, Plateau, Population, Projection, Sodium, run
from spikeloop.plasticity import Correlation, Plasticity, View
from spikeloop.record import Record

SENSOR = Correlation(5e-3, 1 / 128)


def both(make: Callable[[], Network], drive: Events, duration: float) -> tuple[Record, Record]:
    """On Ideal, and on a twin without imperfections."""
    net = make()
    return run(make(), drive, duration, substrate=Ideal()), run(net, drive, duration, substrate=ready(net), number=1)


def look(view: View) -> None:
    for name in ("counts", "causal", "anticausal", "membrane"):
        view.record(name, np.asarray(getattr(view, name)))


@pytest.mark.parametrize("spike", [None, Plateau(1.0, 1.3, 10e-3)], ids=["passive", "plateau"])
def test_a_rule_on_a_dendrite_sees_the_spikes_and_the_membrane_of_the_output(spike: Plateau | None) -> None:
    cell = Compartments(
        {"soma": Compartment(10e-3, 5e-3, spike=Sodium(1.0, 0.0, 2e-3)), "d": Compartment(10e-3, 5e-3, spike=spike)},
        couplings={("soma", "d"): 4e-3},
    )

    def make() -> Network:
        torch.manual_seed(0)
        rule = Plasticity(look, 1.3, period=30e-3, sensor=SENSOR)
        weight = 1.2 * torch.rand(6, 3)
        return Network(
            {"input": Population(6), "o": Population(3, cell)},
            {"d": Projection("input", "o", weight, compartment="d", plasticity=rule)},
        )

    ideal, chip = both(make, some_events(6, 1, 150, 60e-3), 60e-3)
    seen, found = ({name: of.value[:, 0].numpy() for name, of in record.recorded["d"].items()}
                   for record in (ideal, chip))  # fmt: skip
    np.testing.assert_array_equal(found["counts"].sum(0), chip.count["o"][0].detach())
    assert seen["counts"].sum() > 20
    assert np.abs(found["counts"] - seen["counts"]).max() <= 1  # a spike more or less in a millisecond
    for name in ("causal", "anticausal"):
        assert seen[name][-1].mean() > 0.02
        np.testing.assert_allclose(found[name][-1], seen[name][-1], atol=3 / 128)
    np.testing.assert_allclose(found["membrane"][-1], seen["membrane"][-1], atol=0.15)
