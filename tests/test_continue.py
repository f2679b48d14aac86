"""A run that is cut anywhere and continued from its state is the whole run, to the last bit."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, Draw
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MS, Problem, single
from torch import Tensor

from spikeloop import (
    LIF,
    EventProp,
    Events,
    Every,
    Network,
    Observe,
    Population,
    Projection,
    Record,
    State,
    SuperSpike,
    run,
)
from spikeloop.errors import InvalidEvents, OutOfRange, WrongType
from spikeloop.protocols import Trial
from spikeloop.substrate.ideal import Ideal

Drive = dict[str, Events]


@functools.cache
def problem(family: str, seed: int, alike: bool, tonic: float, delay: str) -> Problem:
    draw = Draw(np.random.default_rng(seed), alike=alike, tonic=tonic, delay=delay, batch=3, spikes=4.0)
    return FAMILIES[family](draw)


def between(drive: Mapping[str, Events], begin: float, end: float) -> Drive:
    """The events of begin <= t < end."""
    parts: Drive = {}
    for name, events in drive.items():
        some = [(e.time >= begin) & (e.time < end) for e in (events[[b]] for b in range(len(events)))]
        ones = [events[[b]] for b in range(len(events))]
        parts[name] = Events.from_lists(
            [one.time[inside] for one, inside in zip(ones, some, strict=True)],
            [one.unit[inside] for one, inside in zip(ones, some, strict=True)],
            events.size,
        )
    return parts


def pieces(trial: Trial, ends: list[float]) -> list[Record]:
    """The trial in pieces that end at these times."""
    found, state = list[Record](), trial.start
    for last, end in enumerate(ends, 1 - len(ends)):
        begin = 0.0 if state is None else state.time
        some = between(trial.drive, begin, float("inf") if last == 0 else begin + (end - begin))
        found.append(Ideal().run(replace(trial, drive=some, duration=end - begin, start=state)))
        state = found[-1].state
    return found


def clocks(ends: list[float]) -> float:
    """What the clock says after pieces that end at about these times."""
    clock = 0.0
    for end in ends:
        clock += end - clock
    return clock


def whole_and_pieces(trial: Trial, cuts: list[float]) -> tuple[Record, list[Record]]:
    ends = [*sorted(set(cuts)), trial.duration]
    trial = replace(trial, duration=clocks(ends))
    return Ideal().run(trial), pieces(trial, ends)


def identical(whole: Record, parts: list[Record]) -> None:
    """Spikes, counts, samples and final states are the same, bit for bit; peaks but for the rounding of V at a cut."""
    for name in whole.count:
        for sample in range(len(whole)):
            each = [part.spikes[name][[sample]] for part in parts]
            assert torch.equal(torch.cat([e.time for e in each]), whole.spikes[name][[sample]].time), name
            assert torch.equal(torch.cat([e.unit for e in each]), whole.spikes[name][[sample]].unit), name
        assert torch.equal(torch.stack([part.count[name] for part in parts]).sum(0), whole.count[name])
    for name, samples in whole.membrane.items():
        assert torch.equal(torch.cat([part.membrane[name].time for part in parts]), samples.time), name
        assert torch.equal(torch.cat([part.membrane[name].value for part in parts], 1), samples.value), name
    for name, peak in whole.peak.items():
        highest = torch.stack([part.peak[name].value for part in parts]).amax(0)
        torch.testing.assert_close(highest, peak.value, rtol=0, atol=1e-6)
    same_state(whole.state, parts[-1].state)


def same_state(one: State | None, two: State | None) -> None:
    assert one is not None
    assert two is not None
    assert one.time == two.time
    for field in ("membrane", "current", "held"):
        for name, value in getattr(one, field).items():
            assert torch.equal(value, getattr(two, field)[name]), (field, name)
    for name in one.recent.keys() | two.recent.keys():
        mine, theirs = (state.recent[name] for state in (one, two))
        for part in ("time", "unit", "start"):
            assert torch.equal(getattr(mine, part), getattr(theirs, part)), (name, part)


def watch(network: Network, period: float | None, peaks: bool) -> Observe:
    names = [name for name, population in network.populations.items() if population.kind is not None]
    return Observe(dict.fromkeys(names, period) if period else {}, names if peaks else (), state=True)


def dropped(network: Network, batch: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spiking = {name: p.size for name, p in network.populations.items() if p.spiking and p.kind is not None}
    return {name: torch.rand(batch, size, generator=generator) < 0.3 for name, size in spiking.items()}


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(list(FAMILIES)),
    seed=st.integers(0, 2),
    alike=st.booleans(),
    tonic=st.sampled_from([0.0, 0.4]),
    delay=st.sampled_from(["none", "scalar", "source", "synapse"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    fractions=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4),
    at_event=st.integers(-1, 12),
    period=st.sampled_from([None, 2.3 * MS]),
    peaks=st.booleans(),
    silent=st.booleans(),
)
def test_a_run_in_pieces_is_the_whole_run_bit_for_bit(  # noqa: PLR0913, PLR0917
    family: str,
    seed: int,
    alike: bool,
    tonic: float,
    delay: str,
    dtype: torch.dtype,
    fractions: list[float],
    at_event: int,
    period: float | None,
    peaks: bool,
    silent: bool,
) -> None:
    given = problem(family, seed, alike, tonic, delay)
    network, drive = given.network(dtype, trainable=False), given.events()
    cuts = [fraction * given.duration for fraction in fractions]
    if at_event >= 0:
        cuts.append(float(drive["input"].time[at_event]))
    mask = dropped(network, 3, seed) if silent else {}
    trial = Trial(network, drive, given.duration, watch(network, period, peaks), silent=mask)
    identical(*whole_and_pieces(trial, cuts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["two_layers", "recurrent", "everything"])
def test_many_cuts_at_spikes_and_samples(family: str, dtype: torch.dtype) -> None:
    """At the spikes of the network itself and at times of samples, where all is most easily lost or doubled."""
    for delay in ("none", "source"):
        given = problem(family, 5, True, 0.3, delay)
        network, drive = given.network(dtype, trainable=False), given.events()
        period = 0.5 * MS
        trial = Trial(network, drive, given.duration, watch(network, period, False))
        spikes = [events.time for events in Ideal().run(trial).spikes.values()]
        cuts = [float(time) for time in torch.cat(spikes)[::7]] + [k * period for k in range(10, 60, 7)]
        identical(*whole_and_pieces(trial, [cut for cut in cuts if 0 < cut < given.duration]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_one_grid_of_events_samples_and_cuts(dtype: torch.dtype) -> None:
    """A tenth of a second is no binary number: 0.1 + 0.2 is not 3 * 0.1."""
    network = Network(
        {"input": Population(2), "hidden": Population(3, LIF(100 * MS, 50 * MS))},
        [Projection("input", "hidden", torch.tensor([[2.0, 3.0, 5.0], [4.0, 1.0, 0.5]], dtype=dtype))],
    )
    times = [k * 0.1 for k in range(20)]
    drive = {"input": Events.from_lists([times], [[k % 2 for k in range(20)]], 2)}
    trial = Trial(network, drive, 2.0, watch(network, 0.1, False))
    whole, parts = whole_and_pieces(trial, [0.1 + k * 0.1 for k in range(19)])
    assert len(parts) == 20
    assert int(whole.count["hidden"].sum()) > 10
    identical(whole, parts)


@pytest.mark.parametrize("ratio", [1.7, 2.0, 3.0, 4.0])
def test_a_long_run_of_many_arrivals_at_a_time(ratio: float) -> None:
    """States are swept in units that change from line to line of a grid in time, 32 time constants apart in float32."""
    line = 32 * 10 * MS / ratio
    for seed in range(30):
        rng = np.random.default_rng(seed)
        times = np.sort(np.concatenate([rng.uniform(0, 1.4 * line, 1000), rng.uniform(0.3 * line, 0.33 * line, 2000)]))
        weight = torch.from_numpy(rng.normal(0.02, 0.3, (4, 40)).astype(np.float32))
        network = Network(
            {"input": Population(4), "hidden": Population(40, LIF(10 * MS, 10 * MS / ratio, reset=-0.2))},
            [Projection("input", "hidden", weight)],
        )
        drive = {"input": Events.from_lists([times], [rng.integers(0, 4, 3000)], 4)}
        trial = Trial(network, drive, 1.5 * line, Observe(state=True))
        whole, parts = whole_and_pieces(trial, [0.8 * line])
        assert len(whole.spikes["hidden"].time) > 300
        identical(whole, parts)


def test_a_neuron_that_fires_by_itself_is_told_of_once() -> None:
    given = replace(single(0.0, 10 * MS, 5 * MS, 1.0, leak=1.5), duration=1.0)
    network = given.network(torch.float32, trainable=False)
    trial = Trial(network, given.events(), 1.0, watch(network, 10 * MS, True))
    whole, parts = whole_and_pieces(trial, [k / 37 for k in range(1, 37)])
    assert int(whole.count["hidden"].sum()) > 50
    identical(whole, parts)


def chain(dtype: torch.dtype = torch.float32) -> tuple[Network, Drive]:
    given = problem("two_layers", 1, True, 0.0, "scalar")
    return given.network(dtype, trainable=False), given.events()


def state_at(network: Network, drive: Drive, cut: float) -> State:
    state = run(network, between(drive, 0.0, cut), cut, observe=Observe(state=True)).state
    assert state is not None
    return state


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle", "torch"])
def test_a_state_outlives_its_process(how: str, tmp_path: Path) -> None:
    network, drive = chain()
    state = state_at(network, drive, 30 * MS)
    again: State
    if how == "torch":
        torch.save({"state": state}, tmp_path / "state.pt")
        again = torch.load(tmp_path / "state.pt", weights_only=False)["state"]
    elif how == "pickle":
        again = pickle.load(io.BytesIO(pickle.dumps(state)))
    else:
        again = copy.copy(state) if how == "copy" else copy.deepcopy(state)
    rest = between(drive, 30 * MS, 1.0)
    one, two = (run(network, rest, 30 * MS, start=s, observe=Observe(state=True)) for s in (state, again))
    identical(one, [two])
    assert one.begin == 30 * MS


def test_a_state_that_somebody_changed_is_what_it_says() -> None:
    """Then the private part is of another state: from there on it is as from a state made by hand."""
    network, drive = chain(torch.float64)
    cut, rest = 30 * MS, between(drive, 30 * MS, 1.0)
    state = state_at(network, drive, cut)
    lifted = {name: value.clone() for name, value in state.membrane.items()}
    lifted["hidden1"][1] -= 0.5
    changed, plain = replace(state, membrane=lifted), replace(state, membrane=lifted, parts={})
    found = [run(network, rest, cut, start=s).spikes["hidden1"] for s in (state, changed, plain)]
    assert torch.equal(found[0][[0]].time, found[1][[0]].time)  # of the samples that are as they were
    assert not torch.equal(found[0][[1]].time, found[1][[1]].time)
    assert torch.equal(found[1][[1]].time, found[2][[1]].time)


def test_a_neuron_that_changed_goes_on_as_another_from_where_it_is() -> None:
    network, drive = chain(torch.float64)
    state, rest = state_at(network, drive, 30 * MS), between(drive, 30 * MS, 1.0)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.populations["hidden1"].threshold.mul_(1.5)  # type: ignore[operator]
    found = [run(other, rest, 30 * MS, start=s) for s in (state, replace(state, parts={}))]
    for name in ("hidden1", "hidden2"):
        torch.testing.assert_close(found[0].spikes[name].time, found[1].spikes[name].time, rtol=0, atol=1e-12)


def test_a_state_made_by_hand_begins_at_its_own_time() -> None:
    given = single(20.0, 10 * MS, 5 * MS, 30 * MS)
    network = given.network(trainable=False)
    rest = {"hidden": torch.zeros(1, 1)}
    found = []
    for time in (0.0, 0.5):
        start = State(rest, rest, rest, time=time)
        drive = {"input": given.events()["input"].later(time)}
        record = run(network, drive, 30 * MS, start=start, observe=Observe({"hidden": 5 * MS}, {"hidden"}))
        assert record.begin == time
        assert len(record.spikes["hidden"].time) > 0
        found.append((record.spikes["hidden"].time - time, record.peak["hidden"].time - time))
        assert record.membrane["hidden"].time[0] == (0.0 if time == 0 else 0.505)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_times_of_another_clock_are_refused() -> None:
    network, drive = chain()
    state = state_at(network, drive, 30 * MS)
    rest = between(drive, 30 * MS, 1.0)
    with pytest.raises(InvalidEvents, match=r"before the beginning.*Expected: times from 0\.03 to 0\.06 s.*later"):
        run(network, drive, 30 * MS, start=state)
    times = torch.tensor([0.0, 0.01], dtype=torch.float64)
    with pytest.raises(OutOfRange, match=r"sampling times.*ascending, 0\.03 to 0\.06 s"):
        run(network, rest, 30 * MS, start=state, observe=Observe({"hidden1": times}))
    with pytest.raises(OutOfRange, match="the clock is -1"):
        run(network, rest, 30 * MS, start=replace(state, time=-1.0))
    with pytest.raises(WrongType, match="the clock is"):
        run(network, rest, 30 * MS, start=replace(state, time="now"))  # type: ignore[arg-type]


def test_events_later() -> None:
    events = Events.from_lists([[1.0, 2.0], []], [[0, 1], []], 2)
    later = events.later(0.5)
    assert later.time.tolist() == [1.5, 2.5]
    assert torch.equal(later.unit, events.unit)
    events.time.requires_grad_()
    events.later(3.0).time.sum().backward()
    assert events.time.grad is not None
    assert events.time.grad.tolist() == [1.0, 1.0]
    with pytest.raises(InvalidEvents, match="before 0"):
        events.later(-1.5)
    with pytest.raises(InvalidEvents, match="nan"):
        events.later(float("nan"))


def test_samples_are_in_one_run_each() -> None:
    wish = Observe({"a": Every(0.1)})
    spans = [(0.0, 0.25), (0.25, 0.05), (0.3, 0.0999), (0.3999, 0.6001)]
    times = [wish.times("a", duration, begin) for begin, duration in spans]
    assert torch.equal(torch.cat(times), wish.times("a", 1.0))
    assert [len(t) for t in times] == [3, 1, 0, 7]


@pytest.mark.parametrize("rule", [EventProp(), SuperSpike(0.5 * MS), SuperSpike(0.5 * MS, replay=True)])
@pytest.mark.parametrize("family", ["two_layers", "recurrent", "readout", "everything"])
def test_gradients_do_not_know_what_time_it_is(family: str, rule: EventProp | SuperSpike) -> None:
    given = problem(family, 2, False, 0.0, "synapse")
    network, drive = given.network(trainable=False), given.events()
    for projection in network.projections.values():
        projection.weight.requires_grad_()
    cut, weights = 32 * MS, [p.weight for p in network.projections.values()]
    state = state_at(network, drive, cut)
    found = []
    for begin in (0.0, cut):
        start = replace(state, time=begin, parts=state.parts if begin else {})
        rest = {name: events.later(begin - cut) for name, events in between(drive, cut, 1.0).items()}
        names = [name for name, p in network.populations.items() if p.kind is not None]
        times = begin + 4 * MS * torch.arange(6, dtype=torch.float64)
        wish = Observe({} if isinstance(rule, SuperSpike) else dict.fromkeys(names, times), names)
        record = run(network, rest, 24 * MS, start=start, rule=rule, observe=wish)
        loss = sum((peak.value.sum() for peak in record.peak.values()), torch.zeros((), dtype=torch.float64))
        if isinstance(rule, EventProp):
            loss = loss + sum(((s.value**2).sum() for s in record.membrane.values()), loss * 0)
            loss = loss + sum(((e.time - begin).sum() for n, e in record.spikes.items() if n not in drive), loss * 0)
        found.append(torch.autograd.grad(loss, weights, allow_unused=True))
    for one, two in zip(*found, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-7 * float(one.abs().max()))


@pytest.mark.parametrize("family", ["two_layers", "recurrent", "everything"])
def test_central_differences_after_the_cut(family: str) -> None:
    """What happens after the cut by weights, neuron parameters and delays from there on, and by times of the drive.

    Not by reset and refractory period: the rule takes those of a neuron that is held at the cut for what holds it, the
    state says where it is and for how long.
    """
    given = problem(family, 4, False, 0.0, "synapse")
    network, cut = given.network(), 30 * MS
    with torch.no_grad():
        state = state_at(network, given.events(), cut)
    assert any(len(events.time) for events in state.recent.values())
    rest = between(given.events(), cut, 1.0)
    drive = {n: Events(e.time.clone().requires_grad_(), e.unit, e.start, e.size) for n, e in rest.items()}
    names = [name for name, p in network.populations.items() if p.kind is not None]
    wish = Observe(dict.fromkeys(names, cut + 3 * MS * torch.arange(1, 8, dtype=torch.float64)))

    def loss(seed: int = 0) -> tuple[Tensor, list[int]]:
        record = run(network, drive, 24 * MS, start=state, rule=EventProp(), observe=wish)
        spikes = {name: record.spikes[name] for name in names if name in record.spikes}
        seen = [s.value.flatten() for s in record.membrane.values()]
        seen += [events.time[torch.argsort(events._slot, stable=True)] * 100 for events in spikes.values()]
        generator = torch.Generator().manual_seed(seed)
        weights = [torch.randn(len(part), generator=generator, dtype=torch.float64) for part in seen]
        total = sum(((w * part).sum() for w, part in zip(weights, seen, strict=True)), torch.zeros(()).double())
        return total, [int(n) for events in spikes.values() for n in events.count.flatten()]

    value, counts = loss()
    value.backward()
    parameters = dict(network.named_parameters())
    leaves = [leaf for name, leaf in parameters.items() if not name.endswith(("reset", "refractory"))]
    leaves += [events.time for events in drive.values()]
    compared = 0
    for leaf in leaves:
        assert leaf.grad is not None
        direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ends, same, kept = list[float](), True, leaf.detach().clone()
        scale = 2e-7 * float(kept.abs().mean())
        for change in (scale / 2, -scale / 2):
            with torch.no_grad():
                leaf.copy_(kept + change * direction)
                moved, after = loss()
                leaf.copy_(kept)
            ends.append(float(moved))
            same &= after == counts
        if same:
            expected = float((leaf.grad * direction).sum())
            assert (ends[0] - ends[1]) / scale == pytest.approx(expected, rel=2e-4, abs=1e-3)
            compared += 1
    assert compared > 0.8 * len(leaves)
