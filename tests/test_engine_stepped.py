"""The stepped engine: against SciPy at a tight tolerance, cut and continued, recurrent, and at its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from neuron_ode import Neuron
from stepped_cells import (
    KINDS,
    MS,
    cells,
    drive,
    everything,
    links,
    run_one,
    train_of,
)

from spikeloop.engine.exact import joined
from spikeloop.engine.stepped import (
    Cells,
    SteppedAsk,
    SteppedRun,
    SteppedState,
)

DURATION = 80 * MS
INPUTS = 5


def shortest(target: Cells) -> float:
    return min(target.field("tau_mem").min(), target.tau_syn.min())


@pytest.mark.parametrize("kind", KINDS)
def test_membranes_and_spikes_are_those_of_scipy(kind: str) -> None:
    """With 50 steps per shortest time constant: membranes within 1e-4 of the threshold, spikes within a tenth step."""
    target, scale = cells(kind, size=3), KINDS[kind].get("scale", 1.0)
    step = shortest(target) / 50
    given, projections = drive(1, INPUTS, DURATION, 150.0, seed=1), links(target, INPUTS, 0.7 * scale, seed=3)
    times = np.arange(0.123 * MS, DURATION, 0.71 * MS)
    last = target.compartments - 1
    seen = [everything(target, 1, times, compartment) for compartment in (0, last)]
    steps = int(np.ceil(DURATION / step))
    trains = run_one(
        target, projections, {"input": given}, SteppedRun(1, step, steps), SteppedAsk(samplings=seen[0] + seen[1])
    )
    total = 0
    for unit in range(target.size):
        arrivals = [
            (time + 0.3 * MS, link.receptor, link.compartment, float(link.weight[line, unit]))
            for link in projections
            for time, line in zip(given[0], given[1], strict=True)
        ]
        naive = Neuron(target, unit, arrivals)
        expected = naive.run(0.0, DURATION, list(times))
        mine = train_of(trains, 0, unit)
        mine = mine[mine < DURATION]
        assert len(mine) == len(naive.spikes)
        np.testing.assert_allclose(mine, naive.spikes, rtol=0, atol=0.1 * step)
        far = np.all([np.abs(times - time) > step for time, _ in naive.crossings], axis=0) | np.zeros(len(times), bool)
        for compartment, samples in zip((0, last), seen, strict=True):
            for sampling, name in zip(samples, ("membrane", "adaptation", "current"), strict=True):
                difference = np.abs(sampling.value[0, :, unit] - expected[name][:, compartment])
                assert difference[far].max() < 1e-4 * scale, (name, compartment)
        total += len(mine)
    assert total >= 2 or kind == "leaky"


def whole(target: Cells, trains: Any, steps: int, ask: SteppedAsk, dtype: Any, **run: Any) -> Any:
    projections = links(target, INPUTS, 0.7, seed=3, dtype=dtype)
    return run_one(target, projections, {"input": trains}, SteppedRun(3, 0.1 * MS, steps, **run), ask, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["AdEx", "conductances", "plateau", "five of everything"])
def test_a_run_that_is_cut_and_continued_is_the_uncut_one(kind: str, dtype: Any) -> None:
    target, steps = cells(kind, size=70), 600
    given = drive(3, INPUTS, steps * 0.1 * MS, 150.0, seed=4)
    times = np.arange(0, steps * 0.1 * MS, 0.37 * MS)
    seen = everything(target, 3, times)
    end = SteppedState.empty(target, 3, dtype)
    uncut = whole(target, given, steps, SteppedAsk(samplings=seen, end=end), dtype)
    for cut in (1, 211, 480):
        seen2 = everything(target, 3, times)
        between, last = SteppedState.empty(target, 3, dtype), SteppedState.empty(target, 3, dtype)
        first = whole(target, given, cut, SteppedAsk(samplings=seen2, end=between), dtype, threads=2)
        second = whole(
            target, given, steps - cut, SteppedAsk(samplings=seen2, start=between, end=last), dtype, first=cut
        )
        for mine, theirs in zip(joined(first, second), uncut, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(last.arrays(), end.arrays(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(seen2, seen, strict=True):
            np.testing.assert_array_equal(mine.value, theirs.value)
    assert len(uncut[0]) > 100
