"""Runs that learn, cut and continued: the same to the last bit."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from learning import LIF, SENSOR, STATE, drive, network, nothing, trains_of

import spikeloop as sl
from spikeloop.plasticity import (
    Plastic,
    Plasticity,
    Program,
    RewardModulatedSTDP,
    ShortTerm,
    request,
    tell,
)

pytestmark = pytest.mark.filterwarnings("ignore:drive 'input'")  # the drive is longer than most runs


def restless(view):
    """A rule that uses all that is kept between calls."""
    view.state["sum"] = view.state.get("sum", 0.0) + view.causal.sum()
    noise = 0.05 * (view.random() - 0.5)
    view.weights += view.causal - view.anticausal + noise + 1e-3 * view.state["sum"] - 1e-3 * view.counts.mean()
    view.record("sum", view.state["sum"])
    if view.call % 3 == 2:
        view.reset_correlation()


def looped(delay):
    populations = {"input": sl.Population(4), "output": sl.Population(3, LIF)}
    given = {"w_max": 1.0, "period": 7e-3, "sensor": SENSOR}
    pre, post = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 1, 0, 1])
    return sl.Network(
        populations,
        [
            sl.Projection("input", "output", torch.full((4, 3), 0.5), delay, plasticity=Plasticity(restless, **given)),
            sl.Projection.sparse(
                "output", "output", pre, post, torch.full((4,), 0.2), 3e-3, plasticity=Plasticity(restless, **given)
            ),
        ],
    )


def between(events, begin, end):
    inside = (events.time >= begin) & (events.time < end)
    return sl.Events._from_rows(
        events.time[inside], events.unit[inside], events.sample[inside], len(events), events.size
    )


def parts_of(net, events, cuts, wish):
    """Records of runs that go on from each other."""
    state, records = None, []
    for begin, end in pairwise(cuts):
        part = between(events, begin, end)
        span = next(d for d in (end - begin, math.nextafter(end - begin, 1), math.nextafter(end - begin, 0))
                    if begin + d == end)  # fmt: skip
        records.append(sl.run(net, part, span, start=state, observe=wish))
        state = records[-1].state
    return records


@pytest.mark.parametrize("make", [lambda: network(restless, delay=torch.rand(4, 3) * 9e-3), lambda: looped(2e-3)])
@pytest.mark.parametrize("seed", range(3))
def test_a_cut_run_is_the_uncut_one_bit_for_bit(make, seed):
    net, events = make(), drive(2, seed=seed)
    wish = sl.Observe(membrane={"output": 1e-3}, state=True)
    cuts = [0.0, *np.sort(np.random.default_rng(seed).uniform(0, 0.1, 4)).tolist(), 20e-3, 0.1]
    cuts = sorted(cuts)
    whole, parts = sl.run(net, events, 0.1, observe=wish), parts_of(net, events, cuts, wish)
    for sample in range(2):
        one = trains_of(whole.spikes["output"], sample)
        other = zip(*(trains_of(part.spikes["output"], sample) for part in parts), strict=True)
        for train, pieces in zip(one, other, strict=True):
            assert train.tolist() == np.concatenate(pieces).tolist()
    assert len(whole.spikes["output"].time) > 20
    assert torch.equal(whole.membrane["output"].value, torch.cat([p.membrane["output"].value for p in parts], 1))
    for name in whole.weights:
        assert torch.equal(whole.weights[name], parts[-1].weights[name])
        sums = [part.recorded[name]["sum"].value for part in parts if part.recorded[name]]
        assert torch.equal(whole.recorded[name]["sum"].value, torch.cat(sums))
    for field in ("membrane", "current", "held"):
        assert torch.equal(getattr(whole.state, field)["output"], getattr(parts[-1].state, field)["output"])


SHORT = ShortTerm(0.4, 30e-3), ShortTerm((0.3, 0.2, 0.5), 50e-3, facilitating=True)
ADEX = sl.AdEx(tau_mem=10e-3, tau_syn=5e-3)


def wearing(neuron, ruled):
    """Short-term plastic layers and a loop with delays, with rules that change nothing or without any.

    The weights' unit, w_max, is a power of two: they are not even rounded.
    """
    populations = {"input": sl.Population(4), "hidden": sl.Population(3, neuron), "output": sl.Population(2, LIF)}
    rng = np.random.default_rng(4)
    weight = [torch.from_numpy(rng.uniform(1.0, 2.5, shape)) for shape in ((4, 3), (5,), (3, 2))]
    pre, post = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([1, 0, 1, 0, 2])
    rules = [Plasticity(nothing, w_max=8.0, period=7e-3, sensor=SENSOR) if ruled else None for _ in range(2)]
    return sl.Network(populations, [
        sl.Projection("input", "hidden", weight[0], 4e-3, short_term=SHORT[0], plasticity=rules[0]),
        sl.Projection.sparse("hidden", "hidden", pre, post, weight[1] * 0.2, 3e-3, short_term=SHORT[1]),
        sl.Projection("hidden", "output", weight[2] * 1.2, 2e-3, short_term=SHORT[1], plasticity=rules[1]),
    ])  # fmt: skip


CURRENT = sl.Steps([0.0, 31.3e-3, 40.5e-3], torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).double())


@pytest.mark.parametrize("driven", [False, True], ids=["", "currents"])
@pytest.mark.parametrize("neuron", [LIF, ADEX], ids=["exact", "steps"])
@pytest.mark.parametrize("ruled", [(False, True), (True, False), (False, True, False, True)])
def test_rules_come_and_go_and_nothing_else_changes_to_the_last_bit(ruled, neuron, driven):
    events, ends = drive(2, rate=300.0), [30.1e-3, 52.7e-3, 78.4e-3, 0.1]
    nets = {each: wearing(neuron, each) for each in (False, True)}
    wish = sl.Observe(membrane={"hidden": 1e-3, "output": 1e-3}, state=True)
    more = {"hidden": CURRENT} if driven else {}
    whole = sl.run(nets[False], {"input": events, **more}, 0.1, observe=wish)
    begin, state, parts = 0.0, None, []
    for end, rule in zip([*ends[: len(ruled) - 1], 0.1], ruled, strict=True):
        span = next(d for d in (end - begin, math.nextafter(end - begin, 1), math.nextafter(end - begin, 0))
                    if begin + d == end)  # fmt: skip
        parts.append(
            sl.run(nets[rule], {"input": between(events, begin, end), **more}, span, start=state, observe=wish)
        )
        begin, state = end, parts[-1].state
    for name in ("hidden", "output"):
        assert len(whole.spikes[name].time) > 10
        value = torch.cat([part.membrane[name].value for part in parts], 1)
        assert torch.equal(whole.membrane[name].value, value)
        for sample in range(2):
            trains = [trains_of(record.spikes[name], sample) for record in (whole, *parts)]
            for train, *pieces in zip(*trains, strict=True):
                assert train.tolist() == np.concatenate(pieces).tolist()
    for field in ("membrane", "current", "held"):
        for name, value in getattr(whole.state, field).items():
            assert torch.equal(value, getattr(state, field)[name])


def test_a_state_of_other_programs_is_refused():
    state = sl.run(network(), drive(2), 0.05, observe=STATE).state
    other = Program(nothing, {"input_to_output": Plastic(1.0)})
    plain = sl.Projection("input", "output", torch.zeros(4, 3))
    populations = {"input": sl.Population(4), "output": sl.Population(3, LIF)}
    net = sl.Network(populations, [plain], programs={"other": other})
    with pytest.raises(sl.UnknownPopulation, match="programs 'input_to_output'.*exactly 'other'"):
        sl.run(net, drive(2).later(0.05), 0.1, start=state)


def test_a_state_may_be_continued_twice():
    net, events = network(restless), drive(2)
    start = sl.run(net, events, 0.05, observe=STATE).state
    late = events.later(0.05)
    one, other = (sl.run(net, late, 0.05, start=start).weights["input_to_output"] for _ in range(2))
    assert torch.equal(one, other)


def test_the_host_tells_and_requests():
    net = network(RewardModulatedSTDP(rate=1.0), period=None, state={"reward": 1.0})
    first = sl.run(net, drive(2), 0.1, observe=STATE)
    assert torch.equal(first.weights["input_to_output"], torch.full((2, 4, 3), 0.5))
    usual = request(first.state, "input_to_output")
    second = sl.run(net, drive(2).later(0.1), 0.1, start=usual, observe=STATE)
    assert torch.equal(second.weights["input_to_output"], torch.full((2, 4, 3), 0.5))  # as usual: no change
    better = request(second.state, "input_to_output", reward=torch.tensor([3.0, 1.0]))
    third = sl.run(net, drive(2).later(0.2), 0.1, start=better, observe=STATE)
    change = third.weights["input_to_output"] - 0.5
    assert (change[0] > 0).any()
    assert (change[0] >= 0).all()
    assert not change[1].any()
    learned = third.state.parts["plasticity"]
    assert [memory["mean_reward"] for memory in learned.memory["input_to_output"]] == [2.0, 1.0]
    assert learned.calls == {"input_to_output": 2}


def test_telling_is_checked():
    state = sl.run(network(), drive(2), 0.01, observe=STATE).state
    told = tell(state, "input_to_output", target=np.arange(6).reshape(2, 3), gain=0.5)
    assert told.parts["plasticity"].memory["input_to_output"][1]["target"].tolist() == [3, 4, 5]
    assert "gain" not in state.parts["plasticity"].memory["input_to_output"][0]
    with pytest.raises(sl.ShapeMismatch, match="reward is of 3 samples"):
        tell(state, "input_to_output", reward=[1.0, 2.0, 3.0])
    with pytest.raises(sl.UnknownPopulation, match="no program 'other'"):
        tell(state, "other", reward=1.0)
    with pytest.raises(sl.CannotObserve, match="holds no plasticity"):
        tell(sl.State(), "input_to_output", reward=1.0)
