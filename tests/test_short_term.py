"""Short-term plasticity: sizes of events, membranes in closed form, gradients, runs that are cut."""

import math
from itertools import pairwise

import numpy as np
import plastic
import pytest
import torch

import spikeloop as sl
from spikeloop.plasticity import ShortTerm

LI = sl.LI(tau_mem=10e-3, tau_syn=4e-3)
LIF = sl.LIF(tau_mem=10e-3, tau_syn=4e-3)
KINDS = [ShortTerm(0.4, 30e-3), ShortTerm(0.3, 50e-3, facilitating=True), ShortTerm((0.2, 0.5, 0.9), (9e-3, 0.1, 2e-2))]
SYNAPSES = (torch.tensor([0, 1, 2, 2, 0, 1]), torch.tensor([1, 0, 1, 0, 0, 0]))


def drive(batch=2, size=3, seed=0, rate=150.0, duration=0.1):
    rng = np.random.default_rng(seed)
    trains = [[rng.uniform(0, duration, rng.poisson(rate * duration)) for _ in range(size)] for _ in range(batch)]
    return sl.Events.from_trains(trains, size)


def weights(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def delays(kind, dtype=torch.float64):
    shape = {"none": (), "unit": (3, 1), "dense": (3, 2), "sparse": (6,)}[kind]
    return torch.from_numpy(np.asarray(np.random.default_rng(2).uniform(1e-3, 8e-3, shape))).to(dtype)


def projection(short, kind, target="output", delay=None):
    delay = delays(kind) if delay is None else delay
    if kind == "sparse":
        return sl.Projection.sparse("input", target, *SYNAPSES, weights(6), delay, short_term=short)
    return sl.Projection("input", target, weights(3, 2), delay, short_term=short)


def psp(t):
    """The potential after a spike of weight 1."""
    a, b = 1 / 10e-3, 1 / 4e-3
    return np.where(t > 0, a / (b - a) * (np.exp(-a * np.maximum(t, 0)) - np.exp(-b * np.maximum(t, 0))), 0.0)


@pytest.mark.parametrize("short", KINDS)
@pytest.mark.parametrize("kind", ["none", "unit", "dense", "sparse"])
def test_membranes_are_the_closed_form(short, kind):
    events, made = drive(), projection(short, kind)
    net = sl.Network({"input": sl.Population(3), "output": sl.Population(2, LI)}, [made])
    record = sl.run(net, events, 0.1, observe=sl.Observe(membrane={"output": 1e-3}))
    time = record.membrane["output"].time.numpy()
    pre, post = SYNAPSES if kind == "sparse" else (torch.arange(3).repeat_interleave(2), torch.arange(2).repeat(3))
    lag = made.delay.expand(made.weight.shape if kind != "sparse" else (6,)).reshape(-1)
    for sample in range(2):
        expected = np.zeros((len(time), 2))
        inside = slice(int(events.start[sample]), int(events.start[sample + 1]))
        for k, (i, j) in enumerate(zip(pre.tolist(), post.tolist(), strict=True)):
            train = events.time[inside][events.unit[inside] == i].tolist()
            used, tau = (np.broadcast_to(short.each(name), 3)[i] for name in ("utilisation", "tau"))
            for spike, size in zip(train, plastic.sizes(train, used, tau, short.facilitating), strict=True):
                weight = float(made.weight.detach().reshape(-1)[k])
                expected[:, j] += weight * size * psp(time - spike - float(lag[k]))
        np.testing.assert_allclose(record.membrane["output"].value[sample].detach().numpy(), expected, atol=1e-9)


def stacked(short, kind):
    """Input, hidden and output: the second projection hears spikes that the first one made."""
    later = sl.Projection("hidden", "output", weights(2, 2, seed=3), 2e-3, short_term=ShortTerm(0.5, 40e-3))
    first = projection(short, kind, "hidden", delay=torch.nn.Parameter(delays(kind)))
    with torch.no_grad():
        first.weight *= 3
    return sl.Network({"input": sl.Population(3), "hidden": sl.Population(2, LIF), "output": sl.Population(2, LI)},
                      [first, later])  # fmt: skip


def looped(short, kind):
    """A loop of two populations whose synapses are short-term plastic, sparse with own delays in one direction."""
    pre, post, size = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([1, 0, 1, 0, 0]), (5,)
    lag = {
        "none": torch.tensor(2e-3),
        "unit": torch.rand(3, 1) * 4e-3 + 1e-3,
        "sparse": torch.rand(*size) * 4e-3 + 1e-3,
    }
    back = sl.Projection.sparse("hidden", "hidden", pre, post, weights(*size, seed=7) * 0.8,
                                torch.nn.Parameter(lag[kind].double()), short_term=short)  # fmt: skip
    first = sl.Projection("input", "hidden", weights(3, 3) * 2.5, 1e-3, short_term=ShortTerm(0.6, 30e-3))
    last = sl.Projection("hidden", "output", weights(3, 2, seed=3), 1e-3, short_term=ShortTerm(0.5, 40e-3))
    own = sl.Projection("hidden", "hidden", -weights(3, 3, seed=8) * 0.3, 1.5e-3, short_term=KINDS[1])
    populations = {"input": sl.Population(3), "hidden": sl.Population(3, LIF), "output": sl.Population(2, LI)}
    return sl.Network(populations, [first, back, last, own])


def loss_of(net, events, start=None, begin=0.0):
    at = torch.tensor([31.3e-3, 57.7e-3, 99e-3], dtype=torch.float64) + begin
    record = sl.run(net, events, 0.1, rule=sl.EventProp(), observe=sl.Observe(membrane={"output": at}), start=start)
    assert len(record.spikes["hidden"].time) > 5
    scale = torch.tensor([[[1.0, -0.7]], [[0.3, 0.9]]], dtype=torch.float64)
    return (record.membrane["output"].value * scale).sum() + 20 * (record.spikes["hidden"].time ** 2).sum()


def nudged(net, events, name, index, by, **more):
    """The loss with one number changed."""
    if name == "time":
        time = events.time.detach().clone()
        time[index] += by
        return float(loss_of(net, sl.Events(time, events.unit, events.start, events.size), **more).detach())
    parameter = dict(net.named_parameters())[name]
    with torch.no_grad():
        parameter.reshape(-1)[index] += by
        value = float(loss_of(net, events, **more).detach())
        parameter.reshape(-1)[index] -= by
    return value


def check_gradients(net, events, **more):
    events.time.requires_grad_()
    loss_of(net, events, **more).backward()
    found = {name: p.grad.reshape(-1).clone() for name, p in net.named_parameters()} | {"time": events.time.grad}
    rng = np.random.default_rng(0)
    for name, gradient in found.items():
        for index in rng.choice(len(gradient), min(len(gradient), 4), replace=False).tolist():
            by = 1e-8 if name == "time" else 1e-6
            slope = (
                (nudged(net, events, name, index, by, **more) - nudged(net, events, name, index, -by, **more)) / by / 2
            )
            assert float(gradient[index]) == pytest.approx(slope, rel=2e-4, abs=2e-5 * float(gradient.abs().max())), (
                name
            )


@pytest.mark.parametrize("short", KINDS)
@pytest.mark.parametrize("kind", ["none", "unit", "dense", "sparse"])
def test_gradients_are_central_differences(short, kind):
    check_gradients(stacked(short, kind), drive(seed=4))


def test_gradients_of_a_run_that_goes_on_are_central_differences():
    net = stacked(KINDS[2], "unit")
    start = sl.run(net, drive(seed=5), 0.1, observe=sl.Observe(state=True)).state
    check_gradients(net, drive(seed=4).later(0.1), start=start, begin=0.1)


@pytest.mark.parametrize("kind", ["none", "unit", "sparse"])
@pytest.mark.parametrize("make", [stacked, looped])
def test_a_cut_run_is_the_uncut_one_bit_for_bit(make, kind):
    torch.manual_seed(0)
    net, events = make(KINDS[2], kind), drive(seed=6)
    wish = sl.Observe(membrane={"output": 1e-3}, state=True)
    whole, state, parts = sl.run(net, events, 0.1, observe=wish), None, []
    for begin, end in pairwise((0.0, 0.0123, 0.02, 0.0371, 0.08, 0.1)):
        inside = (events.time >= begin) & (events.time < end)
        rows = (events.time[inside], events.unit[inside], events.sample[inside])
        span = next(d for d in (end - begin, math.nextafter(end - begin, 1), math.nextafter(end - begin, 0))
                    if begin + d == end)  # fmt: skip
        parts.append(sl.run(net, sl.Events._from_rows(*rows, 2, 3), span, start=state, observe=wish))
        state = parts[-1].state
    for sample in range(2):
        train = [record.spikes["hidden"][sample : sample + 1].time.tolist() for record in (whole, *parts)]
        assert train[0] == [time for part in train[1:] for time in part]
    assert torch.equal(whole.membrane["output"].value, torch.cat([p.membrane["output"].value for p in parts], 1))


@pytest.mark.parametrize("short", KINDS)
@pytest.mark.parametrize("kind", ["none", "unit", "sparse"])
def test_gradients_within_a_loop_are_central_differences(short, kind):
    torch.manual_seed(0)
    check_gradients(looped(short, kind), drive(seed=4))


def test_gradients_within_a_loop_that_goes_on_are_central_differences():
    torch.manual_seed(0)
    net = looped(KINDS[2], "sparse")
    start = sl.run(net, drive(seed=5), 0.1, observe=sl.Observe(state=True)).state
    check_gradients(net, drive(seed=4).later(0.1), start=start, begin=0.1)


def test_a_loop_is_its_events_sent_from_outside():
    """Spikes of a loop, given as an input with the same short-term synapses, drive the neurons as the loop did."""
    torch.manual_seed(0)
    populations = {"input": sl.Population(3), "hidden": sl.Population(3, LIF)}
    first, inside = weights(3, 3) * 2.5, weights(3, 3, seed=7) * 0.6
    loop = sl.Projection("hidden", "hidden", inside, 2e-3, short_term=KINDS[2])
    looping = sl.Network(populations, [sl.Projection("input", "hidden", first), loop])
    record = sl.run(looping, drive(), 0.1, observe=sl.Observe(membrane={"hidden": 1e-3}))
    assert len(record.spikes["hidden"].time) > 20
    populations = {"input": sl.Population(3), "echo": sl.Population(3), "hidden": sl.Population(3, LIF)}
    echo = sl.Projection("echo", "hidden", inside, 2e-3, short_term=KINDS[2])
    open_ = sl.Network(populations, [sl.Projection("input", "hidden", first), echo])
    given = {"input": drive(), "echo": record.spikes["hidden"].detach()}
    other = sl.run(open_, given, 0.1, observe=sl.Observe(membrane={"hidden": 1e-3}))
    assert other.spikes["hidden"].unit.tolist() == record.spikes["hidden"].unit.tolist()
    torch.testing.assert_close(other.spikes["hidden"].time, record.spikes["hidden"].time, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.membrane["hidden"].value, record.membrane["hidden"].value, rtol=0, atol=1e-9)


def test_without_it_everything_is_as_before():
    one, other = (projection(short, "unit") for short in (None, ShortTerm(1.0, 1e-9)))  # all is used, and back at once
    events = drive()
    found = [
        sl.run(sl.Network({"input": sl.Population(3), "output": sl.Population(2, LIF)}, [each]), events, 0.1)
        for each in (one, other)
    ]
    assert found[0].spikes["output"].time.tolist() == found[1].spikes["output"].time.tolist() != []


@pytest.mark.parametrize("make", [stacked, looped])
@pytest.mark.parametrize("steps", [False, True])
def test_what_is_set_after_a_run_holds_in_the_next_one(make, steps):
    def fresh(kind):
        torch.manual_seed(0)
        net = make(KINDS[0], "unit")
        if steps:
            hidden = sl.Population(net.populations["hidden"].size, sl.AdEx(tau_mem=10e-3, tau_syn=4e-3))
            net = sl.Network({**dict(net.populations.items()), "hidden": hidden}, dict(net.projections.items()))
        return changed(net, kind)

    def changed(net, kind):
        for each in net.projections.values():
            each.short_term = kind
        return net

    def potential(net):
        record = sl.run(net, drive(rate=400.0), 0.1, observe=sl.Observe(membrane={"output": 1e-3}))
        assert len(record.spikes["hidden"].time) > 10
        return record.membrane["output"].value.detach()

    kinds = [KINDS[0], KINDS[1], None, ShortTerm(0.4, 5e-3), KINDS[0]]
    net = fresh(kinds[0])
    found = [potential(changed(net, kind)) for kind in kinds]
    for kind, value in zip(kinds, found, strict=True):
        assert torch.equal(value, potential(fresh(kind)))  # of one that never had another
    for one, other in pairwise(found):
        assert float((one - other).abs().max()) > 0.01


def test_what_cannot_be_is_refused():
    for given, error in (
        ((0.0, 1.0), sl.OutOfRange), ((1.5, 1.0), sl.OutOfRange), ((0.5, -1.0), sl.OutOfRange),
        ((0.5, math.inf), sl.OutOfRange), (("a", 1.0), sl.WrongType),
    ):  # fmt: skip
        with pytest.raises(error, match="ShortTerm"):
            ShortTerm(*given)
    populations = {"input": sl.Population(3), "output": sl.Population(2, LIF)}
    with pytest.raises(sl.ShapeMismatch, match="utilisation has 2 numbers.*one, or 3"):
        sl.Network(populations, [projection(ShortTerm((0.1, 0.2), 1.0), "none")])
    with pytest.raises(sl.WrongType, match="the short-term plasticity is a float"):
        projection(0.5, "none")
    made = projection(KINDS[0], "none")
    made.short_term = ShortTerm((0.1, 0.2), 1.0)  # of how many units it leads from is not known yet
    with pytest.raises(sl.ShapeMismatch, match="utilisation has 2 numbers.*one, or 3"):
        sl.Network(populations, [made])
    made.short_term = None
    net = sl.Network(populations, [made])
    with pytest.raises(sl.WrongType, match="input to output: the short-term plasticity is a float"):
        net.projections["input_to_output"].short_term = 0.5
    with pytest.raises(sl.ShapeMismatch, match="input_to_output: the short-term tau has 4 numbers.*one, or 3"):
        net.projections["input_to_output"].short_term = ShortTerm(0.1, (1.0, 1.0, 1.0, 1.0))
    assert made.short_term is None


def test_the_numbers_of_a_list_are_taken_when_it_is_given():
    given = [0.2, 0.5]
    made = ShortTerm(given, 1.0)
    given[0] = 2.0
    assert made == ShortTerm((0.2, 0.5), 1.0)
