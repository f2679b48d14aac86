"""Runs in steps that are cut anywhere and continued: the uncut one, bit for bit."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from test_substrate_in_steps import ADEX, CURRENTS, DURATION, EVENTS, MS, NETWORKS, TIMES, sites

from spikeloop import AdEx, Events, Ideal, Network, Observe, Population, Record, State, Steps, run
from spikeloop.errors import OutOfRange, Unsupported

PLACE = Ideal(step=0.2 * MS)
END = DURATION + 0.03 * MS  # no whole number of steps
OBSERVE_STATE = Observe(state=True)


def within(events: Events, begin: float, end: float, last: bool) -> Events:
    """What is sent from ``begin`` on, before ``end``."""
    times, units, sample = events.time, events.unit, events.sample
    keep = (times >= begin) & ((times < end) | last)
    return Events._from_rows(times[keep], units[keep], sample[keep], len(events), events.size)


def currents(begin: float) -> Steps:
    """`CURRENTS` as seen from ``begin`` on."""
    time, value = CURRENTS.time, CURRENTS.value
    now = int((time <= begin).sum()) - 1
    if now < 0:
        return CURRENTS
    return Steps(torch.cat([torch.tensor([begin], dtype=torch.float64), time[now + 1 :]]), value[now:])


def pieces(net: Network, cuts: list[float], steps: bool) -> list[Record]:
    place, state, found = sites(net)[-1], None, list[Record]()
    ends = [0.0, *cuts, END]
    for begin, end in pairwise(ends):
        last = end == END
        drive = {"input": within(EVENTS, begin, end, last)} | ({place: currents(begin)} if steps else {})
        times = TIMES[(begin < TIMES) & (end >= TIMES)] if begin else TIMES[end >= TIMES]
        observe = Observe(dict.fromkeys(sites(net), times), adaptation=dict.fromkeys(sites(net), times), state=True)
        found.append(run(net, drive, end - begin, substrate=PLACE, start=state, observe=observe))
        state = found[-1].state
        assert state is not None
        assert state.time == pytest.approx(end, abs=1e-15)
    return found


def joined(records: list[Record], name: str, sample: int) -> list[tuple[float, int]]:
    trains = [record.spikes[name][sample : sample + 1] for record in records]
    return [(t, u) for train in trains for t, u in zip(train.time.tolist(), train.unit.tolist(), strict=True)]


@pytest.mark.parametrize("steps", [False, True], ids=["events", "events and currents"])
@pytest.mark.parametrize("name", ["AdEx", "compartments", "exact and stepped stages", "a loop with delays"])
def test_a_cut_run_is_the_uncut_one(name: str, steps: bool) -> None:
    net = NETWORKS[name]
    (whole,) = pieces(net, [], steps)
    generator = np.random.default_rng(5)
    random = sorted(generator.uniform(1 * MS, 59 * MS, 5).tolist())
    spikes = whole.spikes["cells"].time.detach().tolist()
    for cuts in (random, [20 * MS, 40 * MS], [10.1 * MS, 10.15 * MS, 10.2 * MS], [min(spikes), max(spikes)]):
        parts = pieces(net, cuts, steps)
        for population in ("cells", *(n for n in ("first",) if n in net.populations)):
            for sample in range(2):
                assert joined(parts, population, sample) == joined([whole], population, sample), (cuts, population)
            count = sum(part.count[population].detach() for part in parts)
            assert torch.equal(count, whole.count[population].detach())
        for trace in ("membrane", "adaptation"):
            for place in sites(net):
                found = torch.cat([getattr(part, trace)[place].value.detach() for part in parts], 1)
                assert torch.equal(found, getattr(whole, trace)[place].value.detach()), (cuts, trace, place)
        same_state(parts[-1].state, whole.state)


def same_state(one: State | None, other: State | None) -> None:
    assert one is not None
    assert other is not None
    for name, paused in one.parts["stepped"].items():
        for mine, theirs in zip(paused.state.arrays(), other.parts["stepped"][name].state.arrays(), strict=True):
            assert np.array_equal(mine, theirs)
    for field in ("membrane", "current"):  # of exact stages: the clocks of both differ by rounding
        assert all(torch.allclose(value, getattr(other, field)[name]) for name, value in getattr(one, field).items())


def test_the_state_says_where_the_output_is() -> None:
    net = NETWORKS["compartments"]
    observe = Observe({"cells": torch.tensor([50 * MS], dtype=torch.float64)}, state=True)
    record = run(net, within(EVENTS, 0.0, 50 * MS, False), 50 * MS, substrate=PLACE, observe=observe)
    assert record.state is not None
    assert torch.allclose(record.state.membrane["cells"], record.membrane["cells"].value[:, 0].detach(), atol=1e-9)


def test_a_state_of_another_step_or_clock_or_made_by_hand_is_refused() -> None:
    net = NETWORKS["AdEx"]
    state = run(net, within(EVENTS, 0, 20 * MS, False), 20 * MS, substrate=PLACE, observe=OBSERVE_STATE).state
    assert state is not None
    later = within(EVENTS, 30 * MS, 60 * MS, True)
    with pytest.raises(OutOfRange, match=r"the step is 0.0001 s. Expected: 0.0002 s"):
        run(net, later, 40 * MS, substrate=Ideal(step=0.1 * MS), start=state)
    fields = {"membrane": state.membrane, "current": state.current, "held": state.held}
    with pytest.raises(OutOfRange, match=r"the clock is 0.01 s"):
        run(net, later, 50 * MS, substrate=PLACE, start=State(**fields, time=10 * MS, parts=state.parts))
    with pytest.raises(Unsupported, match=r"start, population 'cells'.*cannot be made by hand"):
        run(net, later, 40 * MS, substrate=PLACE, start=State(**fields, time=20 * MS))


def test_a_peak_is_that_of_the_whole_run() -> None:
    net = Network({"cells": Population(3, AdEx(10 * MS, 5 * MS, threshold=5.0, a=0.5, tau_adaptation=20 * MS))}, [])
    drive, peak = {"cells": CURRENTS}, Observe(peak={"cells"})
    for end in (12.3 * MS, 30.05 * MS):
        alone = run(net, drive, end, substrate=PLACE, observe=peak).peak["cells"]
        kept = run(net, drive, end, substrate=PLACE, observe=peak.union(OBSERVE_STATE)).peak["cells"]
        assert torch.allclose(alone.value, kept.value, atol=1e-12)


def test_dropout_keeps_neurons_from_sending() -> None:
    populations = dict(NETWORKS["AdEx"].populations.items())
    net = Network(populations | {"cells": Population(3, ADEX, dropout=0.9)}, dict(NETWORKS["AdEx"].projections.items()))
    torch.manual_seed(0)
    record = run(net, EVENTS, DURATION, substrate=PLACE, training=True)
    silent = record.silent["cells"]
    assert bool(silent.any())
    assert not bool((record.count["cells"] > 0)[silent].any())
