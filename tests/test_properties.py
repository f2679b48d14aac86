"""What must hold of any simulator and its gradients, whatever the network: properties of the engine and EventProp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, Draw
from numpy.typing import NDArray
from observing import neurons, observation, observe, train
from problems import MS, Group, Link, Problem, single

from spikeloop import ActivityExplosion, Events, Observe, Record, run
from spikeloop.gradient.eventprop import EventProp
from spikeloop.substrate.ideal import Ideal


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def identical(one: Record, two: Record) -> None:
    for name, events in one.spikes.items():
        assert torch.equal(events.time, two.spikes[name].time), name
        assert torch.equal(events.unit, two.spikes[name].unit), name
        assert torch.equal(events.start, two.spikes[name].start), name
    for name, samples in one.membrane.items():
        assert torch.equal(samples.value, two.membrane[name].value), name
        assert torch.equal(one.peak[name].value, two.peak[name].value), name
        assert torch.equal(one.peak[name].time, two.peak[name].time), name


def gradients(problem: Problem, dtype: torch.dtype) -> tuple[Record, list[torch.Tensor]]:
    network = problem.network(dtype)
    record = run(network, problem.events(), problem.duration, rule=EventProp(), observe=observation(problem))
    loss = torch.zeros(())
    for name in neurons(problem):
        loss = loss + (record.membrane[name].value ** 2).sum() + record.peak[name].value.sum()
        if name in record.spikes:
            loss = loss + record.spikes[name].time.sum()
    loss.backward()
    return record, [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["two_layers", "recurrent", "conv", "everything"])
def test_the_number_of_threads_changes_no_bit(family: str, dtype: torch.dtype) -> None:
    problem = FAMILIES[family](Draw(np.random.default_rng(1), size=9, batch=37))
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(gradients(problem, dtype))
    for record, grads in found[1:]:
        identical(found[0][0], record)
        assert all(torch.equal(a, b) for a, b in zip(found[0][1], grads, strict=True))


@pytest.mark.parametrize("family", ["two_layers", "everything"])
def test_a_batch_is_a_loop_over_samples(family: str) -> None:
    problem = FAMILIES[family](Draw(np.random.default_rng(2), batch=5))
    whole, grads = gradients(problem, torch.float64)
    summed = [torch.zeros_like(grad) for grad in grads]
    for sample in range(5):
        one, mine = gradients(problem.only(sample), torch.float64)
        for name, events in one.spikes.items():
            assert torch.equal(events.time, whole.spikes[name][sample].time)
            assert torch.equal(events.unit, whole.spikes[name][sample].unit)
        for name, samples in one.membrane.items():
            assert torch.equal(samples.value[0], whole.membrane[name].value[sample])
        summed = [a + b for a, b in zip(summed, mine, strict=True)]
    for grad, expected in zip(grads, summed, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max() + 1))


@pytest.mark.parametrize("family", ["one_layer", "two_layers", "recurrent", "everything"])
def test_a_later_event_changes_no_earlier_spike(family: str) -> None:
    problem = FAMILIES[family](Draw(np.random.default_rng(3), batch=1))
    times, units = problem.drives[0]["input"]
    cut = len(times) // 2
    drive = problem.drives[0] | {"input": (np.delete(times, cut), np.delete(units, cut))}
    one, two = observe(problem), observe(replace(problem, drives=[drive]))
    changed = False
    for name in neurons(problem):
        if name in one.spikes:
            a, b = (r.spikes[name].time for r in (one, two))
            a_early, b_early = a[a < times[cut]], b[b < times[cut]]
            torch.testing.assert_close(a_early, b_early, rtol=0, atol=1e-14)
            changed = changed or len(a) != len(b) or bool((a != b).any())
    assert changed


def permuted(problem: Problem, order: dict[str, NDArray[np.int64]]) -> Problem:
    """Unit order[name][k] of every population becomes unit k; dense projections with one delay per synapse."""
    groups = {
        name: replace(group, fields={f: v[order[name]] for f, v in group.fields.items()})
        for name, group in problem.groups.items()
    }
    links = []
    for link in problem.links:
        where = np.ix_(order[link.source], order[link.target])
        links.append(replace(link, weight=link.weight[where], delay=link.delay[where]))
    back = {name: np.argsort(where) for name, where in order.items()}
    drives = [{name: (t, back[name][u]) for name, (t, u) in drive.items()} for drive in problem.drives]
    return replace(problem, groups=groups, links=links, drives=drives)


@pytest.mark.parametrize("family", ["two_layers", "recurrent", "everything"])
def test_permuting_units_permutes_results(family: str) -> None:
    rng = np.random.default_rng(4)
    problem = FAMILIES[family](Draw(rng, size=9, batch=1))
    order = {name: rng.permutation(group.size) for name, group in problem.groups.items()}
    one, two = observe(problem), observe(permuted(problem, order))
    for name in neurons(problem):
        torch.testing.assert_close(
            one.membrane[name].value[:, :, order[name]], two.membrane[name].value, rtol=0, atol=1e-9
        )
        if name in one.spikes:
            for unit, old in enumerate(order[name]):
                a, b = train(one, name, 0, int(old)), train(two, name, 0, unit)
                assert len(a) == len(b)
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["two_layers", "recurrent", "everything"])
def test_a_run_continued_from_its_state_is_the_whole_run(family: str) -> None:
    problem = FAMILIES[family](Draw(np.random.default_rng(5), size=8, tonic=0.2, batch=3))
    network, drive, half = problem.network(trainable=False), problem.events(), problem.duration / 2
    whole = run(network, drive, problem.duration)
    early = {n: Events.from_lists(*split(e, 0.0, half), size=e.size) for n, e in drive.items()}
    late = {n: Events.from_lists(*split(e, half, 1.0), size=e.size).later(half) for n, e in drive.items()}
    first = run(network, early, half, observe=Observe(state=True))
    second = run(network, late, problem.duration - half, start=first.state)
    for name in neurons(problem):
        for sample in range(3) if name in whole.spikes else ():
            a, b = first.spikes[name][sample], second.spikes[name][sample]
            times = torch.cat([a.time, b.time])
            torch.testing.assert_close(times, whole.spikes[name][sample].time, rtol=0, atol=1e-12)
            assert torch.equal(torch.cat([a.unit, b.unit]), whole.spikes[name][sample].unit)


def split(events: Events, begin: float, end: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Times since `begin` and units of the events of every sample in begin <= t < end."""
    times, units = [], []
    for sample in range(len(events)):
        one = events[sample]
        inside = (one.time >= begin) & (one.time < end)
        times.append(one.time[inside] - begin)
        units.append(one.unit[inside])
    return times, units


def shapes(problem: Problem) -> None:
    """Run and differentiate; check that all that comes out is empty, of the right shape, and gradients are zero."""
    network = problem.network()
    batch = len(problem.drives)
    drive = {
        name: Events(events.time.clone().requires_grad_(), events.unit, events.start, events.size)
        for name, events in problem.events().items()
    }
    record = run(network, drive, problem.duration, rule=EventProp(), observe=observation(problem))
    loss = torch.zeros((), dtype=torch.float64)
    for name in neurons(problem):
        size = problem.groups[name].size
        assert record.membrane[name].value.shape == (batch, 25, size)
        assert record.peak[name].value.shape == (batch, size)
        if problem.groups[name].kind == "lif":
            events = record.spikes[name]
            assert events.time.shape == events.unit.shape == (0,)
            assert events.start.tolist() == [0] * (batch + 1)
            assert record.count[name].shape == (batch, size)
            assert not record.count[name].any()
            loss = loss + events.time.sum()
    loss.backward()
    for parameter in [*network.parameters(), *(events.time for events in drive.values())]:
        assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize("family", ["two_layers", "recurrent", "everything"])
def test_nothing_in_nothing_out(family: str) -> None:
    problem = FAMILIES[family](Draw(np.random.default_rng(6), batch=2))
    empty = {n: (np.zeros(0), np.zeros(0, dtype=int)) for n, group in problem.groups.items() if group.kind == "input"}
    shapes(replace(problem, drives=[]))
    shapes(replace(problem, drives=[empty]))
    shapes(replace(problem, drives=[empty, empty, empty]))
    silent = [replace(link, weight=-np.abs(link.weight)) for link in problem.links]
    shapes(replace(problem, links=silent))


def test_one_empty_sample_among_others_changes_nothing() -> None:
    problem = FAMILIES["two_layers"](Draw(np.random.default_rng(7), batch=2))
    empty = {"input": (np.zeros(0), np.zeros(0, dtype=int))}
    between = replace(problem, drives=[problem.drives[0], empty, problem.drives[1]])
    one, two = gradients(problem, torch.float64), gradients(between, torch.float64)
    for name in ("hidden1", "hidden2"):
        assert two[0].count[name][1].sum() == 0
        assert torch.equal(two[0].spikes[name].time, one[0].spikes[name].time)


def excited(refractory: float) -> Problem:
    """Two neurons that excite each other far too much."""
    problem = single(30.0, 10 * MS, 5 * MS, 50 * MS, refractory=refractory)
    hidden = replace(problem.groups["hidden"], size=2)
    links = [Link("input", "hidden", np.array([[0.0, 30.0]])), Link("hidden", "hidden", np.full((2, 2), 30.0))]
    quiet = {"input": (np.zeros(0), np.zeros(0, dtype=int))}
    return Problem({"input": Group(1), "hidden": hidden}, links, [quiet, quiet, problem.drives[0]], 50 * MS)


@pytest.mark.parametrize("refractory", [0.0, 1 * MS])
def test_an_explosion_names_the_population_and_the_sample(refractory: float) -> None:
    problem = excited(refractory)
    with pytest.raises(ActivityExplosion, match=r"hidden.*\b2\b") as caught:
        observe(problem, substrate=Ideal(spike_limit=40))
    assert caught.value.todo or caught.value.expected


@pytest.mark.timeout(60)
def test_an_explosion_in_a_feed_forward_layer() -> None:
    problem = single(1e9, 10 * MS, 5 * MS, 50 * MS)
    with pytest.raises(ActivityExplosion, match="hidden"):
        observe(problem)
