"""Currents at spikes that a forward pass keeps for its adjoint, beside those that the adjoint sums up itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from spikeloop import (
    LI,
    LIF,
    EventProp,
    Events,
    Ideal,
    Network,
    Observe,
    Population,
    Projection,
    Record,
    recurrent,
    run,
)
from spikeloop.engine.adjoint import Backward
from spikeloop.network import Key
from spikeloop.protocols import Cotangent, Trial

DURATION = 0.04
OWN = torch.linspace(0.015, 0.03, 24)
NEURONS = {
    "ratio 4": LIF(0.02, 0.005),
    "ratio 2": LIF(0.01, 0.005),
    "equal": LIF(0.01, 0.01),
    "leak and reset": LIF(0.02, 0.005, threshold=0.8, leak=-0.2, reset=-0.5),
    "tonic": LIF(0.02, 0.005, leak=1.1),
    "all different": LIF(OWN, 0.2 * OWN),
    "refractory": LIF(0.02, 0.005, refractory=2e-3),
}


def network(
    neuron: LIF,
    last: LI | LIF,
    dtype: torch.dtype = torch.float32,
    dropout: float = 0.0,
    delay: float | torch.Tensor = 1e-3,
) -> Network:
    """10-24-24-3."""
    sizes, names = (10, 24, 24, 3), ("input", "first", "second", "output")
    populations = {
        name: Population(size, kind, dropout=0.0 if kind is last else dropout)
        for name, size, kind in zip(names, sizes, (None, neuron, neuron, last), strict=True)
    }
    generator = torch.Generator().manual_seed(1)
    projections = []
    for source, target, scale in zip(names, names[1:], (0.8, 0.4, 0.4), strict=False):
        shape = populations[source].size, populations[target].size
        weight = (torch.randn(shape, generator=generator) * 0.5 + scale).to(dtype)
        projections.append(Projection(source, target, weight, delay))
    return Network(populations, projections)


def drive(batch: int = 20) -> Events:
    generator = torch.Generator().manual_seed(2)
    times = [0.03 * torch.rand(25, generator=generator, dtype=torch.float64) for _ in range(batch)]
    return Events.from_lists(times, [torch.randint(10, (25,), generator=generator) for _ in range(batch)], 10)


def gradients(net: Network, record: Record) -> dict[Key, torch.Tensor]:
    """Of the times of all spikes, with the highest membranes of the last population where it does not spike."""
    loss = sum((1 + torch.sin(1e3 * e.time)).sum() for name, e in record.spikes.items() if name != "input")
    loss = loss + sum(10 * peak.value.square().sum() for peak in record.peak.values())
    assert isinstance(loss, torch.Tensor)
    sources = net.trainable()
    return dict(zip(sources, torch.autograd.grad(loss, list(sources.values())), strict=True))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Of which populations an adjoint was handed currents."""
    found: dict[str, bool] = {}
    current = Backward.current

    def told(self: Backward, name: str) -> Any:
        given = current(self, name)
        found[name] = given is not None
        return given

    monkeypatch.setattr(Backward, "current", told)
    return found


@pytest.mark.parametrize("last", [LI(0.02, 0.005), LIF(0.02, 0.005)], ids=["LI", "LIF"])
@pytest.mark.parametrize("family", NEURONS)
def test_gradients_are_the_same_but_for_rounding(
    family: str, last: LI | LIF, kept: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, given = network(NEURONS[family], last), drive()
    start = run(net, drive(), DURATION, observe=Observe(state=True)).state
    for begun, events in ((None, given), (start, given.later(DURATION))):
        observe = Observe(peak=("output",) if isinstance(last, LI) else ())
        record = run(net, events, DURATION, rule=EventProp(), observe=observe, start=begun)
        assert len(record.spikes["first"].time) > 500
        found = gradients(net, record)
        assert kept["first"]
        assert kept["second"]
        with monkeypatch.context() as patch:
            patch.setattr(Backward, "current", lambda *_: None)
            again = run(net, events, DURATION, rule=EventProp(), observe=observe, start=begun)
            expected = gradients(net, again)
        for key, value in expected.items():
            assert (found[key] - value).abs().max() <= 1e-4 * value.abs().max()  # what grazes magnifies rounding
            if family == "refractory" and isinstance(last, LI):  # currents are needed at releases, too
                assert torch.equal(found[key], value)


def test_what_needs_more_than_currents_at_spikes_sums_them_up_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained time constants and membranes do; thresholds, delays, times of the drive and dropout do not."""

    def found(kept: bool, wanted: str) -> list[torch.Tensor]:
        with monkeypatch.context() as patch:
            if not kept:
                patch.setattr(Backward, "current", lambda *_: None)
            numbers = {"tau_mem": 0.02, "threshold": 0.9, "delay": 1e-3}
            number = torch.nn.Parameter(torch.tensor(numbers.get(wanted, 1.0)))
            neuron = LIF(number if wanted == "tau_mem" else 0.02, 0.005, number if wanted == "threshold" else 1.0)
            delay, dropout = number if wanted == "delay" else 1e-3, 0.2 if wanted == "dropout" else 0.0
            net = network(neuron, LIF(0.02, 0.005), dropout=dropout, delay=delay)
            given = drive()
            if wanted == "time":
                given = Events(given.time.clone().requires_grad_(), given.unit, given.start, 10)
            torch.manual_seed(3)
            observe = Observe(membrane={"second": 1e-3} if wanted == "membrane" else {})
            record = run(net, given, DURATION, rule=EventProp(), observe=observe, training=True)
            loss = sum((1 + torch.sin(1e3 * record.spikes[name].time)).sum() for name in ("first", "second", "output"))
            loss = loss + sum(samples.value.square().sum() for samples in record.membrane.values())
            assert isinstance(loss, torch.Tensor)
            sources = [p for p in net.parameters() if p.requires_grad] + [given.time] * given.time.requires_grad
            return list(torch.autograd.grad(loss, sources))

    for wanted in ("tau_mem", "membrane", "threshold", "delay", "time", "dropout"):
        for one, other in zip(found(True, wanted), found(False, wanted), strict=True):
            assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_any_number_of_threads_gives_the_same(kept: dict[str, bool]) -> None:
    net, given, before = network(NEURONS["ratio 4"], LI(0.02, 0.005)), drive(200), torch.get_num_threads()
    ends = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        ends.append(gradients(net, run(net, given, DURATION, rule=EventProp(), observe=Observe(peak={"output"}))))
    torch.set_num_threads(before)
    assert kept["second"]
    for other in ends[1:]:
        assert all(torch.equal(value, other[key]) for key, value in ends[0].items())


def test_of_two_runs_of_a_trial_each_has_its_own() -> None:
    """And a record that was executed with other weights has none."""
    net, rule = network(NEURONS["ratio 4"], LIF(0.02, 0.005)), EventProp()
    trial = Trial(net, {"input": drive()}, DURATION)
    with torch.no_grad():
        one, other = (Ideal().run(trial) for _ in range(2))
    cotangent = Cotangent(time={"second": torch.ones_like(one.spikes["second"].time)}, wants=frozenset(net.trainable()))
    fresh = rule.vjp(Trial(net, {"input": drive()}, DURATION), one, cotangent)
    for record in (one, other):
        for key, value in rule.vjp(trial, record, cotangent).items():
            assert torch.allclose(value, fresh[key], atol=1e-4 * float(value.abs().max()))
    weights = {name: 1.3 * projection.weight.detach() for name, projection in net.projections.items()}
    executed = replace(one, executed=weights)
    expected = rule.vjp(Trial(net, {"input": drive()}, DURATION), executed, cotangent)
    assert all(torch.equal(value, expected[key]) for key, value in rule.vjp(trial, executed, cotangent).items())


def test_spikes_of_another_hand_have_none(kept: dict[str, bool]) -> None:
    net, given = network(NEURONS["ratio 4"], LIF(0.02, 0.005)), drive()
    other = network(NEURONS["ratio 4"], LIF(0.02, 0.005), torch.float64)
    for each in (net, other):
        gradients(each, run(each, given, DURATION, rule=EventProp()))
        assert kept == dict.fromkeys(("first", "second", "output"), each is net)
    loop = recurrent([10, 24, 3], LIF(0.02, 0.005))
    kept.clear()
    gradients(loop, run(loop, given, DURATION, rule=EventProp()))
    assert not kept.get("hidden")
