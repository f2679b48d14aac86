"""Short-term plasticity onto and among neurons in steps, and under currents: beside the exact engine, and cut."""

import math
from itertools import pairwise

import numpy as np
import plastic
import pytest
import torch

import spikeloop as sl
from spikeloop.plasticity import ShortTerm

MS = 1e-3
STEP = 0.05 * MS
MANY = ShortTerm((0.2, 0.5, 0.9), (9 * MS, 0.1, 20 * MS))
KINDS = [ShortTerm(0.4, 30 * MS), ShortTerm(0.3, 50 * MS, facilitating=True), MANY]
LIF, LI = sl.LIF(10 * MS, 4 * MS, refractory=1 * MS), sl.LI(10 * MS, 4 * MS)
LIF_EQUAL = sl.AdEx(10 * MS, 4 * MS, refractory=1 * MS)
LI_EQUAL = sl.AdEx(10 * MS, 4 * MS, threshold=math.inf)
ADEX = sl.AdEx(10 * MS, 4 * MS, slope_factor=0.1, exponential_threshold=0.9, tau_adaptation=30 * MS, a=0.1, b=0.2)
SPARSE = (torch.tensor([0, 1, 2, 2, 0]), torch.tensor([1, 0, 1, 0, 2]))
CURRENT = sl.Steps(
    [5 * MS, 31.3 * MS, 60 * MS], torch.tensor([[0.3, 0.1, 0.4], [-0.2, 0.5, 0.2], [0.2, 0.0, 0.3]]).double()
)


def drive(batch=2, size=3, seed=0, rate=150.0, duration=0.1):
    rng = np.random.default_rng(seed)
    trains = [[rng.uniform(0, duration, rng.poisson(rate * duration)) for _ in range(size)] for _ in range(batch)]
    return sl.Events.from_trains(trains, size)


def weights(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def stacked(short, hidden, output, size=3.0):
    """Input, hidden and output, with delays of units and of synapses."""
    lags = torch.from_numpy(np.random.default_rng(2).uniform(1 * MS, 8 * MS, (3, 1)))
    own = torch.from_numpy(np.random.default_rng(3).uniform(1 * MS, 8 * MS, (3, 3)))
    return sl.Network(
        {"input": sl.Population(3), "hidden": sl.Population(3, hidden), "output": sl.Population(3, output)},
        [
            sl.Projection("input", "hidden", weights(3, 3) * size, lags, short_term=short),
            sl.Projection("hidden", "output", weights(3, 3, seed=3), own, short_term=KINDS[0]),
        ],
    )


def looped(short, hidden, back=0.8):
    """A loop whose synapses are short-term plastic, sparse with delays of their own; others come at once."""
    lag = torch.from_numpy(np.random.default_rng(4).uniform(0.3 * MS, 5 * MS, 5))
    return sl.Network(
        {"input": sl.Population(3), "hidden": sl.Population(3, hidden)},
        [
            sl.Projection("input", "hidden", weights(3, 3) * 2.5, 1 * MS, short_term=ShortTerm(0.6, 30 * MS)),
            sl.Projection.sparse("hidden", "hidden", *SPARSE, weights(5, seed=7) * back, lag, short_term=short),
            sl.Projection("hidden", "hidden", -weights(3, 3, seed=8) * 0.3, short_term=KINDS[1]),
        ],
    )


def watched(net, events, duration=0.1, state=False, step=STEP, **more):
    names = [name for name, population in net.populations.items() if population.kind is not None]
    given = sl.Observe(membrane=dict.fromkeys(names, 1 * MS), current=dict.fromkeys(names, 1 * MS), state=state)
    return sl.run(net, events, duration, substrate=sl.Ideal(step=step), observe=given, **more)


@pytest.mark.parametrize("short", KINDS)
def test_neurons_in_steps_meet_what_exact_ones_meet(short):
    exact, stepped = (watched(stacked(short, *pair), drive()) for pair in ((LIF, LI), (LIF_EQUAL, LI_EQUAL)))
    assert stepped.spikes["hidden"].unit.tolist() == exact.spikes["hidden"].unit.tolist() != []
    torch.testing.assert_close(stepped.spikes["hidden"].time, exact.spikes["hidden"].time, rtol=0, atol=STEP / 1000)
    for trace in ("membrane", "current"):
        one, other = (getattr(record, trace)["output"].value.detach() for record in (stepped, exact))
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4 * float(other.abs().max()))


def test_a_current_is_what_events_of_their_sizes_bring():
    short, net = KINDS[0], stacked(KINDS[0], LIF, LI)
    record = watched(net, drive())
    seen, sent = record.current["hidden"], drive()
    expected, lag = np.zeros((len(seen.time), 3)), net.projections["input_to_hidden"].delay.flatten().tolist()
    inside = slice(int(sent.start[1]), int(sent.start[2]))
    for unit in range(3):
        train = sent.time[inside][sent.unit[inside] == unit].tolist()
        for at, size in zip(train, plastic.sizes(train, short.utilisation, short.tau, False), strict=True):
            since = seen.time.numpy() - at - lag[unit]
            row = net.projections["input_to_hidden"].weight[unit].detach().numpy()
            expected += np.where(since >= 0, np.exp(-np.maximum(since, 0) / (4 * MS)), 0)[:, None] * row * size
    np.testing.assert_allclose(seen.value[1].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("short", KINDS)
def test_a_loop_in_steps_is_the_exact_loop(short):
    exact, stepped = (watched(looped(short, kind, 0.4), drive(rate=60)) for kind in (LIF, LIF_EQUAL))
    assert len(exact.spikes["hidden"].time) > 5
    assert stepped.spikes["hidden"].unit.tolist() == exact.spikes["hidden"].unit.tolist()
    torch.testing.assert_close(stepped.spikes["hidden"].time, exact.spikes["hidden"].time, rtol=0, atol=0.1 * MS)


@pytest.mark.parametrize("kind", [ADEX, LIF_EQUAL], ids=["AdEx", "LIF"])
def test_a_loop_is_its_events_sent_from_outside(kind):
    """Spikes of a loop, given as an input with the same short-term synapses, drive the neurons as the loop did."""
    events, delay = drive(), 2 * MS
    populations = {"input": sl.Population(3), "hidden": sl.Population(3, kind)}
    first = sl.Projection("input", "hidden", weights(3, 3) * 3)
    inside = sl.Projection("hidden", "hidden", weights(3, 3, seed=7) * 0.6, delay, short_term=MANY)
    record = watched(sl.Network(populations, [first, inside]), events)
    assert len(record.spikes["hidden"].time) > 20
    echo = sl.Projection("echo", "hidden", weights(3, 3, seed=7) * 0.6, delay, short_term=MANY)
    populations |= {"echo": sl.Population(3), "hidden": sl.Population(3, kind)}
    other = watched(sl.Network(populations, [first, echo]), {"input": events, "echo": record.spikes["hidden"].detach()})
    torch.testing.assert_close(other.spikes["hidden"].time, record.spikes["hidden"].time, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.membrane["hidden"].value, record.membrane["hidden"].value, rtol=0, atol=1e-9)


def cut(net, events, times, given=None, step=STEP, batch=2):
    """The records of a run cut at these times."""
    state, parts = None, []
    for begin, end in pairwise((0.0, *times, 0.1)):
        inside = (events.time >= begin) & (events.time < end)
        rows = (events.time[inside], events.unit[inside], events.sample[inside])
        span = next(d for d in (end - begin, math.nextafter(end - begin, 1), math.nextafter(end - begin, 0))
                    if begin + d == end)  # fmt: skip
        part = {"input": sl.Events._from_rows(*rows, batch, 3)} | (given or {})
        parts.append(watched(net, part, span, True, step, start=state))
        state = parts[-1].state
    return parts


NETS = {
    "stacked": lambda: stacked(MANY, ADEX, LI_EQUAL),
    "mixed": lambda: stacked(MANY, LIF, LI_EQUAL),
    "looped": lambda: looped(MANY, ADEX, 0.4),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@pytest.mark.parametrize("times", [(0.02, 0.05), (0.0123, 0.01231, 0.0371, 0.08)], ids=["at steps", "within steps"])
def test_a_cut_run_is_the_uncut_one_bit_for_bit(make, times):
    net, events = make(), drive(seed=6)
    whole, parts = watched(net, events), cut(net, events, times)
    same_bits(net, whole, parts)


def same_bits(net, whole, parts):
    assert len(whole.spikes["hidden"].time) > 5
    for name in net.populations.keys() - {"input"}:
        for sample in range(2):
            trains = [record.spikes[name][sample : sample + 1] for record in (whole, *parts) if name in record.spikes]
            train = [each.time.tolist() for each in trains]
            assert not train or train[0] == [time for part in train[1:] for time in part]
        pieces = torch.cat([part.membrane[name].value for part in parts], 1)
        assert torch.equal(whole.membrane[name].value, pieces)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_samples_and_threads_change_nothing(make):
    net, events, before = make(), drive(batch=5, seed=7), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(watched(net, events))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(other.spikes["hidden"].time, found[0].spikes["hidden"].time)
        assert torch.equal(other.membrane["hidden"].value, found[0].membrane["hidden"].value)
    for sample in range(5):
        alone = watched(net, events[sample : sample + 1])
        assert torch.equal(alone.membrane["hidden"].value[0], found[0].membrane["hidden"].value[sample])


# ---- under currents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", KINDS)
@pytest.mark.parametrize("make", ["stacked", "looped"])
def test_an_exact_run_under_currents_is_that_of_steps(make, short):
    made = {
        "stacked": lambda kind, last: stacked(short, kind, last),
        "looped": lambda kind, _: looped(short, kind, 0.4),
    }
    given = {"input": drive(rate=60), "hidden": CURRENT}
    exact, stepped = (watched(made[make](*pair), given) for pair in ((LIF, LI), (LIF_EQUAL, LI_EQUAL)))
    assert stepped.spikes["hidden"].unit.tolist() == exact.spikes["hidden"].unit.tolist() != []
    torch.testing.assert_close(stepped.spikes["hidden"].time, exact.spikes["hidden"].time, rtol=0, atol=0.1 * MS)


@pytest.mark.parametrize("each", [False, True], ids=["for all", "of each sample"])
@pytest.mark.parametrize("make", ["stacked", "looped", "in steps"])
@pytest.mark.parametrize("times", [(0.02, 0.0313, 0.05), (0.0123, 0.01231, 0.0371, 0.08)])
def test_a_cut_run_under_currents_is_the_uncut_one_bit_for_bit(make, each, times):
    nets = {"stacked": stacked(MANY, LIF, LI), "looped": looped(MANY, LIF, 0.4), "in steps": looped(MANY, ADEX, 0.4)}
    net, events, current = nets[make], drive(seed=6), CURRENT
    if each:
        current = sl.Steps(CURRENT.time, torch.stack([CURRENT.value, 0.7 * CURRENT.value]))
    given = {"hidden": current}
    whole = watched(net, {"input": events} | given)
    same_bits(net, whole, cut(net, events, times, given))
