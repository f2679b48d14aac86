"""Rules that change weights while a network runs on Ideal: what a kernel sees, when it is called, what it leaves."""

import math
import pickle
import time
from itertools import pairwise

import numpy as np
import plastic
import pytest
import torch

import spikeloop as sl
from spikeloop.plasticity import (
    AdditiveSTDP,
    Correlation,
    Homeostasis,
    MultiplicativeSTDP,
    Plastic,
    Plasticity,
    Program,
    Relocation,
    RewardModulatedSTDP,
    Rewiring,
    request,
    tell,
)

pytestmark = pytest.mark.filterwarnings("ignore:drive 'input'")  # the drive is longer than most runs

LIF = sl.LIF(tau_mem=10e-3, tau_syn=5e-3)
SENSOR = Correlation(tau=(6e-3, 9e-3), amplitude=(0.03, 0.02))
STATE = sl.Observe(state=True)


def nothing(view):
    """A rule that does nothing."""


def network(kernel=nothing, *, weight=0.5, sources=4, targets=3, delay=0.0, **given):
    given = {"w_max": 1.0, "period": 10e-3, "sensor": SENSOR, **given}
    synapses = sl.Projection(
        "input", "output", torch.full((sources, targets), weight), delay, plasticity=Plasticity(kernel, **given)
    )
    return sl.Network({"input": sl.Population(sources), "output": sl.Population(targets, LIF)}, [synapses])


def drive(batch=2, units=4, rate=200.0, duration=0.1, seed=0):
    rng = np.random.default_rng(seed)
    trains = [[rng.uniform(0, duration, rng.poisson(rate * duration)) for _ in range(units)] for _ in range(batch)]
    return sl.Events.from_trains(trains, units)


def trains_of(events, sample):
    inside = slice(int(events.start[sample]), int(events.start[sample + 1]))
    time, unit = events.time[inside].detach().numpy(), events.unit[inside].numpy()
    return [time[unit == u] for u in range(events.size)]


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


# ---- going on -----------------------------------------------------------------------------------------------------


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


def parts_of(net, events, cuts, wish):
    """Records of runs that go on from each other."""
    state, records = None, []
    for begin, end in pairwise(cuts):
        inside = (events.time >= begin) & (events.time < end)
        part = sl.Events._from_rows(
            events.time[inside], events.unit[inside], events.sample[inside], len(events), events.size
        )
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


# ---- standard rules -----------------------------------------------------------------------------------------------


def test_multiplicative_steps_shrink_towards_the_ends():
    rule = MultiplicativeSTDP(causal=0.5, anticausal=0.25)
    record = sl.run(network(rule), drive(1), 10e-3, observe=STATE)
    seen = sl.run(network(lambda v: v.record("c", np.array([v.causal, v.anticausal]))), drive(1), 10e-3)
    causal, anticausal = seen.recorded["input_to_output"]["c"].value[0, 0]
    expected = 0.5 + 0.5 * 0.5 * causal - 0.25 * 0.5 * anticausal
    torch.testing.assert_close(record.weights["input_to_output"][0].double(), expected, rtol=1e-6, atol=0)
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_homeostasis_reaches_its_target():
    net = network(Homeostasis(target=5, step=0.01), weight=0.0, sources=20, targets=8, period=50e-3, sensor=None)
    record = sl.run(net, drive(1, 20, duration=4.0, seed=3), 4.0)
    late = record.spikes["output"].raster(50e-3, 4.0)[0, 40:].double()
    assert abs(float(late.mean()) - 5) < 0.5


def test_rewiring_gives_weak_synapses_new_sources():
    net = sl.Network(
        {"input": sl.Population(50), "output": sl.Population(3, LIF)},
        [
            sl.Projection.sparse(
                "input", "output", torch.zeros(30), torch.arange(30) % 3, torch.linspace(0, 0.9, 30),
                plasticity=Plasticity(Rewiring(threshold=0.3, start=0.4), 1.0, 10e-3),
            )
        ],
    )  # fmt: skip
    record = sl.run(net, drive(2, 50), 0.01, observe=sl.Observe(state=True))
    sources, weights = record.sources["input_to_output"], record.weights["input_to_output"]
    weak = torch.linspace(0, 0.9, 30) < 0.3
    assert not sources[:, ~weak].any()
    assert len(sources[:, weak].unique()) > 8
    assert torch.equal(weights[0, weak], torch.full((int(weak.sum()),), 0.4))
    assert not torch.equal(sources[0], sources[1])
    assert not net.projections["input_to_output"].synapses.source.any()


def test_synapses_with_new_sources_hear_them():
    def kernel(view):
        view.record("causal", view.causal)
        if view.call == 0:
            view.sources = np.array([1])

    events = sl.Events.from_trains([[[1e-3], [12e-3]]])
    rule = Plasticity(kernel, 50.0, 10e-3, sensor=SENSOR)
    net = sl.Network(
        {"input": sl.Population(2), "output": sl.Population(1, LIF)},
        [
            sl.Projection.sparse(
                "input", "output", torch.tensor([0]), torch.tensor([0]), torch.tensor([9.0]), plasticity=rule
            )
        ],
    )
    record = sl.run(net, events, 20e-3)
    spikes = record.spikes["output"].time.detach()
    assert (spikes > 12e-3).any()
    late = spikes[spikes > 10e-3].numpy()
    found = float(record.recorded["input_to_output"]["causal"].value[1, 0, 0])
    assert found == pytest.approx(plastic.causal([12e-3], late, 6e-3, 0.03))


def test_relocation_moves_synapses_between_projections():
    rule = Program(Relocation(threshold=0.2, start=0.5), {"near": Plastic(1.0), "far": Plastic(1.0)}, period=10e-3)
    weights = {"near": [[0.1, 0.6, 0.0]], "far": [[0.0, 0.1, 0.15]]}
    net = sl.Network(
        {"input": sl.Population(1), "output": sl.Population(3, LIF)},
        {name: sl.Projection("input", "output", torch.tensor(w)) for name, w in weights.items()},
        programs={"move": rule},
    )
    found = sl.run(net, drive(1, 1), 10e-3).weights
    assert found["near"][0].tolist() == [pytest.approx([0.0, 0.6, 0.5])]
    assert found["far"][0].tolist() == [pytest.approx([0.5, 0.1, 0.0])]


# ---- what can go wrong --------------------------------------------------------------------------------------------


def assign(**values):
    def kernel(view):
        for name, value in values.items():
            setattr(view, name, value)

    return kernel


def in_place(view):
    view.causal[:] = 0


def failing(view):
    if view.call == 1:
        raise KeyError("reward")


@pytest.mark.parametrize(
    ("kernel", "error", "match"),
    [
        (assign(weights=np.zeros((3, 4))), sl.ShapeMismatch, r"call 0 at 0.01 s, sample 0.*assigns \(3, 4\).*\(4, 3\)"),
        (assign(weights=0.5), sl.WrongType, "assigns a float to weights"),
        (assign(weights=np.full((4, 3), "a")), sl.WrongType, "assigns an array of <U1"),
        (assign(weights=torch.zeros(4, 3)), sl.WrongType, "assigns a Tensor"),
        (assign(weights=np.full((4, 3), np.nan)), sl.OutOfRange, "NaN or infinite"),
        (assign(sources=np.zeros(12, int)), sl.InvalidNetwork, "dense"),
        (lambda view: view.weights, sl.WrongType, "returns a ndarray"),
        (lambda view: view["other"], sl.UnknownPopulation, "asks for 'other'"),
        (lambda view: view.record("x", object()), sl.WrongType, "records an object"),
        (in_place, sl.RuleFailed, "ValueError: .*read-only"),
        (failing, sl.RuleFailed, "call 1 at 0.02 s, sample 0: the rule raised KeyError: 'reward'"),
        (lambda view: view.nothing, sl.RuleFailed, "AttributeError"),
    ],
)  # fmt: skip
def test_a_rule_that_is_wrong_is_named(kernel, error, match):
    with pytest.raises(error, match=match):
        sl.run(network(kernel), drive(), 0.05)


def test_a_rule_without_sensors_cannot_read_them():
    with pytest.raises(sl.InvalidNetwork, match="no sensors"):
        sl.run(network(lambda view: view.causal, sensor=None), drive(), 0.05)


def endless(view):
    while True:
        pass


def stubborn(view):
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        try:
            time.sleep(1e-3)
        except BaseException:
            continue


@pytest.mark.parametrize("kernel", [endless, stubborn])
def test_a_rule_that_never_ends_is_ended(kernel):
    began = time.monotonic()
    with pytest.raises(sl.RuleFailed, match=r"did not end within 0\.2 s"):
        sl.run(network(kernel, budget=0.2), drive(), 0.05)
    assert time.monotonic() - began < 5


def test_a_rule_is_called_again_after_one_was_ended():
    with pytest.raises(sl.RuleFailed):
        sl.run(network(endless, budget=0.05), drive(1), 0.05)
    for _ in range(20):
        assert sl.run(network(AdditiveSTDP(), budget=5.0), drive(1), 0.02).weights


def test_a_gradient_of_a_run_that_learns_is_refused():
    with pytest.raises(sl.Unsupported, match="'input_to_output' change during the run"):
        sl.run(network(), drive(), 0.05, rule=sl.EventProp())
    record = sl.run(network(), drive(), 0.05)
    with pytest.raises(sl.NoRule):
        record.spikes["output"].time.sum().backward()


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"kernel": 3}, sl.WrongType, "the kernel is an int"),
        ({"w_max": 0.0}, sl.OutOfRange, "w_max is 0"),
        ({"w_max": math.inf}, sl.OutOfRange, "w_max is inf"),
        ({"w_max": 0.4}, sl.InvalidNetwork, "the weights are 0.5 to 0.5"),
        ({"period": -1.0}, sl.OutOfRange, "period is -1"),
        ({"period": [2.0, 1.0]}, sl.OutOfRange, "not in order"),
        ({"period": "often"}, sl.WrongType, "a time is a str"),
        ({"sensor": 3}, sl.WrongType, "the sensor is an int"),
        ({"state": [1]}, sl.WrongType, "the state is a list"),
        ({"seed": -1}, sl.OutOfRange, "seed is -1"),
        ({"budget": 0}, sl.OutOfRange, "budget is 0"),
    ],
)
def test_a_description_that_is_wrong_is_refused(given, error, match):
    with pytest.raises(error, match=match):
        network(**given)


def test_programs_belong_to_their_network():
    populations = {"input": sl.Population(2), "output": sl.Population(2, LIF)}
    plain = sl.Projection("input", "output", torch.zeros(2, 2))
    rule = Program(nothing, {"input_to_output": Plastic(1.0)})
    with pytest.raises(sl.UnknownPopulation, match="other"):
        sl.Network(populations, [plain], programs={"p": Program(nothing, {"other": Plastic(1.0)})})
    with pytest.raises(sl.InvalidNetwork, match="is changed by program 'p', too"):
        sl.Network(populations, [plain], programs={"p": rule, "q": rule})
    with pytest.raises(sl.WrongType, match="a function"):
        sl.Network(populations, [plain], programs={"p": nothing})
    with pytest.raises(sl.WrongType, match="the plasticity is"):
        sl.Projection("input", "output", torch.zeros(2, 2), plasticity=nothing)
    with pytest.raises(sl.UnknownPopulation, match="no plastic projection"):
        sl.run(sl.Network(populations, [plain]), drive(1, 2), 0.01, observe=sl.Observe(history={"input_to_output"}))
    with pytest.raises(sl.InvalidNetwork, match="share weights"):
        sl.Network(
            {"input": sl.Population(4), "output": sl.Population(4, LIF)},
            {"c": sl.Projection.conv2d("input", "output", torch.ones(1, 1, 1, 1), (1, 2, 2))},
            programs={"p": Program(nothing, {"c": Plastic(1.0)})},
        )


def test_a_network_that_learns_is_copied_and_saved():
    net = network(AdditiveSTDP())
    assert pickle.loads(pickle.dumps(net)).programs.keys() == net.programs.keys()
    assert net.state_dict().keys() == network().state_dict().keys()


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
