"""What is kept from run to run of a network on a chip: after every change a run is that of a network made anew."""

import copy

import numpy as np
import pytest
import torch
from chips import configuration, events, same
from chips import some_events as drive
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from spikeloop import LI, LIF, EventProp, Ideal, Network, Observe, OnChip, Population, Projection, Twin, run
from spikeloop.chip.calibrate import nominal
from spikeloop.errors import Unsupported
from spikeloop.record import Record

HIDDEN = LIF(nn.Parameter(torch.full((20,), 10e-3)), 5e-3, refractory=1e-3)


@pytest.fixture(autouse=True)
def by_the_laws(monkeypatch):
    monkeypatch.setattr("spikeloop.chip.setup.calibrated", lambda chip, target, cache: nominal(chip, target))


@pytest.fixture
def network():
    random = torch.Generator().manual_seed(3)
    weights = [torch.randn(*shape, generator=random) * 0.2 + 0.3 for shape in ((12, 20), (20, 4))]
    populations = {"input": Population(12), "hidden": Population(20, HIDDEN), "output": Population(4, LI(10e-3, 5e-3))}
    return Network(populations, [Projection("input", "hidden", weights[0]), Projection("hidden", "output", weights[1])])


def found(network, substrate) -> tuple[Record, list[torch.Tensor]]:
    """A record, and the gradients of a loss of all of it."""
    network.zero_grad()
    record = run(
        network, drive(12), 40e-3, substrate=substrate, rule=EventProp(0.1), observe=Observe(peak={"output"}), number=3
    )
    (record.spikes["hidden"].time.sum() + record.peak["output"].value.sum()).backward()
    return record, [parameter.grad.clone() for parameter in network.parameters()]


def as_made_anew(network, substrate=None, fresh=None) -> Record:
    """The record, which has to be the one that a copy of the network, which knows nothing, gives on ``fresh``."""
    record, gradients = found(network, substrate or OnChip(Twin(7)))
    other, expected = found(copy.deepcopy(network), fresh or OnChip(Twin(7)))
    assert torch.equal(record.spikes["hidden"].time, other.spikes["hidden"].time)
    assert torch.equal(record.spikes["hidden"].count, other.spikes["hidden"].count)
    assert torch.equal(record.peak["output"].value, other.peak["output"].value)
    assert torch.equal(record.peak["output"].time, other.peak["output"].time)
    assert _numbers(record) == _numbers(other)
    assert all(torch.equal(one, of) for one, of in zip(gradients, expected, strict=True))
    return record


def _numbers(record: Record) -> list[object]:
    names = ("clipped", "rounded", "rounding", "placed", "failed", "masked", "dropped")
    return [getattr(record.lowering, name, None) for name in names]


def _in_place(network):
    network.projections["input_to_hidden"].weight.mul_(1.5)


def _through_data(network):
    network.projections["input_to_hidden"].weight.data *= 1.5


def _new_data(network):
    network.projections["input_to_hidden"].weight.data = network.projections["input_to_hidden"].weight.data * 1.5


def _new_parameter(network):
    projection = network.projections["input_to_hidden"]
    projection.weight = nn.Parameter(projection.weight.detach() * 1.5)


def _time_constants(network):
    network.populations["hidden"].log_tau_mem.add_(0.3)


def _new_time_constants(network):
    stored = network.populations["hidden"].log_tau_mem
    stored.data = stored.data + 0.3


def _all_as_a_vector(network):
    vector_to_parameters(parameters_to_vector(network.parameters()) * 1.1, network.parameters())


def _threshold(network):
    network.populations["hidden"].threshold.mul_(0.8)


def _new_threshold(network):
    stored = network.populations["hidden"].threshold
    stored.data = stored.data * 0.8


def _precision(network):
    for projection in network.projections.values():
        projection.weight = nn.Parameter(projection.weight.detach().double() * 1.1)


CHANGES = [
    _in_place,
    _through_data,
    _new_data,
    _new_parameter,
    _time_constants,
    _new_time_constants,
    _all_as_a_vector,
    _threshold,
    _new_threshold,
    _precision,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_changed_network_is_run_as_it_is_now(network, change):
    lab = OnChip(Twin(7))
    before = as_made_anew(network, lab)
    with torch.no_grad():
        change(network)
    after = as_made_anew(network, lab)
    assert not torch.equal(before.peak["output"].value, after.peak["output"].value)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_the_ideal_machine_knows_it_too(network, change):
    found(network, Ideal())
    with torch.no_grad():
        change(network)
    as_made_anew(network, Ideal(), Ideal())


def test_a_neuron_that_was_changed_behind_torchs_back_is_taken_as_it_is():
    fixed = Network(
        {"input": Population(12), "output": Population(4, LIF(10e-3, 5e-3))},
        [Projection("input", "output", torch.full((12, 4), 0.3))],
    )
    lab = OnChip(Twin(7))
    before = run(fixed, drive(12), 40e-3, substrate=lab, number=3)
    fixed.populations["output"].threshold.data.mul_(0.5)
    after = run(fixed, drive(12), 40e-3, substrate=lab, number=3)
    assert len(after.spikes["output"].time) > len(before.spikes["output"].time)
    other = run(copy.deepcopy(fixed), drive(12), 40e-3, substrate=OnChip(Twin(7)), number=3)
    assert torch.equal(after.spikes["output"].time, other.spikes["output"].time)


def test_another_chip_and_other_rows_are_other_places(network):
    as_made_anew(network)
    for make in (lambda: OnChip(Twin(8)), lambda: OnChip(Twin(7), rows_per_input=2), lambda: OnChip(Twin(7, noise=0))):
        as_made_anew(network, make(), make())
    as_made_anew(network)


def test_networks_on_one_chip_do_not_know_of_each_other(network):
    lab, other = OnChip(Twin(7)), copy.deepcopy(network)
    with torch.no_grad():
        other.projections["hidden_to_output"].weight.neg_()
    for each in (network, other, network):
        as_made_anew(each, lab)


def test_a_delay_is_refused_whenever_there_is_one(network):
    lab, projection = OnChip(Twin(7)), network.projections["input_to_hidden"]
    for delay in (0.0, 1e-3, 0.0):
        projection._buffers["delay"].fill_(delay)
        if delay:
            with pytest.raises(Unsupported, match="delays of up to 0.001 s"):
                found(network, lab)
        else:
            as_made_anew(network, lab)


def test_what_a_twin_reads_is_a_readout(network):
    seen = []

    class Seeing(Twin):
        def emulate(self, *args, **options):
            seen.append(super().emulate(*args, **options))
            return seen[-1]

    found(network, OnChip(Seeing(7)))
    (out,) = seen
    out.__post_init__()  # all its checks
    assert len(out.cycle) > 20
    assert out.cadc.size > 0
    assert same(out, type(out)(**{name: getattr(out, name) for name in out.__dataclass_fields__}))


def test_more_addresses_come_up_later():
    codes, twin = configuration(20, 2, watch=(3,)), Twin(3)
    first, both = twin.emulate(codes, events([(5, 1)]), 2000), twin.emulate(codes, events([(5, 1), (9, 2)]), 2000)
    again = twin.emulate(codes, events([(5, 1)]), 2000)
    assert same(first, again)
    assert not np.array_equal(first.cadc, both.cadc)
