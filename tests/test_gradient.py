"""Exact gradients: central differences over a printed grid, 100 random networks, and the torch oracle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from differences import GRAZES, Key, Loss, RedrawnError, Subject, Tally, draws
from families import FAMILIES, Draw
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from problems import MS, Problem

from spikeloop import LI, LIF, EventProp, Events, Observe, recurrent, run
from spikeloop.initial import Normal

TOLERANCE = 1e-7
MOST_REDRAWN = 0.1
"""Of all draws: what is more would be a test that looks away."""
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
    "padded convolution": Row("padded", "source"),
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
    rows: Tally = field(default_factory=Tally)
    random: Tally = field(default_factory=Tally)

    def note(self, row: str, quantity: str, error: float) -> None:
        self.cells[row, quantity] = max(error, self.cells.get((row, quantity), 0.0))

    def __str__(self) -> str:
        lines = [" " * 28 + "".join(f"{name:>11}" for name in FIELDS)]
        for row in ROWS:
            cells = (self.cells.get((row, name)) for name in FIELDS)
            lines.append(f"{row:28}" + "".join(f"{'-' if c is None else format(c, '.0e'):>11}" for c in cells))
        return "\n".join([*lines, f"the grid: {self.rows}", f"random networks: {self.random}"])


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid()


def check(subject: Subject, directions: Mapping[Key, torch.Tensor]) -> dict[Key, float]:
    """The error of every tensor that there are directions for; none may be too large."""
    errors = {}
    for key, along in directions.items():
        errors[key] = subject.error(key, along, TOLERANCE)
        assert errors[key] < TOLERANCE, (key, errors[key])
    return errors


@pytest.mark.parametrize("name", ROWS)
def test_central_differences(name: str, grid: Grid) -> None:
    """All entries of every tensor, in two draws: one with different time constants and one with (nearly) equal ones."""
    row, done = ROWS[name], 0
    for seed, subject in enumerate(draws(row.problem, row.loss, grid.rows)):
        try:
            for key, error in check(subject, subject.all_directions(10**9, seed)).items():
                grid.note(name, key[1], error)
            done += 1
        except RedrawnError as why:
            grid.rows.redrawn[str(why)] += 1
        if done == 2:
            break
    grid.rows.kept += done
    assert done == 2


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_gradient_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every tensor of a draw that passes: none is redrawn because its gradient is wrong."""
    row = ROWS[name]
    for subject in draws(row.problem, row.loss, Tally()):
        directions = subject.all_directions(3, 0)
        with suppress(RedrawnError):
            check(subject, directions)
            break
    for key, along in directions.items():
        for wrong in subject.spoilt(key):
            monkeypatch.setitem(subject.gradients, key, wrong)
            with pytest.raises(AssertionError, match=key[1]):
                check(subject, {key: along})
            monkeypatch.undo()
    check(subject, directions)


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
    return draw(st.sampled_from(sorted(set(FAMILIES) - {"conv", "padded"}))), options, kinds


@settings(max_examples=100, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(drawn=draws_of_networks(), seed=st.integers(0, 2**32 - 1))
def test_random_networks(grid: Grid, drawn: tuple[str, dict[str, Any], str], seed: int) -> None:
    """2 to 40 neurons, tau_mem / tau_syn 0.2 to 5 or within 1e-6 of 1, along three random directions per tensor.

    Every draw that is kept must also fail once one of its gradients is spoilt.
    """
    family, options, kinds = drawn
    problem = FAMILIES[family](Draw(np.random.default_rng(seed), batch=1, **options))
    subject = Subject(problem, losses(problem, kinds), seed)
    if subject.grazes():
        grid.random.redrawn[GRAZES] += 1
        reject()
    directions = subject.all_directions(3, seed)
    try:
        check(subject, directions)
    except RedrawnError as why:
        grid.random.redrawn[str(why)] += 1
        reject()
    grid.random.kept += 1
    key = list(directions)[seed % len(directions)]
    subject.gradients[key] = subject.spoilt(key)[0]
    with pytest.raises(AssertionError, match=key[1]):
        check(subject, {key: directions[key]})


def test_the_grid_is_whole_and_few_draws_were_redrawn(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nrelative error of the gradient against central differences (bound {TOLERANCE:g})\n{grid}")
    expected = {(row, name) for row in ROWS for name in FIELDS} - IMPOSSIBLE
    assert expected == set(grid.cells)
    assert grid.rows.kept == 2 * len(ROWS)
    assert grid.random.kept >= 100
    assert max(grid.rows.share, grid.random.share) <= MOST_REDRAWN


@pytest.mark.parametrize("ratio", ["wide", "near", "equal"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_torch_oracle(family: str, ratio: str) -> None:
    def make(seed: int) -> Problem:
        rng, alike = np.random.default_rng(seed), ratio == "near"
        return FAMILIES[family](Draw(rng, 4, 3, ratio, 0.25, alike, duration=50 * MS, spikes=4.0))

    def loss(problem: Problem) -> Loss:
        names = [name for name, group in problem.groups.items() if group.kind != "input"]
        return losses(problem, "time membrane peak", names)

    subject = next(draws(make, loss, Tally()))
    for key, expected in subject.oracle().items():
        difference = float((subject.gradients[key] - expected).norm())
        assert difference <= 1e-9 * float(expected.norm()), (key, difference, float(expected.norm()))
        assert not math.isnan(difference)


@pytest.mark.parametrize("alone", ["input_to_hidden", "hidden_to_output", "hidden_to_hidden"])
def test_a_projection_alone_gets_what_it_gets_beside_the_others(alone: str) -> None:
    def gradients(wanted: set[str]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        times = {"tau_mem": 20 * MS, "tau_syn": 5 * MS}
        network = recurrent([4, 6, 3], LIF(**times), readout=LI(**times), weight=Normal(1.0, 0.3))
        for name, projection in network.projections.items():
            projection.requires_grad_(name in wanted)
        drive = Events.from_trains([[[1 * MS, 9 * MS], [2 * MS], [3 * MS], [5 * MS, 6 * MS]]] * 2)
        record = run(network, drive, 40 * MS, rule=EventProp(), observe=Observe(peak={"output"}))
        assert len(record.spikes["hidden"].time) > 0
        record.peak["output"].value.square().sum().backward()
        found = {name: projection.weight.grad for name, projection in network.projections.items()}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    every = {"input_to_hidden", "hidden_to_output", "hidden_to_hidden"}
    assert set(gradients({alone})) == {alone}
    assert torch.equal(gradients({alone})[alone], gradients(every)[alone])
    assert bool(gradients(every)[alone].any())
