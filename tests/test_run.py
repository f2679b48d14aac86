"""The doorway, with a substrate and a rule whose every number is known in closed form."""

import copy
import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from spikeloop import (
    LIF,
    AdEx,
    Cotangent,
    Events,
    Ideal,
    Network,
    Observe,
    Peak,
    Population,
    Projection,
    Record,
    Samples,
    Trial,
)
from spikeloop._attach import attach
from spikeloop._run import Experiment, run
from spikeloop.errors import (
    CannotObserve,
    InvalidEvents,
    InvalidNetwork,
    NoRule,
    OutOfRange,
    ShapeMismatch,
    SpikeloopWarning,
    UnknownPopulation,
    Unsupported,
)
from spikeloop.protocols import NOTHING, Gradients, Rule, State, Substrate

DURATION = 60e-3


def network(dropout=(0.0, 0.0)):
    tau = nn.Parameter(torch.tensor(20e-3, dtype=torch.float64))
    weight = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    return Network(
        {"input": Population(2, dropout=dropout[0]), "output": Population(3, LIF(tau, 5e-3), dropout=dropout[1])},
        [Projection("input", "output", weight)],
    )


def drive():
    return Events.from_lists([[1e-3, 2e-3], [3e-3], []], [[0, 1], [1], []], size=2)


def closed_form(weight, tau_mem, events):
    """Every sample: unit n spikes once at tau_mem + W[0, n] ms + 0.1 * (sum of the drive's times)."""
    batch = len(events)
    summed = torch.zeros(batch, dtype=torch.float64).index_add(0, events.sample, events.time)
    time = tau_mem + 1e-3 * weight[0] + 0.1 * summed[:, None]
    return {
        "time": time.flatten(),
        "count": weight.sum(0).expand(batch, 3),
        "membrane": weight.sum(0) * torch.ones(batch, 4, 1, dtype=torch.float64),
        "peak": weight.prod(0).expand(batch, 3),
    }


@dataclass
class Fake:
    """A substrate that answers the closed form."""

    trials: list[Trial] = field(default_factory=list)

    def offers(self, network: Network) -> Observe:
        return Observe(membrane={"output": 0.0}, peak={"output"})

    def run(self, trial: Trial) -> Record:
        self.trials.append(trial)
        net, events = trial.network, trial.drive["input"]
        values = closed_form(net.projection("input", "output").weight, net.populations["output"].tau_mem, events)
        batch, time = len(events), torch.arange(4, dtype=torch.float64)
        unit = torch.arange(3, dtype=torch.int32).repeat(batch)
        spikes = Events._trusted(values["time"], unit, torch.arange(batch + 1) * 3, 3)
        return Record(
            {"input": events, "output": spikes},
            trial.duration,
            {"output": values["count"]},
            {name: Samples(time, torch.arange(3), values["membrane"]) for name in trial.observe.membrane},
            {name: Peak(torch.zeros(batch, 3), values["peak"]) for name in trial.observe.peak},
        )


@dataclass
class Twice:
    """A rule that differentiates the closed form, and doubles the result so that one can tell who did it."""

    accepts: frozenset[str] = frozenset({"time", "count", "membrane", "peak"})
    wish: Observe = NOTHING
    asked: list[Cotangent] = field(default_factory=list)

    def needs(self, network: Network) -> Observe:
        return self.wish

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        self.asked.append(cotangent)
        with torch.enable_grad():
            events = trial.drive["input"].detach()
            events.time.requires_grad_()
            quantities = {**trial.network.quantities(), ("input", "time"): events.time}
            values = closed_form(quantities["input_to_output", "weight"], quantities["output", "tau_mem"], events)
            given = {kind: getattr(cotangent, kind).get("output") for kind in values}
            total = sum((values[kind] * value).sum() for kind, value in given.items() if value is not None)
            wants = sorted(cotangent.wants)
            found = torch.autograd.grad(2 * total, [quantities[key] for key in wants], allow_unused=True)
        return {key: value for key, value in zip(wants, found, strict=True) if value is not None}


def expected_gradients(net, events, loss):
    """Twice what torch finds through the closed form itself: weight, log_tau_mem, drive times."""
    twin = copy.deepcopy(net)
    events = events.detach()
    events.time.requires_grad_()
    weight, population = twin.projection("input", "output").weight, twin.populations["output"]
    values = closed_form(weight, population.tau_mem, events)
    (2 * loss(values)).backward()
    return weight.grad, population.log_tau_mem.grad, events.time.grad


EVERYTHING = Observe(membrane={"output": 1e-3}, peak={"output"})


def test_gradients_flow_to_everything_that_is_trainable():
    net, events = network(), drive()
    events.time.requires_grad_()
    coefficient = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    record = run(net, events, DURATION, substrate=Fake(), rule=Twice(), observe=EVERYTHING)
    mixed = (record.spikes["output"].time * coefficient).sum() + record.count["output"][0].square().sum()
    mixed = mixed + record.membrane["output"].value.sin().sum() + record.peak["output"].value.log().sum()
    mixed.backward()

    def loss(values):
        total = (values["time"] * coefficient).sum() + values["count"][0].square().sum()
        return total + values["membrane"].sin().sum() + values["peak"].log().sum()

    found = net.projection("input", "output").weight.grad, net.populations["output"].log_tau_mem.grad, events.time.grad
    for gradient, expected in zip(found, expected_gradients(net, drive(), loss), strict=True):
        assert torch.allclose(gradient, expected, rtol=1e-12)


def test_a_loss_that_only_sees_events_reaches_the_count():
    net = network()
    record = run(net, drive(), DURATION, substrate=Fake(), rule=Twice())
    assert record.spikes["output"].count is record.count["output"]
    record.spikes["output"].count.sum().backward()
    assert net.projection("input", "output").weight.grad.tolist() == [[6.0] * 3] * 2


def test_only_what_is_wanted_is_asked_for():
    net, rule = network(), Twice()
    net.populations["output"].log_tau_mem.requires_grad_(False)
    run(net, drive(), DURATION, substrate=Fake(), rule=rule).spikes["output"].time.sum().backward()
    assert rule.asked[0].wants == {("input_to_output", "weight")}
    assert set(rule.asked[0].time) == {"output"}
    assert not rule.asked[0].count


def test_inputs_appear_as_the_drive_itself():
    events = drive()
    events.time.requires_grad_()
    record = run(network(), events, DURATION, substrate=Fake(), rule=Twice())
    assert record.spikes["input"] is events
    assert record.spikes["input"].count.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_no_graph_where_none_is_wanted():
    net = network()
    with torch.no_grad():
        assert not run(net, drive(), DURATION, substrate=Fake(), rule=Twice()).spikes["output"].time.requires_grad
    record = run(net.requires_grad_(False), drive(), DURATION, substrate=Fake(), rule=Twice())
    assert not record.spikes["output"].time.requires_grad
    assert not record.count["output"].requires_grad


def test_backward_without_a_rule_says_what_to_do():
    record = run(network(), drive(), DURATION, substrate=Fake())
    assert record.spikes["output"].time.requires_grad
    with pytest.raises(NoRule, match=r"rule=EventProp\(\)"):
        record.spikes["output"].time.sum().backward()


def test_a_stored_record_is_differentiated_later():
    net, place = network(), Fake()
    with torch.no_grad():
        stored = run(net, drive(), DURATION, substrate=place)
    attach(place.trials[0], stored, Twice()).spikes["output"].time.sum().backward()
    assert net.projection("input", "output").weight.grad[0].tolist() == pytest.approx([6e-3] * 3)
    assert not stored.spikes["output"].time.requires_grad


def test_backward_twice_over_one_graph_and_double_backward():
    net = network()
    record = run(net, drive(), DURATION, substrate=Fake(), rule=Twice())
    loss = record.spikes["output"].time.sum()
    loss.backward(retain_graph=True)
    once = net.projection("input", "output").weight.grad.clone()
    loss.backward()
    assert torch.equal(net.projection("input", "output").weight.grad, 2 * once)
    again = run(net, drive(), DURATION, substrate=Fake(), rule=Twice()).spikes["output"].time.sum()
    with pytest.raises(Unsupported, match="twice"):
        torch.autograd.grad(again, list(net.parameters()), create_graph=True)


def test_a_change_in_place_before_backward_is_noticed():
    net = network()
    record = run(net, drive(), DURATION, substrate=Fake(), rule=Twice())
    with torch.no_grad():
        net.populations["output"].log_tau_mem += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        record.spikes["output"].time.sum().backward()


def test_a_cotangent_the_rule_cannot_use_is_an_error_unless_it_is_zero():
    rule = Twice(accepts=frozenset({"time"}))
    record = run(network(), drive(), DURATION, substrate=Fake(), rule=rule)
    (record.spikes["output"].time.sum() + 0 * record.count["output"].sum()).backward()
    record = run(network(), drive(), DURATION, substrate=Fake(), rule=rule)
    with pytest.raises(Unsupported, match="population 'output': Twice cannot use a gradient of the count"):
        record.count["output"].sum().backward()


def test_the_substrate_observes_what_the_user_and_the_rule_want():
    place = Fake()
    rule = Twice(wish=Observe(membrane={"output": 1e-3}))
    record = run(network(), drive(), DURATION, substrate=place, rule=rule, observe=Observe(peak={"output"}))
    assert set(record.membrane) == set(record.peak) == {"output"}
    assert place.trials[0].observe.covers(rule.wish)
    with pytest.raises(CannotObserve, match="state cannot be observed"):
        run(network(), drive(), DURATION, substrate=place, observe=Observe(state=True))
    with pytest.raises(UnknownPopulation, match="nowhere"):
        run(network(), drive(), DURATION, substrate=place, observe=Observe(peak={"nowhere"}))


@dataclass(frozen=True)
class Meddler:
    """Runs with other numbers than the network has, and puts them back."""

    meddle: object

    def offers(self, network):
        return Ideal().offers(network)

    def run(self, trial):
        undo = self.meddle(trial.network)
        try:
            return Ideal().run(trial)
        finally:
            undo()


def test_a_substrate_may_change_the_network_before_it_runs_it():
    def thresholds(net):
        threshold = net.populations["output"].threshold
        before = threshold.clone()
        threshold.fill_(100.0)
        return lambda: threshold.copy_(before)

    def weights(net):
        projection, before = net.projections["input_to_output"], net.projections["input_to_output"].weight
        projection.weight = nn.Parameter(torch.zeros_like(before))
        return lambda: setattr(projection, "weight", before)

    for meddle in (thresholds, weights):
        net = network()
        with torch.no_grad():
            net.projections["input_to_output"].weight.mul_(10)
            for _ in range(2):
                assert not len(run(net, drive(), DURATION, substrate=Meddler(meddle)).spikes["output"].time)
                assert len(run(net, drive(), DURATION).spikes["output"].time)


def test_offers_are_of_the_network_as_it_is():
    net = network()
    assert "output" not in Ideal().offers(net).adaptation
    net.populations["output"] = Population(3, AdEx(20e-3, 5e-3))
    assert "output" in Ideal().offers(net).adaptation


@pytest.mark.parametrize("steady", [True, False])
def test_a_steady_substrate_is_asked_what_it_offers_once(steady: bool):
    """Until the network, or what is asked, or who is asked, is another one."""

    class Asked(Fake):
        times = 0

        def offers(self, network: Network) -> Observe:
            self.times += 1
            return super().offers(network)

    place, other, net, wish = Asked(), Asked(), network(), Observe(peak={"output"})
    if steady:
        Asked.steady = True  # type: ignore[attr-defined]

    def asked(of: Asked, observe: Observe) -> int:
        before = of.times
        run(net, drive(), DURATION, substrate=of, observe=observe)
        return of.times - before

    again = 0 if steady else 1
    assert [asked(place, wish), asked(place, wish)] == [1, again]
    assert [asked(place, Observe(peak={"output"})), asked(place, Observe(membrane={"output": 1e-3}))] == [1, 1]
    assert [asked(place, wish), asked(other, wish), asked(other, wish)] == [1, 1, again]
    net.populations["output"] = Population(3, LIF(30e-3, 5e-3))
    assert [asked(other, wish), asked(other, wish)] == [1, again]


def test_what_is_asked_for_is_passed_on():
    rest = {"output": torch.zeros(3, 3)}
    place, start = Fake(), State(rest, rest, rest)
    run(network(), drive(), DURATION, substrate=place, start=start, number=4)
    trial = place.trials[0]
    assert (trial.start, trial.number, trial.training, trial.duration) == (start, 4, False, DURATION)
    with pytest.raises(ShapeMismatch, match=r"start, current of population 'output'.*\(3, 3\)"):
        run(network(), drive(), DURATION, substrate=place, start=State(rest, {"output": torch.zeros(2, 3)}, rest))


@pytest.mark.parametrize(
    ("given", "error", "what"),
    [
        ({"input": drive(), "other": drive()}, UnknownPopulation, "'input', 'other'.*exactly.*'input'"),
        ({}, UnknownPopulation, "nothing"),
        (Events.from_lists([[1e-3]], [[0]], size=3), ShapeMismatch, "of 3 units.*2"),
        (Events.from_lists([[10.0], [20.0]], [[0], [1]], size=2), InvalidEvents, "scale=1e-3 reads ms"),
        (drive().to("meta"), Unsupported, r"on meta.*to\(.cpu.\)"),
    ],
)
def test_drives_that_do_not_fit(given, error, what):
    with pytest.raises(error, match=what):
        run(network(), given, DURATION, substrate=Fake())


def test_events_after_the_end_are_warned_of():
    events = Events.from_lists([[1e-3, 0.1]], [[0, 1]], size=2)
    with pytest.warns(SpikeloopWarning, match="1 of 2 events"):
        run(network(), events, DURATION, substrate=Fake())


def test_two_inputs_want_a_mapping_of_equal_batches():
    net = Network(
        {"a": Population(2), "b": Population(2), "output": Population(3, LIF(10e-3, 5e-3))},
        [Projection("a", "output", torch.ones(2, 3)), Projection("b", "output", torch.ones(2, 3))],
    )
    with pytest.raises(UnknownPopulation, match=r"the network has 2.*a, b"):
        run(net, drive(), DURATION, substrate=Fake())
    with pytest.raises(ShapeMismatch, match=r"drive 'b': 2 samples.*3"):
        run(net, {"a": drive(), "b": drive()[:2]}, DURATION, substrate=Fake())


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf])
def test_impossible_durations(duration):
    with pytest.raises(OutOfRange, match="duration"):
        run(network(), drive(), duration, substrate=Fake())


def test_a_broken_network_is_named_before_it_runs():
    net = network()
    with torch.no_grad():
        net.projection("input", "output").weight[0, 0] = torch.nan
    with pytest.raises(InvalidNetwork, match=r"input_to_output.*NaN"):
        run(net, drive(), DURATION, substrate=Fake())


def test_an_empty_batch_is_legal():
    net = network()
    record = run(net, drive()[:0], DURATION, substrate=Fake(), rule=Twice())
    assert record.count["output"].shape == (0, 3)
    record.spikes["output"].time.sum().backward()
    assert net.projection("input", "output").weight.grad.tolist() == [[0.0] * 3] * 2


def test_dropout_removes_units_of_a_sample_while_training():
    torch.manual_seed(0)
    batch, units = 200, 2
    times = [[1e-3, 2e-3, 3e-3, 4e-3]] * batch
    events = Events.from_lists(times, [[0, 1, 0, 1]] * batch, size=units)
    events.time.requires_grad_()
    net, place = network(dropout=(0.25, 0.5)), Fake()
    record = run(net, events, DURATION, substrate=place, rule=Twice(), training=True)
    left = record.spikes["input"]
    assert set(left.count.unique().tolist()) == {0.0, 2.0}
    assert float((left.count == 0).double().mean()) == pytest.approx(0.25, abs=0.06)
    assert float(place.trials[0].silent["output"].double().mean()) == pytest.approx(0.5, abs=0.08)
    record.spikes["output"].time.sum().backward()
    assert int((events.time.grad != 0).sum()) == len(left.time)
    kept = run(net, events, DURATION, substrate=place, rule=Twice())
    assert kept.spikes["input"] is events
    assert not place.trials[1].silent
    for same in (events, events.detach()):
        torch.manual_seed(0)
        again = run(net, same, DURATION, substrate=place, training=True).spikes["input"]
        for one, other in ((again.time, left.time), (again.unit, left.unit), (again.start, left.start)):
            assert torch.equal(one, other)
            assert one.dtype == other.dtype


def test_an_experiment_is_a_module_around_run():
    torch.manual_seed(0)
    net, place = network(dropout=(0.5, 0.0)), Fake()
    lab = Experiment(net, DURATION, place, Twice(), Observe(peak={"output"}))
    assert [name for name, _ in lab.named_parameters()] == [f"network.{name}" for name, _ in net.named_parameters()]
    assert set(lab.state_dict()) == {f"network.{name}" for name in net.state_dict()}
    lab(drive()).peak["output"].value.sum().backward()
    assert net.projection("input", "output").weight.grad is not None
    lab.eval()
    assert lab(drive(), number=2).spikes["input"].count.sum() == 3
    assert [trial.training for trial in place.trials] == [True, False]
    assert place.trials[1].number == 2
    assert set(lab(drive(), observe=Observe(membrane={"output": 1e-3})).membrane) == {"output"}
    assert "duration 60 ms" in repr(lab)


def test_the_doubles_satisfy_the_protocols():
    assert isinstance(Fake(), Substrate)
    assert isinstance(Twice(), Rule)


def test_the_warning_of_late_events_points_at_the_users_line():
    late = Events.from_lists([[0.01, 1.0]], [[0, 0]], 1)
    net = Network(
        {"input": Population(1), "out": Population(1, LIF(20e-3, 5e-3))}, [Projection("input", "out", torch.ones(1, 1))]
    )
    for call in (lambda: run(net, late, DURATION), lambda: Experiment(net, DURATION)(late)):
        with pytest.warns(SpikeloopWarning, match="1 of 2") as caught:
            call()
        assert caught[0].filename == __file__
