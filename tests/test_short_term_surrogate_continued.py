"""SuperSpike through short-term plasticity onto neurons in steps, of runs that go on from a state: the resources and
the sizes of what is on its way are those that the events before the cut have left, and are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import test_engine_stepped_gradient as stepped_gradient
import torch
from reference_stepped import Parameters, Smoothed
from test_engine_stepped_gradient import BATCH, BETA, STEP, STEPS
from test_surrogate import close
from torch import Tensor

import spikeloop as sl
from spikeloop.engine.arrays import Peaks
from spikeloop.engine.plan import plan
from spikeloop.engine.plan_stepped import name_of
from spikeloop.engine.stepped import CELL_FIELDS, SteppedSampling, SteppedStage, SteppedState
from spikeloop.engine.stepped_adjoint import SteppedPull
from spikeloop.gradient import through_steps
from spikeloop.plasticity import ShortTerm
from spikeloop.protocols import Cotangent

MS = 1e-3
LENGTH = STEP * STEPS
Trace = list[tuple[float, int]]


def uniform(low: float, high: float, shape: Any, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, shape))


def loop() -> sl.Network:
    """Two populations in a loop, driven from outside; every link is short-term plastic, and most are late."""
    adex = sl.AdEx(
        (10 * MS, 12 * MS, 9 * MS), 4 * MS, slope_factor=0.1, exponential_threshold=0.9, tau_adaptation=20 * MS, a=0.1,
        b=0.15, refractory=0.7 * MS,
    )  # fmt: skip
    tree = sl.Compartments(
        {
            "soma": sl.Compartment(10 * MS, 4 * MS, spike=sl.Sodium(0.6, -0.1, 1 * MS), b=0.1, tau_adaptation=15 * MS),
            "dendrite": sl.Compartment(15 * MS, 6 * MS),
        },
        {("soma", "dendrite"): 4 * MS},
    )
    sparse = (torch.tensor([0, 0, 1, 2, 3, 3]), torch.tensor([0, 2, 1, 0, 1, 2]))
    short = [
        ShortTerm(0.5, 20 * MS),
        ShortTerm((0.3, 0.6, 0.4), (9 * MS, 30 * MS, 15 * MS)),
        ShortTerm(0.4, 40 * MS, facilitating=True),
        ShortTerm(0.7, 50 * MS),
    ]
    return sl.Network(
        {"input": sl.Population(3), "first": sl.Population(3, adex), "second": sl.Population(4, tree)},
        [
            sl.Projection("input", "first", uniform(3, 7, (3, 3), 1), 2.3 * MS, short_term=short[0]),
            sl.Projection("first", "second", uniform(8, 16, (3, 4), 2), uniform(0.1 * MS, 6 * MS, (3, 1), 3),
                          short_term=short[1], compartment="dendrite"),
            sl.Projection.sparse("second", "first", *sparse, uniform(-1, 2, 6, 4), uniform(0, 5 * MS, 6, 5),
                                 short_term=short[2]),
            sl.Projection("first", "first", -uniform(0.1, 0.4, (3, 3), 6), 3.1 * MS, short_term=short[3]),
        ],
    )  # fmt: skip


def trace(events: sl.Events, sample: int, origin: float) -> Trace:
    """(time, unit) of a sample, times from ``origin`` on."""
    some = events.detach()[sample]
    return [(float(t) - origin, int(u)) for t, u in zip(some.time, some.unit, strict=True)]


class GoingOn(stepped_gradient.Problem):
    """A network that was run until ``cut``, and its one stage in the run that goes on: a loss of that run alone."""

    def __init__(self, cut: float, step: float = STEP, seed: int = 0) -> None:
        self.cut, self.network, rng = cut, loop(), np.random.default_rng(seed)
        place = sl.Ideal(step=step)
        trains = [[rng.uniform(0, cut + LENGTH, rng.poisson(200 * (cut + LENGTH))) for _ in range(3)] for _ in "ab"]
        early, late = ([[t[(t >= a) & (t < b)] for t in row] for row in trains] for a, b in ((0, cut), (cut, 1)))
        self.before = sl.run(
            self.network, sl.Events.from_trains(early), cut, substrate=place, observe=sl.Observe(state=True)
        )
        times = np.sort(rng.uniform(0, LENGTH, 7))
        state, names = self.before.state, ("first", "second")
        assert state is not None
        at = torch.from_numpy(times + state.time)
        observe = sl.Observe({name: at for name in (*names, "second.dendrite")}, peak=set(names))
        self.trial = sl.Trial(self.network, {"input": sl.Events.from_trains(late)}, LENGTH, observe, state)
        self.record = sl.run(
            self.network, self.trial.drive, LENGTH, substrate=place, observe=observe, start=self.trial.start
        )
        (stage,) = plan(self.network)
        assert isinstance(stage, SteppedStage)
        self.stage, self.populations, self.links = stage, list(stage.populations), list(stage.links)
        self.pulls = {c.name: self.pull(c, times, rng) for c in self.populations}
        self.states: dict[str, SteppedState] = {}

    def pull(self, cells: Any, times: np.ndarray, rng: np.random.Generator) -> SteppedPull:
        """Random cotangents of what was observed of a population."""
        size, unit = cells.size, np.arange(cells.size, dtype=np.int32)
        samplings = tuple(
            SteppedSampling(np.tile(times, (BATCH, 1)), unit, np.full(size, c, np.int32), rng.normal(size=(BATCH, 7, size)))
            for c in range(cells.compartments)
        )  # fmt: skip
        peaks = Peaks(self.record.peak[cells.name].time.numpy() - self.trial.begin, rng.normal(size=(BATCH, size)))
        return SteppedPull((np.zeros(0),) * 3, rng.normal(size=(BATCH, size)), np.zeros((BATCH, size)), samplings, peaks)

    def found(self, monkeypatch: pytest.MonkeyPatch) -> dict[Any, np.ndarray]:
        """The gradients of the loss by all numbers, and the states that they were made from."""
        made = through_steps.states_at_beginning

        def seen(*given: Any) -> Any:
            self.states = made(*given)
            return self.states

        monkeypatch.setattr(through_steps, "states_at_beginning", seen)
        membrane = {
            f"{name}.dendrite" if c else name: torch.from_numpy(s.value)
            for name, pull in self.pulls.items()
            for c, s in enumerate(pull.samplings)
        }
        count = {name: torch.from_numpy(pull.count) for name, pull in self.pulls.items()}
        peak = {name: torch.from_numpy(pull.peaks.value) for name, pull in self.pulls.items()}  # type: ignore[union-attr]
        wants = frozenset(key for key in self.network.quantities() if key[1] != "delay")
        given = Cotangent(count=count, membrane=membrane, peak=peak, wants=wants)
        gradients = sl.SuperSpike(STEP, BETA).vjp(self.trial, self.record, given)
        return {key: gradient.numpy() for key, gradient in gradients.items()}

    def twin(self, sample: int) -> Smoothed:
        """It goes on from the state of the neurons; of resources it knows all events of before, one by one."""
        names, cut = list(self.pulls), self.trial.begin
        spikes = {name: trace(self.record.spikes[name], sample, cut) for name in names}
        given = {"input": [(*each, 1.0) for each in trace(self.trial.drive["input"], sample, cut)]}
        start = {
            name: tuple(torch.from_numpy(each[sample].copy()) for each in (s.membrane, s.adaptation, s.current, s.free))
            for name, s in self.states.items()
        }
        sent = {name: trace(self.before.spikes[name], sample, cut) for name in (*names, "input")}
        twin = Smoothed(self.populations, self.links, STEP, STEPS, BETA, spikes, given)
        twin.start, twin.sent = start, sent
        return twin

    def of_the_twin(self, parameters: Parameters) -> dict[Any, np.ndarray]:
        """Its gradients, by the keys of the others."""
        expected = {(link.name, "weight"): parameters.weight[link.name].grad for link in self.links}
        for c in self.populations:
            population = self.network.populations[c.name]
            for k in range(c.compartments):
                for row, field in enumerate(CELL_FIELDS):
                    expected[c.name, name_of(population, field, k)] = parameters.values[c.name].grad[row, k]  # type: ignore[index]
                expected[c.name, name_of(population, "tau_syn", k, 0)] = parameters.tau_syn[c.name].grad[0, k]  # type: ignore[index]
            for number, pair in enumerate(population.structure.couplings):  # type: ignore[union-attr]
                key = c.name, population.structure.name_of("coupling", *pair)  # type: ignore[union-attr]
                expected[key] = parameters.coupling[c.name].grad[number]  # type: ignore[index]
        return {key: gradient.numpy() for key, gradient in expected.items() if key[1] is not None}


CUTS = {"at a step": 60 * STEP, "within one": 60.6 * STEP}


def on_its_way(given: GoingOn) -> None:
    """Of both kinds of links something is on its way at the cut, and resources are used up."""
    state = given.before.state
    assert state is not None
    assert min(len(state.recent[name].time) for name in ("input", "first", "second")) > 0
    assert min(len(record.spikes[n].time) for record in (given.before, given.record) for n in given.pulls) >= 5


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_gradients_are_those_of_torch_on_the_naive_twin_that_goes_on(cut: float, monkeypatch: Any) -> None:
    given = GoingOn(cut)
    on_its_way(given)
    found = given.found(monkeypatch)
    parameters, more = stepped_gradient.parameters_of(given)
    given.loss(parameters, more).backward()
    expected = given.of_the_twin(parameters)
    assert set(expected) >= {key for key in found if key[1] != "reversal"}
    for key, mine in found.items():
        theirs = np.nan_to_num(expected[key])
        theirs = theirs.sum() if mine.ndim == 0 else theirs.reshape(mine.shape)
        scale = max(np.abs(theirs).max(), 1e-9)
        np.testing.assert_allclose(mine / scale, theirs / scale, atol=1e-8, err_msg=str(key))


def test_gradients_are_finite_differences_of_the_smoothed_model(monkeypatch: Any) -> None:
    given = GoingOn(CUTS["within one"])
    found, (parameters, more) = given.found(monkeypatch), stepped_gradient.parameters_of(given)
    entries = [(parameters.weight[link.name], found[link.name, "weight"], None) for link in given.links]
    row, values = CELL_FIELDS.index("tau_mem"), parameters.values["first"]
    gradient = np.zeros(values.shape)
    gradient[row, 0] = found["first", "tau_mem"]
    stepped_gradient.check_differences(given, (parameters, more), [*entries, (values, gradient, (row, 0, 1))])


# ---- through whole networks ------------------------------------------------------------------------------------------

QUICK = {"tau_mem": 2 * MS, "tau_syn": 1 * MS}
EARLY = sl.Events.from_lists(
    [[2.03, 3.04, 9.01, 11.07, 15.02], [1.03, 4.04, 4.37, 12.06]], [[0, 1, 0, 1, 0], [1, 0, 1, 0]], 2, MS
)  # fmt: skip
LATE = sl.Events.from_lists([[66.03, 71.04, 80.02, 90.07], [67.06, 75.03, 89.04]], [[0, 1, 0, 1], [1, 0, 1]], 2, MS)  # fmt: skip
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


def gradients_of_late(net: sl.Network, state: sl.State | None, dt: float) -> dict[str, Tensor]:
    """Of all weights that nothing has come through before the silence."""
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
