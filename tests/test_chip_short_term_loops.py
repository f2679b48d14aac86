"""Plastic synapse drivers within loops of a twin: beside Ideal and the law, cut anywhere, and trained in the loop."""

import math

import numpy as np
import pytest
import torch
from chips import by_the_laws, ready
from test_chip_short_term import LATER, LI, MS, drive, executed, heights, trained

import spikeloop as sl
from spikeloop.chip.drivers import pulses_of
from spikeloop.chip.lower_drivers import driver_of, nominal_drivers
from spikeloop.chip.mapping import place
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.plasticity import Plastic, Program, ShortTerm

LIF = sl.LIF(6 * MS, 6 * MS, refractory=1 * MS)
LOOPED = [ShortTerm(0.2, 50 * MS), ShortTerm(0.3, 40 * MS, facilitating=True)]


def looped(short, onward=None, seed=0, adex=False):
    """Neurons that drive each other through plastic drivers, and others onward, through such or plain ones."""
    rng = np.random.default_rng(seed)
    neuron = sl.AdEx(6 * MS, 6 * MS, tau_adaptation=50 * MS, b=0.05) if adex else LIF
    first = heights(rng, None, 0.4, 0.6, (3, 6))
    around, out = heights(rng, short, -0.2, 0.2, (6, 6)), heights(rng, onward, -0.1, 0.5, (6, 4))
    return sl.Network({"input": sl.Population(3), "hidden": sl.Population(6, neuron), "output": sl.Population(4, LI)}, [
        sl.Projection("input", "hidden", first),
        sl.Projection("hidden", "hidden", around, short_term=short),
        sl.Projection("hidden", "output", out, short_term=onward),
    ])  # fmt: skip


@pytest.mark.parametrize("short", LOOPED)
def test_a_twin_without_imperfections_is_ideal(short):
    """With the chip's weights: the same spikes, but for what the codes of neurons and drivers are rounded."""
    net, sent = looped(short, LATER, 1), drive(seed=5, count=4, duration=0.01)
    record = sl.run(net, sent, 0.02, substrate=ready(net))
    made = executed(net, record)
    plain = sl.Network(dict(made.populations.items()), [
        sl.Projection(p.source, p.target, p.weight.detach(), short_term=None if p.target == "hidden" else p.short_term)
        for p in made.projections.values()
    ])  # fmt: skip
    trains = [of_each(sl.run(each, sent, 0.02).spikes["hidden"]) for each in (made, plain)]
    seen, (expected, without) = of_each(record.spikes["hidden"]), trains
    assert sum(map(len, expected)) > 20
    assert [len(train) for train in seen] == [len(train) for train in expected] != [len(train) for train in without]
    np.testing.assert_allclose(np.concatenate(seen), np.concatenate(expected), rtol=0, atol=0.1 * MS)


def of_each(spikes):
    """The trains of six neurons in two samples."""
    time, unit, sample = (part.detach().numpy() for part in (spikes.time, spikes.unit, spikes.sample))
    return [np.sort(time[(unit == n) & (sample == b)]) for b in range(2) for n in range(6)]


def of_the_law(times, pulses, at, short):
    """Sizes of the model's events that a chip's driver makes of spikes, one after the other."""
    used, tau, offset = (float(part[at]) for part in (pulses.recovery.utilisation, pulses.recovery.tau, pulses.offset))
    x, last, found = 1.0, -math.inf, []
    for time in times:
        x = 1 - (1 - x) * math.exp(-(time - last) / (tau * 1000))
        left, last = (1 - used) * x, time
        found.append(max((1 - left if short.facilitating else left) + offset, 0.0))
        x = left
    factor = 1.0 if short.facilitating else short.each("utilisation")[0] / (1 - short.each("utilisation")[0])
    return factor * np.array(found)


@pytest.mark.parametrize("short", LOOPED)
@pytest.mark.parametrize("seed", [3, 8])
def test_pulses_are_those_of_the_chips_drivers(short, seed):
    """A neuron of the loop is watched, which does not spike: it sees pulses of this chip's U, tau and ramps."""
    twin = Twin(seed, ideal=EVERYTHING - {Imperfection.SHORT_TERM})
    around = torch.tensor([[0.0, 0.3], [0.0, 0.0]])
    if not short.facilitating:
        around = around / short.each("utilisation")[0]
    net = sl.Network({"input": sl.Population(1), "hidden": sl.Population(2, LIF)}, [
        sl.Projection("input", "hidden", torch.tensor([[0.7, 0.0]])),
        sl.Projection("hidden", "hidden", around, short_term=short),
    ])  # fmt: skip
    sent = sl.Events.from_trains([[[10 * MS + 0.9 * MS * k for k in range(40)]]], 1)
    chip = ready(net, twin)
    record = sl.run(net, sent, 0.08, substrate=chip, observe=sl.Observe(membrane={"hidden": 1.704 * MS}))
    spikes = record.spikes["hidden"]
    assert (spikes.unit == 0).all()
    assert len(spikes.time) >= 5
    placement = place(net)
    pulses = pulses_of(nominal_drivers(net, placement, 1000.0), twin.pattern())
    driver = driver_of(placement.synapse["hidden_to_hidden"])[:, 0, 1]
    at = int(np.flatnonzero(pulses.number == driver[0])[0])
    size = of_the_law(spikes.time.tolist(), pulses, at, short)
    weight = torch.from_numpy(size)[:, None] * record.executed["hidden_to_hidden"][0, 1].double()
    alone = sl.Network({"events": sl.Population(len(size)), "seen": sl.Population(1, LI)},
                       [sl.Projection("events", "seen", weight)])  # fmt: skip
    seen = record.membrane["hidden"]
    ideal = sl.run(alone, sl.Events.from_trains([[[time] for time in spikes.time.tolist()]], len(size)), 0.08,
                   observe=sl.Observe(membrane={"seen": seen.time[0]}))  # fmt: skip
    expected = ideal.membrane["seen"].value.detach()[0, :, 0]
    assert float(expected.max()) > 0.15
    torch.testing.assert_close(seen.value.detach()[0, :, 1], expected, rtol=0.02, atol=1 / 70)


@pytest.mark.parametrize("adex", [False, True])
@pytest.mark.parametrize(("short", "onward"), [(LOOPED[0], LOOPED[0]), (LOOPED[1], None), (LOOPED[0], LATER)])
def test_a_cut_run_is_the_uncut_one_bit_for_bit(short, onward, adex):
    """The drivers of a loop may reach neurons outside it, too."""
    net, sent, twin = looped(short, onward, 2, adex), drive(seed=2, count=40), Twin(7)
    chips = [sl.OnChip(twin, calibration=by_the_laws(twin, net)) for _ in range(2)]
    wish = sl.Observe(membrane={"output": 1.704 * MS}, state=True)
    whole, state, parts = sl.run(net, sent, 0.08, substrate=chips[0], observe=wish), None, []
    assert len(whole.spikes["hidden"].time) > 20
    for begin, end in ((0.0, 0.0104), (0.0104, 0.032), (0.032, 0.0321), (0.0321, 0.08)):
        inside = (sent.time >= begin) & (sent.time < end)
        part = sl.Events._from_rows(sent.time[inside], sent.unit[inside], sent.sample[inside], 2, 3)
        parts.append(sl.run(net, part, end - begin, substrate=chips[1], observe=wish, start=state))
        state = parts[-1].state
    for sample in range(2):
        trains = [record.spikes["hidden"][sample : sample + 1].time.tolist() for record in (whole, *parts)]
        assert [time for part in trains[1:] for time in part] == trains[0]
    pieces = torch.cat([record.membrane["output"].value for record in parts], 1)
    assert torch.equal(whole.membrane["output"].value, pieces)


def test_weights_that_come_later_find_worn_out_drivers():
    """A driver is used by whatever fires it, whether its synapses have weights or not: a rule may set them later."""
    twin, sent = Twin(7, ideal=EVERYTHING), drive(seed=2, count=40)

    def kernel(view):
        weights = view["hidden_to_hidden"].weights
        view["hidden_to_hidden"].weights = weights * 0.0 + (0.3 if view.call >= 2 else 0.0)

    rule = Program(kernel, {"hidden_to_hidden": Plastic(0.6, sensor=None)}, period=20 * MS)
    net = looped(LOOPED[1], None, 2)
    with torch.no_grad():
        net.projections["hidden_to_hidden"].weight.clamp_(min=0.0)
    net = sl.Network(dict(net.populations.items()), list(net.projections.values()), programs={"later": rule})
    chip = ready(net, twin)
    wish = sl.Observe(state=True)
    whole, state, parts = sl.run(net, sent, 0.08, substrate=chip, observe=wish), None, []
    for begin, end in ((0.0, 0.03), (0.03, 0.08)):
        inside = (sent.time >= begin) & (sent.time < end)
        part = sl.Events._from_rows(sent.time[inside], sent.unit[inside], sent.sample[inside], 2, 3)
        parts.append(sl.run(net, part, end - begin, substrate=chip, observe=wish, start=state))
        state = parts[-1].state
    spikes = whole.spikes["hidden"]
    assert len(spikes.time[spikes.time > 0.06]) > 10
    for sample in range(2):
        trains = [record.spikes["hidden"][sample : sample + 1].time.tolist() for record in (whole, *parts)]
        assert [time for part in trains[1:] for time in part] == trains[0]


def loss_of(record):
    return (record.membrane["output"].value * torch.linspace(-1, 1, 4)).mean() + record.spikes["hidden"].time.mean()


def test_gradients_in_the_loop_are_those_of_ideal():
    net, sent = looped(LOOPED[0], LATER, 1), drive(seed=5, count=4, duration=0.01)
    record = sl.run(net, sent, 0.02, substrate=ready(net), rule=sl.EventProp(),
                    observe=sl.Observe(membrane={"output": 1.704 * MS}))  # fmt: skip
    loss_of(record).backward()
    made = executed(net, record)
    ideal = sl.run(made, sent, 0.02, rule=sl.EventProp(),
                   observe=sl.Observe(membrane={"output": record.membrane["output"].time[0]}))  # fmt: skip
    assert len(ideal.spikes["hidden"].time) == len(record.spikes["hidden"].time) > 10
    loss_of(ideal).backward()
    for name in ("input_to_hidden", "hidden_to_hidden", "hidden_to_output"):
        one, other = (each.projections[name].weight.grad.double() for each in (net, made))
        assert float(other.abs().max()) > 0
        assert float((one * other).sum() / one.norm() / other.norm()) > 0.98, name
        assert float(one.norm() / other.norm()) == pytest.approx(1, abs=0.15)


def test_training_in_the_loop_reaches_a_target():
    """A mismatched chip: membranes behind a loop are pulled to given ones."""
    torch.manual_seed(0)
    net, twin = looped(LOOPED[0], None, 1), Twin(7)
    chip = sl.OnChip(twin, calibration=by_the_laws(twin, net))
    losses = trained(net, chip, 0.02)
    assert np.mean(losses[-3:]) < 0.3 * losses[0]


@pytest.mark.parametrize("short", [None, LOOPED[1]])
def test_what_loops_send_before_a_call_arrives(short):
    """Calls between the steps of several cycles are approached in single ones: no spike is lost where these begin."""
    around = torch.tensor([[0.0, 0.3], [0.0, 0.0]])

    def network(calls):
        rule = Program(lambda view: None, {"input_to_hidden": Plastic(0.8, sensor=None)}, period=calls)
        return sl.Network({"input": sl.Population(1), "hidden": sl.Population(2, LIF)}, [
            sl.Projection("input", "hidden", torch.tensor([[0.7, 0.0]])),
            sl.Projection("hidden", "hidden", around, short_term=short),
        ], programs={"nothing": rule})  # fmt: skip

    sent = sl.Events.from_trains([[[10 * MS + 0.9 * MS * k for k in range(40)]]], 1)
    wish = sl.Observe(membrane={"hidden": 1.704 * MS})

    def seen(calls, step):
        net = network(calls)
        record = sl.run(net, sent, 0.08192, substrate=ready(net, Twin(7, ideal=EVERYTHING, step=step)), observe=wish)
        return record.spikes["hidden"].time.detach().numpy(), record.membrane["hidden"].value.detach()[0, :, 1]

    spikes, membrane = seen([0.08], 1)
    assert len(spikes) > 5
    often = [time + 0.128 * MS for time in spikes.tolist()]  # in the step after the one in which a neuron fires
    _, cut = seen([*often, 0.08], 16)
    assert float(membrane.max()) > 0.15
    assert float((membrane - cut).abs().max()) < 2.5 / 70
