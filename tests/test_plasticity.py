"""Rules that change weights while a network runs on Ideal: what a kernel sees, when it is called, what it leaves."""

from itertools import pairwise

import numpy as np
import plastic
import pytest
import torch
from learning import LIF, SENSOR, drive, network, nothing, trains_of

import spikeloop as sl
from spikeloop.plasticity import (
    AdditiveSTDP,
    Plastic,
    Plasticity,
    Program,
)

pytestmark = pytest.mark.filterwarnings("ignore:drive 'input'")  # the drive is longer than most runs


# ---- what a kernel sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, torch.rand(4, 1) * 8e-3, torch.rand(4, 3) * 8e-3])
def test_a_kernel_sees_the_correlations_of_the_record(delay):
    def kernel(view):
        view.record("causal", view.causal)
        view.record("anticausal", view.anticausal)

    record = sl.run(network(kernel, delay=delay), drive(), 0.1)
    each = torch.as_tensor(delay, dtype=torch.float64).expand(4, 3)
    seen = record.recorded["input_to_output"]
    assert seen["causal"].time.tolist() == pytest.approx([k * 10e-3 for k in range(1, 11)])
    for call in (0, 4, 9):
        end = float(seen["causal"].time[call])
        for sample in range(2):
            sent, fired = trains_of(record.spikes["input"], sample), trains_of(record.spikes["output"], sample)
            for (i, j), lag in np.ndenumerate(each.numpy()):
                arrivals, spikes = sent[i] + lag, fired[j][fired[j] < end]
                arrivals = arrivals[arrivals < end]
                expected = (
                    plastic.causal(arrivals, spikes, 6e-3, 0.03),
                    plastic.anticausal(arrivals, spikes, 9e-3, 0.02),
                )
                found = [float(seen[name].value[call, sample, i, j]) for name in ("causal", "anticausal")]
                assert found == pytest.approx(expected, rel=1e-9)
    assert float(seen["causal"].value.max()) > 0.1


def test_counts_membranes_time_and_calls():
    def kernel(view):
        assert view.projections == ("input_to_output",)
        assert view.call == view.state.setdefault("calls", 0)
        view.state["calls"] += 1
        for name in ("counts", "source_counts", "membrane", "time"):
            view.record(name, getattr(view, name))

    duration, events = 0.05, drive()
    times = torch.arange(1, 6) * 10e-3
    record = sl.run(network(kernel), events, duration, observe=sl.Observe(membrane={"output": times}))
    seen = record.recorded["input_to_output"]
    raster = {name: record.spikes[name].raster(10e-3, duration).transpose(0, 1) for name in ("input", "output")}
    assert torch.equal(seen["counts"].value, raster["output"])
    assert torch.equal(seen["source_counts"].value, raster["input"])
    assert raster["output"].sum() > 10
    torch.testing.assert_close(
        seen["membrane"].value, record.membrane["output"].value.transpose(0, 1), rtol=0, atol=1e-5
    )  # single precision
    torch.testing.assert_close(seen["time"].value, times.double()[:, None].expand(5, 2))


def test_reset_empties_the_sensors_and_reading_does_not():
    def kernel(view):
        view.record("before", view.causal)
        view.record("again", view.causal)
        if view.call == 1:
            view.reset_correlation()
            view.record("after", view.causal)

    seen = sl.run(network(kernel), drive(1), 0.04).recorded["input_to_output"]
    before = seen["before"].value.sum((1, 2, 3))
    assert torch.equal(seen["before"].value, seen["again"].value)
    assert seen["after"].value.tolist() == [[[[0.0] * 3] * 4]]
    assert seen["after"].time.tolist() == [pytest.approx(20e-3)]
    assert before[1] > before[0] > 0
    assert before[2] < before[1]


def test_random_numbers_are_of_seed_sample_and_call():
    def kernel(view):
        view.record("even", view.random(1000))
        view.record("whole", view.integers(5, 1000))
        view.record("like", view.random())

    one, other = (sl.run(network(kernel, seed=s), drive(), 0.03).recorded["input_to_output"] for s in (1, 2))
    again = sl.run(network(kernel, seed=1), drive(), 0.03).recorded["input_to_output"]
    assert torch.equal(one["even"].value, again["even"].value)
    rows = torch.cat([one["even"].value.flatten(0, 1), other["even"].value.flatten(0, 1)])
    assert len(rows.unique(dim=0)) == len(rows) == 12
    assert 0 <= rows.min() < 0.01
    assert 0.99 < rows.max() < 1
    assert abs(float(rows.mean()) - 0.5) < 4 * 12**-0.5 / len(rows.flatten()) ** 0.5
    assert one["whole"].value.unique().tolist() == [0, 1, 2, 3, 4]
    assert one["like"].value.shape == (3, 2, 4, 3)


# ---- when it is called --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"period": 10e-3}, [0.01, 0.02, 0.03]),
        ({"period": 10e-3, "start": 5e-3}, [0.015, 0.025]),
        ({"period": (0.0, 7e-3, 30e-3, 50e-3)}, [0.0, 7e-3, 30e-3]),
        ({"period": None}, []),
    ],
)
def test_calls_are_at_their_times(given, expected):
    record = sl.run(network(lambda view: view.record("t", view.time), **given), drive(1), 0.03)
    found = record.recorded["input_to_output"]
    assert (found["t"].time.tolist() if found else []) == pytest.approx(expected)


@pytest.mark.parametrize("period", [1e-3, 0.1, 1 / 3, 7e-5])
def test_runs_that_follow_each_other_share_no_call_and_leave_none_out(period):
    program = network(period=period).programs["input_to_output"]
    rng = np.random.default_rng(0)
    cuts = [0.0, *np.cumsum(rng.integers(1, 9, 50) * period * rng.choice([1, 0.5, 0.3], 50)).tolist()]
    parts = [t for begin, end in pairwise(cuts) for t in program.calls(begin, end)]
    whole = program.calls(0.0, cuts[-1])
    assert len(parts) == len(whole) == round(cuts[-1] / period - 0.499999)
    assert parts == pytest.approx(whole)


def test_the_last_call_of_a_run_is_at_its_end_whatever_rounding_says():
    assert len(network(period=0.1).programs["input_to_output"].calls(0.0, 0.3)) == 3  # 3 * 0.1 > 0.3


# ---- what it leaves -----------------------------------------------------------------------------------------------


def test_each_sample_learns_for_itself_and_the_network_stays_as_it_is():
    net = network(AdditiveSTDP(), delay=1e-3)
    record = sl.run(net, drive(3), 0.1, observe=sl.Observe(history={"input_to_output"}))
    weights = record.weights["input_to_output"]
    assert weights.shape == (3, 4, 3)
    assert len(weights.flatten(1).unique(dim=0)) == 3
    assert torch.equal(net.projections["input_to_output"].weight, torch.full((4, 3), 0.5))
    history = record.history["input_to_output"]
    assert history.value.shape == (10, 3, 4, 3)
    assert torch.equal(history.value[-1], weights)
    for sample in range(3):
        alone = sl.run(net, drive(3)[sample : sample + 1], 0.1)
        assert torch.equal(alone.weights["input_to_output"][0], weights[sample]) or sample


def test_weights_act_from_the_call_on():
    def kernel(view):
        view.weights = np.where(view.time < 15e-3, 1.0, 0.0) * np.ones_like(view.weights)

    events = sl.Events.from_trains([[[t * 1e-3 for t in range(30)]]])
    net = network(kernel, weight=0.0, sources=1, targets=1, w_max=30.0)
    spikes = sl.run(net, events, 0.03).spikes["output"].time.detach()
    assert float(spikes.min()) > 10e-3
    assert float(spikes.max()) < 30e-3
    still = network(nothing, weight=0.0, sources=1, targets=1, w_max=30.0)
    assert len(sl.run(still, events, 0.03).spikes["output"].time) == 0


def test_a_rule_that_changes_nothing_changes_nothing():
    populations = {"input": sl.Population(4), "output": sl.Population(3, LIF)}
    fixed = sl.Network(populations, [sl.Projection("input", "output", torch.full((4, 3), 0.5), 3e-3)])
    events, wish = drive(), sl.Observe(membrane={"output": 1e-3}, peak={"output"})
    one = sl.run(network(delay=3e-3), events, 0.1, observe=wish)
    other = sl.run(fixed, events, 0.1, observe=wish)
    torch.testing.assert_close(one.spikes["output"].time, other.spikes["output"].time, rtol=0, atol=1e-7)
    assert torch.equal(one.spikes["output"].unit, other.spikes["output"].unit)
    assert torch.equal(one.count["output"], other.count["output"])
    torch.testing.assert_close(one.membrane["output"].value, other.membrane["output"].value, rtol=0, atol=2e-5)
    torch.testing.assert_close(one.peak["output"].value, other.peak["output"].value, rtol=0, atol=2e-5)
    assert one.cost.spikes == other.cost.spikes > 0


def test_weights_saturate_at_their_range():
    def kernel(view):
        view.weights += view.where(np.arange(3) == 0, 5.0, -5.0)

    one = sl.run(network(kernel, w_max=0.8), drive(1), 0.01).weights["input_to_output"]
    assert one[0, 0].tolist() == pytest.approx([0.8, 0.0, 0.0])
    signed = sl.run(network(kernel, w_max=0.8, signed=True), drive(1), 0.01).weights["input_to_output"]
    assert signed[0, 0].tolist() == pytest.approx([0.8, -0.8, -0.8])


def test_a_program_spans_projections_and_sees_both():
    def kernel(view):
        view["one"].weights += 0.1
        view["two"].weights = view["one"].weights * 0.5
        view.record("counts", view["two"].source_counts)

    ends = {"one": ("a", "output"), "two": ("b", "output")}
    net = sl.Network(
        {"a": sl.Population(2), "b": sl.Population(2), "output": sl.Population(3, LIF)},
        {name: sl.Projection(*end, torch.zeros(2, 3)) for name, end in ends.items()},
        programs={"both": Program(kernel, {"one": Plastic(1.0), "two": Plastic(2.0, sensor=None)}, period=10e-3)},
    )
    record = sl.run(net, {"a": drive(1, 2, seed=1), "b": drive(1, 2, seed=2)}, 0.1)
    assert record.weights["one"].unique().item() == pytest.approx(1.0)
    assert record.weights["two"].unique().item() == pytest.approx(1.0)
    assert int(record.recorded["both"]["counts"].value.sum()) == len(drive(1, 2, seed=2).time)


def test_recurrent_and_sparse_projections_learn():
    pre, post = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 1, 0, 1])
    rule = Plasticity(AdditiveSTDP(), 1.0, 10e-3, sensor=SENSOR)
    net = sl.Network(
        {"input": sl.Population(4), "output": sl.Population(3, LIF)},
        [
            sl.Projection("input", "output", torch.full((4, 3), 0.5)),
            sl.Projection.sparse("output", "output", pre, post, torch.full((4,), 0.2), 2e-3, plasticity=rule),
        ],
    )
    record = sl.run(net, drive(2), 0.1, observe=sl.Observe(history={"output_to_output"}))
    found = record.weights["output_to_output"]
    assert found.shape == (2, 4)
    for sample in range(2):
        fired = trains_of(record.spikes["output"], sample)
        synapse = [(fired[i] + 2e-3, fired[j]) for i, j in zip(pre.tolist(), post.tolist(), strict=True)]
        first = [plastic.causal(a[a < 10e-3], s[s < 10e-3], 6e-3, 0.03)
                 - plastic.anticausal(a[a < 10e-3], s[s < 10e-3], 9e-3, 0.02) for a, s in synapse]  # fmt: skip
        torch.testing.assert_close(
            record.history["output_to_output"].value[0, sample], 0.2 + torch.tensor(first).float()
        )


# ---- with other neurons and currents ------------------------------------------------------------------------------


def test_neurons_in_steps_learn_and_currents_drive_them():
    adapting = sl.AdEx(tau_mem=10e-3, tau_syn=5e-3, tau_adaptation=50e-3, b=0.1)
    for neuron in (adapting, LIF):
        net = sl.Network(
            {"input": sl.Population(4), "output": sl.Population(3, neuron)},
            [
                sl.Projection(
                    "input", "output", torch.full((4, 3), 0.5),
                    plasticity=Plasticity(lambda view: view.record("causal", view.causal), 1.0, 10e-3, sensor=SENSOR),
                )
            ],
        )  # fmt: skip
        given = {"input": drive(), "output": sl.Steps([0.0, 33e-3], torch.rand(2, 2, 3) + 0.3)}
        wish = sl.Observe(membrane={"output": 1e-3}, current={"output": 2e-3}, state=True)
        record = sl.run(net, given, 0.1, observe=wish)
        assert record.membrane["output"].value.shape == (2, 101, 3)
        assert record.current["output"].value.shape == (2, 51, 3)
        assert len(record.spikes["output"].time) > 10
        for sample in range(2):
            sent, fired = trains_of(record.spikes["input"], sample), trains_of(record.spikes["output"], sample)
            held = record.recorded["input_to_output"]["causal"].value[-1, sample]
            expected = [[plastic.causal(a, s, 6e-3, 0.03) for s in fired] for a in sent]
            np.testing.assert_allclose(held.numpy(), expected, rtol=1e-9)
        alone = sl.Network(
            {"input": sl.Population(4), "output": sl.Population(3, neuron)},
            [sl.Projection("input", "output", torch.full((4, 3), 0.5))],
        )
        plain = sl.run(alone, given, 0.1, observe=wish)
        assert plain.spikes["output"].unit.tolist() == record.spikes["output"].unit.tolist()
        torch.testing.assert_close(
            plain.spikes["output"].time.detach(), record.spikes["output"].time.detach(), rtol=0, atol=1e-6
        )
