"""SuperSpike through short-term plasticity onto neurons in steps, of whole networks that are cut and go on: beside the
run that was not cut, beside exact stages, and sample by sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_short_term_surrogate_continued import uniform
from test_surrogate import close
from torch import Tensor

import spikeloop as sl
from spikeloop.plasticity import ShortTerm

MS = 1e-3
QUICK = {"tau_mem": 2 * MS, "tau_syn": 1 * MS}
EARLY = sl.Events.from_lists(
    [[2.03, 3.04, 9.01, 11.07, 15.02], [1.03, 4.04, 4.37, 12.06]], [[0, 1, 0, 1, 0], [1, 0, 1, 0]], 2, MS
)  # fmt: skip
LATE = sl.Events.from_lists(
    [[66.03, 71.04, 80.02, 90.07], [67.06, 75.03, 89.04]], [[0, 1, 0, 1], [1, 0, 1]], 2, MS
)  # fmt: skip
NOTHING = sl.Events.from_lists([[], []], [[], []], 2)
WHOLE, SILENCE = 110 * MS, 60 * MS


def late() -> sl.Network:
    """What the neurons have been sent is forgotten in the silence between the drives; resources are not, and what
    they send each other, in a loop and onwards, arrives after it."""
    adex = sl.AdEx(**QUICK, tau_adaptation=2 * MS, a=0.1, b=0.2, refractory=1 * MS)
    slow = [ShortTerm(0.5, 80 * MS), ShortTerm(0.3, 120 * MS, facilitating=True), ShortTerm((0.4, 0.6, 0.2), 100 * MS)]
    cells = {name: sl.Population(3, adex) for name in ("first", "second")}
    return sl.Network(
        {"early": sl.Population(2), "late": sl.Population(2), **cells},
        [
            sl.Projection("early", "first", uniform(10, 15, (2, 3), 1)),
            sl.Projection("late", "first", uniform(6, 10, (2, 3), 2), short_term=slow[0]),
            sl.Projection("early", "first", uniform(3, 6, (2, 3), 6), 62 * MS, short_term=slow[0]),
            sl.Projection("first", "first", uniform(1, 3, (3, 3), 3), uniform(59 * MS, 70 * MS, (3, 1), 4),
                          short_term=slow[1]),
            sl.Projection("first", "second", uniform(6, 9, (3, 3), 5), 61 * MS, short_term=slow[2]),
            sl.Projection("first", "second", uniform(3, 9, (3, 3), 7), short_term=slow[0]),
        ],
    )  # fmt: skip


EARLIER = ("early_to_first", "first_to_second2")
"""What events come through before it."""


def gradients_of_late(net: sl.Network, state: sl.State | None, dt: float) -> dict[str, Tensor]:
    """Of the weights that nothing comes through before the silence is over."""
    drive = {"early": NOTHING if state else EARLY, "late": LATE}
    times = SILENCE + 2.3 * MS * torch.arange(1, 20, dtype=torch.float64)
    record = sl.run(
        net, drive, WHOLE - (state.time if state else 0.0), substrate=sl.Ideal(step=0.2 * MS), start=state,
        rule=sl.SuperSpike(dt, 4.0), observe=sl.Observe({"second": times}),
    )  # fmt: skip
    if state is not None:
        assert min(len(state.recent[name].time) for name in ("early", "first")) >= 7
        assert min(float(record.count[name].detach().sum()) for name in ("first", "second")) > 6
    factor = torch.cos(torch.arange(2 * 19 * 3, dtype=torch.float64)).reshape(2, 19, 3)
    loss = (factor * record.membrane["second"].value).sum() + (record.count["second"] * factor[:, 0]).sum()
    weights = {name: p.weight for name, p in net.projections.items() if name not in EARLIER}
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


@pytest.mark.parametrize("cut", [SILENCE, SILENCE + 0.1 * MS], ids=["at a step", "within one"])
def test_weights_of_what_arrives_after_the_cut_have_the_gradients_of_the_uncut_run(cut: float) -> None:
    net = late()
    whole = gradients_of_late(net, None, 0.1 * MS)
    with torch.no_grad():
        drive = {"early": EARLY, "late": NOTHING}
        first = sl.run(net, drive, cut, substrate=sl.Ideal(step=0.2 * MS), observe=sl.Observe(state=True))
    assert min(float(count.sum()) for count in first.count.values()) > 6
    close(gradients_of_late(net, first.state, 0.1 * MS), whole, 1e-8)


DENSE = sl.Events.from_trains(
    [[np.random.default_rng(seed).uniform(0, 39, 10) for seed in seeds] for seeds in ((0, 1), (2, 3))], scale=MS
)


def gradients_from(net: sl.Network, cut: float, dt: float) -> dict[str, Tensor]:
    """Of all weights, of a run from ``cut`` on."""
    place = sl.Ideal(step=dt)
    early, more = (within(DENSE, *span) for span in ((0.0, cut), (cut, 1.0)))
    with torch.no_grad():
        state = sl.run(net, early, cut, substrate=place, observe=sl.Observe(state=True)).state
    assert state is not None
    assert all(len(state.recent[p.source].time) > 0 for p in net.projections.values())
    observe = sl.Observe({"output": cut + 1 * MS * torch.arange(1, 25, dtype=torch.float64)})
    rule = sl.SuperSpike(dt, 3.0, replay=True)
    record = sl.run(net, more, 25 * MS, substrate=place, rule=rule, observe=observe, start=state)
    assert all(len(record.spikes[name].time) > 2 for name in ("first", "cells"))
    factor = torch.cos(torch.arange(record.membrane["output"].value.numel(), dtype=torch.float64))
    loss = (record.membrane["output"].value.flatten() * factor).sum() + record.count["cells"][:, 0].sum()
    weights = {name: p.weight for name, p in net.projections.items()}
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def within(events: sl.Events, begin: float, end: float) -> sl.Events:
    keep = (events.time >= begin) & (events.time < end)
    return sl.Events._from_rows(events.time[keep], events.unit[keep], events.sample[keep], len(events), events.size)


def net_of(first: Any, cells: Any, last: Any) -> sl.Network:
    """A chain with a loop; LIF and LI, or their equals in steps."""
    short = [ShortTerm(0.5, 20 * MS), ShortTerm(0.5, 30 * MS, facilitating=True)]
    populations = {"first": sl.Population(4, first), "cells": sl.Population(3, cells), "output": sl.Population(2, last)}
    return sl.Network(
        {"input": sl.Population(2), **populations},
        [
            sl.Projection("input", "first", uniform(6, 9, (2, 4), 1), 4.1 * MS, short_term=short[0]),
            sl.Projection("first", "cells", uniform(5, 8, (4, 3), 2), 5.7 * MS, short_term=short[1]),
            sl.Projection("cells", "cells", -uniform(0.2, 0.8, (3, 3), 3), uniform(3 * MS, 7 * MS, (3, 1), 4),
                          short_term=ShortTerm((0.3, 0.6, 0.4), 40 * MS)),
            sl.Projection("cells", "output", uniform(0.5, 1, (3, 2), 5), 4.3 * MS, short_term=ShortTerm(0.6, 15 * MS)),
        ],
    )  # fmt: skip


LIF, LI = sl.LIF(10 * MS, 5 * MS), sl.LI(8 * MS, 4 * MS)
LIF_EQUAL, LI_EQUAL = sl.AdEx(10 * MS, 5 * MS), sl.AdEx(8 * MS, 4 * MS, threshold=math.inf)
ALL_EXACT = net_of(LIF, LIF, LI)


@pytest.mark.parametrize(
    "kinds", [(LIF_EQUAL, LIF_EQUAL, LI_EQUAL), (LIF, LIF_EQUAL, LI), (LIF_EQUAL, LIF, LI_EQUAL)],
    ids=["stepped", "exact, stepped, exact", "stepped, exact, stepped"],
)  # fmt: skip
@pytest.mark.parametrize("cut", [14 * MS, 14.03 * MS], ids=["at a step", "within one"])
def test_exact_and_stepped_stages_say_the_same_of_a_run_that_goes_on(kinds: Any, cut: float) -> None:
    apart = []
    for dt in (0.1 * MS, 0.025 * MS):
        exact, steps = (gradients_from(net, cut, dt) for net in (ALL_EXACT, net_of(*kinds)))
        apart.append(max(float((exact[n] - steps[n]).norm() / exact[n].norm()) for n in exact))
    assert apart[0] < 5e-3, apart
    assert apart[1] < apart[0] / 4, apart


def test_a_batch_in_parts_has_the_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    net = net_of(LIF_EQUAL, LIF_EQUAL, LI)
    whole = gradients_from(net, 14.03 * MS, 0.1 * MS)
    monkeypatch.setattr("spikeloop.gradient.surrogate._ROOM", 1)
    close(gradients_from(net, 14.03 * MS, 0.1 * MS), whole, 1e-12)
