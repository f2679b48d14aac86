"""Networks that are too large for one chip: what is cut where, and that it makes no difference but quantisation."""

from functools import partial

import numpy as np
import pytest
import torch
from chips import IDEAL, as_the_codes_say, some_events, steps_of

from spikeloop import (
    LI,
    LIF,
    EventProp,
    Experiment,
    Ideal,
    Network,
    Normal,
    Observe,
    OnChip,
    Population,
    Projection,
    Record,
    Twin,
    feedforward,
    recurrent,
    run,
)
from spikeloop.chip.calibrate import VERSION, default_target, nominal
from spikeloop.chip.scales import scale_of
from spikeloop.chip.setup import setup_of
from spikeloop.chip.split import split
from spikeloop.chip.twin import EVERYTHING, Imperfection
from spikeloop.errors import CannotObserve, DoesNotFit, OutOfRange, Unsupported
from spikeloop.loss import max_over_time_cross_entropy

NEURON = LIF(10e-3, 5e-3)
drive = partial(some_events, count=60, until=20e-3)


@pytest.fixture(autouse=True)
def calibrations(monkeypatch):
    """By the laws: the chips here have no mismatch. By chip, how often one was asked for."""
    asked = []
    monkeypatch.setattr(
        "spikeloop.chip.setup.calibrated", lambda chip, target, cache: asked.append(chip) or nominal(chip, target)
    )
    return asked


def sizes(network: Network, rows: int = 1) -> list[dict[str, int]]:
    return [{name: part.network.populations[name].size for name in part.first} for part in split(network, rows)]


def _unit(network: Network, name: str) -> float:
    return float(scale_of(network.populations[network.projections[name].target], 1000.0).weight[0])


@pytest.fixture
def large():
    torch.manual_seed(0)
    weight = [Normal(0.05, 0.05), Normal(0.003, 0.02), Normal(0.005, 0.03)]
    return feedforward([256, 400, 246, 10], NEURON, weight=weight)


def test_populations_stay_whole_where_they_fit(large):
    assert sizes(feedforward([256, 246, 10], NEURON)) == []
    assert sizes(feedforward([257, 246, 10], NEURON)) == [{"hidden": 123}, {"hidden": 123}, {"output": 10}]
    assert sizes(large) == [{"hidden1": 200}, {"hidden1": 200}, {"hidden2": 123}, {"hidden2": 123}, {"output": 10}]
    assert sizes(feedforward([60, 600, 40, 10], NEURON)) == [
        {"hidden1": 300}, {"hidden1": 300}, {"hidden2": 40, "output": 10},
    ]  # fmt: skip
    assert sizes(feedforward([20, 90, 3], NEURON), rows=30) == [{"hidden": 45}, {"hidden": 45}, {"output": 3}]


def test_it_is_the_ideal_network_up_to_quantisation(large):
    given, substrate = drive(256), OnChip(IDEAL)
    record = run(large, given, 60e-3, substrate=substrate, number=0)
    codes = {}
    for k, part in enumerate(split(large, 1)):
        setup = setup_of(part.taken(large), substrate._wish(k, part.rows))
        codes |= {name: (circuit[0], setup.analog) for name, circuit in setup.placement.circuit.items()}
    exact = run(as_the_codes_say(steps_of(large), codes), given, 60e-3, substrate=Ideal())
    for name in ("hidden1", "hidden2", "output"):
        ours, theirs = record.spikes[name], exact.spikes[name]
        assert len(theirs.time) > 30
        same = ours.count == theirs.count
        assert same.double().mean() > 0.99  # spikes are sent on with stamps of 8 ns, so a grazing one may be missed
        apart = (ours.first(0.0) - theirs.first(0.0))[same].abs()
        assert apart.median() < 8e-6
        assert apart.quantile(0.99) < 100e-6
    for name, weight in record.executed.items():
        assert torch.allclose(weight, steps_of(large).projections[name].weight * _unit(large, name), atol=1e-6)
    lowering = record.lowering
    assert lowering is not None
    assert lowering.runs == 5
    assert lowering.run["hidden2"].tolist() == [2] * 123 + [3] * 123
    assert lowering.placement["hidden1"].shape == (400, 2)
    assert lowering.placed == 2 * 400 + 4 * 246 + 2 * 10
    assert record.cost.chip_time == pytest.approx(5 * 60e-6)
    assert lowering.rounding == pytest.approx(np.sqrt(1 / 12), rel=0.05)


def test_a_part_sees_what_a_whole_chip_would(monkeypatch):
    """Cut though it need not be: the same spikes, times but for the grid of 8 ns of chip time."""
    given, records = drive(30), list[Record]()
    for most in (512, 24):
        fits = partial(lambda most, part: sum(part.network.populations[n].size for n in part.first) <= most, most)
        monkeypatch.setattr("spikeloop.chip.split.Part.fits", property(fits))
        torch.manual_seed(0)
        network = feedforward([30, 40, 20, 5], NEURON, weight=Normal(0.08, 0.1))
        records.append(run(network, given, 60e-3, substrate=OnChip(IDEAL), number=0))
    whole, cut = records
    assert (whole.lowering.runs, cut.lowering.runs) == (1, 4)
    for name, events in whole.spikes.items():
        assert torch.equal(cut.spikes[name].count, events.count)
        assert (cut.spikes[name].first(0.0) - events.first(0.0)).abs().max() < 50e-6
    assert len(whole.spikes["output"].time)
    for name, weight in whole.executed.items():
        assert torch.equal(cut.executed[name], weight)


def test_gradients_train_it(large):
    network = feedforward([256, 400, 246, 10], NEURON, readout=LI(10e-3, 5e-3))
    network.load_state_dict(large.state_dict(), strict=False)
    network.projection("hidden2", "output").weight.data *= 0.2  # within the converter's range
    lab = Experiment(network, 60e-3, OnChip(IDEAL), EventProp(slope_floor=0.1), Observe(peak="output"))
    given, label = drive(256), torch.tensor([0, 1, 2, 3])
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = max_over_time_cross_entropy(lab(given).peak["output"], label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    for projection in network.projections.values():
        assert projection.weight.grad is not None
        assert (projection.weight.grad != 0).double().mean() > 0.1
    assert losses[-1] < 0.5 * losses[0]


def test_chips_take_turns(large, calibrations):
    chips = [IDEAL, Twin(8, ideal=EVERYTHING), Twin(9, ideal=EVERYTHING)]
    substrate = OnChip(chips)
    lowering = run(large, drive(256), 60e-3, substrate=substrate).lowering
    assert calibrations == [*chips, *chips[:2]]
    assert lowering is not None
    assert lowering.calibration == "; ".join(f"{chip!r}, version {VERSION}" for chip in chips)
    assert "OnChip([Twin(7, ideal=EVERYTHING), Twin(8" in repr(substrate)
    with pytest.raises(OutOfRange, match="no chip is given"):
        OnChip([])


def test_each_run_has_a_draw_of_its_own(large, monkeypatch):
    seen = []
    emulate = Twin.emulate
    monkeypatch.setattr(
        Twin, "emulate", lambda self, what, sent, cycles: seen.append(sent.trial) or emulate(self, what, sent, cycles)
    )
    noisy = Twin(7, ideal=EVERYTHING - {Imperfection.THRESHOLD_RUN})
    records = [run(large, drive(256), 60e-3, substrate=OnChip(noisy), number=n) for n in (3, 3, 4)]
    assert seen[:5] == seen[5:10]
    assert len(set(seen)) == 10
    assert all(0 <= trial < 2**63 for trial in seen)
    assert torch.equal(records[0].spikes["output"].time, records[1].spikes["output"].time)
    assert records[0].number == 3


def test_dropout_reaches_every_part(large):
    large.populations["hidden1"].dropout = 0.5
    torch.manual_seed(0)
    record = run(large, drive(256), 60e-3, substrate=OnChip(IDEAL), training=True)
    plain = run(large, drive(256), 60e-3, substrate=OnChip(IDEAL))
    active = plain.count["hidden1"] > 0
    quiet = (record.count["hidden1"] == 0) & active
    for part in (slice(0, 200), slice(200, 400)):
        assert 0.4 < quiet[:, part].sum() / active[:, part].sum() < 0.6


def test_peaks_come_from_every_part_and_membranes_from_whole_populations(large):
    substrate = OnChip(IDEAL)
    offer = substrate.offers(large)
    assert set(offer.membrane) == {"output"}
    observe = Observe({"output": 2e-3}, peak={"hidden1", "output"})
    record = run(large, drive(256), 60e-3, substrate=substrate, observe=observe)
    assert record.membrane["output"].value.shape[::2] == (4, 10)
    assert record.peak["hidden1"].value.shape == (4, 400)
    spiking = record.count["hidden1"] > 0
    for part in (slice(0, 200), slice(200, 400)):
        value = record.peak["hidden1"].value[:, part]
        assert 0.8 < value[spiking[:, part]].mean() < 1.0
    with pytest.raises(CannotObserve, match="membrane of 'hidden1' cannot be sampled"):
        run(large, drive(256), 60e-3, substrate=substrate, observe=Observe({"hidden1": 2e-3}))


def test_sparse_and_shared_weights_are_cut_by_their_targets():
    torch.manual_seed(0)
    convolution = Projection.conv2d("a", "b", 0.3 * torch.randn(4, 1, 5, 5).abs(), (1, 20, 20))
    network = Network(
        {"a": Population(400), "b": Population(4 * 16 * 16, NEURON), "c": Population(3, NEURON)},
        [convolution, Projection.sparse("b", "c", torch.arange(1024), torch.arange(1024) % 3, torch.rand(1024))],
    )
    assert len(split(network, 1)) > 2
    record = run(network, drive(400), 40e-3, substrate=OnChip(IDEAL), number=0)
    unit = float(scale_of(network.populations["b"], 1000.0).weight[0])
    assert record.executed["a_to_b"].shape == (4, 1, 5, 5)
    weight = network.projections["a_to_b"].weight.detach()
    assert torch.allclose(record.executed["a_to_b"], (weight / unit).round().clamp(-63, 63) * unit, atol=1e-5)
    assert record.executed["b_to_c"].shape == (1024,)
    assert record.spikes["b"].size == 1024


def test_what_changes_in_place_reaches_the_parts(large):
    given, substrate = drive(256), OnChip(IDEAL)
    before = run(large, given, 60e-3, substrate=substrate, number=0)
    large.populations["hidden2"].threshold.fill_(2.0)
    large.projection("hidden2", "output").weight.data *= 2
    after = run(large, given, 60e-3, substrate=substrate, number=0)
    assert torch.equal(after.spikes["hidden1"].time, before.spikes["hidden1"].time)
    assert len(after.spikes["hidden2"].time) < len(before.spikes["hidden2"].time)
    assert (substrate.weight_codes(large)["hidden2_to_output"].abs() <= 63).all()
    assert substrate.weight_codes(large)["input_to_hidden1"].shape == (256, 400)


def test_what_cannot_be_cut_is_refused_by_name(large):
    given = drive(70)
    with pytest.raises(DoesNotFit, match=r"population 'hidden'.*reach each other, so it has to run on one chip.*1200 "):
        run(recurrent([70, 300, 20], NEURON), given, 50e-3, substrate=OnChip(IDEAL))
    wide = feedforward([70_000, 3], NEURON)
    with pytest.raises(DoesNotFit, match=r"not even one of its neurons fits on a chip: 548 neuron circuits.*36 more"):
        run(wide, drive(70_000), 50e-3, substrate=OnChip(IDEAL))
    with pytest.raises(DoesNotFit, match=r"takes 5 runs.*at most 4"):
        run(large, drive(256), 50e-3, substrate=OnChip(IDEAL, runs=4))
    with pytest.raises(OutOfRange, match="runs is 0"):
        OnChip(IDEAL, runs=0)
    single = nominal(IDEAL, default_target())
    with pytest.raises(Unsupported, match="takes 5 runs, and a calibration is for one"):
        run(large, drive(256), 50e-3, substrate=OnChip(IDEAL, calibration=single))


def test_delays_are_refused_in_parts_too():
    network = Network(
        {"a": Population(300), "b": Population(400, NEURON)}, [Projection("a", "b", torch.ones(300, 400), delay=1e-3)]
    )
    with pytest.raises(Unsupported, match=r"projection a_to_b: delays of up to 0\.001 s"):
        run(network, drive(300), 50e-3, substrate=OnChip(IDEAL))
