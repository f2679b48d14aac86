"""The stepped engine's neurons as a chip has them: noise that is cut nowhere, floors, saturation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from stepped_cells import MS, cells, drive, everything, links, run_one, train_of
from test_chip_noise import fine_steps

from spikeloop.engine.arriving import joined
from spikeloop.engine.stepped import Cells, Current, Disturbances, SteppedAsk, SteppedRun, SteppedState


def disturbed(target: Cells, **given: Any) -> Cells:
    """With what is given; the rest undisturbed."""
    shape = target.values.shape[1:]
    usual = {"floor": -np.inf, "most": np.inf, "noise": 0.0, "threshold_noise": 0.0}
    arrays = {name: np.broadcast_to(np.asarray(given.get(name, value), float), shape) for name, value in usual.items()}
    disturbance = Disturbances(**arrays, name=np.arange(target.size, dtype=float), key=given.get("key", 5))
    return replace(target, disturbance=disturbance)


def tonic(size: int, rms: float) -> Cells:
    """Neurons of test_chip_noise.intervals: tau_mem 1, leak at 0.9 of the threshold, refractory 0.1."""
    target = cells("firing", size, spread=0.0)
    values = target.values.copy()
    values[0], values[2], values[4] = 1.0, 0.9, 0.1
    return disturbed(replace(target, values=values, tau_syn=np.full((1, 1, size), 0.5)), noise=rms)


@pytest.mark.parametrize("step", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("rms", [0.07, 0.1, 0.3])
def test_intervals_are_those_of_an_ornstein_uhlenbeck_process(rms: float, step: float) -> None:
    trains = run_one(tonic(40, rms), [], {}, SteppedRun(2, step, round(200 / step)), SteppedAsk())
    found = np.concatenate([np.diff(train_of(trains, sample, unit)) for sample in range(2) for unit in range(40)])
    assert len(found) > 1500
    chosen = np.random.default_rng(1).choice(found, 1500, replace=False)
    assert stats.ks_2samp(chosen, fine_steps(rms, 1500)).pvalue > 0.01


def test_samples_see_the_stationary_noise() -> None:
    target = cells("leaky", 200, spread=0.0)
    target, times = disturbed(target, noise=0.2), np.arange(0, 100 * MS, 0.73 * MS)
    seen = everything(target, 3, times)
    run_one(target, [], {}, SteppedRun(3, 0.1 * MS, 1000), SteppedAsk(samplings=seen))
    value = seen[0].value
    assert value.std(axis=(0, 2)) == pytest.approx(np.full(len(times), 0.2), rel=0.2)
    assert value.std() == pytest.approx(0.2, rel=0.02)
    correlation = (value[:, 1:] * value[:, :-1]).mean() / value.var()
    assert correlation == pytest.approx(np.exp(-0.073), abs=0.01)


def test_thresholds_differ_from_spike_to_spike() -> None:
    """A ramp without leak meets the threshold, as drawn for each spike, at a time in proportion to it."""
    target = cells("no leak", 50, spread=0.0)
    values = target.values.copy()
    values[2] = values[3] = 0.0
    target = disturbed(replace(target, values=values), threshold_noise=0.05)
    drive = (np.zeros(0), np.zeros(0, np.int32), np.zeros(2, np.int64))
    current = Current(0, np.zeros(1), np.ones((1, 1, 50)))
    trains = run_one(target, [], {"input": drive}, SteppedRun(1, 0.1 * MS, 4000), SteppedAsk(currents=(current,)))
    intervals = np.concatenate([np.diff(train_of(trains, 0, unit), prepend=0.0) for unit in range(50)]) / (10 * MS)
    assert len(intervals) > 1500
    assert intervals.std() == pytest.approx(0.05, rel=0.06)
    assert intervals.mean() == pytest.approx(1.0, abs=0.005)
    assert stats.kstest((intervals - 1) / 0.05, "norm").pvalue > 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["AdEx", "plateau"])
def test_noise_does_not_know_where_a_run_was_cut(kind: str, dtype: Any) -> None:
    target = disturbed(cells(kind, 40), noise=0.1, threshold_noise=0.05, floor=-0.1, most=2.5)
    steps, step = 600, 0.1 * MS
    given, projections = drive(2, 5, steps * step, 150.0, seed=4), links(target, 5, 0.7, seed=3, dtype=dtype)
    times = np.arange(0, steps * step, 0.37 * MS)

    def part(first: int, count: int, start: Any) -> Any:
        end, seen = SteppedState.empty(target, 2, dtype), everything(target, 2, times)
        ask = SteppedAsk(start=start, end=end, samplings=seen)
        run = SteppedRun(2, step, count, first, threads=1 + first % 2)
        return run_one(target, projections, {"input": given}, run, ask, dtype), end, seen[0].value

    uncut, end, membrane = part(0, steps, None)
    assert len(uncut[0]) > 100
    for cut in (1, 211, 480):
        first, between, early = part(0, cut, None)
        second, last, late = part(cut, steps - cut, between)
        for mine, theirs in zip(joined(first, second), uncut, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(last.arrays(), end.arrays(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(np.where(np.isnan(early), late, early), membrane)


def test_another_key_is_another_draw_and_looking_changes_nothing() -> None:
    target = tonic(10, 0.1)
    run = SteppedRun(1, 0.05, 400)
    once = run_one(target, [], {}, run, SteppedAsk())
    seen = everything(target, 1, np.arange(0, 20, 0.13))
    np.testing.assert_array_equal(run_one(target, [], {}, run, SteppedAsk(samplings=seen))[0], once[0])
    assert target.disturbance is not None
    other = replace(target, disturbance=replace(target.disturbance, key=6))
    assert not np.array_equal(run_one(other, [], {}, run, SteppedAsk())[0], once[0])


def test_an_arrival_finds_the_membrane_at_its_floor_and_the_current_saturates() -> None:
    target = cells("leaky", 1, spread=0.0)
    (link,) = links(target, 1)
    link = replace(link, weight=np.array([[-5.0]]), delay=np.zeros(1))
    times = np.array([1.0, 12.05, 20.02, 20.03]) * MS
    given = (times, np.zeros(4, np.int32), np.array([0, 4]))
    looks = np.array([1.0, 12.05 - 1e-3, 12.05 + 1e-3, 20.03]) * MS
    found = {}
    for name, chip in (("usual", target), ("chip", disturbed(target, floor=-0.3, most=6.0))):
        seen = everything(chip, 1, looks)
        run_one(chip, [link], {"input": given}, SteppedRun(1, 0.1 * MS, 300), SteppedAsk(samplings=seen))
        found[name] = {sample.quantity.name: sample.value[0, :, 0] for sample in seen}
    assert found["usual"]["MEMBRANE"][1] < -0.8
    assert found["chip"]["MEMBRANE"][1] == pytest.approx(found["usual"]["MEMBRANE"][1], abs=1e-5)
    assert found["chip"]["MEMBRANE"][2] == pytest.approx(-0.3, abs=1e-3)
    assert found["usual"]["CURRENT"][3] < -10
    assert found["chip"]["CURRENT"][3] == pytest.approx(-6.0, abs=1e-9)
