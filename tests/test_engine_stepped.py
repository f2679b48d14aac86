"""The stepped engine: against SciPy at a tight tolerance, cut and continued, recurrent, and at its limits."""

from __future__ import annotations

from dataclasses import replace
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

from spikeloop.engine import exact
from spikeloop.engine.arrays import FIELDS, Ask, Delays, Link, Neurons, Peaks, Rows, Run, Sampling, Stage
from spikeloop.engine.arriving import joined
from spikeloop.engine.failures import Explosion
from spikeloop.engine.stepped import (
    Cells,
    Current,
    SteppedAsk,
    SteppedLink,
    SteppedRun,
    SteppedStage,
    SteppedState,
    forward,
    largest_step,
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


def lif(size: int, name: str, **kind: Any) -> tuple[Cells, Neurons]:
    """The same leaky integrate-and-fire neurons for both engines."""
    target = cells("firing", size, name=name, **kind)
    rows = [target.tau_syn[0, 0] if field == "tau_syn" else target.field(field)[0] for field in FIELDS]
    return target, Neurons(name, np.stack(rows), True)


def loop_of_lif(size: int, seed: int = 0) -> tuple[tuple[Cells, Neurons], list[SteppedLink]]:
    """Neurons that reach each other through sparse synapses, each with a delay of its own."""
    rng = np.random.default_rng(seed)
    both = lif(size, "hidden")
    where = rng.random((size, size)) < 0.3
    pre, post = np.nonzero(where)
    rows = Rows(np.concatenate([[0], np.cumsum(where.sum(1))]), post.astype(np.int32), None, None)
    delay = rng.uniform(0.5, 3.0, len(pre)) * MS
    around = SteppedLink(
        "around", "hidden", "hidden", rng.normal(0.05, 0.2, len(pre)), delay, Delays.PER_SYNAPSE, rows=rows
    )
    dense = rng.normal(0.4, 0.3, (INPUTS, size))
    outer = Rows(np.arange(INPUTS + 1) * size, np.tile(np.arange(size, dtype=np.int32), INPUTS), None, None)
    inward = SteppedLink("in", "input", "hidden", dense.ravel(), np.array([0.3 * MS]), rows=outer)
    return both, [inward, around]


def exactly(neurons: Neurons, projections: list[SteppedLink], given: Any, batch: int, times: Any) -> Any:
    """What the exact engine makes of them: spikes, and membranes (B, T, N) at ``times``."""
    given_links = tuple(Link(p.name, p.source, p.target, p.weight, p.rows, p.delay, p.delays) for p in projections)
    stage = Stage((neurons,), given_links, False, np.dtype(np.float64))
    value = np.zeros((batch, len(times), neurons.size))
    sampling = Sampling(np.asarray(times)[None], np.arange(neurons.size, dtype=np.int32), value)
    run = Run(batch, DURATION, 1)
    trains = exact.forward([stage], {"input": given}, run, {neurons.name: Ask(sampling=sampling)}, 10_000)
    return trains[neurons.name], value


def differences(step: float) -> tuple[float, float, int]:
    """Of membranes and spike times from the exact engine's, in a loop, away from spikes; and how many spikes."""
    (target, neurons), projections = loop_of_lif(12)
    given, times = drive(2, INPUTS, DURATION, 150.0, seed=2), np.arange(0.2 * MS, DURATION, 0.9 * MS)
    trains, membrane = exactly(neurons, projections, given, 2, times)
    samples = everything(target, 2, times)
    run = SteppedRun(2, step, round(DURATION / step))
    mine = run_one(target, projections, {"input": given}, run, SteppedAsk(samplings=samples))
    worst = late = 0.0
    for sample in range(2):
        for unit in range(target.size):
            spikes = train_of(trains, sample, unit)
            ours = train_of(mine, sample, unit)
            assert len(ours) == len(spikes)
            late = max(late, float(np.abs(ours - spikes).max(initial=0)))
            far = np.all(np.abs(times[:, None] - spikes) > 0.1 * MS, axis=1)
            off = np.abs(samples[0].value[sample, :, unit] - membrane[sample, :, unit])
            worst = max(worst, float(off[far].max()))
    return worst, late, len(trains[0])


def test_lif_neurons_in_a_loop_converge_to_the_exact_engine_in_the_stated_order() -> None:
    """At least third order; from a hundredth of a time constant on, rounding is near."""
    steps = [0.4 * MS, 0.2 * MS, 0.1 * MS, 0.05 * MS]
    found = np.array([differences(step)[:2] for step in steps])
    assert differences(steps[0])[2] > 100
    assert found[-1, 0] < 1e-6
    assert found[-1, 1] < 1e-3 * steps[-1]
    orders = np.log2(found[:-1] / found[1:])
    assert orders.mean(axis=0).min() > 2.8, orders


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loop_that_is_cut_and_continued_is_the_uncut_one(dtype: Any) -> None:
    (target, _), projections = loop_of_lif(40)
    projections = [replace(link, weight=(0.5 * link.weight).astype(dtype)) for link in projections]
    step, steps, batch = 0.1 * MS, 600, 3
    given = drive(batch, INPUTS, steps * step, 300.0, seed=4)

    def part(first: int, count: int, start: Any, recent: Any) -> Any:
        end = SteppedState.empty(target, batch, dtype)
        run = SteppedRun(batch, step, count, first, threads=2, recent=recent)
        return run_one(target, projections, {"input": given}, run, SteppedAsk(start=start, end=end), dtype), end

    uncut, end = part(0, steps, None, {})
    assert len(uncut[0]) > 500
    for cut in (7, 300, 599):
        first, between = part(0, cut, None, {})
        second, last = part(cut, steps - cut, between, {target.name: first})
        for mine, theirs in zip(joined(first, second), uncut, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(last.arrays(), end.arrays(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_without_a_delay_spikes_arrive_with_the_next_step() -> None:
    """A chain of two neurons: the second one is as if driven by the first one's spikes, put off to the next step."""
    first, second = cells("firing", 1, name="first"), cells("firing", 1, name="second")
    strong = np.array([[6.0]])
    inward = SteppedLink("in", "input", "first", strong, np.zeros(1))
    onward = SteppedLink("on", "first", "second", strong, np.zeros(1))
    back = SteppedLink("back", "second", "first", np.zeros((1, 1)), np.zeros(1))
    step = 0.1 * MS
    given = (np.array([1.03 * MS]), np.zeros(1, np.int32), np.array([0, 1]))
    stage = SteppedStage((first, second), (inward, onward, back), np.dtype(np.float64))
    run = SteppedRun(1, step, 200)
    trains = forward(stage, {"input": given}, run, {})
    sent = trains["first"][0][0]
    put_off = (np.array([np.ceil(sent / step) * step]), np.zeros(1, np.int32), np.array([0, 1]))
    alone = run_one(second, [replace(onward, source="input")], {"input": put_off}, run, SteppedAsk())
    np.testing.assert_allclose(trains["second"][0][:1], alone[0][:1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["AdEx", "plateau"])
def test_results_do_not_depend_on_threads(kind: str) -> None:
    target, results = cells(kind, 150), []
    given = drive(3, INPUTS, 60 * MS, 150.0, seed=4)
    for threads in (1, 2, 5):
        end = SteppedState.empty(target, 3, np.float32)
        results.append((*whole(target, given, 600, SteppedAsk(end=end), np.float32, threads=threads), *end.arrays()))
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_current_in_steps_is_that_of_scipy() -> None:
    target, step = cells("AdEx", 3), 0.1 * MS
    time = np.array([3.217 * MS, 10 * MS, 33.333 * MS, 33.36 * MS])
    value = np.array([0.9, -0.2, 3.0, 1.1])[None, :, None] * np.array([1.0, 1.1, 0.9])
    times = np.arange(0.0, DURATION, 0.53 * MS)
    seen = everything(target, 1, times)
    ask = SteppedAsk(samplings=seen, currents=(Current(0, time, value),))
    trains = run_one(target, [], {}, SteppedRun(1, step, 800), ask)
    for unit in range(3):
        naive = Neuron(target, unit, [], {0: list(zip(time, value[0, :, unit], strict=True))})
        expected = naive.run(0.0, DURATION, list(times))
        np.testing.assert_allclose(train_of(trains, 0, unit), naive.spikes, rtol=0, atol=0.1 * step)
        far = np.all(np.abs(times[:, None] - naive.spikes) > step, axis=1)
        assert len(naive.spikes) >= 2
        np.testing.assert_allclose(seen[0].value[0, far, unit], expected["membrane"][far, 0], rtol=0, atol=1e-4)


def test_peaks_and_counts() -> None:
    target = cells("leaky", 20)
    given = drive(2, INPUTS, DURATION, 100.0, seed=5)
    times = np.linspace(0, DURATION, 4001)
    seen, peaks = everything(target, 2, times)[:1], Peaks(np.zeros((2, 20)), np.zeros((2, 20)))
    count = np.zeros((2, 20), np.float32)
    projections = links(target, INPUTS, 0.7, seed=3)
    run_one(
        target, projections, {"input": given}, SteppedRun(2, 0.1 * MS, 800), SteppedAsk(samplings=seen, peaks=peaks)
    )
    np.testing.assert_allclose(peaks.value, seen[0].value.max(axis=1), rtol=0, atol=1e-4)
    np.testing.assert_allclose(peaks.time, times[seen[0].value.argmax(axis=1)], rtol=0, atol=0.1 * MS)
    target = cells("firing", 20)
    trains = run_one(
        target, projections, {"input": given}, SteppedRun(2, 0.1 * MS, 800), SteppedAsk(count=count, peaks=peaks)
    )
    for sample in range(2):
        for unit in range(20):
            assert count[sample, unit] == len(train_of(trains, sample, unit))
    np.testing.assert_allclose(peaks.value[count > 0], 1.0, atol=1e-6)


def test_amplitudes_scale_events() -> None:
    target = cells("AdEx", 8)
    time, unit, start = drive(2, INPUTS, DURATION, 100.0, seed=5)
    factor = np.random.default_rng(0).uniform(0.3, 1.0, len(time))
    (link,) = links(target, INPUTS, 1.5, seed=3)
    samples = [everything(target, 2, np.arange(0, DURATION, MS)) for _ in range(2)]
    run, stacked = SteppedRun(2, 0.1 * MS, 800), np.arange(len(time), dtype=np.int32)
    run_one(
        target,
        [replace(link, amplitude=factor)],
        {"input": (time, unit, start)},
        run,
        SteppedAsk(samplings=samples[0]),
    )
    one_row_each = replace(link, weight=link.weight[unit] * factor[:, None])
    run_one(target, [one_row_each], {"input": (time, stacked, start)}, run, SteppedAsk(samplings=samples[1]))
    for mine, theirs in zip(*samples, strict=True):
        np.testing.assert_allclose(mine.value, theirs.value, rtol=0, atol=1e-9)


def test_silent_neurons_send_nothing() -> None:
    target = cells("AdEx", 20)
    given = drive(2, INPUTS, DURATION, 150.0, seed=5)
    silent = (np.arange(40).reshape(2, 20) % 3 == 0).astype(np.uint8)
    projections, run = links(target, INPUTS, 0.9, seed=3), SteppedRun(2, 0.1 * MS, 800)
    everyone = run_one(target, projections, {"input": given}, run, SteppedAsk())
    trains = run_one(target, projections, {"input": given}, run, SteppedAsk(silent=silent))
    for sample in range(2):
        for unit in range(20):
            expected = train_of(everyone, sample, unit)
            mine = train_of(trains, sample, unit)
            np.testing.assert_array_equal(mine, expected[:0] if silent[sample, unit] else expected)


def test_too_many_spikes_are_an_explosion() -> None:
    target = cells("firing from leak", 30)
    run = SteppedRun(2, 0.1 * MS, 800, spike_limit=3)
    with pytest.raises(Explosion) as caught:
        run_one(target, [], {}, run, SteppedAsk())
    assert (caught.value.population, caught.value.sample) == (target.name, 0)


def test_the_largest_step_is_a_part_of_the_shortest_time_constant() -> None:
    assert largest_step(cells("AdEx", 1, 0.0)) == pytest.approx(1 * MS)
    assert largest_step(cells("two receptors", 1, 0.0)) == pytest.approx(0.4 * MS)
    assert largest_step(cells("three compartments", 1, 0.0)) < 1 * MS
