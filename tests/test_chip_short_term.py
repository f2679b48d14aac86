"""Plastic synapse drivers of a twin: their law, placement, runs that are cut, beside Ideal, and trained in the loop."""

import math
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import plastic
import pytest
import torch
from chips import IDEAL, SPEEDUP, by_the_laws, configuration, events, ready, same

import spikeloop as sl
from spikeloop.chip.calibrate_drivers import calibrate_drivers
from spikeloop.chip.configuration import CYCLE, Configuration
from spikeloop.chip.drivers import (
    OFFSET_NEUTRAL,
    OFFSET_STEP,
    Drivers,
    pulses_of,
    recovery_time,
    utilisation,
)
from spikeloop.chip.lower_drivers import driver_of, nominal_drivers
from spikeloop.chip.mapping import place
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.chip.wiring import fired, link_buses
from spikeloop.plasticity import Plasticity, ShortTerm

MS = 1e-3
LI, LIF = sl.LI(6 * MS, 6 * MS), sl.LIF(6 * MS, 6 * MS)
KINDS = [
    ShortTerm(0.2, 50 * MS),
    ShortTerm(0.3, 40 * MS, facilitating=True),
    ShortTerm((0.1, 0.3, 0.4), (4 * MS, 16 * MS, 8 * MS)),
]
LATER = ShortTerm(0.3, 32 * MS, facilitating=True)
ALL = np.ones((2, 128), bool)


def drive(size=3, batch=2, count=12, seed=0, duration=0.08):
    rng = np.random.default_rng(seed)
    return sl.Events.from_trains(
        [[np.sort(rng.uniform(0, duration, count)) for _ in range(size)] for _ in range(batch)], size
    )


def network(short, target=LI, seed=0, size=3, height=0.7):
    weight = torch.from_numpy(np.random.default_rng(seed).uniform(-0.2, height, (size, 4)))
    populations = {"input": sl.Population(size), "output": sl.Population(4, target)}
    return sl.Network(populations, [sl.Projection("input", "output", weight, short_term=short)])


def heights(rng, short, low, high, shape):
    """Weights whose first events add between ``low`` and ``high``, or one that facilitates would at last."""
    weight = torch.from_numpy(rng.uniform(low, high, shape))
    if short is None or short.facilitating:
        return weight
    return weight / torch.tensor(np.broadcast_to(short.each("utilisation"), shape[0]).copy())[:, None]


def stacked(short, later, seed=0):
    """Spikes of a first layer drive a second one through plastic drivers, and through plain ones."""
    rng = np.random.default_rng(seed)
    first, second = heights(rng, short, 0.4, 0.6, (3, 6)), heights(rng, later, -0.1, 0.5, (6, 4))
    third = torch.from_numpy(rng.uniform(-0.1, 0.3, (6, 2)))
    populations = {"input": sl.Population(3), "hidden": sl.Population(6, LIF), "output": sl.Population(4, LI),
                   "other": sl.Population(2, LI)}  # fmt: skip
    return sl.Network(
        populations,
        [
            sl.Projection("input", "hidden", first, short_term=short),
            sl.Projection("hidden", "output", second, short_term=later),
            sl.Projection("hidden", "other", third),
        ],
    )


def executed(net, record):
    """The network with the weights that the chip had."""
    made = sl.Network(dict(net.populations.items()), [
        sl.Projection(p.source, p.target, record.executed[name], short_term=p.short_term)
        for name, p in net.projections.items()
    ])  # fmt: skip
    return made


# ---- the law ---------------------------------------------------------------------------------------------------------


def raw(drivers, weight=40, rows=1, watch=(5, 300), **more) -> Configuration:
    """Every driver is fired by every event; ``rows`` of each column answer to the labels 2 and 3 (`chips`)."""
    return replace(configuration(weight, rows, watch=watch, **more), drivers=drivers)


def naive_lengths(cycles, drivers, place=(0, 0)):
    """One event after the other, by the text of hardware.md 1.7."""
    used = float(utilisation(drivers.utilisation[place]))
    tau = float(recovery_time(drivers.recovery[place], drivers.recovery_clock[0]))
    x, last, found = 1.0, -math.inf, []
    for cycle in cycles:
        x = 1 - (1 - x) * math.exp(-(cycle - last) * CYCLE / tau)
        taken, last = (1 - used) * x, cycle
        found.append(1 - taken if drivers.facilitating[place] else taken)
        x = taken
    return found


def naive_potential(cycles, lengths, weight, at, tau=6e-6):
    """Volts above the leak, tau_mem = tau_syn = 6 us at the reference: 0.377 CADC steps for each weight step."""
    height = 0.377 * math.e * 4.5e-3
    since = (at[:, None] - np.asarray(cycles)[None]) * CYCLE / tau
    return (weight * height * np.asarray(lengths) * np.where(since > 0, since * np.exp(-np.maximum(since, 0)), 0)).sum(
        1
    )


@pytest.mark.parametrize("facilitating", [False, True])
@pytest.mark.parametrize("codes", [(7, 3, 0), (15, 0, 2), (3, 15, 1)])
def test_a_membrane_is_that_of_pulses_of_the_law(facilitating, codes):
    used, recovery, clock = (np.full((2, 128), code, np.uint8) for code in codes)
    drivers = Drivers(ALL, facilitating & ALL, used, recovery, recovery_clock=clock.reshape(-1)[:1])
    cycles = [1000, 1400, 1500, 2600, 3600, 3700]
    configured = raw(drivers, 30)
    configured = replace(configured, analog=replace(configured.analog, fires=np.zeros(512, bool)))
    out = IDEAL.emulate(configured, events([(cycle, 2) for cycle in cycles]), 5000)
    code = configured.analog
    tau = 511e-6 * 8 / float(code.leak_bias[5]), 306e-6 * 8 / float(code.synapse_bias[5])
    assert tau == pytest.approx((6e-6, 6e-6), rel=2e-3)
    expected = naive_potential(cycles, naive_lengths(cycles, drivers), 30, out.cadc_cycle[0]) / 4.5e-3
    assert expected.max() > 2
    np.testing.assert_allclose(out.cadc[0] - 80.0, np.stack([expected, expected], 1), atol=0.65)


def test_whatever_fires_a_driver_uses_its_resources():
    """Sources that share a driver wear it out together: labels are the synapses' business."""
    drivers = Drivers(ALL, utilisation=np.full((2, 128), 15, np.uint8), recovery_clock=np.array([5], np.uint8))
    alone = IDEAL.emulate(raw(drivers), events([(3000, 2)]), 5000)
    others = IDEAL.emulate(raw(drivers), events([(cycle, 9) for cycle in range(1000, 1100, 10)] + [(3000, 2)]), 5000)
    heights = [float((out.cadc[0].max(0) - out.cadc[0, 0]).mean()) for out in (alone, others)]
    lengths = naive_lengths([*range(1000, 1100, 10), 3000], drivers)
    assert heights[1] / heights[0] == pytest.approx(lengths[-1] / 0.6, abs=0.1)
    assert heights[1] < 0.4 * heights[0]


def test_codes_off_change_nothing():
    """Drivers that are all plain are those of a configuration without them, in steps of a cycle, too."""
    drive = events([(1000, 2), (1500, 3), (2000, 2)])
    plain, off = (Twin(7).emulate(raw(each), drive, 4000, keep=True) for each in (None, Drivers()))
    assert all(np.array_equal(getattr(plain, name), getattr(off, name)) for name in ("cycle", "cadc", "madc", "lost"))


def test_mismatch_is_of_the_stated_strength():
    made = [pulses_of(Drivers(ALL), Twin(seed).pattern()) for seed in range(8)]
    used = np.log(np.concatenate([each.recovery.utilisation for each in made]) / 0.2)
    tau = np.log(np.concatenate([each.recovery.tau for each in made]) / 2e-6)
    offset = np.concatenate([each.offset for each in made])
    for found, stated in ((used, 0.10), (tau, 0.15), (offset, 0.08)):
        assert found.std() == pytest.approx(stated, rel=0.06)
        assert abs(found.mean()) < 0.08 * stated
    perfect = pulses_of(Drivers(ALL), Twin(3, ideal={Imperfection.SHORT_TERM}).pattern())
    assert np.ptp(perfect.recovery.utilisation) == np.ptp(perfect.recovery.tau) == np.ptp(perfect.offset) == 0
    lengths = perfect.lengths(0, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(lengths, [0.0, 0.4, 0.8])
    low = replace(perfect, offset=perfect.offset - 0.5)
    assert low.lengths(0, np.array([0.1])).tolist() == [0.0]  # a pulse is not negative


def test_offsets_are_found_by_measurement():
    twin = Twin(7)
    code = calibrate_drivers(twin)
    before, after = (pulses_of(Drivers(ALL, offset=each), twin.pattern()).offset
                     for each in (Drivers().offset, code))  # fmt: skip
    reach = np.abs(before) < OFFSET_STEP * (OFFSET_NEUTRAL - 1.5)
    assert reach.mean() > 0.85
    assert before.std() > 0.06
    assert after[reach].std() < 0.012
    assert abs(after[reach].mean()) < 0.005


# ---- placement -------------------------------------------------------------------------------------------------------


def test_a_plastic_source_has_its_drivers_for_itself():
    """No address of another source fires a driver that is plastic."""
    populations = {"input": sl.Population(12), "plain": sl.Population(40), "output": sl.Population(4, LIF)}
    short = ShortTerm(0.2, 50 * MS)
    net = sl.Network(populations, [
        sl.Projection("input", "output", torch.rand(12, 4), short_term=short),
        sl.Projection("plain", "output", torch.rand(40, 4)),
    ])  # fmt: skip
    placement, codes = place(net), nominal_drivers(net, place(net), SPEEDUP)
    assert codes.plastic.sum() == np.unique(driver_of(placement.synapse["input_to_output"])).size
    for name, addresses in placement.address.items():
        for unit, word in enumerate(addresses.tolist()):
            reached = [half * 128 + fired(placement.routing, word & 0x3FFF, half, bus)
                       for half, bus in link_buses(placement.routing, word)]  # fmt: skip
            plastics = np.intersect1d(np.concatenate(reached), np.flatnonzero(codes.plastic))
            own = driver_of(placement.synapse["input_to_output"][:, unit]) if name == "input" else []
            assert set(plastics.tolist()) <= set(np.ravel(own).tolist())


def test_a_source_may_be_plastic_for_one_target_and_not_for_another():
    net = stacked(None, KINDS[0])
    placement = place(net)
    codes = nominal_drivers(net, placement, SPEEDUP)
    plain, plastic_ = (driver_of(placement.synapse[name]) for name in ("hidden_to_other", "hidden_to_output"))
    assert codes.plastic.reshape(-1)[plastic_].all()
    assert not codes.plastic.reshape(-1)[plain].any()


def test_what_a_chip_cannot_set_is_refused():
    twin = sl.OnChip(IDEAL)
    for short, match in (
        (ShortTerm(0.6, 50 * MS), "utilisation is 0.6.*0.025 to 0.4"),
        (ShortTerm(0.01, 50 * MS), "utilisation is 0.01.*0.025 to 0.4"),
        (ShortTerm(0.2, 1e-4), "tau is 0.0001 s.*0.001 to"),
        (ShortTerm(0.2, 1e4), "tau is 10000 s"),
    ):
        with pytest.raises(sl.OutOfRange, match=f"input_to_output, short_term: {match}"):
            sl.run(network(short), drive(), 0.08, substrate=twin)
    with pytest.raises(sl.DoesNotFit, match="short-term plasticity.*at most 32 such sources"):
        place(network(ShortTerm(0.2, 50 * MS), size=40))
    rule = Plasticity(lambda view: None, w_max=1.0, period=20 * MS)
    learned = sl.Network({"input": sl.Population(3), "output": sl.Population(4, LI)}, [
        sl.Projection("input", "output", torch.rand(3, 4), plasticity=rule, short_term=KINDS[0]),
    ])  # fmt: skip
    with pytest.raises(sl.Unsupported, match="depressed, and a rule"):
        sl.run(learned, drive(), 0.08, substrate=twin)
    wrong = np.full((2, 128), 7, np.uint8)
    wrong[0, 3] = 16
    with pytest.raises(sl.OutOfRange, match=r"utilisation\[0, 3\] is 16"):
        Drivers(utilisation=wrong)
    with pytest.raises(sl.WrongType, match="drivers is a dict.*Drivers, or None"):
        Configuration(drivers={})


def test_a_loop_of_raw_codes_is_refused():
    """A driver that several neurons fire which it reaches: whoever wrote the codes hears of it."""
    code = raw(Drivers(ALL))
    target = np.zeros((8, 2), np.uint16)
    routing = replace(code.routing, output_target=target, output_mask=target)
    with pytest.raises(sl.Unsupported, match="plastic, and fired by neurons within a loop and by others"):
        Twin(1).emulate(replace(code, routing=routing), events([(100, 2)]), 1000)


def test_what_is_rounded_is_told():
    net = network(ShortTerm(0.2, (1 * MS, 5000 * MS, 50 * MS)))
    with pytest.warns(UserWarning, match="input_to_output: its short-term tau is rounded.*one clock"):
        nominal_drivers(net, place(net), SPEEDUP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nominal_drivers(network(KINDS[2]), place(network(KINDS[2])), SPEEDUP)
        codes = nominal_drivers(network(KINDS[2]), place(network(KINDS[2])), SPEEDUP)
    used = np.sort(np.unique(utilisation(codes.utilisation[codes.plastic])))
    np.testing.assert_allclose(used, [0.1, 0.3, 0.4])


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", KINDS)
def test_a_twin_without_imperfections_is_ideal_to_a_step_of_the_converter(short):
    """With the chip's weights: within the rounding of the converter and of the codes of neurons and drivers."""
    net, sent = network(short), drive()
    record = sl.run(net, sent, 0.08, substrate=ready(net), observe=sl.Observe(membrane={"output": 1.704 * MS}))
    seen = record.membrane["output"]
    ideal = sl.run(executed(net, record), sent, 0.08, observe=sl.Observe(membrane={"output": seen.time[0]}))
    off = (seen.value - ideal.membrane["output"].value.detach()).abs()
    height = float(ideal.membrane["output"].value.detach().abs().max())
    assert height > 0.1
    assert float(off.detach().max()) < 1 / 70 + 0.02 * height


def test_sizes_are_what_ideal_computes():
    """The naive twin of Ideal: a depressing pulse over the weight's code is U x over the model's weight."""
    train = [1 * MS, 4 * MS, 5 * MS, 30 * MS]
    for used, tau, facilitating in ((0.2, 50 * MS, False), (0.3, 40 * MS, True)):
        given = plastic.sizes(train, used, tau, facilitating)
        codes = Drivers(ALL, facilitating & ALL, np.full((2, 128), round(used / 0.025) - 1, np.uint8))
        pulses = pulses_of(codes, IDEAL.pattern())
        x, last, found = 1.0, -math.inf, []
        for time in train:
            x = 1 - (1 - x) * math.exp(-(time - last) / tau)
            found.append(float(pulses.lengths(0, np.array([x]))[0]) * (1.0 if facilitating else used / (1 - used)))
            x, last = (1 - used) * x, time
        np.testing.assert_allclose(found, given, rtol=1e-12)


def test_spikes_of_a_chip_wear_out_drivers_too():
    net, sent = stacked(KINDS[0], LATER), drive(count=40)
    record = sl.run(net, sent, 0.08, substrate=ready(net), observe=sl.Observe(membrane={"output": 1.704 * MS}))
    assert len(record.spikes["hidden"].time) > 20
    made = executed(net, record)  # its second layer, driven by the spikes that the chip's first one made
    second = sl.Network({"hidden": sl.Population(6), "output": sl.Population(4, LI)},
                        [sl.Projection("hidden", "output", made.projections["hidden_to_output"].weight.detach(),
                                       short_term=LATER)])  # fmt: skip
    seen = record.membrane["output"]
    ideal = sl.run(second, record.spikes["hidden"].detach(), 0.08,
                   observe=sl.Observe(membrane={"output": seen.time[0]}))  # fmt: skip
    expected = ideal.membrane["output"].value.detach()
    assert float(expected.abs().max()) > 0.1
    torch.testing.assert_close(seen.value, expected, rtol=0.02, atol=1 / 70)


def test_a_mismatched_twin_is_within_its_spread():
    """One strong source: the ratio of later pulses to the first varies from chip to chip as U, tau and o say."""
    short, train = ShortTerm(0.2, 30 * MS), [10 * MS + 2 * MS * k for k in range(12)]
    net = network(short, seed=3, size=1)
    with torch.no_grad():
        net.projections["input_to_output"].weight.fill_(0.8)
    sent = sl.Events.from_trains([[train]], 1)
    kept = EVERYTHING - {Imperfection.SHORT_TERM}

    def height(seed, ideal):
        record = sl.run(net, sent, 0.05, substrate=ready(net, Twin(seed, ideal=ideal)),
                        observe=sl.Observe(membrane={"output": 1.704 * MS}))  # fmt: skip
        return float(record.membrane["output"].value.detach().max(1).values.mean())

    ratio = np.array([height(seed, kept) for seed in range(30)]) / height(0, EVERYTHING)
    assert abs(ratio.mean() - 1) < 0.1
    assert 0.06 < ratio.std() < 0.35  # o is 0.08 of pulses of 0.8 down to 0.2


@pytest.mark.parametrize("short", KINDS)
def test_a_cut_run_is_the_uncut_one_bit_for_bit(short):
    net, sent, twin = stacked(short, LATER), drive(seed=2, count=40), Twin(7)
    chip, other = (sl.OnChip(twin, calibration=by_the_laws(twin, net)) for _ in range(2))
    wish = sl.Observe(membrane={"output": 1.704 * MS}, state=True)
    whole, state, parts = sl.run(net, sent, 0.08, substrate=chip, observe=wish), None, []
    assert len(whole.spikes["hidden"].time) > 20
    for begin, end in ((0.0, 0.0104), (0.0104, 0.032), (0.032, 0.08)):
        inside = (sent.time >= begin) & (sent.time < end)
        part = sl.Events._from_rows(sent.time[inside], sent.unit[inside], sent.sample[inside], 2, 3)
        parts.append(sl.run(net, part, end - begin, substrate=other, observe=wish, start=state))
        state = parts[-1].state
    for sample in range(2):
        trains = [record.spikes["hidden"][sample : sample + 1].time.tolist() for record in (whole, *parts)]
        assert [time for part in trains[1:] for time in part] == trains[0]
    pieces = torch.cat([record.membrane["output"].value for record in parts], 1)
    assert torch.equal(whole.membrane["output"].value, pieces)


def test_what_is_set_after_a_run_holds_in_the_next_one():
    sent, twin = drive(seed=2, count=40), Twin(7)
    kinds = [KINDS[0], KINDS[1], None, KINDS[2], KINDS[0]]
    net, found = network(kinds[0]), []
    chip = sl.OnChip(twin, calibration=by_the_laws(twin, net))
    wish = sl.Observe(membrane={"output": 1.704 * MS})
    for kind in kinds:
        net.projections["input_to_output"].short_term = kind
        record, fresh = (sl.run(n, sent, 0.08, substrate=chip, observe=wish, number=1) for n in (net, network(kind)))
        found.append(record.membrane["output"].value.detach())
        assert torch.equal(found[-1], fresh.membrane["output"].value)
    assert torch.equal(found[0], found[-1])
    for one, other in pairwise(found):
        assert float((one - other).abs().max()) > 0.05
    net.projections["input_to_output"].short_term = ShortTerm(0.9, 40 * MS)
    with pytest.raises(sl.OutOfRange, match=r"utilisation is 0\.9"):
        sl.run(net, sent, 0.08, substrate=chip)


def test_threads_and_batches_change_nothing():
    drivers = Drivers(ALL, recovery_clock=np.array([2], np.uint8))
    runs = [[(100 * k + 13 * b + 500, 2 + k % 2) for k in range(12)] for b in range(4)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(Twin(5).emulate(raw(drivers, 50, watch=(5,)), events(*runs), 2500))
    finally:
        torch.set_num_threads(before)
    assert same(*found)
    assert found[0].cadc.std() > 1
    assert found[0].cadc.shape[0] == 4


def test_drivers_of_another_code_do_not_go_on():
    one, other = Drivers(ALL), Drivers(ALL, utilisation=np.full((2, 128), 3, np.uint8))
    state = Twin(5).emulate(raw(one), events([(100, 2)]), 1000, keep=True).state
    with pytest.raises(sl.OutOfRange, match="another configuration"):
        Twin(5).emulate(raw(other), events([(1100, 2)]), 1000, start=state)
    out = Twin(5).emulate(raw(one), events([(1100, 2)]), 1000, start=state)
    assert out.cadc.shape[1] > 0


# ---- in the loop -----------------------------------------------------------------------------------------------------


def loss_of(record):
    return (record.membrane["output"].value * torch.linspace(-1, 1, 4)).mean() + record.spikes["hidden"].time.mean()


def in_the_loop():
    """20 ms on a twin without imperfections, with gradients; the record, and the network with the chip's weights."""
    net, sent = stacked(KINDS[0], LATER), drive(seed=5, count=10, duration=0.02)
    record = sl.run(net, sent, 0.02, substrate=ready(net), rule=sl.EventProp(),
                    observe=sl.Observe(membrane={"output": 1.704 * MS}))  # fmt: skip
    loss_of(record).backward()
    return net, sent, record, executed(net, record)


def test_gradients_in_the_loop_are_those_of_ideal():
    """EventProp takes the twin's spikes and the model's drivers; without imperfections it is Ideal's gradient."""
    net, sent, record, made = in_the_loop()
    at = record.membrane["output"].time[0]
    ideal = sl.run(made, sent, 0.02, rule=sl.EventProp(), observe=sl.Observe(membrane={"output": at}))
    assert len(ideal.spikes["hidden"].time) == len(record.spikes["hidden"].time) > 10
    loss_of(ideal).backward()
    for name in ("input_to_hidden", "hidden_to_output"):
        one, other = (each.projections[name].weight.grad.double() for each in (net, made))
        assert float(other.abs().max()) > 0
        assert float((one * other).sum() / one.norm() / other.norm()) > 0.99, name
        assert float(one.norm() / other.norm()) == pytest.approx(1, abs=0.1)


def test_gradients_in_the_loop_are_central_differences_given_the_recorded_spikes():
    net, _, record, made = in_the_loop()
    spikes, at = record.spikes["hidden"].detach(), record.membrane["output"].time[0]

    def loss(weight):
        second = sl.Network({"hidden": sl.Population(6), "output": sl.Population(4, LI)},
                            [sl.Projection("hidden", "output", weight, short_term=LATER)])  # fmt: skip
        membrane = sl.run(second, spikes, 0.02, observe=sl.Observe(membrane={"output": at})).membrane["output"]
        return float((membrane.value.detach() * torch.linspace(-1, 1, 4)).mean())

    weight = made.projections["hidden_to_output"].weight.detach().clone()
    gradient = net.projections["hidden_to_output"].weight.grad
    for index in (0, 7, 14, 23):
        slope = 0.0
        for by in (1e-4, -1e-4):
            moved = weight.clone()
            moved.reshape(-1)[index] += by
            slope += loss(moved) / 2 / by
        assert float(gradient.reshape(-1)[index]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def trained(net, chip, rate):
    """Losses while membranes after a burst are pulled to given ones, with that chip in the loop."""
    sent, target = drive(batch=1, count=15), torch.tensor([0.35, 0.1, 0.25, -0.1], dtype=torch.float64)
    optimiser, losses = torch.optim.Adam(net.parameters(), rate), []
    for _ in range(40):
        trial = sl.run(net, sent, 0.08, substrate=chip, rule=sl.EventProp(),
                       observe=sl.Observe(membrane={"output": 5.1 * MS}))  # fmt: skip
        loss = ((trial.membrane["output"].value[:, 3:].mean((0, 1)) - target) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_training_in_the_loop_reaches_a_target():
    """A mismatched chip: the membranes after a burst are pulled to given ones through worn-out synapses."""
    torch.manual_seed(0)
    net, twin = network(ShortTerm(0.3, 40 * MS), seed=1), Twin(7)
    chip = sl.OnChip(twin, calibration=by_the_laws(twin, net))
    losses = trained(net, chip, 0.03)
    assert losses[-1] < 0.2 * losses[0]
