"""Networks that take several runs of a chip: currents, rules and states, cut anywhere and continued bit for bit."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from chips import IDEAL

from spikeloop import (
    LIF,
    AdEx,
    Events,
    Ideal,
    Network,
    Observe,
    OnChip,
    Population,
    Projection,
    Steps,
    Twin,
    feedforward,
    run,
)
from spikeloop.chip.calibrate import nominal
from spikeloop.chip.calibrate_terms import TermsCalibration
from spikeloop.chip.split import split
from spikeloop.errors import DoesNotFit, ShapeMismatch, Unsupported
from spikeloop.plasticity import Correlation, Plastic, Plasticity, Program, request

NEURON = LIF(10e-3, 5e-3, refractory=2e-3)
TICK = 8e-6


@pytest.fixture(autouse=True)
def calibrations(monkeypatch):
    monkeypatch.setattr("spikeloop.chip.setup.calibrated", lambda chip, target, cache: nominal(chip, target))
    monkeypatch.setattr("spikeloop.chip.setup.calibrated_terms", lambda *_: TermsCalibration({}, {}))


def drive(size: int, batch: int = 2, count: int = 300, until: float = 40e-3) -> Events:
    random = torch.Generator().manual_seed(1)
    time = [
        (torch.rand(count, generator=random, dtype=torch.float64) * until / TICK).round() * TICK for _ in range(batch)
    ]
    return Events.from_lists(time, [torch.randint(0, size, (count,), generator=random) for _ in range(batch)], size)


def between(sent: Events, low: float, high: float, last: bool) -> Events:
    kept = [(s.time >= low) & ((s.time <= high) if last else (s.time < high)) for s in sent]
    some = [(s.time[keep], s.unit[keep]) for s, keep in zip(sent, kept, strict=True)]
    return Events.from_lists([time for time, _ in some], [unit for _, unit in some], sent.size)


def rule(view) -> None:
    view.weights += 0.5 * view.causal - 0.3 * view.anticausal + 0.05 * view.state.get("reward", 0.0)
    view.state["calls"] = view.state.get("calls", 0) + 1
    view.record("spikes", view.counts)


def layers(neuron=NEURON, learns: bool = False) -> Network:
    """300 hidden neurons of two circuits and 40 of four: three runs."""
    torch.manual_seed(0)
    plastic = Plasticity(rule, w_max=0.9, period=14e-3, sensor=Correlation(tau=5e-3)) if learns else None
    populations = {"input": Population(200), "hidden": Population(300, neuron), "output": Population(40, NEURON)}
    links = {
        "up": Projection("input", "hidden", 0.3 * torch.rand(200, 300)),
        "out": Projection("hidden", "output", 0.05 * torch.rand(300, 40)),
    }
    if learns:
        populations["gate"] = Population(8)
        links["gates"] = Projection("gate", "output", 0.2 * torch.rand(8, 40), plasticity=plastic)
    return Network(populations, links)


def in_pieces(net: Network, sent: dict, ends: list[float], wish: Observe, substrate: OnChip) -> list:
    state, parts = None, []
    for low, high in pairwise(ends):
        given = {n: between(each, low, high, high == ends[-1]) if n in net.inputs else each for n, each in sent.items()}
        parts.append(run(net, given, high - low, substrate=substrate, observe=wish, start=state, number=3))
        state = parts[-1].state
    return parts


KINDS = {
    "LIF": NEURON,
    "adaptive": AdEx(10e-3, 5e-3, refractory=2e-3, a=0.2, b=0.1, tau_adaptation=50e-3),
}


@pytest.mark.parametrize("chip", [IDEAL, Twin(7)], ids=["ideal", "7"])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_are_cut_at_any_time_are_the_whole(kind: str, chip: Twin) -> None:
    net, substrate = layers(KINDS[kind]), OnChip(chip)
    assert [set(part.first) for part in split(net, 1)] == [{"hidden"}, {"hidden"}, {"output"}]
    current = Steps([3e-3, 21e-3], torch.linspace(0.2, 0.6, 300).expand(2, 300) * torch.tensor([[1.0], [-1.0]]))
    sent = {"input": drive(200), "hidden": current}
    wish = Observe(membrane={"output": 2e-3}, state=True)
    whole = run(net, sent, 45e-3, substrate=substrate, observe=wish, number=3)
    assert len(whole.spikes["hidden"].time) > 300
    assert len(whole.spikes["output"].time) > 20
    cuts = np.sort(np.random.default_rng(0).uniform(1e-3, 44e-3, 2)).tolist()
    pieces = in_pieces(net, sent, [0.0, *cuts, 45e-3], wish, substrate)
    for name in ("hidden", "output"):
        for b in range(2):
            assert torch.equal(whole.spikes[name][b].time, torch.cat([p.spikes[name][b].time for p in pieces]))
            assert torch.equal(whole.spikes[name][b].unit, torch.cat([p.spikes[name][b].unit for p in pieces]))
    seen = torch.cat([p.membrane["output"].value for p in pieces], 1)
    assert torch.equal(whole.membrane["output"].value, seen)


def test_in_parts_it_is_the_ideal_network_up_to_codes() -> None:
    net = layers(KINDS["adaptive"])
    sent = {"input": drive(200), "hidden": Steps([3e-3], torch.full((1, 300), 0.4))}
    one, other = (run(net, sent, 45e-3, substrate=substrate) for substrate in (OnChip(IDEAL), Ideal()))
    for name in ("hidden", "output"):
        counts = [len(record.spikes[name].time) for record in (one, other)]
        assert counts[1] > 40
        assert abs(counts[0] / counts[1] - 1) < 0.1


def test_a_rule_in_one_part_learns_and_goes_on() -> None:
    net, substrate = layers(learns=True), OnChip(IDEAL)
    sent = {"input": drive(200), "gate": drive(8)}
    wish = Observe(state=True, history={"gates"})
    whole = run(net, sent, 45e-3, substrate=substrate, observe=wish, number=3)
    assert whole.weights["gates"].shape == (2, 8, 40)
    assert whole.history["gates"].value.shape == (3, 2, 8, 40)
    assert (whole.weights["gates"][0] - net.projections["gates"].weight.detach()).abs().max() > 0.05
    pieces = in_pieces(net, sent, [0.0, 13.3e-3, 28e-3, 45e-3], wish, substrate)
    assert torch.equal(whole.weights["gates"], pieces[-1].weights["gates"])
    assert torch.equal(whole.history["gates"].value, torch.cat([p.history["gates"].value for p in pieces]))
    calls = torch.cat([p.recorded["gates"]["spikes"].value for p in pieces if p.recorded["gates"]])
    assert torch.equal(whole.recorded["gates"]["spikes"].value, calls)
    for b in range(2):
        times = torch.cat([p.spikes["output"][b].time for p in pieces])
        assert torch.equal(whole.spikes["output"][b].time, times)


def test_the_host_speaks_to_a_rule_in_one_part() -> None:
    net, substrate = layers(learns=True), OnChip(IDEAL)
    wish = Observe(state=True)
    first = run(net, {"input": drive(200), "gate": drive(8)}, 50e-3, substrate=substrate, observe=wish, number=3)
    nothing = {name: Events.from_lists([[], []], [[], []], net.populations[name].size) for name in net.inputs}
    start = request(first.state, "gates", reward=1.0)
    after = run(net, nothing, 5e-3, substrate=substrate, observe=wish, start=start)
    gained = after.weights["gates"] - first.weights["gates"]
    assert gained.mean() > 0.02


def test_what_parts_cannot_do_is_said() -> None:
    net, substrate = layers(), OnChip(IDEAL)
    state = run(net, {"input": drive(200)}, 45e-3, substrate=substrate, observe=Observe(state=True)).state
    one = Events.from_lists([[]], [[]], 200)
    with pytest.raises(ShapeMismatch, match="the state is of 2 samples"):
        run(net, {"input": one}, 1e-3, substrate=substrate, start=state)
    small = feedforward([20, 5, 3], NEURON)
    sent = Events.from_lists([[]] * 2, [[]] * 2, 20)
    other = run(small, sent, 1e-3, substrate=substrate, observe=Observe(state=True)).state
    both = Events.from_lists([[]] * 2, [[]] * 2, 200)
    with pytest.raises(Unsupported, match="a network in 3 parts cannot continue from a state of another place"):
        run(net, {"input": both}, 1e-3, substrate=substrate, start=other)
    with pytest.raises(Unsupported, match="a chip cannot continue from a state of another place"):
        run(small, sent, 1e-3, substrate=substrate, start=state)


def test_a_rule_whose_projections_do_not_fit_on_one_chip_is_named() -> None:
    torch.manual_seed(0)
    populations = {"input": Population(200), "hidden": Population(300, NEURON), "output": Population(40, NEURON)}
    links = {
        "up": Projection("input", "hidden", 0.3 * torch.rand(200, 300)),
        "out": Projection("hidden", "output", 0.1 * torch.rand(300, 40)),
    }
    plastic = {name: Plastic(0.9, sensor=None) for name in links}
    net = Network(populations, links, {"both": Program(rule, plastic, period=5e-3)})
    with pytest.raises(DoesNotFit, match="the rule 'both' sees all its weights, so it has to run on one chip at once"):
        run(net, {"input": drive(200)}, 50e-3, substrate=OnChip(IDEAL))
