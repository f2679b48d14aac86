"""Piecewise constant currents in the exact engine: against SciPy, in pieces, and as a leak that is elsewhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from problems import MS, Problem, single
from scipy.integrate import solve_ivp
from test_continue import Drive, identical, problem, watch, whole_and_pieces

from spikeloop import (
    LIF,
    EventProp,
    Events,
    Network,
    Observe,
    Population,
    Projection,
    Record,
    State,
    Steps,
    SuperSpike,
    run,
)
from spikeloop.errors import ActivityExplosion, Unsupported
from spikeloop.protocols import Trial
from spikeloop.substrate.ideal import Ideal

Float = NDArray[np.float64]


def by_scipy(fields: dict[str, float], arrivals: list[tuple[float, float]], steps: Steps, end: float) -> list[float]:
    """The spikes of one LIF neuron under arrivals (time, weight) and the one J of ``steps``: stretch by stretch."""
    tau_mem, tau_syn, threshold, leak = (fields[name] for name in ("tau_mem", "tau_syn", "threshold", "leak"))
    changes = dict(zip(steps.time.tolist(), steps.value[:, 0].tolist(), strict=True))
    brought = dict(arrivals)
    edges = sorted({0.0, end, *changes, *brought})
    v, i, j, free, spikes = leak, 0.0, 0.0, 0.0, []
    for begin, until in pairwise(edges):
        j, i, now = changes.get(begin, j), i + brought.get(begin, 0.0), begin
        while now < until:
            if free > now:
                stop = min(free, until)
                i, now = i * np.exp(-(stop - now) / tau_syn), stop
                continue
            reached = lambda _, y: y[0] - threshold  # noqa: E731
            reached.terminal, reached.direction = True, 1  # type: ignore[attr-defined]
            slope = lambda _, y, j=j: [(leak - y[0] + y[1] + j) / tau_mem, -y[1] / tau_syn]  # noqa: E731
            found = solve_ivp(slope, (now, until), [v, i], "DOP853", events=reached, rtol=1e-11, atol=1e-12)
            (v, i), now = found.y[:, -1], float(found.t[-1])
            if found.status == 1:
                spikes.append(now)
                v, free = fields["reset"], now + fields["refractory"]
    return spikes


@pytest.mark.parametrize("seed", range(4))
def test_spikes_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fields = {"tau_mem": 10 * MS, "tau_syn": 4 * MS, "threshold": 1.0, "leak": 0.1, "reset": -0.2, "refractory": 1 * MS}
    times = np.sort(rng.uniform(0, 80 * MS, 6))
    values = rng.uniform(-0.5, 2.0, (3, 6, 1))
    events = np.sort(rng.uniform(0, 80 * MS, 10))
    network = Network(
        {"input": Population(1), "hidden": Population(1, LIF(**fields))},
        [Projection("input", "hidden", torch.tensor([[1.5]], dtype=torch.float64))],
    )
    drive = Events.from_lists([events] * 3, [np.zeros(10, int)] * 3, 1)
    record = run(network, {"input": drive, "hidden": Steps(times, values)}, 100 * MS)
    for sample in range(3):
        expected = by_scipy(fields, [(t, 1.5) for t in events], Steps(times, values[sample]), 100 * MS)
        found = record.spikes["hidden"][[sample]].time.detach()
        assert len(expected) > 0
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_current_for_ever_is_a_leak_that_is_elsewhere() -> None:
    given = problem("everything", 3, False, 0.0, "synapse")
    network, drive = given.network(trainable=False), given.events()
    lifted = copy.deepcopy(network)
    lifts = {name: torch.full((1, p.size), 0.35).double() for name, p in network.populations.items() if p.kind}
    for name, lift in lifts.items():
        lifted.populations[name].leak.data += lift[0]
    rest = {name: torch.zeros(3, network.populations[name].size).double() for name in lifts}
    start = State(rest, rest, rest)
    observe = Observe(dict.fromkeys(lifts, 2 * MS), set(lifts))
    steps = {name: Steps([0.0], lift) for name, lift in lifts.items()}
    one = run(network, {**drive, **steps}, given.duration, observe=observe, start=start)
    two = run(lifted, drive, given.duration, observe=observe, start=start)
    for name, count in one.count.items():
        assert torch.equal(count, two.count[name])
        assert count.sum() > 0
        torch.testing.assert_close(one.spikes[name].time, two.spikes[name].time, rtol=0, atol=1e-12)
    for name in lifts:
        torch.testing.assert_close(one.membrane[name].value, two.membrane[name].value, rtol=0, atol=1e-9)
        torch.testing.assert_close(one.peak[name].value, two.peak[name].value, rtol=0, atol=1e-9)


def driven(given: Problem, seed: int, batch: int | None) -> dict[str, Steps]:
    """Currents into half of the populations that spike, with changes at random times."""
    rng = np.random.default_rng(seed)
    names = [name for name, group in given.groups.items() if group.kind != "input"]
    found = {}
    for name in names[:: 2 if len(names) > 1 else 1]:
        count, size = int(rng.integers(1, 5)), given.groups[name].size
        times = np.sort(rng.uniform(0, given.duration, count))
        shape = (count, size) if batch is None else (batch, count, size)
        found[name] = Steps(times, rng.uniform(-0.5, 1.5, shape) * (rng.uniform(size=shape) < 0.7))
    return found


@settings(max_examples=30, deadline=None)
@given(
    family=st.sampled_from(["one_layer", "two_layers", "recurrent", "readout", "everything"]),
    seed=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    alike=st.booleans(),
    each=st.booleans(),
    fractions=st.lists(st.floats(0.01, 0.99), min_size=0, max_size=3),
    at_change=st.integers(0, 3),
    period=st.sampled_from([None, 2.3 * MS]),
)
def test_a_run_in_pieces_is_the_whole_run_bit_for_bit(  # noqa: PLR0913, PLR0917
    family: str,
    seed: int,
    dtype: torch.dtype,
    alike: bool,
    each: bool,
    fractions: list[float],
    at_change: int,
    period: float | None,
) -> None:
    given = problem(family, seed % 2, alike, 0.3, "synapse")
    network, drive = given.network(dtype, trainable=False), given.events()
    steps = driven(given, seed, 3 if each else None)
    times = torch.cat([given.time for given in steps.values()])
    cuts = [fraction * given.duration for fraction in fractions] + [float(times[at_change % len(times)])]
    trial = Trial(network, drive, given.duration, watch(network, period, False), steps=steps)
    identical(*whole_and_pieces(trial, cuts))


def test_samples_do_not_hear_of_each_others_currents() -> None:
    given = problem("everything", 1, True, 0.2, "synapse")
    network, drive = given.network(torch.float32, trainable=False), given.events()
    steps = driven(given, 2, 3)
    trial = Trial(network, drive, given.duration, watch(network, 1.7 * MS, True), steps=steps)
    whole = Ideal().run(trial)
    for sample in range(3):
        some = slice(sample, sample + 1)
        alone: Drive = {name: events[some] for name, events in drive.items()}
        one = Ideal().run(replace(trial, drive=alone, steps={name: each.of(some) for name, each in steps.items()}))
        for name in one.count:
            assert torch.equal(one.spikes[name].time, whole.spikes[name][some].time), name
        for name, samples in one.membrane.items():
            assert torch.equal(samples.value, whole.membrane[name].value[some]), name
            assert torch.equal(one.peak[name].value, whole.peak[name].value[some]), name


def test_without_a_change_nothing_is_cut() -> None:
    """The same value again is no change, nor is one after the end: bit for bit the run without them."""
    given = single(20.0, 10 * MS, 5 * MS, 30 * MS)
    network, drive = given.network(torch.float32, trainable=False), given.events()
    records: list[Record] = []
    for times in ([0.0], [0.0, 3.1 * MS, 7 * MS, 50 * MS]):
        steps = Steps(times, [[0.4]] * min(len(times), 3) + [[2.0]] * (len(times) - 3))
        records.append(run(network, {**drive, "hidden": steps}, 30 * MS))
    assert torch.equal(records[0].spikes["hidden"].time, records[1].spikes["hidden"].time)


def test_what_cannot_be_done_is_said() -> None:
    given = single(20.0, 10 * MS, 5 * MS, 30 * MS)
    network, drive = given.network(), given.events()
    steps = Steps([0.0, 5 * MS], [[0.4], [0.8]])
    for rule in (EventProp(), SuperSpike(1 * MS, replay=True)):
        record = run(network, {**drive, "hidden": steps}, 30 * MS, rule=rule)
        with pytest.raises(Unsupported, match=r"hidden.*with currents"):
            record.count["hidden"].sum().backward()
    with pytest.raises(ActivityExplosion, match="hidden"):
        run(network, {**drive, "hidden": Steps([0.0, 5 * MS], [[50.0], [60.0]])}, 30 * MS, substrate=Ideal(20))
