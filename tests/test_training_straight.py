"""A step of `fit` in one native call, beside the same step by a trial and a record: bit for bit."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeloop import LI, LIF, AdEx, EventProp, Ideal, Network, Population, Projection, Steps, SuperSpike
from spikeloop.data import EventDataset, YinYang
from spikeloop.data.dataset import loader
from spikeloop.engine.step import Descent, Taken
from spikeloop.errors import (
    ActivityExplosion,
    CheckpointError,
    InvalidEvents,
    InvalidNetwork,
    OutOfRange,
    SpikeloopError,
    Unsupported,
)
from spikeloop.training import Adam, Decay, FirstSpike, LiftSilent, MaxOverTime, Settings, fit
from spikeloop.training.course import Course
from spikeloop.training.fused import FusedAdam
from spikeloop.training.place import SpikingPlace
from spikeloop.training.straight import Straight

SETTINGS = Settings(duration=0.06, batch_size=20, learning_rate=1e-2, seed=1)


def network(
    readout: LI | LIF, dtype: torch.dtype = torch.float32, dropout: float = 0.0, delay: float = 0.0, deep: bool = False
) -> Network:
    """5-16-3, or 5-16-16-3 with a projection past the middle; some neurons are silent."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape: int, scale: float) -> Tensor:
        return (torch.rand(shape, generator=generator) * scale * torch.linspace(0.1, 1.9, shape[1])).to(dtype)

    populations = {
        "input": Population(5, dropout=dropout / 2),
        "hidden": Population(16, LIF(0.02, 0.005), dropout=dropout),
    }
    projections = [Projection("input", "hidden", weight(5, 16, scale=4.0), delay)]
    last = "hidden"
    if deep:
        populations["middle"] = Population(16, LIF(0.015, 0.006, refractory=1e-3))
        projections += [
            Projection("hidden", "middle", weight(16, 16, scale=1.0)),
            Projection("hidden", "output", weight(16, 3, scale=1.0)),
        ]
        last = "middle"
    populations["output"] = Population(3, readout)
    return Network(populations, [*projections, Projection(last, "output", weight(16, 3, scale=3.0), delay)])


def trained(
    net: Network, settings: Settings = SETTINGS, **where: object
) -> tuple[list[Tensor], list[dict[str, object]]]:
    """The weights after two epochs, and what was told of them."""
    history = fit(net, YinYang("train", size=60), settings, epochs=2, **where).history  # type: ignore[arg-type]
    names = ("loss", "accuracy", "spikes_per_sample", "floored")
    return [parameter.detach() for parameter in net.parameters()], [
        {name: line[name] for name in names} for line in history
    ]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each of the engine's steps had."""
    taken, call = list[int](), Descent.__call__

    def counted(self: Descent, *given: Any) -> Taken | None:
        found = call(self, *given)
        label, size = given[1], self.size
        for step in range(len(found.steps) if found else 0):
            taken.append(len(label[step * size :][:size]))
        return found

    monkeypatch.setattr(Descent, "__call__", counted)
    return taken


def by_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Straight, "of", classmethod(lambda *_: None))


def check_alike(
    monkeypatch: pytest.MonkeyPatch,
    steps: list[int],
    make: Callable[[], Network],
    settings: Settings = SETTINGS,
    straight: bool = True,
    **where: object,
) -> None:
    """A training straight through the engine and one by trials end bit for bit the same."""
    found, told = trained(make(), settings, **where)
    assert steps == [20] * 6 * straight
    with monkeypatch.context() as patched:
        by_trials(patched)
        expected, expected_told = trained(make(), settings, **where)
    assert len(steps) == 6 * straight
    assert told == expected_told
    assert any(not torch.equal(one, other) for one, other in zip(make().parameters(), found, strict=True))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("regulariser", [None, LiftSilent(minimum=0.7, strength=0.3)])
@pytest.mark.parametrize("readout", [FirstSpike(), MaxOverTime()])
def test_a_step_in_one_call_is_the_same_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
    steps: list[int],
    readout: FirstSpike | MaxOverTime,
    regulariser: LiftSilent | None,
    deep: bool,
    dtype: torch.dtype,
) -> None:
    neuron = LIF(0.02, 0.005) if isinstance(readout, FirstSpike) else LI(0.02, 0.005)
    settings = replace(SETTINGS, readout=readout, regulariser=regulariser)
    check_alike(monkeypatch, steps, lambda: network(neuron, dtype, deep=deep), settings)


def many_ways(dtype: torch.dtype) -> Network:
    """Two inputs, two hidden layers side by side, one that nobody hears, and a readout in the middle of the list."""
    generator = torch.Generator().manual_seed(3)
    sizes = {"input": 5, "left": 16, "output": 3, "right": 16, "unheard": 16}
    neuron = {"output": LI(0.02, 0.005), "left": LIF(0.02, 0.005), "right": LIF(0.01, 0.01, refractory=2e-3),
              "unheard": LIF(0.02, 0.005, leak=0.9)}  # fmt: skip
    pairs = [("input", "left"), ("input", "right"), ("left", "output"), ("right", "output"), ("left", "unheard")]
    populations = {name: Population(size, neuron.get(name)) for name, size in sizes.items()}
    weights = [3 * torch.rand(sizes[a], sizes[b], generator=generator).to(dtype) for a, b in pairs]
    return Network(populations, [Projection(*pair, weight) for pair, weight in zip(pairs, weights, strict=True)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_graph_of_dense_layers(monkeypatch: pytest.MonkeyPatch, steps: list[int], dtype: torch.dtype) -> None:
    check_alike(monkeypatch, steps, lambda: many_ways(dtype), replace(SETTINGS, readout=MaxOverTime()))


@pytest.mark.parametrize("readout", [FirstSpike(tau0=1, tau1=np.float64(2), alpha=1), MaxOverTime(scale=10)])  # type: ignore[arg-type]
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_any_type(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], readout: FirstSpike | MaxOverTime, dtype: torch.dtype
) -> None:
    neuron = LIF(0.02, 0.005) if isinstance(readout, FirstSpike) else LI(0.02, 0.005)
    settings = replace(SETTINGS, readout=readout, duration=np.float64(0.06))
    check_alike(monkeypatch, steps, lambda: network(neuron, dtype), settings, rule=EventProp(slope_floor=1))


@pytest.mark.parametrize("readout", [LIF(0.02, 0.005), LI(0.02, 0.005)])
def test_dropout_delays_and_a_slope_floor(monkeypatch: pytest.MonkeyPatch, steps: list[int], readout: LI | LIF) -> None:
    make = lambda: network(readout, dropout=0.2, delay=1e-3)  # noqa: E731
    check_alike(monkeypatch, steps, make, rule=EventProp(slope_floor=0.5))


def quiet(factor: float) -> Network:
    """One whose outputs hear less, and seldom spike."""
    net = network(LIF(0.02, 0.005))
    with torch.no_grad():
        net.projection("hidden", "output").weight.mul_(factor)
    return net


def test_labels_whose_unit_is_silent_are_pushed(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    check_alike(monkeypatch, steps, lambda: quiet(0.1))
    both = replace(SETTINGS, regulariser=LiftSilent(("hidden", "output"), minimum=0.5))
    steps.clear()
    check_alike(monkeypatch, steps, lambda: quiet(0.1), both)


def test_frozen_weights_a_shared_one_and_hooks(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    def frozen() -> Network:
        net = network(LI(0.02, 0.005), deep=True)
        net.projection("input", "hidden").weight.requires_grad_(False)
        return net

    def shared() -> Network:
        net = network(LI(0.02, 0.005), deep=True)
        net.projection("hidden", "output").weight = net.projection("middle", "output").weight
        net.projection("input", "hidden").weight.register_hook(lambda gradient: gradient.flip(0))
        return net

    check_alike(monkeypatch, steps, frozen)
    steps.clear()
    check_alike(monkeypatch, steps, shared)


def test_the_number_of_threads_does_not_matter() -> None:
    threads, ends = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            ends.append(trained(network(LI(0.02, 0.005), deep=True)))
    finally:
        torch.set_num_threads(threads)
    assert ends[0][1] == ends[1][1]
    for one, other in zip(ends[0][0], ends[1][0], strict=True):
        assert torch.equal(one, other)


def recurrent() -> Network:
    net = network(LI(0.02, 0.005))
    return Network(dict(net.populations), [*net.projections.values(), Projection("hidden", "hidden", torch.eye(16))])


def with_trained_times() -> Network:
    net = network(LI(0.02, 0.005))
    hidden = LIF(torch.nn.Parameter(torch.full((16,), 0.02)), 0.005)
    return Network({**net.populations, "hidden": Population(16, hidden)}, list(net.projections.values()))


class Other(Ideal):
    """May do something else."""


@pytest.mark.parametrize("make", [recurrent, with_trained_times])
def test_what_is_out_of_the_ordinary_is_trained_by_trials(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], make: Callable[[], Network]
) -> None:
    check_alike(monkeypatch, steps, make, straight=False)


@pytest.mark.parametrize("where", [{"substrate": Other()}, {"rule": SuperSpike(1e-3)}])
def test_other_substrates_and_rules_are_asked(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], where: dict[str, object]
) -> None:
    check_alike(monkeypatch, steps, lambda: network(LI(0.02, 0.005)), straight=False, **where)


def course(net: Network, settings: Settings = SETTINGS) -> tuple[Course, EventDataset | YinYang]:
    data = YinYang("train", size=60)
    place = SpikingPlace.of(net, data, settings, Ideal(), EventProp())
    return Course(net, data, settings, 2, place), data


def test_what_changes_during_a_training_is_seen(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    def changes(net: Network, step: int) -> None:
        hidden, first = net.populations["hidden"], net.projection("input", "hidden")
        if step == 1:
            hidden.tau_mem.mul_(0.5)
        if step == 2:
            first.weight.data = first.weight.data * 1.5
        if step == 3:
            first.weight.requires_grad_(False)
        if step == 4:
            hidden.dropout = 0.3

    ends = []
    for straight in (True, False):
        net = network(LI(0.02, 0.005))
        with monkeypatch.context() as patched, torch.random.fork_rng():
            if not straight:
                by_trials(patched)
            way, data = course(net)
            torch.manual_seed(0)
            for step, (drive, label) in enumerate([*loader(data, 20), *loader(data, 20)]):
                with torch.no_grad():
                    changes(net, step)
                way.step(drive, label)
        ends.append([parameter.detach().clone() for parameter in net.parameters()])
    assert len(steps) == 6
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


def wrong_label(net: Network) -> tuple[Settings, object]:
    data = YinYang("train", size=60)
    events, label = data.batch(torch.arange(60))
    return SETTINGS, EventDataset(events, label + 1)


def late(net: Network) -> tuple[Settings, object]:
    events, label = YinYang("train", size=60).batch(torch.arange(60))
    return SETTINGS, EventDataset(events.later(1.0), label)


def not_a_number(net: Network) -> tuple[Settings, object]:
    with torch.no_grad():
        net.projection("input", "hidden").weight[0, 0] = math.nan
    return SETTINGS, YinYang("train", size=60)


def runaway(net: Network) -> tuple[Settings, object]:
    with torch.no_grad():
        net.projection("input", "hidden").weight.mul_(1e6)
    return SETTINGS, YinYang("train", size=60)


def nowhere(net: Network) -> tuple[Settings, object]:
    return replace(SETTINGS, readout=MaxOverTime("nowhere")), YinYang("train", size=60)


def silent_readout(net: Network) -> tuple[Settings, object]:
    return replace(SETTINGS, readout=FirstSpike("output")), YinYang("train", size=60)


def unknown_lift(net: Network) -> tuple[Settings, object]:
    return replace(SETTINGS, regulariser=LiftSilent(("nowhere",))), YinYang("train", size=60)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (wrong_label, OutOfRange),
        (late, InvalidEvents),
        (not_a_number, InvalidNetwork),
        (runaway, ActivityExplosion),
        (nowhere, SpikeloopError),
        (silent_readout, SpikeloopError),
        (unknown_lift, SpikeloopError),
    ],
)
def test_errors_say_the_same(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Network], tuple[Settings, object]], kind: type[SpikeloopError]
) -> None:
    told = []
    for straight in (True, False):
        net = network(LI(0.02, 0.005))
        settings, data = wrong(net)
        with monkeypatch.context() as patched:
            if not straight:
                by_trials(patched)
            with pytest.raises(kind) as error:
                fit(net, data, settings, substrate=Ideal(spike_limit=100))  # type: ignore[arg-type]
        told.append((type(error.value), str(error.value)))
    assert told[0] == told[1]


def test_a_network_in_steps_goes_another_way(steps: list[int]) -> None:
    net = network(LI(0.02, 0.005))
    populations = {**net.populations, "hidden": Population(16, AdEx(0.02, 0.005))}
    stepped = Network(populations, list(net.projections.values()))
    trained(stepped, rule=SuperSpike(1e-3))
    assert steps == []


def test_a_network_without_inputs_is_refused_as_ever(steps: list[int]) -> None:
    populations = {"hidden": Population(4, LIF(0.02, 0.005)), "output": Population(3, LI(0.02, 0.005))}
    net = Network(populations, [Projection("hidden", "output", torch.ones(4, 3, dtype=torch.float64))])
    settings = replace(SETTINGS, readout=MaxOverTime())
    with pytest.raises(Unsupported, match="currents"):
        course(net, settings)[0].step(
            {"hidden": Steps(torch.zeros(1), torch.full((2, 1, 4), 3.0))}, torch.tensor([0, 1])
        )
    assert steps == []


def test_frozen_between_steps_the_error_is_that_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for straight in (True, False):
        net = network(LI(0.02, 0.005), dropout=0.3)
        with monkeypatch.context() as patched, torch.random.fork_rng():
            if not straight:
                by_trials(patched)
            way, data = course(net)
            net.requires_grad_(False)
            torch.manual_seed(0)
            drive, label = data.batch(torch.arange(20))
            with pytest.raises(SpikeloopError) as error:
                way.step(drive, label + 1)
            told.append((type(error.value), str(error.value), torch.rand(())))
    assert told[0] == told[1]


def test_the_last_batch_may_be_smaller(steps: list[int]) -> None:
    settings = replace(SETTINGS, batch_size=25, optimizer=Adam(beta2=0.95))
    trained(network(LI(0.02, 0.005)), settings)
    assert sorted(steps) == [10, 10, 25, 25, 25, 25]


def in_pieces(
    net: Network, settings: Settings, sizes: list[int], spike_limit: int = 10_000, wrong: int | None = None
) -> Course:
    """After the same 100 samples, handed over so many at a time; the label of number `wrong` names no unit."""
    data = YinYang("train", size=100)
    drive, label = data.batch(torch.arange(100))
    if wrong is not None:
        label[wrong] = 3
    place = SpikingPlace.of(net, data, settings, Ideal(spike_limit=spike_limit), EventProp())
    way = Course(net, data, settings, 2, place)
    begin = 0
    for size in sizes:
        way.step(drive[begin : begin + size], label[begin : begin + size], -(-size // settings.batch_size))
        begin += size
    return way


def check_same_end(one: Course, other: Course) -> None:
    tensors, others = one.tensors(), other.tensors()
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name
    assert replace(one.sums, seconds=0.0) == replace(other.sums, seconds=0.0)
    assert (one.taken, one.epoch) == (other.taken, other.epoch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("readout", [FirstSpike(), MaxOverTime()])
def test_batches_at_once_are_as_many_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
    steps: list[int],
    readout: FirstSpike | MaxOverTime,
    deep: bool,
    dtype: torch.dtype,
) -> None:
    neuron = LIF(0.02, 0.005) if isinstance(readout, FirstSpike) else LI(0.02, 0.005)
    settings = replace(SETTINGS, readout=readout, schedule=Decay(0.5), optimizer=Adam(beta2=0.95))
    make = lambda: network(neuron, dtype, deep=deep)  # noqa: E731
    ends = [in_pieces(make(), settings, sizes) for sizes in ([20] * 5, [100], [40, 60], [20, 80])]
    assert steps == [20] * 20
    with monkeypatch.context() as patched:
        by_trials(patched)
        ends.append(in_pieces(make(), settings, [100]))
    for end in ends[1:]:
        check_same_end(ends[0], end)


def test_a_silent_label_among_batches_at_once(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    settings = replace(SETTINGS, batch_size=5, learning_rate=1e-3)
    one, calls, learn = in_pieces(quiet(0.35), settings, [5] * 20), list[int](), Straight.learn
    monkeypatch.setattr(Straight, "learn", lambda *given: (calls.append(len(given[3])), learn(*given))[1])
    other = in_pieces(quiet(0.35), settings, [100])
    check_same_end(one, other)
    assert steps == [5] * 40
    assert 1 < len(calls) < 20


@pytest.mark.parametrize(
    ("changed", "given", "error"),
    [
        ({}, {"wrong": 71}, OutOfRange),
        ({"learning_rate": 3.0}, {"spike_limit": 5}, ActivityExplosion),
        ({"learning_rate": 1e38}, {}, InvalidNetwork),
    ],
)
def test_batches_before_one_that_fails_are_learnt(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], given: dict[str, Any], error: type[SpikeloopError]
) -> None:
    ends = []
    for straight, sizes in ((True, [100]), (True, [20] * 5), (False, [20] * 5)):
        net = network(LI(0.02, 0.005))
        with monkeypatch.context() as patched:
            if not straight:
                by_trials(patched)
            with pytest.raises(error) as raised:
                in_pieces(net, replace(SETTINGS, **changed), sizes, **given)
        ends.append((str(raised.value), [parameter.detach() for parameter in net.parameters()]))
    for message, weights in ends[1:]:
        assert message == ends[0][0]
        for one, other in zip(weights, ends[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    start = [parameter.detach() for parameter in network(LI(0.02, 0.005)).parameters()]
    assert not torch.equal(start[0], ends[0][1][0])


@pytest.mark.parametrize(
    ("changed", "dropout", "expected"),
    [
        ({}, 0.0, True),
        ({"regulariser": LiftSilent()}, 0.0, False),
        ({"optimizer": torch.optim.SGD}, 0.0, False),
        ({}, 0.1, False),
    ],
)
def test_what_goes_at_once(changed: dict[str, Any], dropout: float, expected: bool) -> None:
    settings = replace(SETTINGS, **changed)
    net = network(LI(0.02, 0.005), dropout=dropout)
    way, _ = course(net, settings)
    drive, label = YinYang("train", size=60).batch(torch.arange(20))
    way.step(drive, label)
    assert [len(label) for _, label, _ in way.pieces()] == ([20, 40] if expected else [20] * 3)
    assert way.place.several(net, way.optimizer) is expected


def test_pieces_are_no_longer_than_a_checkpoint_is_kept() -> None:
    way, data = course(network(LI(0.02, 0.005)), replace(SETTINGS, checkpoint_period=0.0))
    way.step(*data.batch(torch.arange(20)))
    assert [len(label) for _, label, _ in way.pieces()] == [20] * 3


def test_an_optimiser_that_does_more_is_asked_after_every_batch(steps: list[int]) -> None:
    class Counted(FusedAdam):
        calls = 0

        def step(self, closure: Any = None) -> None:
            self.calls += 1
            super().step(closure)

    def wrapped(weights: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
        optimizer = Adam()(weights, rate)
        plain, optimizer.calls = optimizer.step, 0  # type: ignore[attr-defined]

        def step(closure: Any = None) -> None:
            optimizer.calls += 1  # type: ignore[attr-defined]
            plain(closure)

        optimizer.step = step  # type: ignore[method-assign]
        return optimizer

    for make in (lambda weights, rate: Counted(weights, lr=rate, fused=True), wrapped):
        way = in_pieces(network(LI(0.02, 0.005)), replace(SETTINGS, optimizer=make), [100])
        assert way.optimizer.calls == 5  # type: ignore[attr-defined]
    assert steps == [20] * 10


def test_one_weight_in_two_places_is_left_to_the_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared() -> Network:
        net = network(LI(0.02, 0.005), deep=True)
        weight = net.projection("middle", "output").weight
        net.projection("hidden", "output").weight = torch.nn.Parameter(weight.detach())
        return net

    decaying = replace(SETTINGS, optimizer=lambda weights, rate: FusedAdam(weights, lr=rate, weight_decay=0.1))
    one = in_pieces(shared(), decaying, [100])
    with monkeypatch.context() as patched:
        by_trials(patched)
        check_same_end(one, in_pieces(shared(), decaying, [100]))


def test_a_schedule_is_asked_once_a_step() -> None:
    asked = list[float]()

    def schedule(epoch: float, epochs: int) -> float:
        asked.append(epoch)
        return 1.0

    settings = replace(SETTINGS, schedule=schedule, optimizer=torch.optim.SGD)  # goes batch by batch
    in_pieces(network(LI(0.02, 0.005)), settings, [100])
    assert asked == [step / 5 for step in range(5)]


def test_a_state_of_other_weights_is_no_checkpoint_of_this_training(tmp_path: Path) -> None:
    data, settings = YinYang("train", size=60), SETTINGS
    net = network(LI(0.02, 0.005), deep=True)
    net.projection("input", "hidden").weight.requires_grad_(False)
    fit(net, data, settings, folder=tmp_path)
    with pytest.raises(CheckpointError, match="does not belong"):
        fit(network(LI(0.02, 0.005), deep=True), data, settings, epochs=2, folder=tmp_path, resume=True)


def test_a_training_is_resumed_where_weights_lie_transposed(tmp_path: Path) -> None:
    ends = []
    for epochs in ([2], [1, 2]):
        for count in epochs:
            net = network(LI(0.02, 0.005))
            for projection in net.projections.values():
                projection.weight.data = projection.weight.data.t().contiguous().t()
            fit(net, YinYang("train", size=60), SETTINGS, epochs=count, folder=tmp_path / str(epochs), resume=True)
        ends.append([parameter.detach() for parameter in net.parameters()])
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


class StopError(Exception):
    """Raised by a handler."""


def test_an_error_in_a_handler_leaves_weights_between_two_steps() -> None:
    settings = replace(SETTINGS, batch_size=50, learning_rate=1e-3)
    data = YinYang("train", size=5000)

    def way() -> tuple[Course, tuple[Any, ...]]:
        net = network(LI(0.02, 0.005))
        place = SpikingPlace.of(net, data, settings, Ideal(), EventProp())
        return Course(net, data, settings, 20, place), data.batch(torch.arange(5000).repeat(20))

    def stop(*_: object) -> None:
        raise StopError

    between, (slow, (drive, label)) = set[bytes](), way()
    digest = lambda course: b"".join(p.detach().numpy().tobytes() for p in course.parameters)  # noqa: E731
    for begin in range(0, len(label), 50):
        between.add(digest(slow))
        slow.step(drive[begin : begin + 50], label[begin : begin + 50])
    between.add(digest(slow))
    before, stopped = signal.signal(signal.SIGALRM, stop), 0
    try:
        for delay in (0.06, 0.11, 0.16, 0.21):
            fast, given = way()
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                fast.step(*given, 2000)
            except StopError:
                stopped += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert digest(fast) in between
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_weights_beside_small_ones(monkeypatch: pytest.MonkeyPatch, steps: list[int], dtype: torch.dtype) -> None:
    """More than 2^18 of them take their step after the adjoint, others with it."""

    def large() -> Network:
        generator = torch.Generator().manual_seed(0)
        sizes = {"input": 5, "left": 520, "right": 520, "output": 3}
        pairs = [("input", "left", 4.0), ("left", "right", 0.1), ("right", "output", 0.1)]
        neuron = {"left": LIF(0.02, 0.005), "right": LIF(0.02, 0.005), "output": LI(0.02, 0.005)}
        weights = [scale * torch.rand(sizes[a], sizes[b], generator=generator).to(dtype) for a, b, scale in pairs]
        populations = {name: Population(size, neuron.get(name)) for name, size in sizes.items()}
        ends = zip(pairs, weights, strict=True)
        return Network(populations, [Projection(a, b, weight) for (a, b, _), weight in ends])

    settings = replace(SETTINGS, learning_rate=1e-4)
    one, other = in_pieces(large(), settings, [100]), in_pieces(large(), settings, [20] * 5)
    check_same_end(one, other)
    assert steps == [20] * 10
    assert one.sums.spikes / one.sums.samples > 600
    with monkeypatch.context() as patched:
        by_trials(patched)
        check_same_end(one, in_pieces(large(), settings, [100]))


def test_a_batch_of_no_samples_is_a_step_of_its_own(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    drive, label = YinYang("train", size=20).batch(torch.arange(20))
    ends = []
    for straight in (True, False):
        with monkeypatch.context() as patched:
            if not straight:
                by_trials(patched)
            way, _ = course(network(LI(0.02, 0.005)))
            for some in (slice(20), slice(0, 0), slice(20)):
                way.step(drive[some], label[some])
        ends.append(way)
    check_same_end(*ends)
    assert steps == [20, 20]
