"""SuperSpike through short-term plasticity: against its naive twins, autograd and finite differences, in exact stages
and in stepped ones, in loops, in several samples and from a state."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import plastic
import pytest
import test_engine_stepped_gradient as stepped_gradient
import torch
from families import FAMILIES
from stepped import Stepped
from test_surrogate import BETA, DT, Case, check_differences, close, problem
from torch import Tensor

import spikeloop as sl
from spikeloop.engine.arrays import Recovery
from spikeloop.engine.short_term_grid import Draws
from spikeloop.engine.stepped import SteppedRun, steps_of
from spikeloop.engine.stepped_adjoint import SteppedGradients, SteppedWants, backward
from spikeloop.plasticity import ShortTerm

MS = 1e-3
KINDS = [ShortTerm(0.4, 6 * MS), ShortTerm(0.3, 9 * MS, facilitating=True)]


# ---- stages that are run exactly -------------------------------------------------------------------------------------


class Drawn(Stepped):
    """The naive twin, with links whose spikes draw on resources, one unit after the other."""

    def __init__(self, short: dict[str, ShortTerm], *given: Any) -> None:
        self.short = short
        self.sizes: dict[tuple[str, int], dict[float, Tensor]] = {}
        self.more: dict[tuple[str, int, int], Tensor] = {}
        self.resources: dict[tuple[str, int], plastic.Drawing] = {}
        super().__init__(*given)

    def spike(self, k: int) -> None:
        super().spike(k)
        begin = self.origin + k * self.dt
        for name, short in self.short.items():
            source = self.layout.wiring[name].source
            for unit in range(self.layout.size[source]):
                given = (short.each("utilisation")[0], short.each("tau")[0], short.facilitating)
                drawing = self.resources.setdefault((name, unit), plastic.Drawing(*given))
                times = [
                    t for t, u in self.trains[source] if u == unit and math.floor((t - self.origin) / self.dt) == k
                ]
                extra = self.extra[source][k][unit] if source in self.neurons else 0.0
                sizes, self.more[name, unit, k] = drawing.step(times, begin + 0.5 * self.dt, extra)
                self.sizes.setdefault((name, unit), {}).update(zip(times, sizes, strict=True))

    def arrivals(self, k: int, name: str) -> list[list[tuple[float, Tensor, bool]]]:
        begin, found = self.origin + k * self.dt, [[] for _ in range(self.layout.size[name])]
        for projection, wiring in self.layout.wiring.items():
            if wiring.target != name:
                continue
            weight = self.quantities[projection, "weight"].flatten()[wiring.weight_index]
            delay = np.ravel(np.asarray(self.quantities[projection, "delay"].detach()))[wiring.delay_index]
            for synapse, (pre, post) in enumerate(zip(wiring.pre, wiring.post, strict=True)):
                for time, size in self.sizes[projection, pre].items():
                    if begin <= time + delay[synapse] < begin + self.dt:
                        found[post].append((time + delay[synapse], weight[synapse] * size, True))
                later = math.floor(0.5 + delay[synapse] / self.dt)
                if wiring.source in self.neurons and k >= later:
                    time = begin + (0.5 - later) * self.dt + delay[synapse]
                    found[post].append((time, weight[synapse] * self.more[projection, pre, k - later], False))
        return found


class Plastic:
    """A problem whose network has short-term plasticity everywhere."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.short = {name: KINDS[k % 2] for k, name in enumerate(given.names)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.given, name)

    def network(self, **options: Any) -> sl.Network:
        net = self.given.network(**options)
        for name, short in self.short.items():
            net.projections[name].short_term = short
            with torch.no_grad():
                net.projections[name].weight *= 2.0
        return net


class DrawnCase(Case):
    def stepped(self, sample: int, base: Stepped | None = None) -> Stepped:
        observed = None
        if not self.rule.replay:
            observed = {name: s.value.detach()[sample] for name, s in self.record.membrane.items()}
        spikes = {name: events.detach() for name, events in self.record.spikes.items()}
        trains = {
            name: [(float(t), int(u)) for t, u in zip(each[sample].time, each[sample].unit, strict=True)]
            for name, each in spikes.items()
        }
        before = base and {name: [v.detach() for v in values] for name, values in base.membrane.items()}
        grid = (self.rule.dt, math.ceil(self.problem.duration / self.rule.dt), self.rule.beta, 0.0, observed, before)
        return Drawn(self.problem.short, self.problem.layout(), self.network.quantities(), trains, *grid)  # type: ignore[attr-defined]


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_autograd_through_time_steps_in_plain_torch(family: str, replayed: bool) -> None:
    case = DrawnCase(Plastic(problem(family)), sl.SuperSpike(DT, BETA, replayed))  # type: ignore[arg-type]
    total = sum((case.loss(case.stepped(b), b) for b in range(len(case.record))), torch.zeros((), dtype=torch.float64))
    expected = torch.autograd.grad(total, list(case.weights().values()))
    close(case.gradients(), dict(zip(case.weights(), expected, strict=True)), 1e-9)


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("family", ["two_layers", "everything"])
def test_finite_differences_of_the_smoothed_model(family: str, replayed: bool) -> None:
    check_differences(DrawnCase(Plastic(problem(family, 1)), sl.SuperSpike(DT, BETA, replayed)))  # type: ignore[arg-type]


def test_parts_of_a_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    case = DrawnCase(Plastic(problem("everything", batch=3)), sl.SuperSpike(DT))  # type: ignore[arg-type]
    whole = case.gradients()
    monkeypatch.setattr("spikeloop.gradient.surrogate._ROOM", 1)
    again = DrawnCase(Plastic(problem("everything", batch=3)), sl.SuperSpike(DT))  # type: ignore[arg-type]
    close(again.gradients(), whole, 1e-12)


@pytest.mark.parametrize("few", [False, True], ids=["whole batch", "sample by sample"])
@pytest.mark.parametrize("family", ["readout", "everything"])
def test_weights_onto_a_readout_are_exact_from_a_state_too(family: str, few: bool, monkeypatch: Any) -> None:
    """The readout is linear, and samples on the grid need no interpolation: then EventProp says the same."""
    given: Any = Plastic(problem(family))
    network, found, more = given.network(trainable=False), [], {}
    duration = DT * round(given.duration / DT)
    if few:
        monkeypatch.setattr("spikeloop.gradient.surrogate._ROOM", 1)
    for start in (None, "state"):
        if start:
            first = sl.run(network, given.events(), duration, observe=sl.Observe(state=True))
            more = {"start": first.state}
        drive = {name: each.later(duration) if start else each for name, each in given.events().items()}
        found.clear()
        for rule in (sl.EventProp(), sl.SuperSpike(DT)):
            begin = duration if start else 0.0
            times = begin + DT * torch.arange(1, round(duration / DT) - 1, dtype=torch.float64)
            record = sl.run(network, drive, duration, rule=rule, observe=sl.Observe({"readout": times}), **more)
            value = record.membrane["readout"].value
            factor = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(3))
            weights = {n: p.weight for n, p in network.projections.items() if p.target == "readout"}
            gradients = torch.autograd.grad((value * factor).sum(), list(weights.values()))
            found.append(dict(zip(weights, gradients, strict=True)))
        close(found[0], found[1], 1e-8)


# ---- stages that are run in steps ------------------------------------------------------------------------------------


class DrawnProblem(stepped_gradient.Problem):
    """A stage in steps whose links are short-term plastic, those within it, too."""

    def __post_init__(self) -> None:
        rng = np.random.default_rng(8)
        for k, link in enumerate(self.links):
            size = len(link.weight) if link.rows is None else len(link.rows.begin) - 1
            of = Recovery.of(rng.uniform(0.2, 0.9, size), rng.uniform(3 * MS, 20 * MS, size), k % 2 == 1)
            weight = link.weight * 2.0
            self.links[k] = replace(link, short_term=of, weight=weight)
        super().__post_init__()

    def draws(self, run: SteppedRun) -> dict[str, Draws]:
        own = {**self.spikes, "input": self.given}
        return {
            link.name: Draws.of(link, own[link.source], run, lambda time, _: steps_of(time, run.step))
            for link in self.links
        }

    def gradients(self, **changed: Any) -> SteppedGradients:
        names, run = [link.name for link in self.links], replace(self.run, **changed)
        wants = SteppedWants(names, ["input"], stepped_gradient.BETA)
        return backward(self.stage, {"input": self.given}, run, {}, self.pulls, wants, self.draws(run))


def made(which: str) -> DrawnProblem:
    given = stepped_gradient.recurrent() if which == "recurrent" else stepped_gradient.single(which)
    return DrawnProblem(given.populations, given.links, given.seed)


@pytest.mark.parametrize("which", ["AdEx", "firing", "plateau", "recurrent"])
def test_stepped_gradients_are_those_of_torch(which: str) -> None:
    stepped_gradient.compare(made(which))


def test_stepped_gradients_do_not_depend_on_threads() -> None:
    given = made("recurrent")
    one, other = given.gradients(threads=1), given.gradients(threads=3)
    for name, weight in one.weight.items():
        np.testing.assert_array_equal(weight, other.weight[name])
    np.testing.assert_array_equal(one.source["input"], other.source["input"])


@pytest.mark.parametrize("which", ["AdEx", "recurrent"])
def test_stepped_gradients_are_finite_differences_of_the_smoothed_model(which: str) -> None:
    problem = made(which)
    parameters, more = stepped_gradient.parameters_of(problem)
    found, name = problem.gradients(), problem.populations[0].name
    row = stepped_gradient.CELL_FIELDS.index
    entries = [
        (parameters.values[name], found.cells[name].values, (row(field), 0, 1)) for field in ("tau_mem", "threshold")
    ]
    entries += [(parameters.weight[link.name], found.weight[link.name], None) for link in problem.links]
    stepped_gradient.check_differences(problem, (parameters, more), entries)


# ---- through whole networks ------------------------------------------------------------------------------------------


def network(first: Any, last: Any, threshold: float = 1.0) -> sl.Network:
    """LIF or its equal in steps; AdEx, in a loop; a readout, or its equal in steps."""
    generator = torch.Generator().manual_seed(3)

    def weights(rows: int, columns: int, size: float) -> Tensor:
        return size * (0.5 + torch.rand(rows, columns, generator=generator, dtype=torch.float64))

    middle = sl.AdEx(10 * MS, 5 * MS, threshold, b=0.1, a=0.1, tau_adaptation=20 * MS)
    populations = {"input": sl.Population(2), "first": sl.Population(4, first), "cells": sl.Population(3, middle)}
    return sl.Network(
        {**populations, "output": sl.Population(2, last)},
        [
            sl.Projection("input", "first", weights(2, 4, 6.0), short_term=ShortTerm(0.5, 20 * MS)),
            sl.Projection("first", "cells", weights(4, 3, 3.0), 0.7 * MS, short_term=ShortTerm(0.5, 30 * MS, True)),
            sl.Projection(
                "cells", "cells", -weights(3, 3, 0.5), 0.9 * MS, short_term=ShortTerm((0.3, 0.6, 0.4), 9 * MS)
            ),
            sl.Projection("cells", "output", weights(3, 2, 0.5), 1.3 * MS, short_term=ShortTerm(0.6, 15 * MS)),
        ],
    )


EVENTS = sl.Events.from_lists(
    [[2 * MS, 5 * MS, 9 * MS, 11 * MS, 20 * MS], [1 * MS, 4 * MS, 4.3 * MS, 22 * MS]],
    [[0, 1, 0, 1, 0], [1, 0, 1, 0]],
    2,
)


def gradients_of(net: sl.Network, dt: float) -> dict[str, Tensor]:
    rule, place = sl.SuperSpike(dt, beta=3.0), sl.Ideal(step=dt)
    times = torch.linspace(2 * MS, 39 * MS, 20, dtype=torch.float64)
    record = sl.run(net, EVENTS, 40 * MS, substrate=place, rule=rule, observe=sl.Observe({"output": times}))
    assert all(len(record.spikes[name].time) > 2 for name in ("first", "cells"))
    factor = torch.cos(torch.arange(record.membrane["output"].value.numel(), dtype=torch.float64))
    (record.membrane["output"].value.flatten() * factor).sum().backward()
    return {name: p.weight.grad for name, p in net.projections.items()}  # type: ignore[misc]


def test_exact_and_stepped_stages_say_the_same() -> None:
    """The same neurons in exact stages and in stepped ones: the gradients approach each other with the step."""
    apart = []
    for dt in (0.1 * MS, 0.0125 * MS):
        lif, readout = sl.LIF(10 * MS, 5 * MS), sl.LI(8 * MS, 4 * MS)
        exact = gradients_of(network(lif, readout), dt)
        steps = gradients_of(network(sl.AdEx(10 * MS, 5 * MS), sl.AdEx(8 * MS, 4 * MS, threshold=math.inf)), dt)
        apart.append(max(float((exact[n] - steps[n]).norm() / exact[n].norm()) for n in exact))
    assert apart[0] < 2e-2
    assert apart[1] < apart[0] / 4


def test_it_learns_through_depressing_synapses() -> None:
    """A loss of the count comes down: what is descended is the loss."""
    net = network(sl.LIF(10 * MS, 5 * MS), sl.LI(8 * MS, 4 * MS))
    optimiser = torch.optim.Adam([p.weight for p in net.projections.values()], 0.05)
    losses = []
    for _ in range(25):
        record = sl.run(net, EVENTS, 40 * MS, substrate=sl.Ideal(step=0.1 * MS), rule=sl.SuperSpike(0.1 * MS))
        loss = ((record.count["cells"] - torch.tensor([[4.0, 1.0, 2.0], [1.0, 3.0, 2.0]])) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < 0.5 * losses[0]
