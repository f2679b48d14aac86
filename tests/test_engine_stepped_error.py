"""What `error` says of a run in steps, beside its distance from a run of a tenth of the step."""

from dataclasses import replace

import numpy as np
import pytest
from stepped_cells import KINDS, MS, cells, drive, everything, links, train_of

from spikeloop.engine.arrays import Trains
from spikeloop.engine.stepped import Cells, SteppedAsk, SteppedRun, SteppedStage, error, forward

SIZE, INPUTS, DURATION = 6, 5, 60 * MS


def shortest(target: Cells) -> float:
    adapting = (target.field("a") != 0) | (target.field("b") != 0)
    slow = target.field("tau_adaptation")[adapting].min(initial=np.inf)
    return float(min(target.field("tau_mem").min(), target.tau_syn.min(), slow))


def asked(target: Cells, spikes: Trains | None, step: float) -> tuple[np.ndarray, dict[str, SteppedAsk]]:
    """Samples of the last compartment and of the output, away from spikes: there V jumps."""
    times = np.arange(0.217 * MS, DURATION, 0.731 * MS)
    if spikes is not None:
        times = times[np.all(np.abs(times[:, None] - spikes[0]) > 2 * step, axis=1)]
    places = sorted({target.output, target.compartments - 1})
    seen = tuple(each for c in places for each in everything(target, 1, times, c)[:1])
    return times, {target.name: SteppedAsk(samplings=seen)}


def values(asks: dict[str, SteppedAsk], target: Cells) -> np.ndarray:
    return np.stack([sampling.value for sampling in asks[target.name].samplings])


@pytest.mark.parametrize("kind", ["leaky", "firing", "exponential", "adapting", "AdEx", "conductances", "bursting",
                                  "three compartments", "plateau"])  # fmt: skip
def test_the_estimate_is_the_error(kind: str) -> None:
    target, scale = cells(kind, SIZE), KINDS[kind].get("scale", 1.0)
    step = shortest(target) / 20
    stage = SteppedStage((target,), tuple(links(target, INPUTS, 0.7 * scale, seed=3)), np.dtype(np.float64))
    given, run = {"input": drive(1, INPUTS, DURATION, 150.0, seed=1)}, SteppedRun(1, step, int(DURATION / step))
    first = forward(stage, given, run, {})[target.name]
    (_, once), (_, half), (_, fine) = (asked(target, first, step) for _ in range(3))
    apart, late = error(stage, given, run, once, half)
    tenth = SteppedRun(1, step / 10, 10 * run.steps)
    exact = forward(stage, given, tenth, fine)[target.name]
    true = float(np.abs(values(once, target) - values(fine, target)).max())
    assert 0 < apart < 1e-3 * scale
    assert true == pytest.approx(apart, rel=0.5), "the largest difference of membranes"
    pairs = [(train_of(first, 0, unit), train_of(exact, 0, unit)) for unit in range(SIZE)]
    assert all(len(mine) == len(theirs) for mine, theirs in pairs)
    if len(first[0]):
        truly = max(float(np.abs(mine - theirs).max(initial=0.0)) for mine, theirs in pairs)
        assert truly == pytest.approx(late, rel=0.5), "of spike times"
        assert late < 0.1 * step
    assert len(first[0]) >= 2 or kind == "leaky"


def test_it_is_infinite_where_the_number_of_spikes_differs() -> None:
    """An event of weight 4 lifts V by 1, just to the threshold; on which side of it depends on the step."""
    target = cells("firing", 4000, 0.0)
    link = replace(links(target, 1)[0], weight=4 + np.linspace(-1e-4, 1e-4, target.size)[None])
    stage = SteppedStage((target,), (link,), np.dtype(np.float64))
    given = {"input": (np.array([1.03 * MS]), np.zeros(1, np.int32), np.array([0, 1]))}
    run = SteppedRun(1, 0.8 * MS, 50)
    runs = (run, replace(run, step=run.step / 2, steps=2 * run.steps))
    counts = [len(forward(stage, given, each, {})[target.name][0]) for each in runs]
    assert 0 < counts[0] != counts[1] > 0
    assert error(stage, given, run, {}, {})[1] == np.inf
