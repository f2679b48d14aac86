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
        trains = [[rng.uniform(0, 51.9 * MS, 11) for _ in range(3)] for _ in range(BATCH)]
        early, late = (
            [[t[(t >= a) & (t < b)] for t in row] for row in trains] for a, b in ((0, cut), (cut, cut + LENGTH))
        )
        self.before = sl.run(
            self.network, sl.Events.from_trains(early), cut, substrate=place, observe=sl.Observe(state=True)
        )
        times = np.sort(rng.uniform(0, LENGTH, 7))
        state, names = self.before.state, ("first", "second")
        assert state is not None
        at = torch.from_numpy(times + state.time)
        observe = sl.Observe(dict.fromkeys((*names, "second.dendrite"), at), peak=set(names))
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
        at = np.tile(times, (BATCH, 1))
        samplings = tuple(
            SteppedSampling(at, unit, np.full(size, c, np.int32), rng.normal(size=(*at.shape, size)))
            for c in range(cells.compartments)
        )
        peaks = Peaks(self.record.peak[cells.name].time.numpy() - self.trial.begin, rng.normal(size=(BATCH, size)))
        return SteppedPull(
            (np.zeros(0),) * 3, rng.normal(size=(BATCH, size)), np.zeros((BATCH, size)), samplings, peaks
        )

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
        twin.settled = round(math.floor(cut / STEP + 1e-9) * STEP - cut, 12) or -STEP  # where the cut's step begins
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


ARRIVALS = {  # in the part of the last step that the first run made
    "input_to_first": 417.6, "second_to_first": 401.6, "first_to_second": 467.6, "first_to_first": 390.6,
}  # fmt: skip


@pytest.mark.parametrize("link", ARRIVALS)
def test_within_a_step_the_state_is_that_of_a_run_whose_step_ends_there(link: str, monkeypatch: Any) -> None:
    """Events that arrive between the last whole step and the cut have the sizes that they have: steps of 50 us, beside
    those of 10 us."""
    step, cut = 0.05 * MS, ARRIVALS[link] * 0.05 * MS
    given, fine = GoingOn(cut, step), GoingOn(cut, step / 5)
    assert arrivals(given, link, math.floor(ARRIVALS[link]) * step)
    given.found(monkeypatch)
    assert fine.before.state is not None
    for name, found in given.states.items():
        paused = fine.before.state.parts["stepped"][name]
        assert paused.number * paused.step == pytest.approx(cut, abs=1e-12)
        np.testing.assert_allclose(found.membrane, paused.state.membrane, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.current, paused.state.current, rtol=0, atol=1e-6)


def arrivals(given: GoingOn, name: str, begin: float) -> list[float]:
    """When what was sent before the cut through a link arrives between ``begin`` and the cut."""
    link = next(link for link in given.links if link.name == name)
    events, found = given.before.spikes[link.source].detach(), list[float]()
    for time, unit in zip(events.time.tolist(), events.unit.tolist(), strict=True):
        own = link.delay if len(link.delay) == 1 else link.delay[unit : unit + 1]
        if link.rows is not None:
            own = link.delay[link.rows.begin[unit] : link.rows.begin[unit + 1]]
        found += [time + delay for delay in own if begin < time + delay < given.cut]
    return found
