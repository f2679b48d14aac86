"""A step of `fit` that needs no graph of torch's, beside one by the graph; and what a training does not load."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from spikeloop import LI, LIF, EventProp, InvalidNetwork, Network, Observe, Population, Projection, SuperSpike, run
from spikeloop.data import YinYang
from spikeloop.training import FirstSpike, LiftSilent, MaxOverTime, Settings, fit
from spikeloop.training.step import Terms


def network(readout: LI | LIF, times: bool, size: int = 12) -> Network:
    """5-12-3 with some silent neurons and dropout; time constants and a delay are trained, too, if ``times``."""
    generator = torch.Generator().manual_seed(0)
    tau, delay = torch.full((size,), 0.02), torch.tensor(1e-3)
    hidden = LIF(torch.nn.Parameter(tau) if times else tau, 0.005)
    populations = {
        "input": Population(5),
        "hidden": Population(size, hidden, dropout=0.1),
        "output": Population(3, readout),
    }
    first = torch.rand(5, size, generator=generator) * torch.linspace(0.4, 8.0, size)
    second = 3 * torch.rand(size, 3, generator=generator)
    return Network(
        populations,
        [
            Projection("input", "hidden", first),
            Projection("hidden", "output", second, torch.nn.Parameter(delay) if times else delay),
        ],
    )


def trained(net: Network, settings: Settings, rule: EventProp | SuperSpike) -> tuple[list[torch.Tensor], list[dict]]:
    history = fit(net, YinYang("train", size=60), settings, epochs=2, rule=rule).history
    names = ("loss", "accuracy", "spikes_per_sample", "floored")
    told = [{name: line[name] or 0.0 for name in names} for line in history]
    return [parameter.detach() for parameter in net.parameters() if parameter.requires_grad], told


def by_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terms, "of", classmethod(lambda *_: None))


@pytest.mark.parametrize(
    ("readout", "rule"),
    [
        (FirstSpike(), EventProp()),
        (MaxOverTime(), EventProp()),
        (MaxOverTime(), EventProp(slope_floor=0.3)),
        (MaxOverTime(), SuperSpike(1e-3)),
    ],
)
@pytest.mark.parametrize("regulariser", [None, LiftSilent(minimum=0.7, strength=0.3)])
def test_a_step_without_a_graph_is_the_same_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, readout: FirstSpike | MaxOverTime, rule: EventProp | SuperSpike,
    regulariser: LiftSilent | None,
) -> None:  # fmt: skip
    neuron = LI(0.02, 0.005) if isinstance(readout, MaxOverTime) else LIF(0.02, 0.005)
    settings = Settings(
        duration=0.06, batch_size=20, learning_rate=1e-2, readout=readout, regulariser=regulariser, seed=1
    )
    assert Terms.of(readout, regulariser) is not None
    times = isinstance(rule, EventProp)
    found, told = trained(network(neuron, times), settings, rule)
    by_graph(monkeypatch)
    expected, expected_told = trained(network(neuron, times), settings, rule)
    assert len(found) == (4 if times else 2)
    assert 2 < told[0]["spikes_per_sample"] < 30
    start = [parameter for parameter in network(neuron, times).parameters() if parameter.requires_grad]
    assert not any(torch.equal(one, other) for one, other in zip(start, found, strict=True))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for line, other in zip(told, expected_told, strict=True):
        assert line == (pytest.approx(other) if regulariser else other)


def test_hooks_of_parameters_are_called_and_a_shared_weight_gets_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared() -> Network:
        weight = torch.nn.Parameter(torch.full((3, 3), 1.5))
        lif, readout = LIF(0.02, 0.005), LI(0.02, 0.005)
        populations = {name: Population(size, neuron) for name, size, neuron in
                       (("input", 5, None), ("a", 3, lif), ("b", 3, lif), ("output", 3, readout))}  # fmt: skip
        first, last = torch.full((5, 3), 1.5), torch.rand(3, 3, generator=torch.Generator().manual_seed(2))
        pairs = (("input", "a", first), ("a", "b", weight), ("a", "b", weight), ("b", "output", last))
        net = Network(populations, [Projection(*pair) for pair in pairs])
        net.projection("input", "a").weight.register_hook(lambda gradient: gradient.flip(0))
        return net

    settings = Settings(duration=0.06, batch_size=30, learning_rate=1e-2)
    found, _ = trained(shared(), settings, EventProp())
    by_graph(monkeypatch)
    expected, _ = trained(shared(), settings, EventProp())
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_a_readout_with_a_loss_of_its_own_is_trained_by_that_loss() -> None:
    class Doubled(MaxOverTime):
        def loss(self, record: object, label: torch.Tensor) -> torch.Tensor:
            return 2 * super().loss(record, label)  # type: ignore[arg-type]

    assert Terms.of(Doubled(), None) is None
    assert Terms.of(MaxOverTime(), lambda record: record) is None


def test_a_training_does_not_load_the_compiler_of_torch(tmp_path) -> None:
    """It takes a second; torch's own optimisers load it."""
    code = f"""
import sys
from spikeloop import LIF, feedforward
from spikeloop.data import YinYang
from spikeloop.training import Settings, fit
for resume in (False, True):
    fit(feedforward([5, 4, 3], LIF(0.02, 0.005)), YinYang("train", size=20), Settings(duration=0.05),
        validation=YinYang("validation", size=20), folder={str(tmp_path / "run")!r}, resume=resume)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]


def test_what_was_trained_is_what_runs() -> None:
    """Fused optimisers change time constants and delays without a trace in torch's counting of versions."""
    data = YinYang("train", size=60)
    net = network(LI(0.02, 0.005), times=True)
    fit(net, data, Settings(duration=0.06, batch_size=20, learning_rate=0.1), epochs=2)
    drive = data.batch(torch.arange(60))[0]
    for optimizer in (None, torch.optim.Adam(net.parameters(), 0.2, fused=True)):
        if optimizer is not None:
            run(net, drive, 0.06, rule=EventProp()).spikes["hidden"].time.sum().backward()
            optimizer.step()
        one, other = (run(each, drive, 0.06, observe=Observe(peak="output")) for each in (net, copy.deepcopy(net)))
        assert torch.equal(one.spikes["hidden"].time, other.spikes["hidden"].time)
        assert torch.equal(one.peak["output"].value, other.peak["output"].value)
    net.populations["hidden"].log_tau_mem.grad = torch.full((12,), math.nan)
    optimizer.step()
    with pytest.raises(InvalidNetwork, match="hidden"):
        run(net, drive, 0.06)


def test_memory_that_was_replaced_twice_is_seen() -> None:
    net, drive = network(LI(0.02, 0.005), times=True), YinYang("train", size=20).batch(torch.arange(20))[0]
    for _ in range(20):
        run(net, drive, 0.06)
        tau = net.populations["hidden"].log_tau_mem
        for factor in (0.7, 1.4):
            tau.data = tau.data * factor
        one, other = (run(each, drive, 0.06).spikes["hidden"].time for each in (net, copy.deepcopy(net)))
        assert torch.equal(one, other)


def test_a_weight_that_lies_transposed_in_memory_is_trained_alike() -> None:
    ends = []
    for lay in (torch.Tensor.contiguous, lambda weight: weight.t().contiguous().t()):
        # 12 would not do: torch's Adam rounds the last numbers of a tensor, which fill no vector, in another way
        net = network(LI(0.02, 0.005), times=False, size=16)
        for projection in net.projections.values():
            projection.weight.data = lay(projection.weight.data)
        found, _ = trained(net, Settings(duration=0.06, batch_size=20, learning_rate=1e-2), EventProp())
        ends.append(found)
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_nothing_changes_is_refused() -> None:
    settings = Settings(duration=0.06, batch_size=20)
    with pytest.raises(InvalidNetwork, match="an input"):
        trained(network(LI(0.02, 0.005), times=False), replace(settings, readout=FirstSpike("input")), EventProp())
    frozen = network(LI(0.02, 0.005), times=False).requires_grad_(False)
    frozen.another = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(InvalidNetwork, match="requires a gradient"):
        trained(frozen, settings, EventProp())
