"""The stepped engine's estimate of its own error beside the error, which a run of a tenth of the step shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stepped_cells import KINDS, MS, cells, drive, everything, links, train_of

from spikeloop.engine.stepped import SteppedAsk, SteppedRun, SteppedStage, error, forward

BATCH, INPUTS, DURATION = 2, 5, 80 * MS


def errors(kind: str, part: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(estimate, error) of samples and of spike times in steps; ``part`` steps are the shortest time constant."""
    target, scale = cells(kind, size=4), KINDS[kind].get("scale", 1.0)
    step = min(target.field("tau_mem").min(), target.tau_syn.min()) / part
    steps = int(DURATION / step)
    given = {"input": drive(BATCH, INPUTS, DURATION, 150.0, seed=1)}
    stage = SteppedStage((target,), tuple(links(target, INPUTS, 0.7 * scale, seed=3)), np.dtype(np.float64))
    times = np.arange(0.123 * MS, steps * step, 0.71 * MS)
    asks = [{target.name: SteppedAsk(samplings=everything(target, BATCH, times))} for _ in range(3)]
    run = SteppedRun(BATCH, step, steps)
    apart, late = error(stage, given, run, asks[0], asks[1])
    once = forward(stage, given, run, {})[target.name]
    finer = forward(stage, given, replace(run, step=step / 10, steps=10 * steps), asks[2])[target.name]
    pairs = zip(asks[0][target.name].samplings, asks[2][target.name].samplings, strict=True)
    far = max(float(np.abs(a.value - b.value).max()) for a, b in pairs)
    of_spikes = 0.0
    for sample in range(BATCH):
        for unit in range(target.size):
            mine, theirs = train_of(once, sample, unit), train_of(finer, sample, unit)
            assert len(mine) == len(theirs)
            of_spikes = max(of_spikes, float(np.abs(mine - theirs).max(initial=0.0)))
    assert len(once[0]) >= 4 or kind == "leaky"
    return (apart, far), (late / step, of_spikes / step)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_the_error_within_a_factor_of_two(kind: str) -> None:
    """Of membranes, adaptation, currents and spike times, as long as no spike comes or goes."""
    for part in (20, 50):
        for estimate, true in errors(kind, part):
            assert true > 1e-11 or (kind == "leaky" and estimate == 0)
            assert 0.5 * true <= estimate <= 2 * true, (kind, part)


def test_where_spikes_come_and_go_the_estimate_is_infinite() -> None:
    """One step finds a spike that two halves of it do not: at the threshold but for less than the error."""
    target = cells("bursting", size=200)
    given = {"input": drive(16, INPUTS, DURATION, 150.0, seed=1)}
    stage = SteppedStage((target,), tuple(links(target, INPUTS, 0.7, seed=3)), np.dtype(np.float64))
    step = 0.9 * MS
    run = SteppedRun(16, step, int(DURATION / step))
    counts = [
        len(forward(stage, given, replace(run, step=step / k, steps=k * run.steps), {})[target.name][0]) for k in (1, 2)
    ]
    assert counts[0] != counts[1]
    assert error(stage, given, run, {}, {})[1] == float("inf")
