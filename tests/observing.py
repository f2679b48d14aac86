"""Running a problem on the engine, for the tests of what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from problems import Problem

from spikeloop import Observe, Record, run


def neurons(problem: Problem) -> list[str]:
    return [name for name, group in problem.groups.items() if group.kind != "input"]


def observation(problem: Problem, count: int = 25) -> Observe:
    times = np.sort(np.random.default_rng(count).uniform(0, problem.duration, count))
    times[:2] = 0.0, problem.duration / 2
    times = torch.as_tensor(np.sort(times))
    return Observe(membrane=dict.fromkeys(neurons(problem), times), peak=set(neurons(problem)))


def observe(problem: Problem, dtype: torch.dtype = torch.float64, **options: Any) -> Record:
    network = problem.network(dtype, trainable=False)
    with torch.no_grad():
        return run(network, problem.events(), problem.duration, observe=observation(problem), **options)


def train(record: Record, name: str, sample: int, unit: int) -> NDArray[np.float64]:
    events = record.spikes[name][sample]
    return events.time[events.unit == unit].numpy()
