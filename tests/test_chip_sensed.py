"""What rules see on the twin beside `Ideal`: spikes of outputs, sensors that follow their synapses."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from chips import IDEAL, ready, some_events

from spikeloop import (
    LIF,
    Compartment,
    Compartments,
    Events,
    Ideal,
    Network,
    Observe,
    Plateau,
    Population,
    Projection,
    Sodium,
    Twin,
    run,
)
from spikeloop.plasticity import Correlation, Plasticity, Rewiring, View
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


def paired(source: int, count: int = 40) -> Events:
    """Every 5 ms ``source`` sends, and a millisecond later 5, 6 and 7 do, which make the neuron spike."""
    time = np.arange(count)[:, None] * 5e-3 + np.array([1e-3, 2e-3, 2e-3, 2e-3])
    return Events.from_lists([time.ravel()], [np.tile([source, 5, 6, 7], count)], 8)


def listening(kernel: Callable[[View], None]) -> Network:
    """A weak synapse from 0 and three strong ones onto one neuron."""
    rule = Plasticity(kernel, 1.3, period=60e-3, sensor=Correlation(5e-3, 1 / 64))
    source, target = torch.tensor([0, 5, 6, 7]), torch.zeros(4, dtype=torch.int64)
    return Network(
        {"input": Population(8), "o": Population(1, LIF(10e-3, 5e-3, refractory=2e-3))},
        [Projection.sparse("input", "o", source, target, torch.tensor([0.05, 1.2, 1.2, 1.2]), plasticity=rule)],
    )


def moves(view: View) -> None:
    """The weak synapse goes from 0 to 3."""
    look(view)
    view.reset_correlation()
    if view.call == 0:
        view.sources = np.array([3, 5, 6, 7])


@pytest.mark.parametrize("source", [3, 0])
def test_the_sensor_of_a_synapse_that_moved_meets_its_new_source(source: int) -> None:
    ideal, chip = both(lambda: listening(moves), paired(source), 200e-3)
    assert torch.equal(ideal.count["o"], chip.count["o"])
    for name in ("causal", "anticausal"):
        seen, found = (record.recorded["input_to_o"][name].value[:, 0] for record in (ideal, chip))
        np.testing.assert_allclose(found, seen, atol=3 / 128)
        meets = seen[:, 0] > 5 / 128
        assert meets.tolist() == ([False, True, True] if source == 3 else [True, False, False])
        assert (found[~meets, 0] == 0).all()


def test_what_arrived_before_a_synapse_moved_is_no_neighbour_and_what_it_held_stays() -> None:
    """0 sends once more before the call, the neuron spikes once more after it."""

    def away(view: View) -> None:
        look(view)
        view.sources = np.array([3, 5, 6, 7])

    (pairs,) = paired(0, 8)
    time = torch.cat([pairs.time, torch.tensor([59.5e-3, 61e-3, 61e-3, 61e-3], dtype=pairs.time.dtype)])
    drive = Events.from_lists([time], [torch.cat([pairs.unit, torch.tensor([0, 5, 6, 7])])], 8)
    net = listening(away)
    record = run(net, drive, 120e-3, substrate=ready(net), number=1)
    spikes = record.spikes["o"].time
    assert ((spikes > 60e-3) & (spikes < 65e-3)).any()
    causal = record.recorded["input_to_o"]["causal"].value[:, 0]
    assert causal[0, 0] > 5 / 128
    assert causal[1, 0] == causal[0, 0]
    assert (causal[1, 1:] > causal[0, 1:]).all()


@pytest.mark.parametrize("chip", [IDEAL, Twin(7)], ids=["ideal", "7"])
def test_a_cut_changes_nothing_where_synapses_move(chip: Twin) -> None:
    def learns(view: View) -> None:
        look(view)
        view.weights += 3.0 * view.causal - 0.03
        Rewiring(0.3, 0.5)(view)

    random = torch.Generator().manual_seed(0)
    net = Network(
        {"input": Population(6), "o": Population(4, LIF(10e-3, 5e-3, refractory=2e-3))},
        [
            Projection.sparse(
                "input", "o", torch.arange(8) % 6, torch.arange(8) // 2, torch.rand(8, generator=random) * 0.6,
                plasticity=Plasticity(learns, 0.8, period=7e-3, sensor=SENSOR),
            )
        ],
    )  # fmt: skip
    drive, substrate, wish = some_events(6, 2, 200, 50e-3), ready(net, chip), Observe(state=True)
    whole = run(net, drive, 50e-3, substrate=substrate, observe=wish, number=1)
    assert (whole.sources["input_to_o"] != torch.arange(8) % 6).any()
    state, parts = None, list[Record]()
    for low, high in pairwise((0.0, 12.3e-3, 30.1e-3, 50e-3)):
        part = within(drive, low, high, high == 50e-3)
        parts.append(run(net, part, high - low, substrate=substrate, observe=wish, start=state, number=1))
        state = parts[-1].state
    assert torch.equal(whole.sources["input_to_o"], parts[-1].sources["input_to_o"])
    assert torch.equal(whole.weights["input_to_o"], parts[-1].weights["input_to_o"])
    for name, seen in whole.recorded["input_to_o"].items():
        assert torch.equal(seen.value, torch.cat([part.recorded["input_to_o"][name].value for part in parts]))


def within(events: Events, low: float, high: float, last: bool) -> Events:
    kept = [(s.time >= low) & ((s.time <= high) if last else (s.time < high)) for s in events]
    times, units = ([getattr(s, name)[keep] for s, keep in zip(events, kept, strict=True)] for name in ("time", "unit"))
    return Events.from_lists(times, units, events.size)
