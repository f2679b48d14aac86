"""The stepped engine's reverse sweep: against torch on the naive twin, and against finite differences of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from reference_stepped import Parameters, Smoothed
from stepped_cells import MS, cells, drive, links

from spikeloop.engine.arrays import Delays, Peaks, Rows
from spikeloop.engine.stepped import CELL_FIELDS, Cells, SteppedLink, SteppedRun, SteppedSampling, SteppedStage, forward
from spikeloop.engine.stepped_adjoint import SteppedGradients, SteppedPull, SteppedWants, backward

STEP, STEPS, INPUTS, BETA, BATCH = 0.4 * MS, 70, 3, 4.0, 2
KINDS = ["leaky", "firing", "firing from leak", "exponential", "AdEx", "facilitating", "AdEx with conductances"]
TREES = ["three compartments", "plateau", "five of everything"]


@dataclass(eq=False)
class Problem:
    """A stage, its drive and a loss: random cotangents on membranes of two compartments, counts and peaks."""

    populations: list[Cells]
    links: list[SteppedLink]
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.given = drive(BATCH, INPUTS, STEP * STEPS, 250.0, seed=self.seed)
        self.stage = SteppedStage(tuple(self.populations), tuple(self.links), np.dtype(np.float64))
        self.run = SteppedRun(BATCH, STEP, STEPS)
        self.spikes = forward(self.stage, {"input": self.given}, self.run, {})
        self.pulls = {}
        for c in self.populations:
            times = np.sort(rng.uniform(0, STEP * STEPS, (BATCH, 7)), axis=1)
            unit = np.arange(c.size, dtype=np.int32)
            samplings = tuple(
                SteppedSampling(times, unit, np.full(c.size, k, np.int32), rng.normal(size=(BATCH, 7, c.size)))
                for k in {0, c.compartments - 1}
            )
            peaks = Peaks(rng.uniform(0, STEP * STEPS, (BATCH, c.size)), rng.normal(size=(BATCH, c.size)))
            count = rng.normal(size=(BATCH, c.size))
            push = rng.normal(size=(BATCH, STEPS, c.size))
            self.pulls[c.name] = SteppedPull(self.spikes[c.name], count, push, samplings, peaks)

    def gradients(self, **changed: Any) -> SteppedGradients:
        names = [link.name for link in self.links]
        run = replace(self.run, **changed)
        return backward(self.stage, {"input": self.given}, run, {}, self.pulls, SteppedWants(names, ["input"], BETA))

    def twin(self, sample: int) -> Smoothed:
        def some(train: Any) -> list[tuple[float, int]]:
            rows = slice(train[2][sample], train[2][sample + 1])
            return list(zip(train[0][rows].tolist(), train[1][rows].tolist(), strict=True))

        spikes = {name: some(train) for name, train in self.spikes.items()}
        given = {"input": [(time, unit, 1.0) for time, unit in some(self.given)]}
        return Smoothed(self.populations, self.links, STEP, STEPS, BETA, spikes, given)

    def loss(self, parameters: Parameters, more: list[Any], base: Any = None) -> Any:
        total: Any = 0.0
        for sample in range(BATCH):
            membrane, sent = self.twin(sample).run(parameters, {"input": more[sample]}, base and base[sample])
            for c in self.populations:
                pull, leak = self.pulls[c.name], parameters.values[c.name][CELL_FIELDS.index("leak")]
                absolute = membrane[c.name] + leak
                for s in pull.samplings:
                    for k, time in enumerate(s.time[sample]):
                        values = at(absolute, time)[s.compartment, s.unit]
                        total = total + (torch.from_numpy(s.value[sample, k]) * values).sum()
                assert pull.peaks is not None
                assert pull.count is not None
                assert pull.push is not None
                for m in range(c.size):
                    value = pull.peaks.value[sample, m]
                    total = total + value * at(absolute, pull.peaks.time[sample, m])[c.output, m]
                weights = torch.from_numpy(pull.count[sample] + pull.push[sample])
                total = total + (weights * sent[c.name]).sum()
        return total


def at(membrane: Any, time: float) -> Any:
    """Between grid points, linearly."""
    place = min(time / STEP, STEPS - 1e-9)
    before = int(place)
    return (1 - (place - before)) * membrane[before] + (place - before) * membrane[before + 1]


def single(kind: str) -> Problem:
    target = cells(kind, 3, seed=5)
    return Problem([target], links(target, INPUTS, 1.1, seed=2))


def recurrent() -> Problem:
    """Two populations in a loop: dense with a delay per unit, and sparse with one per synapse, some below a step."""
    rng = np.random.default_rng(3)
    first, second = cells("AdEx", 3, seed=1, name="first"), cells("firing", 4, seed=2, name="second")
    inward = replace(links(first, INPUTS, 1.5, seed=2)[0], name="in")
    onward = SteppedLink(
        "on", "first", "second", rng.normal(2.0, 1.0, (3, 4)), rng.uniform(0.1, 2, 3) * MS, Delays.PER_UNIT
    )
    rows = Rows(np.array([0, 2, 3, 5, 6]), np.array([0, 2, 1, 0, 1, 2], np.int32), None, None)
    back = SteppedLink(
        "back", "second", "first", rng.normal(0, 1, 6), rng.uniform(0.0, 2, 6) * MS, Delays.PER_SYNAPSE, rows=rows
    )
    return Problem([first, second], [inward, onward, back])


def parameters_of(problem: Problem) -> tuple[Parameters, list[Any]]:
    more = [torch.zeros(STEPS, INPUTS, dtype=torch.float64, requires_grad=True) for _ in range(BATCH)]
    return Parameters.of(problem.populations, problem.links), more


def compare(problem: Problem) -> None:
    """All gradients equal those of torch."""
    parameters, more = parameters_of(problem)
    problem.loss(parameters, more).backward()
    found = problem.gradients()
    for c in problem.populations:
        mine = found.cells[c.name]
        for row, name in enumerate(CELL_FIELDS):
            theirs = np.nan_to_num(parameters.values[c.name].grad[row].numpy())
            scale = max(np.abs(theirs).max(), 1e-9)
            np.testing.assert_allclose(mine.values[row] / scale, theirs / scale, atol=1e-8, err_msg=f"{c.name} {name}")
        for name in ("tau_syn", "reversal", "coupling"):
            theirs = getattr(parameters, name)[c.name].grad
            theirs = np.zeros_like(getattr(mine, name)) if theirs is None else np.nan_to_num(theirs.numpy())
            scale = max(np.abs(theirs).max(initial=0.0), 1e-9)
            np.testing.assert_allclose(getattr(mine, name) / scale, theirs / scale, atol=1e-8, err_msg=name)
    for link in problem.links:
        theirs = parameters.weight[link.name].grad.numpy()
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(found.weight[link.name] / scale, theirs / scale, atol=1e-8, err_msg=link.name)
    source = np.stack([each.grad.numpy() for each in more])
    np.testing.assert_allclose(found.source["input"], source, atol=1e-8 * np.abs(source).max())


@pytest.mark.parametrize("kind", KINDS + TREES)
def test_gradients_are_those_of_torch_on_the_naive_twin(kind: str) -> None:
    problem = single(kind)
    assert len(problem.spikes["hidden"][0]) >= 5 or kind == "leaky"
    compare(problem)
    held = np.abs(problem.gradients().cells["hidden"].field("refractory")).max(axis=1)
    assert held[0] > 1e-3 or kind in ("leaky", "three compartments")
    assert held[1:].max(initial=0.0) > 1e-3 or kind not in ("plateau", "five of everything")


def test_gradients_of_a_loop_are_those_of_torch_on_the_naive_twin() -> None:
    problem = recurrent()
    assert min(len(train[0]) for train in problem.spikes.values()) >= 5
    compare(problem)


def base_of(problem: Problem, parameters: Parameters, more: list[Any]) -> list[dict[str, Any]]:
    """By sample and population, how far membranes are from thresholds at the beginning of every step."""
    found = []
    for sample in range(BATCH):
        membrane, _ = problem.twin(sample).run(parameters, {"input": more[sample]}, None)
        rows = parameters.values
        found.append(
            {
                c.name: list(
                    membrane[c.name][:, c.output]
                    - (rows[c.name][CELL_FIELDS.index("threshold")] - rows[c.name][CELL_FIELDS.index("leak")])[c.output]
                )
                for c in problem.populations
            }
        )
    return found


def check_differences(problem: Any, given: Any, entries: Any) -> None:
    """entries: a tensor of ``given``, the gradient by it, and which place (None: where that is largest)."""
    parameters, more = given
    with torch.no_grad():
        base = base_of(problem, parameters, more)
        for tensor, gradient, place in entries:
            where = place or np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
            value, size = float(tensor[where]), 1e-6 * max(abs(float(tensor[where])), 1e-3)
            losses = []
            for sign in (1, -1):
                tensor[where] = value + sign * size
                losses.append(float(problem.loss(parameters, more, base)))
            tensor[where] = value
            difference = (losses[0] - losses[1]) / (2 * size)
            assert difference == pytest.approx(gradient[where], rel=2e-4, abs=1e-11 / size), where


@pytest.mark.parametrize("kind", ["AdEx", "plateau", "loop"])
def test_gradients_are_finite_differences_of_the_smoothed_model(kind: str) -> None:
    problem = recurrent() if kind == "loop" else single(kind)
    parameters, more = parameters_of(problem)
    name = problem.populations[0].name
    found = problem.gradients()
    mine = found.cells[name]
    entries = [
        (parameters.values[name], mine.values, (CELL_FIELDS.index(field), 0, 1))
        for field in ("tau_mem", "threshold", "leak", "reset", "refractory", "slope_factor", "tau_adaptation", "a", "b")
        if problem.populations[0].field(field)[0, 1] > 0 or field in ("leak", "reset")
    ]
    entries += [(parameters.tau_syn[name], mine.tau_syn, (0, 0, 1))]
    entries += [(parameters.weight[link.name], found.weight[link.name], None) for link in problem.links]
    entries += [(parameters.coupling[name], mine.coupling, (1, 2))] * (kind == "plateau")
    durations = [at for at in np.argwhere(mine.field("refractory") != 0) if at[0] > 0]
    assert len(durations) >= (1 if kind == "plateau" else 0)
    entries += [(parameters.values[name], mine.values, (CELL_FIELDS.index("refractory"), *at)) for at in durations]
    check_differences(problem, (parameters, more), entries)


def test_gradients_do_not_depend_on_threads() -> None:
    problem = single("AdEx")
    once, other = problem.gradients(threads=1), problem.gradients(threads=3)
    np.testing.assert_array_equal(once.cells["hidden"].values, other.cells["hidden"].values)
    np.testing.assert_array_equal(once.weight["(0, 0)"], other.weight["(0, 0)"])
    np.testing.assert_array_equal(once.source["input"], other.source["input"])


def test_float32_gradients_are_those_of_float64_but_for_rounding() -> None:
    problem = single("AdEx")
    exact = problem.gradients()
    projections = tuple(replace(link, weight=link.weight.astype(np.float32)) for link in problem.links)
    stage = SteppedStage(problem.stage.populations, projections, np.dtype(np.float32))
    pull = problem.pulls["hidden"]
    assert pull.count is not None
    assert pull.push is not None
    single_pull = replace(pull, count=pull.count.astype(np.float32), push=pull.push.astype(np.float32))
    names = [link.name for link in projections]
    found = backward(
        stage, {"input": problem.given}, problem.run, {}, {"hidden": single_pull}, SteppedWants(names, beta=BETA)
    )
    for mine, theirs in (
        (found.weight["(0, 0)"], exact.weight["(0, 0)"]),
        *zip(found.cells["hidden"].values, exact.cells["hidden"].values, strict=True),
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-3 * max(np.abs(theirs).max(), 1e-9))
