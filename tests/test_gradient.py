"""Exact gradients: central differences over a printed grid, 100 random networks, and the torch oracle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from differences import Loss, RedrawnError, Subject, draws
from families import FAMILIES, Draw
from hypothesis import HealthCheck, Phase, assume, given, reject, settings
from hypothesis import strategies as st
from problems import MS, Problem

TOLERANCE = 1e-7
FIELDS = ("weight", "delay", "tau_mem", "tau_syn", "threshold", "leak", "reset", "refractory", "time")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Thousands of tiny runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses(problem: Problem, kinds: str, names: list[str] | None = None) -> Loss:
    """A loss of these kinds ("time membrane peak") on these populations, or on the last."""
    terms = []
    for name in names or [list(problem.groups)[-1]]:
        spiking = problem.groups[name].kind == "lif"
        terms += [(kind if spiking or kind != "time" else "membrane", name) for kind in kinds.split()]
    terms = list(dict.fromkeys(terms))
    times = np.sort(np.random.default_rng(0).uniform(0, problem.duration, 6))
    return Loss(tuple(terms), torch.as_tensor(times))


@dataclass(frozen=True)
class Row:
    """One line of the grid: a family, its delays, what the loss looks at and where (everywhere: in all populations)."""

    family: str
    delay: str = "synapse"
    kinds: str = "time"
    everywhere: bool = False

    def problem(self, seed: int) -> Problem:
        ratio = ("wide", "near", "equal")[seed % 3]
        rng, alike = np.random.default_rng(seed), seed % 2 == 1
        draw = Draw(rng, 4, 3, ratio, 0.25, alike, self.delay, duration=50 * MS, spikes=4.0)
        return FAMILIES[self.family](draw)

    def loss(self, problem: Problem) -> Loss:
        names = [name for name, group in problem.groups.items() if group.kind != "input"]
        return losses(problem, self.kinds, names if self.everywhere else names[-1:])


ROWS = {
    "two hidden layers": Row("two_layers"),
    "recurrent": Row("recurrent"),
    "two populations in a loop": Row("loop"),
    "convolution": Row("conv", "source"),
    "sparse": Row("sparse"),
    "skip connection, two inputs": Row("skip"),
    "no delay": Row("recurrent", "none"),
    "one delay": Row("recurrent", "scalar"),
    "delay per source": Row("two_layers", "source"),
    "delay per synapse": Row("one_layer"),
    "LI behind hidden, samples": Row("readout", kinds="membrane"),
    "LI behind hidden, peaks": Row("readout", kinds="peak"),
    "LIF, samples": Row("two_layers", kinds="membrane"),
    "LIF, peaks": Row("two_layers", kinds="peak", everywhere=True),
    "mixed losses, everything": Row("everything", kinds="time membrane peak", everywhere=True),
}
IMPOSSIBLE = {("no delay", "delay")}


@dataclass
class Grid:
    """The worst relative error of every cell, and how many draws were thrown away."""

    cells: dict[tuple[str, str], float] = field(default_factory=dict)
    redrawn: int = 0

    def note(self, row: str, quantity: str, error: float) -> None:
        self.cells[row, quantity] = max(error, self.cells.get((row, quantity), 0.0))

    def __str__(self) -> str:
        lines = [" " * 28 + "".join(f"{name:>11}" for name in FIELDS)]
        for row in ROWS:
            cells = (self.cells.get((row, name)) for name in FIELDS)
            lines.append(f"{row:28}" + "".join(f"{'-' if c is None else format(c, '.0e'):>11}" for c in cells))
        return "\n".join([*lines, f"{self.redrawn} draws redrawn"])


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid()


def check(subject: Subject, most: int, seed: int, note: Callable[[str, float], None]) -> None:
    """Compare every tensor of a subject with central differences along at most `most` directions."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key in subject.leaves():
        found[key] = subject.error(key, subject.directions(key, most, generator), TOLERANCE)
    for key, error in found.items():
        note(key[1], error)
        assert error < TOLERANCE, (key, error)


@pytest.mark.parametrize("name", ROWS)
def test_central_differences(name: str, grid: Grid) -> None:
    """All entries of every tensor, in two draws: one with different time constants and one with (nearly) equal ones."""
    row, done = ROWS[name], 0
    for seed, subject in enumerate(draws(row.problem, row.loss)):
        try:
            check(subject, 10**9, seed, lambda quantity, error: grid.note(name, quantity, error))
            done += 1
        except RedrawnError:
            grid.redrawn += 1
        if done == 2:
            break


def test_no_cell_of_the_grid_is_missing(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nrelative error of the gradient against central differences (bound {TOLERANCE:g})\n{grid}")
    expected = {(row, name) for row in ROWS for name in FIELDS} - IMPOSSIBLE
    assert expected == set(grid.cells)


@st.composite
def draws_of_networks(draw: st.DrawFn) -> tuple[str, dict[str, Any], str]:
    """A family, the options it is drawn with, and the kinds of loss."""
    options = {
        "size": draw(st.integers(2, 40)),
        "inputs": draw(st.integers(1, 10)),
        "ratio": draw(st.sampled_from(("wide", "near", "equal"))),
        "tonic": draw(st.sampled_from((0.0, 0.2))),
        "alike": draw(st.booleans()),
        "delay": draw(st.sampled_from(("none", "scalar", "source", "synapse"))),
        "spikes": draw(st.floats(1.0, 15.0)),
    }
    kinds = draw(st.sampled_from(("time", "membrane", "peak", "time membrane peak")))
    return draw(st.sampled_from(sorted(set(FAMILIES) - {"conv"}))), options, kinds


@settings(max_examples=100, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(draws_of_networks(), st.integers(0, 2**32 - 1))
def test_random_networks(drawn: tuple[str, dict[str, Any], str], seed: int) -> None:
    """2 to 40 neurons, tau_mem / tau_syn 0.2 to 5 or within 1e-6 of 1, along three random directions per tensor."""
    family, options, kinds = drawn
    problem = FAMILIES[family](Draw(np.random.default_rng(seed), batch=1, **options))
    subject = Subject(problem, losses(problem, kinds), seed)
    assume(not subject.grazes())
    try:
        check(subject, 3, seed, lambda quantity, error: None)
    except RedrawnError:
        reject()


@pytest.mark.parametrize("ratio", ["wide", "near", "equal"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_torch_oracle(family: str, ratio: str) -> None:
    def make(seed: int) -> Problem:
        rng, alike = np.random.default_rng(seed), ratio == "near"
        return FAMILIES[family](Draw(rng, 4, 3, ratio, 0.25, alike, duration=50 * MS, spikes=4.0))

    def loss(problem: Problem) -> Loss:
        names = [name for name, group in problem.groups.items() if group.kind != "input"]
        return losses(problem, "time membrane peak", names)

    subject = next(draws(make, loss))
    for key, expected in subject.oracle().items():
        difference = float((subject.gradients[key] - expected).norm())
        assert difference <= 1e-9 * float(expected.norm()), (key, difference, float(expected.norm()))
        assert not math.isnan(difference)
