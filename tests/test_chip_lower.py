"""Between model numbers and codes: weights and events down to a chip, spikes and readings up again."""

import numpy as np
import pytest
import torch
from chips import IDEAL, ready
from chips import some_events as drive

from spikeloop import LIF, Events, Twin, feedforward, run
from spikeloop.chip import transfer
from spikeloop.chip.configuration import CYCLE, Analog, Configuration
from spikeloop.chip.lower_events import lift_events, lift_fast, lift_slow, lower_events
from spikeloop.chip.mapping import place
from spikeloop.chip.scales import Scale, scale_of
from spikeloop.chip.twin import EVERYTHING, Imperfection
from spikeloop.errors import OutOfRange, SpikeloopWarning
from spikeloop.initial import Normal

NEURON = LIF(10e-3, 5e-3, refractory=1e-3)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return feedforward([12, 20, 4], NEURON)


# ---- down ----------------------------------------------------------------------------------------------------------


def test_weights_are_rounded_clipped_and_counted(network):
    onchip = ready(network)
    unit = float(scale_of(network.populations["hidden"], 1000.0).weight[0])
    network.projection("hidden", "output").weight.data *= 0.1
    weight = network.projection("input", "hidden").weight
    weight.data.zero_()
    weight.data[0, :5] = unit * torch.tensor([1.4, -2.6, 63.4, 70.0, -1e3])
    record = run(network, drive(12), 50e-3, substrate=onchip)
    executed = record.executed["input_to_hidden"]
    assert (executed[0, :5] / unit).tolist() == pytest.approx([1, -3, 63, 63, -63])
    assert not executed[1:].any()
    assert record.lowering is not None
    assert record.lowering.clipped == 2
    assert record.lowering.rounded == 3 + 20 * 4
    output = network.projection("hidden", "output").weight.detach().double().numpy() / unit
    off = [0.4, 0.4, 0.4, *(output - output.round()).ravel()]
    assert record.lowering.rounding == pytest.approx(
        float(np.sqrt(np.square(off).sum() / (12 * 20 + 20 * 4))), rel=1e-4
    )
    assert onchip.weight_codes(network)["input_to_hidden"][0, :5].tolist() == [1, -3, 63, 63, -63]
    assert "2 weights clipped" in repr(record)
    five = run(network, drive(12), 50e-3, substrate=ready(network, rows_per_input=5)).executed["input_to_hidden"]
    assert (five[0, :5] / unit).tolist() == pytest.approx([1, -3, 63, 70, -315])


def test_weights_beyond_the_range_are_an_error_in_strict_mode(network):
    unit = float(scale_of(network.populations["hidden"], 1000.0).weight[0])
    weight = network.projection("input", "hidden").weight
    weight.data.clamp_(-63 * unit, 63.4 * unit)
    network.projection("hidden", "output").weight.data *= 0.1
    strict = ready(network, strict=True)
    lowering = run(network, drive(12), 50e-3, substrate=strict).lowering
    assert lowering is not None
    assert lowering.clipped == 0
    weight.data[3, 7], weight.data[4, 7] = 64.0 * unit, -70.0 * unit
    said = r"projection input_to_hidden: 2 of 240 weights are beyond.*63 steps on each of 1 row pair"
    with pytest.raises(OutOfRange, match=said):
        run(network, drive(12), 50e-3, substrate=strict)
    five = ready(network, strict=True, rows_per_input=5)
    assert five.weight_codes(network)["input_to_hidden"].abs().max() == 70


def test_events_that_were_made_for_a_chip_cannot_be_spoilt():
    """They are not looked at again on the chip, unless somebody made them writeable."""
    placement = place(feedforward([12, 3], NEURON))
    made = lower_events({"input": drive(12)}, placement, 1000.0, np.zeros((0, 512), bool), 0)
    configuration = Configuration(np.zeros((2, 256, 256), np.uint8), placement.routing, Analog())
    assert len(made.cycle) == len(drive(12).time)
    for array in (made.cycle, made.address, made.start):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = -1
    IDEAL.emulate(configuration, made, 100_000)
    made.cycle.flags.writeable = True
    made.cycle[3] = -1
    with pytest.raises(OutOfRange, match=r"addressed events: cycle\[3\] is -1"):
        IDEAL.emulate(configuration, made, 100_000)


def test_many_events_of_one_time_are_sent_as_a_link_takes_them():
    """A link passes one a cycle and drops what comes when 16 wait: `test_chip_twin` has it so."""
    limited = Twin(7, ideal=EVERYTHING - {Imperfection.CAPACITY})
    net = feedforward([60, 3], NEURON, weight=Normal(0.05, 0.0))
    burst = Events.from_lists([np.full(60, 5e-3), [5e-3]], [np.arange(60), [0]], 60)
    record, free = (run(net, burst, 20e-3, substrate=ready(net, twin), number=0) for twin in (limited, IDEAL))
    assert record.cost.events_lost == 0
    assert record.count["output"].tolist() == free.count["output"].tolist()
    late = record.spikes["output"].first(0.0) - free.spikes["output"].first(0.0)
    assert (late[0] > 0).all()
    assert (late < 60 * CYCLE * 1000).all()  # the last of them waits for 59 others


def test_spikes_after_the_end_are_lost_at_the_chips_edge(network):
    late = Events.from_lists([[1e-3, 60e-3], [49.9995e-3]], [[0, 1], [0]], size=12)
    with pytest.warns(SpikeloopWarning, match="1 of 3 events are after the end"):
        record = run(network, late, 50e-3, substrate=ready(network))
    assert record.lowering is not None
    assert record.lowering.dropped == record.cost.events_lost == 2  # the other is rounded to the end


def test_weights_that_changed_are_lowered_anew_and_what_a_record_has_is_its_own(network):
    """A chip remembers what became of the weights the last time."""
    substrate, weight = ready(network), network.projections["input_to_hidden"].weight

    def lowered():
        record = run(network, drive(12), 50e-3, substrate=substrate, number=0)
        return record.executed["input_to_hidden"], record.spikes["output"].time

    with torch.no_grad():
        weight.fill_(0.3)
        first, spikes = lowered()
        kept = first.clone()
        first.zero_()
        again, same = lowered()
        weight[:, 0] = -0.3
        changed, others = lowered()
    assert torch.equal(again, kept)
    assert torch.equal(same, spikes)
    assert (changed[:, 0] < 0).all()
    assert torch.equal(changed[:, 1:], kept[:, 1:])
    assert others.shape != spikes.shape or not torch.equal(others, spikes)


# ---- up ------------------------------------------------------------------------------------------------------------


def test_spikes_are_in_the_middle_of_the_cycle_that_they_are_stamped_with():
    """Of each neuron the first circuit speaks; those that are nobody's are left out."""
    cycle, circuit, start = np.array([3, 7, 7, 12]), np.array([5, 9, 300, 8]), np.array([0, 3, 4])
    placed = {"hidden": np.array([[8, 9], [5, 6]]), "output": np.array([[300]])}
    found = lift_events(cycle, circuit, start, placed, 1000.0)
    assert found["hidden"].time.tolist() == pytest.approx([3.5 * 1000 * CYCLE, 12.5 * 1000 * CYCLE])
    assert found["hidden"].unit.tolist() == [1, 0]
    assert found["hidden"].start.tolist() == [0, 1, 2]
    assert found["output"].time.tolist() == pytest.approx([7.5 * 1000 * CYCLE])
    assert found["output"].start.tolist() == [0, 1, 1]


@pytest.mark.parametrize("address", [511, 512, 40_000])
def test_an_event_of_an_address_that_no_circuit_has_is_an_error(address):
    """Circuit 511 is a neuron: what is nobody's was counted as its."""
    sender = np.append(np.arange(511, 0, -1), -1)
    cycle, start, placed = np.arange(3), np.array([0, 1, 1, 3]), {"output": np.array([[511], [5]])}
    found = lift_events(cycle, np.array([0, 0, 506]), start, placed, 1000.0, sender)
    assert found["output"].unit.tolist() == [0, 0, 1]
    with pytest.raises(OutOfRange, match=f"run 2: event 1 has address {address}, which no circuit has"):
        lift_events(cycle, np.array([0, 0, address]), start, placed, 1000.0, sender)


def test_lifted_readings_are_free_of_the_gain_of_their_channels():
    """But for the rounding of a reading."""
    random = np.random.default_rng(0)
    neuron, steps = np.array([4, 1, 2]), random.uniform(20, 200, (6, 5, 3))
    gain = 1 + 0.02 * random.standard_normal(3)
    leak, rest, unit, some = random.uniform([[-1], [70], [50], [1]], [[1], [90], [90], [2]], (4, 5))
    reading = np.rint(128 + gain * (steps - 128)).astype(np.uint8)
    lifted = lift_slow(reading, gain, Scale(leak, rest, unit, some, some), neuron)
    error = rest[neuron] + (lifted - leak[neuron]) * unit[neuron] - steps
    assert (np.abs(error) <= 0.5 / gain + 1e-9).all()


def test_readings_of_the_fast_converter_are_lifted_to_the_potential_that_was_read():
    leak, rest, steps, some = np.array([[0.2], [80.0], [70.0], [1.0]])
    volts = transfer.volts_of_steps(np.array([80.0, 150.0, 45.0]))
    lifted = lift_fast(np.rint(volts / transfer.MADC_STEP), Scale(leak, rest, steps, some, some), np.array([0]))
    assert lifted.tolist() == pytest.approx([0.2, 1.2, -0.3], abs=0.5 * transfer.MADC_STEP / transfer.STEP / 70)
