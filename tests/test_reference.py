"""The naive twins themselves: known answers, and the oracle's gradients against central differences of `simulate`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from families import FAMILIES, Draw
from oracle import Oracle
from problems import MS, period, psp_peak, single
from reference import Run, simulate
from torch import Tensor


@pytest.mark.parametrize("tau_syn", [2 * MS, 10 * MS, 10 * MS * (1 + 1e-9), 50 * MS])
def test_a_potential_that_just_reaches_the_threshold_makes_no_spike(tau_syn: float) -> None:
    exact = 1 / psp_peak(10 * MS, tau_syn)
    counts = []
    for factor in (0.999, 1.0, 1.001):
        problem = single(exact * factor, 10 * MS, tau_syn, 0.1)
        counts.append(len(problem.reference().trains("hidden")[0]))
    assert counts == [0, 0, 1]


def test_tonic_firing_has_the_period_of_the_closed_form() -> None:
    fields = {"threshold": 1.0, "leak": 1.3, "reset": -0.2, "refractory": 2 * MS}
    problem = single(0.0, 10 * MS, 5 * MS, 1.0, **fields)
    train = problem.reference().trains("hidden")[0]
    expected = period(10 * MS, **fields)
    assert len(train) == int((1.0 + 2 * MS) / expected)
    np.testing.assert_allclose(train, expected * np.arange(1, len(train) + 1) - 2 * MS, rtol=1e-12)


def test_equal_time_constants_give_an_alpha_function() -> None:
    run = single(0.7, 10 * MS, 10 * MS, 0.1).reference()
    times = np.linspace(0, 0.1, 23)
    after = np.maximum(times - 1 * MS, 0) / (10 * MS)
    np.testing.assert_allclose(run.membrane("hidden", times)[:, 0], 0.7 * after * np.exp(-after), rtol=1e-13)
    np.testing.assert_allclose(run.peak("hidden"), [[11 * MS, 0.7 / math.e]], rtol=1e-7)


class Loss:
    """A random linear function of every spike time (in units of 10 ms), some samples and the peaks."""

    def __init__(self, run: Run, duration: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.counts = {name: [len(cell.spikes) for cell in cells] for name, cells in run.cells.items()}
        self.times = np.sort(rng.uniform(0, duration, 4))
        self.train = {name: [rng.normal(size=count) for count in counts] for name, counts in self.counts.items()}
        self.sample = {name: rng.normal(size=(4, len(cells))) for name, cells in run.cells.items()}
        self.peak = {name: rng.normal(size=len(cells)) for name, cells in run.cells.items()}

    def of_run(self, run: Run) -> float:
        total = 0.0
        for name, cells in run.cells.items():
            assert self.counts[name] == [len(cell.spikes) for cell in cells]
            trains = zip(self.train[name], run.trains(name), strict=True)
            total += sum(float(np.dot(c, np.array(t))) for c, t in trains) / (10 * MS)
            total += float((self.sample[name] * run.membrane(name, self.times)).sum())
            total += float((self.peak[name] * run.peak(name)[:, 1]).sum())
        return total

    def of_oracle(self, oracle: Oracle) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for name in oracle.run.cells:
            for c, train in zip(self.train[name], oracle.trains(name), strict=True):
                if train:
                    total = total + (torch.from_numpy(c) * torch.stack(train)).sum() / (10 * MS)
            total = total + (torch.from_numpy(self.sample[name]) * oracle.membrane(name, self.times)).sum()
            total = total + (torch.from_numpy(self.peak[name]) * oracle.peak(name)).sum()
        return total


@pytest.mark.parametrize("ratio", ["wide", "near"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_oracle_agrees_with_central_differences(family: str, ratio: str) -> None:
    """Along one random direction per tensor, at the best of three steps."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        draw = Draw(rng, size=3, inputs=2, ratio=ratio, tonic=0.3, batch=1, duration=40 * MS, spikes=3.0)
        problem = FAMILIES[family](draw)
        if problem.reference().slowest() > 0.05:
            break
    layout, drive, duration = problem.layout(), problem.drives[0], problem.duration
    quantities = {k: torch.tensor(v, requires_grad=True) for k, v in problem.quantities().items()}
    moving = {name: (torch.tensor(times, requires_grad=True), units) for name, (times, units) in drive.items()}
    oracle = Oracle(layout, quantities, moving, duration)
    loss = Loss(oracle.run, duration, seed)
    value = loss.of_oracle(oracle)
    assert value.item() == pytest.approx(loss.of_run(oracle.run), rel=1e-12, abs=1e-12)
    leaves = {**quantities, **{(name, "time"): times for name, (times, _) in moving.items()}}
    gradients = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()), allow_unused=True), strict=True))
    for key, leaf in leaves.items():
        gradient = gradients[key]
        assert gradient is not None, key
        start = leaf.detach().numpy()
        size = np.abs(start).mean() if key[1] != "time" else MS
        direction = rng.normal(size=start.shape) * size
        expected = float((gradient.numpy() * direction).sum())
        errors = []
        for step in (1e-5, 1e-6, 1e-7):
            ends = []
            for sign in (1, -1):
                changed = start + sign * step * direction
                q = {**problem.quantities(), key: changed}
                d = {n: (changed if (n, "time") == key else t, u) for n, (t, u) in drive.items()}
                ends.append(loss.of_run(simulate(layout, q, d, duration)))
            errors.append(abs((ends[0] - ends[1]) / (2 * step) - expected))
        scale = float(np.linalg.norm(gradient.numpy() * size))
        assert min(errors) <= 1e-7 * scale, (key, errors, scale, seed)
