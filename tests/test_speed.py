"""Whether the engine has become slow: ratios inside one run, never times. benchmarks/speed.py tells how fast it is."""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chips import ready
from reference import Layout, Run, Wiring, simulate

from spikeloop import Events, Ideal, Record, Substrate, Twin, run

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "suite"))

from building import events_of, made, network_of
from inputs import poisson
from problem import Problem
from roofline import Layer, Roofline
from workloads import WORKLOADS

pytestmark = pytest.mark.alone

ROUNDS = 7
TIMES_NAIVE = 10_000  # 40 000 to 50 000 were measured
OF_SWEEP = 0.03  # 0.10 was measured
OF_IDEAL = {
    0.0: 0.2,
    1.0: 0.15,
}  # by noise; 0.42 and 0.30 were measured, the floors are 0.333 and 0.25 on a quiet machine
STRAIGHT = 0.6  # of the multiply-adds a core can do; 0.92 to 0.95 were measured


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem() -> Problem:
    """The chip's network at 20 hidden spikes, on random events instead of digits."""
    return made(replace(WORKLOADS["W2"], events=poisson(90.0, until=20e-3), samples=500), Ideal())


def seconds(step: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    step()
    return clock() - began


def ratio(slow: Callable[[], float], fast: Callable[[], float]) -> float:
    """The median over rounds in which both are timed right after each other: what disturbs one disturbs the other."""
    fast()
    return statistics.median(slow() / fast() for _ in range(ROUNDS))


def answer(problem: Problem, samples: int, substrate: Substrate | None = None) -> Callable[[], Record]:
    drive: Events = events_of(problem.events, problem.shape.sizes[0])[:samples]
    network, place = network_of(problem), substrate or Ideal()

    def forward() -> Record:
        with torch.no_grad():
            return run(network, drive, problem.shape.duration, substrate=place)

    return forward


def naive(problem: Problem) -> Callable[[], Run]:
    """The same network and its first sample for the naive twin, which knows no layers: synapse by synapse."""
    names = ["input", "hidden", "output"]
    size = dict(zip(names, problem.shape.sizes, strict=True))
    network = network_of(problem, torch.float64)
    wiring = {
        f"{source}_to_{target}": Wiring(
            source,
            target,
            *(part.ravel() for part in np.indices((size[source], size[target]))),
            np.arange(size[source] * size[target]),
            np.zeros(size[source] * size[target], np.int64),
        )
        for source, target in itertools.pairwise(names)
    }
    layout = Layout(size, dict(zip(names, ("input", "lif", "li"), strict=True)), wiring)
    quantities = {key: value.detach() for key, value in network.quantities().items()}
    first = slice(0, int(problem.events.start[1]))
    drive = {"input": (problem.events.time[first], problem.events.unit[first])}
    return lambda: simulate(layout, quantities, drive, problem.shape.duration)


def test_the_yardstick_is_straight() -> None:
    assert statistics.median(Roofline("float32", 1).share() for _ in range(3)) > STRAIGHT


def test_the_engine_is_far_from_the_naive_twin(problem: Problem) -> None:
    forward, one = answer(problem, 500), naive(problem)
    first = forward().spikes["hidden"][0]
    assert len(one().spikes("hidden")) == len(first.time)
    found = 500 * ratio(lambda: seconds(one), lambda: seconds(forward))
    assert found > TIMES_NAIVE, found


def test_the_engine_is_near_the_bare_sweep(problem: Problem) -> None:
    forward, roofline, network = answer(problem, 500), Roofline("float32", 1), network_of(problem)
    record = forward()
    layers = [
        Layer(
            [(*(getattr(record.spikes[p.source], part) for part in ("time", "unit", "start")), p.weight.detach())], size
        )
        for p, size in zip(network.projections.values(), problem.shape.sizes[1:], strict=True)
    ]
    found = ratio(lambda: 500 / roofline.of(layers, 500)["sweep"], lambda: seconds(forward))
    assert found > OF_SWEEP, found


@pytest.mark.parametrize("noise", OF_IDEAL)
def test_the_twin_is_not_far_from_ideal(problem: Problem, noise: float) -> None:
    """Without mismatch, so that it needs no calibration and is as active as `Ideal`; the sweep knows no difference.

    Seconds of the processor, the fastest of several rounds each, in turns.
    """
    twin = ready(network_of(problem), Twin(7, mismatch=0.0, noise=noise))
    here, there = answer(problem, 500), answer(problem, 500, twin)
    spikes, expected = (len(each().spikes["hidden"].time) for each in (there, here))
    assert spikes == pytest.approx(expected, rel=0.1)
    rounds = [[seconds(step, time.process_time) for step in (here, there)] for _ in range(ROUNDS)]
    ideal, chip = (min(times) for times in zip(*rounds, strict=True))
    assert ideal / chip > OF_IDEAL[noise], ideal / chip
