"""SuperSpike against its naive twin (autograd and finite differences), against EventProp where both are exact, and
observed membranes against replayed ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, Draw
from problems import MS, Problem
from stepped import Stepped
from torch import Tensor

from spikeloop import (
    LI,
    LIF,
    CannotObserve,
    EventProp,
    Events,
    Every,
    Experiment,
    Network,
    Observe,
    OutOfRange,
    Population,
    Projection,
    Record,
    Samples,
    SuperSpike,
    Trial,
    Unsupported,
    attach,
    feedforward,
    run,
)
from spikeloop.conformance import check_rule

DT, BETA = 1.1 * MS, 4.0


def problem(family: str, seed: int = 0, **options: object) -> Problem:
    made = FAMILIES[family](
        Draw(np.random.default_rng(seed), 4, 3, "wide", 0.2, duration=20 * MS, spikes=3.0, **options)
    )  # type: ignore[arg-type]
    return made


class Case:
    """A problem that was run for a rule, with a random loss of counts, samples and peaks of all populations."""

    def __init__(self, problem: Problem, rule: SuperSpike, seed: int = 0) -> None:
        self.problem, self.rule, self.network = problem, rule, problem.network(trainable=False)
        self.names = [name for name, group in problem.groups.items() if group.kind != "input"]
        samples = {name: Every(rule.dt) for name in self.names}
        self.record = run(
            self.network, problem.events(), problem.duration, rule=rule, observe=Observe(samples, set(self.names))
        )
        generator = torch.Generator().manual_seed(seed)

        def like(value: Tensor) -> Tensor:
            """Numbers that float32 holds, as counts are."""
            return torch.randn(value.shape, dtype=torch.float32, generator=generator).double()

        self.cotangent = {
            "count": {name: like(count) for name, count in self.record.count.items()},
            "membrane": {name: like(samples.value) for name, samples in self.record.membrane.items()},
            "peak": {name: like(peak.value) for name, peak in self.record.peak.items()},
        }

    def weights(self) -> dict[str, Tensor]:
        return {name: projection.weight for name, projection in self.network.projections.items()}

    def gradients(self) -> dict[str, Tensor]:
        loss = torch.zeros((), dtype=torch.float64)
        for name, value in self.cotangent["count"].items():
            loss = loss + (value * self.record.count[name]).sum()
        for kind in ("membrane", "peak"):
            for name, value in self.cotangent[kind].items():
                loss = loss + (value * getattr(self.record, kind)[name].value).sum()
        found = torch.autograd.grad(loss, list(self.weights().values()))
        return dict(zip(self.weights(), found, strict=True))

    def stepped(self, sample: int, base: Stepped | None = None) -> Stepped:
        duration, observed = self.problem.duration, None
        if not self.rule.replay:
            observed = {name: s.value.detach()[sample] for name, s in self.record.membrane.items()}
        trains = {
            name: [(float(t), int(u)) for t, u in zip(events[sample].time, events[sample].unit, strict=True)]
            for name, events in ((n, e.detach()) for n, e in self.record.spikes.items())
        }
        before = (
            None if base is None else {name: [v.detach() for v in values] for name, values in base.membrane.items()}
        )
        steps = math.ceil(duration / self.rule.dt)
        quantities = self.network.quantities()
        return Stepped(
            self.problem.layout(), quantities, trains, self.rule.dt, steps, self.rule.beta, 0.0, observed, before
        )

    def loss(self, twin: Stepped, sample: int) -> Tensor:
        """The same loss of the twin."""
        total = torch.zeros((), dtype=torch.float64)
        for name in self.names:
            if name in self.cotangent["count"]:
                total = total + (self.cotangent["count"][name][sample] * twin.count(name)).sum()
            samples, peak = self.record.membrane[name], self.record.peak[name]
            for unit in range(self.network.populations[name].size):
                for k, time in enumerate(samples.time.tolist()):
                    total = total + self.cotangent["membrane"][name][sample, k, unit] * twin.at(name, time, unit)
                time = float(peak.time[sample, unit])
                total = total + self.cotangent["peak"][name][sample, unit] * twin.at(name, time, unit)
        return total


def close(found: dict[str, Tensor], expected: dict[str, Tensor], bound: float) -> None:
    for name, gradient in expected.items():
        assert float(gradient.norm()) > 0, name
        assert float((found[name] - gradient).norm()) <= bound * float(gradient.norm()), name


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_autograd_through_time_steps_in_plain_torch(family: str, replayed: bool) -> None:
    case = Case(problem(family), SuperSpike(DT, BETA, replayed))
    total = sum((case.loss(case.stepped(b), b) for b in range(len(case.record))), torch.zeros((), dtype=torch.float64))
    expected = torch.autograd.grad(total, list(case.weights().values()))
    close(case.gradients(), dict(zip(case.weights(), expected, strict=True)), 1e-9)


def check_differences(case: Case) -> None:
    """Gradients by weights are central differences of the smoothed model."""
    found, step = case.gradients(), 1e-5
    with torch.no_grad():
        bases = [case.stepped(b) for b in range(len(case.record))]
        for name, weight in case.weights().items():
            direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
            ends = []
            for change in (step, -step):
                weight.add_(direction, alpha=change)
                ends.append(sum(float(case.loss(case.stepped(b, base), b)) for b, base in enumerate(bases)))
                weight.sub_(direction, alpha=change)
            difference = (ends[0] - ends[1]) / (2 * step)
            assert difference == pytest.approx(float((found[name] * direction).sum()), rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("family", ["two_layers", "everything"])
def test_finite_differences_of_the_smoothed_model(family: str, replayed: bool) -> None:
    check_differences(Case(problem(family, 1), SuperSpike(DT, BETA, replayed)))


@pytest.mark.parametrize("family", FAMILIES)
def test_observed_membranes_are_the_replayed_ones(family: str) -> None:
    """Two independent paths: the engine's samples, and the replay of its spikes; any state they start from, too."""
    given = replace(problem(family), duration=17.3 * MS)
    network, drive = given.network(trainable=False), given.events()
    state = run(network, drive, given.duration, observe=Observe(state=True)).state
    assert state is not None
    for start in (None, replace(state, time=0.0)):
        found = []
        for rule in (SuperSpike(0.7 * MS, BETA), SuperSpike(0.7 * MS, BETA, replay=True)):
            record = run(network, drive, given.duration, rule=rule, start=start)
            loss = sum((count.sum() for count in record.count.values()), torch.zeros((), dtype=torch.float64))
            names = [n for n, p in network.projections.items() if network.populations[p.target].spiking]
            weights = [network.projections[name].weight for name in names]
            found.append(dict(zip(names, torch.autograd.grad(loss, weights), strict=True)))
        close(found[0], found[1], 1e-9)


@pytest.mark.parametrize("family", ["readout", "everything"])
def test_weights_onto_a_readout_are_exact(family: str) -> None:
    """The readout is linear, and samples on the grid need no interpolation: then EventProp says the same."""
    given = problem(family)
    network, found = given.network(trainable=False), []
    for rule in (EventProp(), SuperSpike(DT)):
        record = run(network, given.events(), given.duration, rule=rule, observe=Observe({"readout": DT}))
        value = record.membrane["readout"].value
        loss = (value * torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(3))).sum()
        weights = {n: p.weight for n, p in network.projections.items() if p.target == "readout"}
        found.append(dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)))
    close(found[0], found[1], 1e-11)


def small(**lif: float | Tensor) -> tuple[Network, Events]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(4, 5, generator=generator).double() * 3, torch.rand(5, 2, generator=generator).double()]
    populations = {
        "input": Population(4),
        "hidden": Population(5, LIF(**{"tau_mem": 10 * MS, "tau_syn": 5 * MS, **lif})),
        "output": Population(2, LI(10 * MS, 5 * MS)),
    }
    links = [Projection("input", "hidden", weights[0]), Projection("hidden", "output", weights[1])]
    drive = Events.from_lists([[1 * MS, 3 * MS, 8 * MS], [2 * MS, 4 * MS]], [[0, 1, 2], [3, 0]], 4)
    return Network(populations, links), drive


def observed(network: Network, drive: Events, duration: float, times: Tensor) -> Record:
    """As a chip would: every sample of the batch has its own sampling times (B, T)."""
    parts = [run(network, drive[[b]], duration, observe=Observe({"hidden": times[b]})) for b in range(len(drive))]
    record = run(network, drive, duration)
    value = torch.cat([part.membrane["hidden"].value for part in parts])
    return replace(record, membrane={"hidden": Samples(times, torch.arange(5), value)})


def gradient_of_counts(network: Network, drive: Events, record: Record, rule: SuperSpike) -> Tensor:
    attached = attach(Trial(network, {"input": drive}, record.duration), record, rule)
    return torch.autograd.grad(attached.count["hidden"].sum(), network.projections["input_to_hidden"].weight)[0]


def test_a_phase_of_its_own_for_every_sample() -> None:
    """Samples 0.3 and 0.45 ms late are those of a drive that came so much earlier, but for a step more or less."""
    network, drive = small()
    dt, duration, rule = 1 * MS, 24 * MS, SuperSpike(1 * MS)
    phase = torch.tensor([0.3 * MS, 0.45 * MS], dtype=torch.float64)
    grid = torch.arange(23, dtype=torch.float64) * dt
    late = gradient_of_counts(network, drive, observed(network, drive, duration, phase[:, None] + grid), rule)
    moved = Events(drive.time - phase[drive.sample], drive.unit, drive.start, drive.size)
    record = observed(network, moved, duration - 1 * MS, grid.expand(2, -1).contiguous())
    early = gradient_of_counts(network, moved, record, rule)
    assert float((late - early).norm()) < 0.02 * float(early.norm())
    whole = gradient_of_counts(
        network, drive, observed(network, drive, duration, grid.expand(2, -1).contiguous()), rule
    )
    assert float((late - whole).norm()) > 0.05 * float(whole.norm())


def test_sparse_samples_are_kept_until_the_next() -> None:
    network, drive = small()
    times = torch.arange(12, dtype=torch.float64) * 2 * MS
    record = observed(network, drive, 24 * MS, times.expand(2, -1).contiguous())
    twice = record.membrane["hidden"]
    fine = Samples(
        torch.arange(24, dtype=torch.float64) * MS, twice.unit.flip(0), twice.value.repeat_interleave(2, 1).flip(2)
    )
    rule = SuperSpike(1 * MS)
    expected = gradient_of_counts(network, drive, replace(record, membrane={"hidden": fine}), rule)
    assert torch.allclose(gradient_of_counts(network, drive, record, rule), expected, rtol=1e-12)


def test_parts_of_a_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(problem("everything", batch=3), SuperSpike(DT))
    whole = case.gradients()
    monkeypatch.setattr("spikeloop.gradient.surrogate._ROOM", 1)
    close(Case(problem("everything", batch=3), SuperSpike(DT)).gradients(), whole, 1e-12)


def test_executed_weights_are_differentiated() -> None:
    network, drive = small()
    record = run(network, drive, 20 * MS, observe=Observe({"hidden": MS}))
    found = []
    for factor in (1.0, 2.0):
        executed = {"hidden_to_output": factor * network.projections["hidden_to_output"].weight.detach()}
        seen = run(network, drive, 20 * MS, observe=Observe({"hidden": MS, "output": MS}))
        attached = attach(Trial(network, {"input": drive}, 20 * MS), replace(seen, executed=executed), SuperSpike(MS))
        weight = network.projections["input_to_hidden"].weight
        found.append(torch.autograd.grad(attached.membrane["output"].value.sum(), weight)[0])
    assert len(record)
    assert torch.allclose(found[1], 2 * found[0], rtol=1e-12)


def test_silenced_neurons_get_no_gradient() -> None:
    network, drive = small()
    trial = Trial(network, {"input": drive}, 20 * MS, silent={"hidden": torch.tensor([[True] + [False] * 4] * 2)})
    record = run(network, drive, 20 * MS)
    gradient = torch.autograd.grad(
        attach(trial, record, SuperSpike(MS, replay=True)).count["hidden"].sum(),
        network.projections["input_to_hidden"].weight,
    )[0]
    assert not gradient[:, 0].any()
    assert gradient[:, 1:].any()


@pytest.mark.parametrize("rule", [SuperSpike(2 * MS), SuperSpike(1 * MS, beta=50.0, replay=True)])
def test_it_keeps_the_contracts_of_a_rule(rule: SuperSpike) -> None:
    check_rule(rule, tolerance=None, fields={"weight"})


def test_silence_is_legal_and_wakes_neurons() -> None:
    network, drive = small(threshold=1e3)
    for batch in (drive, drive[[]], Events.from_lists([[], []], [[], []], 4)):
        record = run(network, batch, 20 * MS, rule=SuperSpike(MS), observe=Observe(peak={"output"}))
        loss = record.count["hidden"].sum() + record.peak["output"].value.sum()
        weight = network.projections["input_to_hidden"].weight
        gradient = torch.autograd.grad(loss, weight)[0]
        assert bool(gradient.isfinite().all())
        assert bool(gradient.any()) == bool(len(batch.time))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((0.0,), "dt is 0.0"),
        ((-1.0,), "dt is -1"),
        ((math.nan,), "dt is nan"),
        ((MS, 0.0), "beta is 0"),
        ((MS, -2.0), "beta is -2"),
    ],
)
def test_impossible_parameters(arguments: tuple[float, ...], what: str) -> None:
    with pytest.raises(OutOfRange, match=what):
        SuperSpike(*arguments)


def test_a_step_longer_than_the_run() -> None:
    network, drive = small()
    record = run(network, drive, 20 * MS, rule=SuperSpike(30 * MS))
    with pytest.raises(OutOfRange, match=r"dt is 0.03 s. Expected: at most 0.02 s"):
        record.count["hidden"].sum().backward()


def test_what_it_cannot_differentiate_is_named() -> None:
    network, drive = small(tau_mem=torch.nn.Parameter(torch.tensor(10 * MS)))
    record = run(network, drive, 20 * MS, rule=SuperSpike(MS))
    with pytest.raises(Unsupported, match="hidden: SuperSpike has no gradient of tau_mem"):
        record.count["hidden"].sum().backward()
    with pytest.raises(Unsupported, match="cannot use a gradient of the time"):
        record.spikes["hidden"].time.sum().backward()


def test_membranes_that_were_not_observed() -> None:
    network, drive = small()
    record = run(network, drive, 20 * MS)
    with pytest.raises(CannotObserve, match="'hidden'.*not in the record.*replay=True"):
        gradient_of_counts(network, drive, record, SuperSpike(MS))
    assert gradient_of_counts(network, drive, record, SuperSpike(MS, replay=True)).any()


def test_too_many_delays() -> None:
    delay = torch.rand(40, 40, dtype=torch.float64) * MS
    populations = {"input": Population(40), "hidden": Population(40, LIF(10 * MS, 5 * MS))}
    network = Network(populations, [Projection("input", "hidden", torch.rand(40, 40), delay)])
    record = run(network, Events.from_lists([[MS]], [[0]], 40), 20 * MS, rule=SuperSpike(MS))
    with pytest.raises(Unsupported, match="input_to_hidden: 1600 different delays"):
        record.count["hidden"].sum().backward()


def test_it_learns_to_tell_two_inputs_apart() -> None:
    torch.manual_seed(0)
    lab = Experiment(
        feedforward([2, 10, 2], LIF(10 * MS, 5 * MS), readout=LI(10 * MS, 5 * MS)), 20 * MS, rule=SuperSpike(MS)
    )
    drive, label = Events.from_lists([[MS, 2 * MS], [MS, 2 * MS]], [[0, 0], [1, 1]], 2), torch.tensor([0, 1])
    optimizer = torch.optim.Adam(lab.parameters(), 3e-2)
    for _ in range(60):
        logits = 10 * lab(drive, observe=Observe(peak={"output"})).peak["output"].value
        loss = torch.nn.functional.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
