"""The engine, through `run` on `Ideal`, against the naive twin and against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, Draw
from observing import neurons, observe, train
from problems import MS, Group, Link, Problem, period, psp_peak, single
from reference import Run

from spikeloop import LIF, Events, Network, Observe, Population, Projection, Record, run

DELAYS = ("none", "scalar", "source", "synapse")


def assert_same_spikes(problem: Problem, record: Record, sample: int, naive: Run, tolerance: float = 1e-9) -> int:
    """Within `tolerance` seconds; returns their number."""
    total = 0
    for name in (name for name in neurons(problem) if problem.groups[name].kind == "lif"):
        for unit, expected in enumerate(naive.trains(name)):
            found = train(record, name, sample, unit)
            assert len(found) == len(expected), (name, unit, found, expected)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
            total += len(found)
        assert record.count[name][sample].tolist() == [len(each) for each in naive.trains(name)]
    return total


def assert_equal(problem: Problem, record: Record, sample: int, naive: Run, tolerance: float = 1e-9) -> int:
    """Same spikes within `tolerance` seconds, same membranes and peaks; returns the number of spikes."""
    for name in neurons(problem):
        samples, peak = record.membrane[name], record.peak[name]
        expected = naive.membrane(name, samples.time)
        np.testing.assert_allclose(samples.value[sample].numpy(), expected, rtol=0, atol=1e3 * tolerance)
        np.testing.assert_allclose(peak.value[sample].numpy(), naive.peak(name)[:, 1], rtol=0, atol=1e3 * tolerance)
    return assert_same_spikes(problem, record, sample, naive, tolerance)


@pytest.mark.parametrize("ratio", ["wide", "near", "equal", "whole"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_the_naive_twin(family: str, ratio: str) -> None:
    total = 0
    for number, delay in enumerate(DELAYS):
        rng = np.random.default_rng(number)
        tonic = 0.2 * (number % 2)
        options = {"ratio": ratio, "delay": delay, "tonic": tonic, "alike": number < 2}
        problem = FAMILIES[family](Draw(rng, size=7, batch=2, **options))
        record = observe(problem)
        for sample in range(2):
            total += assert_equal(problem, record, sample, problem.reference(sample))
    assert total > 150


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ratio", ["wide", "near", "equal", "whole"])
def test_crossings_solved_together_equal_the_naive_twin_and_those_solved_alone(ratio: str, seed: int) -> None:
    """Neurons are solved side by side where spikes are all that is asked for, one by one where their peaks are."""
    rng = np.random.default_rng(seed)
    draw = Draw(rng, size=37, inputs=9, batch=3, ratio=ratio, alike=seed < 4, delay="none")
    problem = FAMILIES["two_layers"](draw)
    with torch.no_grad():
        together = run(problem.network(trainable=False), problem.events(), problem.duration)
    alone, total = observe(problem), 0
    for name in neurons(problem):
        assert torch.equal(together.spikes[name].unit, alone.spikes[name].unit)
        np.testing.assert_allclose(together.spikes[name].time, alone.spikes[name].time.detach(), rtol=1e-13)
    for sample in range(3):
        total += assert_same_spikes(problem, together, sample, problem.reference(sample))
    assert total > 300


@pytest.mark.parametrize("own", ["nothing", "reset", "refractory"])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 4.5])
def test_many_spikes_between_two_arrivals_equal_the_naive_twin(ratio: float, own: str) -> None:
    """Where neurons share time constants of a whole ratio from 2 on, they are solved for in 1 - exp(-t / tau_mem)."""
    rng = np.random.default_rng(int(2 * ratio))
    fields = {"tau_mem": 10 * MS, "tau_syn": 10 * MS / ratio, "threshold": 1.0, "leak": 0.05, "reset": -0.1}
    fields |= {"refractory": 0.0} | {
        "nothing": {},
        "reset": {"reset": rng.uniform(-0.4, 0.3, 13), "threshold": rng.uniform(0.8, 1.2, 13)},
        "refractory": {"refractory": np.where(rng.uniform(size=13) < 0.5, 0.0, rng.uniform(0, 2 * MS, 13))},
    }[own]
    weight = rng.normal(4.0 * ratio, 3.0 * ratio, (3, 13))
    drives = [{"input": (np.sort(rng.uniform(0, 0.1, 12)), rng.integers(0, 3, 12))} for _ in range(2)]
    groups = {"input": Group(3), "hidden": Group(13, "lif", fields)}
    problem = Problem(groups, [Link("input", "hidden", weight)], drives, 0.15)
    with torch.no_grad():
        record = run(problem.network(trainable=False), problem.events(), problem.duration)
    total = sum(assert_same_spikes(problem, record, sample, problem.reference(sample)) for sample in range(2))
    arrivals = sum(len(drive["input"][0]) for drive in drives)
    assert total > 2 * 13 * arrivals


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3, 6, 11, 16, 17, 21])
@pytest.mark.parametrize("ratio", ["wide", "near", "equal", "whole"])
def test_peaks_asked_for_alone_equal_the_naive_twin_and_those_beside_samples(
    ratio: str, size: int, dtype: torch.dtype
) -> None:
    """Of readouts that are alike they are found side by side, but one by one where more is asked for."""
    draw = Draw(np.random.default_rng(size), size=20, inputs=9, batch=3, ratio=ratio, alike=True, delay="none")
    groups = {"input": Group(9), "hidden": draw.lif(), "readout": draw.li(size)}
    links = [draw.link("input", "hidden", 9, 20), Link("hidden", "readout", draw.rng.normal(0.0, 0.3, (20, size)))]
    problem = draw.finish(groups, links)
    network, drive, duration = problem.network(dtype, trainable=False), problem.events(), problem.duration
    state = run(network, drive, duration, observe=Observe(state=True)).state
    assert state is not None
    later = {"input": drive["input"].later(duration)}
    for events, start in ((drive, None), (later, state), (later, replace(state, parts={}))):
        alone, beside = (
            run(network, events, duration, observe=Observe(membrane, {"readout"}), start=start).peak["readout"]
            for membrane in ({}, {"readout": duration / 2})
        )
        assert torch.equal(alone.value, beside.value)
        assert torch.equal(alone.time, beside.time)
    peak = run(network, drive, duration, observe=Observe(peak="readout")).peak["readout"]
    spikes = run(network, drive, duration).spikes["hidden"].time
    at_arrivals = torch.isin(peak.time, spikes)
    assert size == 1 or 0 < int(at_arrivals.sum()) < at_arrivals.numel()
    for sample in range(3):
        expected = problem.reference(sample).peak("readout")
        np.testing.assert_allclose(
            peak.value[sample].detach(), expected[:, 1], rtol=0, atol=1e-6 if dtype == torch.float64 else 1e-3
        )


@pytest.mark.parametrize(
    ("family", "size"),
    [("one_layer", 1), ("one_layer", 40), ("one_layer", 150), ("recurrent", 1), ("recurrent", 40), ("loop", 23)],
)
def test_other_sizes_equal_the_naive_twin(family: str, size: int) -> None:
    rng = np.random.default_rng(size)
    problem = FAMILIES[family](Draw(rng, size=size, inputs=9, alike=size > 40, delay="source", batch=1, spikes=4.0))
    assert assert_equal(problem, observe(problem), 0, problem.reference()) >= 2


@pytest.mark.parametrize("family", ["one_layer", "two_layers", "recurrent"])
def test_a_second_of_many_spikes_equals_the_naive_twin(family: str) -> None:
    rng = np.random.default_rng(11)
    problem = FAMILIES[family](Draw(rng, size=5, tonic=0.4, batch=1, duration=1.0, spikes=100.0))
    assert assert_equal(problem, observe(problem), 0, problem.reference()) > 300


def thresholds(problem: Problem, factor: float) -> Problem:
    """The same with thresholds `factor` times as high."""
    groups = {
        name: replace(group, fields=group.fields | {"threshold": group.fields["threshold"] * factor})
        if group.kind == "lif"
        else group
        for name, group in problem.groups.items()
    }
    return replace(problem, groups=groups)


def far_from_another_count(problem: Problem, naive: Run) -> bool:
    """Whether thresholds that differ by 1e-5 would leave the numbers of spikes as they are."""
    counts = {name: [len(each) for each in naive.trains(name)] for name in naive.cells}
    others = [thresholds(problem, factor).reference() for factor in (1 - 1e-5, 1 + 1e-5)]
    return all({name: [len(each) for each in other.trains(name)] for name in other.cells} == counts for other in others)


def in_float32(problem: Problem) -> Problem:
    rounded = [replace(link, weight=link.weight.astype(np.float32).astype(np.float64)) for link in problem.links]
    return replace(problem, links=rounded)


@pytest.mark.parametrize("duration", [60 * MS, 1.0])
@pytest.mark.parametrize("family", ["one_layer", "two_layers", "conv", "recurrent", "everything"])
def test_float32_weights_keep_spikes_within_the_stated_bound(family: str, duration: float) -> None:
    """With float32 weights spikes come within 1e-5 tau_mem / s, s the least V' tau_mem / threshold of the network.

    Counts are equal except where V peaks within 1e-5 of the threshold: networks that such a change of the threshold
    touches are left out.
    """
    compared = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        draw = Draw(rng, 4, tonic=0.2, alike=seed == 1, batch=1, duration=duration, spikes=8.0)
        problem = in_float32(FAMILIES[family](draw))
        naive, record = problem.reference(), observe(problem, torch.float32)
        if far_from_another_count(problem, naive):
            compared += assert_equal(problem, record, 0, naive, 1e-5 * 14 * MS / min(naive.slowest(), 1.0))
    assert compared > 50


def of_neurons(events: Events, which: torch.Tensor) -> torch.Tensor:
    """The times of the spikes of some neurons (B, N), neuron by neuron."""
    slot = torch.repeat_interleave(torch.arange(len(events)), events.start.diff()) * events.size + events.unit
    return events.time[torch.argsort(slot, stable=True)][which.flatten()[torch.sort(slot, stable=True).values]]


@pytest.mark.parametrize("own", ["nothing", "threshold", "refractory"])
@pytest.mark.parametrize("duration", [60 * MS, 1.5, 20.0])
@pytest.mark.parametrize("tau_syn", [2.3 * MS, 2.5 * MS, 10 / 3 * MS, 5 * MS, 9.99999 * MS, 10 * MS, 30 * MS])
def test_float32_spikes_asked_for_alone_come_where_those_of_float64_do(
    tau_syn: float, duration: float, own: str
) -> None:
    """But for what thresholds of 1e-5 more or less would do, where time constants are shared.

    States are then swept as they are without decay, from line to line of a grid in time; long runs cross many of them.
    """
    compared = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        each = {"threshold": rng.uniform(0.9, 1.1, 21), "refractory": rng.uniform(0, 3 * MS, 21)}
        alone = 1 / psp_peak(10 * MS, tau_syn)  # would just reach the threshold
        weight = torch.from_numpy((alone * rng.normal(1.2, 0.8, (5, 21))).astype(np.float32))
        times = [np.sort(rng.uniform(0, 0.9 * duration, 30)) for _ in range(4)]
        drive = Events.from_lists(times, [rng.integers(0, 5, 30) for _ in range(4)], 5)

        def spikes(dtype: torch.dtype, factor: float, each=each, weight=weight, drive=drive) -> Events:
            value = {own: torch.from_numpy(each[own])} if own in each else {}
            value["threshold"] = factor * value.get("threshold", torch.ones((), dtype=torch.float64))
            neuron = LIF(10 * MS, tau_syn, reset=-0.2, leak=0.05, **value)
            net = Network({"a": Population(5), "b": Population(21, neuron)}, [Projection("a", "b", weight.to(dtype))])
            with torch.no_grad():
                return run(net, drive, duration).spikes["b"]

        cases = (torch.float64, 1.0), (torch.float64, 1 - 1e-5), (torch.float64, 1 + 1e-5), (torch.float32, 1.0)
        exact, lower, higher, found = (spikes(*case) for case in cases)
        sure = (lower.count == exact.count) & (
            higher.count == exact.count
        )  # of no neuron does a peak graze its threshold
        assert torch.equal(found.count[sure], exact.count[sure])
        exact, lower, higher, found = (of_neurons(events, sure) for events in (exact, lower, higher, found))
        most = max(float((other - exact).abs().max()) for other in (lower, higher))
        assert float((found - exact).abs().max()) <= most
        compared += len(exact)
    assert compared > 500


@pytest.mark.parametrize(
    "tau_syn", [2 * MS, 2.5 * MS, 10 / 3 * MS, 5 * MS, 9.99999 * MS, 10 * MS, 10.00001 * MS, 50 * MS]
)
def test_a_potential_that_just_reaches_the_threshold_makes_no_spike(tau_syn: float) -> None:
    exact = 1 / psp_peak(10 * MS, tau_syn)
    counts = []
    for factor in (0.999, 1.0, 1.001):
        record = observe(single(exact * factor, 10 * MS, tau_syn, 0.1))
        counts.append(int(record.count["hidden"].sum()))
    assert counts == [0, 0, 1]
    for factor, expected in ((1 - 1e-5, 0), (1 + 1e-5, 1)):
        record = observe(single(exact * factor, 10 * MS, tau_syn, 0.1), torch.float32)
        assert int(record.count["hidden"].sum()) == expected


@pytest.mark.parametrize("before", [0.0, -1.0, -30.0, 0.4])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_peaks_close_to_the_threshold_are_told_apart_in_float32(ratio: int, before: float) -> None:
    """Two events; the second's weights are within 3e-5 of the one that takes V just to the threshold of 1.

    After it V is c e - d e^ratio, e = exp(-t / tau_mem); its maximum is c e (ratio - 1) / ratio, at
    e^(ratio - 1) = c / (ratio d).
    """
    tau_syn, apart = 5 * MS, 7 * MS
    fast, slow = np.exp(-apart / tau_syn), np.exp(-apart / (ratio * tau_syn))
    v = before * (slow - fast) / (ratio - 1)

    def peak(weight: float) -> float:
        d = (before * fast + weight) / (ratio - 1)
        c = v + d
        return c * (c / (ratio * d)) ** (1 / (ratio - 1)) * (ratio - 1) / ratio if min(c, d) > 0 else 0.0

    low, high = 0.0, 100.0
    for _ in range(80):
        low, high = (low, 0.5 * (low + high)) if peak(0.5 * (low + high)) >= 1 else (0.5 * (low + high), high)
    weight = (high * (1 + np.linspace(-3e-5, 3e-5, 2000))).astype(np.float32)
    both = torch.from_numpy(np.stack([np.full_like(weight, before), weight]))
    net = Network(
        {"a": Population(2), "b": Population(2000, LIF(ratio * tau_syn, tau_syn))}, [Projection("a", "b", both)]
    )
    fired = run(net, Events.from_lists([[MS, MS + apart]], [[0, 1]], 2), 250 * MS).count["b"][0].detach().numpy() > 0
    sure = np.abs(weight / high - 1) > 1e-5
    assert sure.sum() > 1000
    np.testing.assert_array_equal(fired[sure], weight[sure] > high)


@pytest.mark.parametrize("refractory", [0.0, 2 * MS])
def test_tonic_firing_has_the_period_of_the_closed_form(refractory: float) -> None:
    fields = {"threshold": 1.0, "leak": 1.3, "reset": -0.2, "refractory": refractory}
    record = observe(single(0.0, 10 * MS, 5 * MS, 1.0, **fields))
    expected = period(10 * MS, **fields)
    times = expected * np.arange(1, int((1.0 + refractory) / expected) + 1) - refractory
    np.testing.assert_allclose(train(record, "hidden", 0, 0), times, rtol=0, atol=1e-13)


def test_a_sample_at_a_spike_sees_the_reset() -> None:
    problem = single(6.0, 10 * MS, 5 * MS, 50 * MS, reset=-0.3, refractory=1 * MS)
    network = problem.network(trainable=False)
    spikes = run(network, problem.events(), problem.duration).spikes["hidden"].time
    assert len(spikes)
    times = torch.cat([spikes, spikes + 0.5 * MS]).sort().values
    value = (
        run(network, problem.events(), problem.duration, observe=Observe({"hidden": times})).membrane["hidden"].value
    )
    assert torch.equal(value, torch.full_like(value, -0.3))


def test_events_at_the_same_time_add_up_and_arrivals_after_the_end_do_nothing() -> None:
    problem = single(1.5, 10 * MS, 5 * MS, 30 * MS)
    twice = {"input": (np.full(2, 1 * MS), np.zeros(2, dtype=int))}
    links = [replace(problem.links[0], weight=np.array([[3.0]]))]
    one, two = observe(replace(problem, links=links)), observe(replace(problem, drives=[twice]))
    torch.testing.assert_close(one.spikes["hidden"].time, two.spikes["hidden"].time, rtol=0, atol=1e-15)
    late = [replace(problem.links[0], weight=np.array([[50.0]]), delay=np.array(29.5 * MS))]
    assert len(observe(replace(problem, links=late)).spikes["hidden"].time) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau_mem", [0.5 * MS, MS, 2 * MS])
@pytest.mark.parametrize("size", [1, 40])
def test_a_spike_before_a_long_silence_is_found(dtype: torch.dtype, tau_mem: float, size: int) -> None:
    """After a hundred time constants single precision has no numbers left for the end of an interval."""
    net = Network(
        {"input": Population(1), "output": Population(size, LIF(tau_mem, MS, refractory=5 * MS))},
        [Projection("input", "output", torch.full((1, size), 20.0, dtype=dtype))],
    )
    drive = Events.from_lists([[1e-3]], [[0]], 1)
    first = run(net, drive, 20 * MS).spikes["output"]
    assert len(first.time) == size
    for duration in (0.05, 0.1, 0.11, 0.15, 0.5, 1.0, 30.0):
        found = run(net, drive, duration).spikes["output"]
        assert found.unit.tolist() == first.unit.tolist()
        torch.testing.assert_close(found.time, first.time, rtol=0, atol=1e-8)
