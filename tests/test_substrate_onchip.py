"""A chip as a substrate: conformance, lowering, dropout, and training in the loop."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from chips import IDEAL, by_the_laws, ready
from chips import some_events as drive

from spikeloop import (
    LI,
    LIF,
    EventProp,
    Events,
    Experiment,
    Ideal,
    Network,
    Observe,
    OnChip,
    Population,
    Twin,
    feedforward,
    recurrent,
    run,
)
from spikeloop.chip.calibrate import VERSION, calibrate
from spikeloop.chip.twin import EVERYTHING
from spikeloop.conformance import ConformanceError, check_chip, check_substrate
from spikeloop.data import YinYang, loader
from spikeloop.errors import CannotObserve, OutOfRange, SpikeloopWarning, Unsupported
from spikeloop.loss import first_spike_class, first_spike_cross_entropy
from spikeloop.protocols import Every

NEURON = LIF(10e-3, 5e-3, refractory=1e-3)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return feedforward([12, 20, 4], NEURON)


def test_it_keeps_the_contracts_of_a_substrate():
    torch.manual_seed(0)
    check_substrate(OnChip(Twin(7)), feedforward([5, 40, 3], NEURON, readout=LI(10e-3, 5e-3)))
    check_substrate(OnChip(Twin(7)), recurrent([5, 20, 3], NEURON))


def test_the_twin_keeps_the_contracts_of_a_chip():
    check_chip(Twin(7))
    check_chip(IDEAL)

    class Broken:
        def emulate(self, *args):
            out = Twin(7).emulate(*args)
            return replace(out, cycle=out.cycle[::-1])

    with pytest.raises(ConformanceError, match="is before its predecessor"):
        check_chip(Broken())  # type: ignore[arg-type]


def test_a_chip_that_sends_what_no_circuit_has_is_found_out(network):
    @dataclass(frozen=True)
    class Noisy(Twin):
        def emulate(self, *args):
            out = super().emulate(*args)
            return replace(out, address=np.append(out.address[:-1], 0x7FF))

    with pytest.raises(OutOfRange, match=r"chip readout, run 3: event \d+ has address 2047, which no circuit has"):
        run(network, drive(12), 50e-3, substrate=ready(network, Noisy(7, ideal=EVERYTHING)))


def test_the_record_says_where_it_was_made(network):
    record = run(network, drive(12), 50e-3, substrate=ready(network), number=3)
    assert record.number == 3
    assert record.cost.chip_time == pytest.approx(50e-6)
    assert record.lowering is not None
    assert record.lowering.placement["hidden"].shape == (20, 1)
    assert record.lowering.calibration == f"Twin(7, ideal=EVERYTHING), version {VERSION}"
    assert "(chip 50 us)" in repr(record)


def test_dropped_neurons_send_nothing(network):
    network.populations["hidden"].dropout = 0.5
    torch.manual_seed(0)
    record = run(network, drive(12), 50e-3, substrate=ready(network), training=True)
    plain = run(network, drive(12), 50e-3, substrate=ready(network))
    assert 0 < len(record.spikes["hidden"].time) < len(plain.spikes["hidden"].time)
    silent = record.silent["hidden"]
    assert silent.shape == (len(record), 20)
    assert 0.3 < silent.double().mean() < 0.7
    assert not record.count["hidden"][silent].any()
    assert torch.equal(record.count["hidden"] == 0, silent | (plain.count["hidden"] == 0))
    assert not plain.silent


def test_chips_of_a_list_take_turns(network):
    onchip = OnChip([Twin(1), Twin(2)], cache=False)
    runs = [run(network, drive(12), 50e-3, substrate=onchip, number=k) for k in range(3)]
    assert [record.lowering.calibration for record in runs if record.lowering] == [
        f"Twin({chip}), version {VERSION}" for chip in (1, 2, 1)
    ]
    alone = run(network, drive(12), 50e-3, substrate=OnChip(Twin(2), cache=False), number=1)
    assert torch.equal(runs[1].spikes["hidden"].time, alone.spikes["hidden"].time)


def test_every_run_without_a_number_is_another(network):
    onchip = ready(network, Twin(7))
    times = [
        run(network, drive(12), 50e-3, substrate=onchip, number=n).spikes["hidden"].time for n in (None, None, 5, 5)
    ]
    assert len(times[0]) != len(times[1]) or not torch.equal(times[0], times[1])
    assert torch.equal(times[2], times[3])


def test_membranes_and_peaks_come_from_the_column_adc(network):
    record = run(
        network, drive(12), 50e-3, substrate=ready(network), observe=Observe(membrane={"output": 2e-3}, peak="output")
    )
    samples, peak = record.membrane["output"], record.peak["output"]
    assert samples.value.shape[::2] == (4, 4)
    assert float(samples.time[0].diff().min()) >= 1.7e-3
    steps = samples.value.detach() * 70
    assert torch.allclose(steps, steps.round(), atol=1e-9)
    assert bool((peak.value >= samples.value.amax(1) - 1e-12).all())
    with pytest.raises(CannotObserve, match=r"cannot be sampled every 0\.001 s, at best every 0\.001704 s"):
        run(network, drive(12), 50e-3, substrate=ready(network), observe=Observe(membrane={"output": 1e-3}))


def test_the_fast_converter_sees_two_neurons(network):
    period, quiet = 34e-6, torch.zeros_like(network.projection("input", "hidden").weight)
    network.projection("input", "hidden").weight.data = quiet + 0.15  # below threshold
    observe = Observe({"hidden": Every(period, [3]), "output": Every(10 * period, [1])}, peak={"hidden"})
    record = run(network, drive(12), 50e-3, substrate=ready(network), observe=observe)
    hidden, output = record.membrane["hidden"], record.membrane["output"]
    assert (hidden.unit.tolist(), output.unit.tolist()) == ([3], [1])
    assert hidden.value.shape == (4, len(hidden.time), 1)
    for samples, step in ((hidden, period), (output, 10 * period)):  # the converter may stop short of the last one
        assert samples.time[:-1].tolist() == pytest.approx([step * k for k in range(len(samples.time) - 1)], abs=1e-9)
    ideal = run(network, drive(12), 50e-3, observe=Observe({"hidden": hidden.time})).membrane["hidden"].value[:, :, 3:4]
    assert ideal.max() > 0.2
    assert torch.allclose(hidden.value, ideal, atol=0.02)  # a CADC step is 1/70, one of the fast converter 1/80
    assert record.peak["hidden"].value.shape == (4, 20)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            {"hidden": Every(34e-6, [1, 2]), "output": Every(34e-6, [0])},
            "3 neurons are asked for more often .* 2 can be",
        ),
        ({"hidden": 34e-6}, "cannot be sampled every 3.4e-05 s, at best every 0.001704 s"),
        ({"hidden": Every(3e-6, [1])}, "cannot be sampled every 3e-06 s"),
    ],
)
def test_what_the_fast_converter_cannot_see_is_refused(network, wish, message):
    with pytest.raises(CannotObserve, match=message):
        run(network, drive(12), 50e-3, substrate=ready(network), observe=Observe(wish))


def test_bad_requests_are_refused(network):
    with pytest.raises(OutOfRange, match="speedup is 0"):
        OnChip(IDEAL, speedup=0)
    with pytest.raises(OutOfRange, match="rows_per_input is 0"):
        OnChip(IDEAL, rows_per_input=0)
    other = by_the_laws(Twin(8, ideal=EVERYTHING), network)
    with pytest.raises(OutOfRange, match=r"the calibration is of Twin\(8"):
        run(network, drive(12), 50e-3, substrate=OnChip(IDEAL, calibration=other))
    old = replace(by_the_laws(IDEAL, network), version=0)
    with pytest.raises(OutOfRange, match="version 0"):
        run(network, drive(12), 50e-3, substrate=OnChip(IDEAL, calibration=old))
    slow = feedforward([2, 2], LIF(100e-3, 5e-3))
    said = (
        r"'output': tau_mem is 0\.1 s \(0\.0001 s on the chip\).*0\.0005 to 0\.06 s \(5e-07 to 6e-05 s on the chip, at"
    )
    with pytest.raises(OutOfRange, match=said):
        run(slow, drive(2), 50e-3, substrate=OnChip(IDEAL))
    record = run(network, drive(12), 50e-3, observe=Observe(state=True))
    with pytest.raises(Unsupported, match="cannot continue from a state"):
        run(network, drive(12).later(50e-3), 50e-3, substrate=ready(network), start=record.state)


def test_refractory_times_that_the_common_clock_rounds_are_warned_of():
    """30 us ask for a clock of 128 ns; without them it is one of 8 ns."""
    network = feedforward([3, 5, 2], LIF(10e-3, 5e-3, refractory=30e-3))
    run(network, drive(3), 50e-3, substrate=ready(network))
    network = Network(
        {**network.populations, "output": Population(2, LIF(10e-3, 5e-3, refractory=0.1e-3))},
        list(network.projections.values()),
    )
    with pytest.warns(SpikeloopWarning, match=r"'output'.*0\.0001 s to 0\.000128 s \(100 ns to 128 ns on the chip\)"):
        run(network, drive(3), 50e-3, substrate=ready(network))


def test_hardware_time_is_a_speedup_of_one():
    torch.manual_seed(0)
    network = feedforward([5, 10, 3], LIF(6e-6, 6e-6))
    fast = Events.from_lists([torch.rand(9) * 20e-6], [torch.arange(9) % 5], 5)
    record = run(network, fast, 50e-6, substrate=OnChip(IDEAL, speedup=1.0, rows_per_input=5))
    assert record.cost.chip_time == pytest.approx(50e-6)
    assert len(record.spikes["hidden"].time)


def test_a_calibration_is_made_on_first_use_and_kept(network, monkeypatch):
    made = []
    monkeypatch.setattr("spikeloop.chip.store.calibrate", lambda *args: made.append(args) or calibrate(*args))
    onchip = OnChip(Twin(11))
    for net in (network, network, copy.deepcopy(network)):
        run(net, drive(12), 50e-3, substrate=onchip)
    run(network, drive(12), 50e-3, substrate=OnChip(Twin(11)))
    assert len(made) == 1


def accuracy(network, substrate, data) -> float:
    """Fraction of first spikes in the right output."""
    right = 0
    with torch.no_grad():
        for given, label in loader(data, 250):
            record = run(network, given, 60e-3, substrate=substrate, number=0)
            right += int((first_spike_class(record.spikes["output"]) == label).sum())
    return right / len(data)


def test_yin_yang_is_learned_in_the_loop():
    """Two of the usual sixty epochs; what was learned is about this chip, so Ideal does worse with the same weights."""
    torch.manual_seed(0)
    network = feedforward([5, 120, 3], LIF(10e-3, 5e-3))
    onchip = OnChip(Twin(7), rows_per_input=5)
    lab = Experiment(network, 60e-3, onchip, EventProp(slope_floor=0.1))
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(2):
        for given, label in loader(YinYang("train"), 32, shuffle=True):
            record = lab(given, number=None)
            loss = first_spike_cross_entropy(record.spikes["output"], label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    there, elsewhere = (accuracy(network, place, YinYang("test")) for place in (onchip, Ideal()))
    assert there > 0.8
    assert elsewhere < there - 0.1
