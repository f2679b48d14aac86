"""Placement: what fits, where it goes, and what is said where it does not."""

import numpy as np
import pytest
import torch

from spikeloop import LI, LIF, Network, Population, Projection, feedforward, recurrent
from spikeloop.chip.allocation import Allocation, Source, Target
from spikeloop.chip.configuration import CIRCUITS, COLUMNS
from spikeloop.chip.mapping import place
from spikeloop.chip.wiring import external, internal, own_labels, senders_of
from spikeloop.errors import DoesNotFit, OutOfRange, Unsupported

NEURON = LIF(10e-3, 5e-3)


def check_wired(network, placement, rows_per_input=1):
    """Every synapse of the network, and no other, is reached by its source's events."""
    routing = placement.routing
    heads, of = np.unique(routing.head, return_inverse=True)
    found: dict[tuple[str, int], set[int]] = {}
    for name, address in placement.address.items():
        wires = external(routing, address, of, len(heads))
        for unit in range(len(address)):
            found[name, unit] = set(wires.synapse[wires.cell // len(heads) == unit].tolist())
    wires = internal(routing, heads, of)
    where = {int(c): k for k, c in enumerate(heads)}
    for name, circuit in placement.circuit.items():
        for unit, head in enumerate(circuit[:, 0].tolist()):
            found[name, unit] = set(wires.synapse[wires.cell // len(heads) == where[head]].tolist())
    wanted: dict[tuple[str, int], set[int]] = {key: set() for key in found}
    for name, projection in network.projections.items():
        synapse = placement.synapse[name]
        rows = rows_per_input if network.populations[projection.source].kind is None else 1
        assert synapse.shape == (rows, *projection.shape)
        for unit in range(projection.shape[0]):
            excitatory = synapse[:, unit].ravel()
            wanted[projection.source, unit] |= {*excitatory.tolist(), *(excitatory + COLUMNS).tolist()}
            half, column = excitatory // (256 * 256), excitatory % 256
            target = of[half * COLUMNS + column]
            head = placement.circuit[projection.target][:, 0]
            assert (heads[target].reshape(rows, -1) == head).all()
    assert found == wanted
    everything = np.concatenate([synapse.ravel() for synapse in placement.synapse.values()])
    assert len(np.unique(everything)) == len(everything)


FITTING = {
    "Yin-Yang": (lambda: feedforward([5, 120, 3], NEURON), 5),
    "MNIST": (lambda: feedforward([256, 246, 10], NEURON, readout=LI(10e-3, 5e-3)), 1),
    "SHD": (lambda: recurrent([70, 186, 20], NEURON), 1),
    "deep": (lambda: feedforward([30, 60, 60, 60, 10], NEURON), 1),
    "wide inputs": (lambda: feedforward([784, 40, 10], NEURON), 1),
    "all circuits": (lambda: feedforward([100, 512], NEURON), 1),
    "a loop of one": (lambda: recurrent([3, 1, 1], NEURON), 16),
}


@pytest.mark.parametrize("name", FITTING)
def test_networks_that_fit_are_wired_as_they_are(name):
    torch.manual_seed(0)
    make, rows = FITTING[name]
    network = make()
    check_wired(network, place(network, rows), rows)


def test_256_246_10_fills_the_chip():
    placement = place(feedforward([256, 246, 10], NEURON))
    assert sum(circuit.size for circuit in placement.circuit.values()) == CIRCUITS
    used = np.zeros(2 * 128, bool)
    used[np.unique(placement.synapse["input_to_hidden"] // COLUMNS) // 2] = True
    assert used.all()


def test_257_inputs_say_what_is_short_and_by_how_much():
    with pytest.raises(DoesNotFit) as error:
        place(feedforward([257, 246, 10], NEURON))
    for part in ("1004 neuron circuits", "492 more", "'hidden' x 4 (fan-in 257)", "at most 512", "rows_per_input"):
        assert part in str(error.value)


def test_rows_count_as_inputs():
    assert place(feedforward([100, 10, 3], NEURON), 1).circuit["hidden"].shape == (10, 1)
    assert place(feedforward([100, 10, 3], NEURON), 2).circuit["hidden"].shape == (10, 2)
    with pytest.raises(OutOfRange, match="rows_per_input is 0"):
        place(feedforward([5, 3], NEURON), 0)


def test_delays_are_refused_by_name():
    network = Network(
        {"a": Population(2), "b": Population(2, NEURON)}, [Projection("a", "b", torch.ones(2, 2), delay=1e-3)]
    )
    with pytest.raises(Unsupported, match=r"projection a_to_b: delays of up to 0\.001 s"):
        place(network)


def test_more_neurons_than_a_bus_reaches_are_refused():
    allocation = Allocation({"sink": Target(1)})
    senders = [Source("hidden", unit, 1, ("sink",), output=3) for unit in range(17)]
    allocation.assign({"hidden": senders[:16]})
    with pytest.raises(DoesNotFit, match="unit 16 of 'hidden' leaves the chip's array by bus 3"):
        allocation.assign({"hidden": senders[16:]})


def fan_in_by_one_bus(senders: int) -> Network:
    """Neurons of one population each, of which every eighth, all by the same output, reaches ``sink``."""
    names = [f"p{k}" for k in range(8 * senders)]
    groups = {name: Population(1, NEURON) for name in (*names, "sink", "other")}
    links = [Projection("input", name, torch.ones(1, 1)) for name in names]
    links += [Projection(n, "other" if k % 8 else "sink", torch.ones(1, 1)) for k, n in enumerate(names)]
    return Network({"input": Population(1), **groups}, links)


def test_a_network_that_breaks_the_rule_of_the_buses_is_refused():
    """Its circuits and its fan-in fit: 16 neurons of an output find drivers to reach one circuit, 17 do not."""
    check_wired(fan_in_by_one_bus(16), place(fan_in_by_one_bus(16)))
    with pytest.raises(DoesNotFit, match=r"'p\d+' leaves the chip's array by bus \d, and no driver .* reach 'sink'"):
        place(fan_in_by_one_bus(17))


def test_many_populations_share_the_buses():
    names = {f"group{k}": Population(20, NEURON) for k in range(6)}
    links = [Projection(a, b, torch.ones(20, 20)) for a in names for b in names]
    network = Network({"input": Population(8), **names}, [Projection("input", "group0", torch.ones(8, 20)), *links])
    check_wired(network, place(network))


def test_a_recurrent_network_larger_than_a_chip_is_refused():
    with pytest.raises(DoesNotFit, match="neuron circuits are needed"):
        place(recurrent([70, 300, 20], NEURON))


def test_every_sender_has_a_label_of_its_own():
    routing = place(recurrent([70, 186, 20], NEURON)).routing
    senders = np.flatnonzero(routing.sends)
    labels = own_labels(routing, senders)
    assert len(set(labels)) == len(labels)
    np.testing.assert_array_equal(senders_of(routing)[np.array(labels)], senders)


def test_sparse_projections_take_the_rows_of_dense_ones():
    pre, post = torch.tensor([0, 1]), torch.tensor([1, 0])
    network = Network(
        {"a": Population(2), "b": Population(2, NEURON)}, [Projection.sparse("a", "b", pre, post, torch.ones(2))]
    )
    assert place(network).synapse["a_to_b"].shape == (1, 2, 2)
