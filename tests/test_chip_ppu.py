"""Plasticity on the twin: kernels in integers do what they do in floating point, and what they may not do is said."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from chips import IDEAL, by_the_laws, ready
from scripts import benchmark

from spikeloop import LIF, Events, Ideal, Network, Observe, OnChip, Population, Projection, run
from spikeloop.chip import ppu
from spikeloop.chip.fractional import Lanes
from spikeloop.chip.twin import Twin
from spikeloop.errors import DoesNotFit, InvalidNetwork, OutOfRange, RuleFailed, ShapeMismatch, Unsupported, WrongType
from spikeloop.plasticity import Correlation, Plasticity, request
from spikeloop.plasticity.rules import AdditiveSTDP, Homeostasis, MultiplicativeSTDP, Rewiring

TICK, NAME = 8e-6, "input_to_hidden"
SENSOR = Correlation(5e-3, 1 / 128)
CODE = 1.357 / 63
"""Model weight of a code."""


def network(kernel, sources: int = 10, size: int = 8, start: float = 0.4, **options) -> Network:
    plasticity = Plasticity(kernel, **{"w_max": 0.8, "period": 20e-3, "sensor": SENSOR, **options})
    weight = torch.full((sources, size), start)
    return Network(
        {"input": Population(sources), "hidden": Population(size, LIF(10e-3, 5e-3, refractory=2e-3))},
        [Projection("input", "hidden", weight, plasticity=plasticity)],
    )


def drive(sources: int = 10, batch: int = 2, count: int = 300, until: float = 100e-3, seed: int = 1) -> Events:
    random = torch.Generator().manual_seed(seed)
    time = [
        (torch.rand(count, generator=random, dtype=torch.float64) * until / TICK).round() * TICK for _ in range(batch)
    ]
    return Events.from_lists(
        time, [torch.randint(0, sources, (count,), generator=random) for _ in range(batch)], sources
    )


def between(events: Events, low: float, high: float, last: bool) -> Events:
    kept = [(s.time >= low) & ((s.time <= high) if last else (s.time < high)) for s in events]
    parts = [(s.time[keep], s.unit[keep]) for s, keep in zip(events, kept, strict=True)]
    return Events.from_lists([time for time, _ in parts], [unit for _, unit in parts], events.size)


def test_an_ideal_chip_learns_what_the_ideal_substrate_does() -> None:
    """Weights after each call, to a code or two: they are whole, and rounded at random."""
    torch.manual_seed(0)
    net = network(AdditiveSTDP(10.0, 5.0))
    wish = Observe(history={NAME})
    chip = run(net, drive(), 100e-3, substrate=ready(net), observe=wish, number=1)
    ideal = run(net, drive(), 100e-3, substrate=Ideal(), observe=wish)
    grown = [record.history[NAME].value[0] - record.history[NAME].value.new_tensor(start) for record, start in
             ((chip, chip.executed[NAME].tolist()), (ideal, 0.4))]  # fmt: skip
    first, code = grown[0] - grown[1], CODE
    assert first.abs().max() < 5 * code  # a step of a reading is 10 / 128 of w_max, 2.9 codes
    assert abs(float(first.mean())) < 0.25 * code
    np.testing.assert_allclose(chip.history[NAME].time, ideal.history[NAME].time, rtol=1e-9)
    assert chip.weights[NAME].shape == (2, 10, 8)
    assert np.corrcoef(grown[0].flatten(), grown[1].flatten())[0, 1] > 0.7


@pytest.mark.parametrize("rule", [AdditiveSTDP(), MultiplicativeSTDP(), Homeostasis(4)], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("chip", [IDEAL, Twin(7)], ids=["ideal", "7"])
def test_a_cut_changes_nothing(rule, chip: Twin) -> None:
    torch.manual_seed(0)
    net = network(rule)
    substrate, sent = ready(net, chip), drive()
    wish = Observe(state=True, history={NAME})
    whole = run(net, sent, 100e-3, substrate=substrate, observe=wish, number=1)
    state, parts = None, []
    for low, high in pairwise((0.0, 33.3e-3, 40e-3, 77.7e-3, 100e-3)):
        part = between(sent, low, high, high == 100e-3)
        parts.append(run(net, part, high - low, substrate=substrate, observe=wish, start=state, number=1))
        state = parts[-1].state
    assert torch.equal(whole.weights[NAME], parts[-1].weights[NAME])
    assert torch.equal(
        whole.history[NAME].value, torch.cat([p.history[NAME].value for p in parts if len(p.history[NAME].time)])
    )
    for b in range(2):
        times = torch.cat([part.spikes["hidden"][b].time for part in parts])
        assert torch.equal(whole.spikes["hidden"][b].time, times)


@pytest.mark.parametrize("cut", [1375.2, 1375.65, 1376.1, 2751.1, 2751.3])
def test_a_cut_beside_a_call_between_two_cycles_changes_nothing(cut: float) -> None:
    """Calls are at 1375.6 cycles, at 2751.2, ...: a call and the end of a run are in the cycles that they lie in."""
    torch.manual_seed(0)
    net = network(AdditiveSTDP(), period=1375.6 * TICK)
    substrate, sent, end = ready(net, Twin(7)), drive(until=40e-3), 5000 * TICK
    wish = Observe(state=True, history={NAME})
    whole = run(net, sent, end, substrate=substrate, observe=wish, number=1)
    first = run(net, between(sent, 0.0, cut * TICK, False), cut * TICK, substrate=substrate, observe=wish, number=1)
    other = run(net, between(sent, cut * TICK, end, True), end - cut * TICK, substrate=substrate, observe=wish,
                start=first.state)  # fmt: skip
    times = torch.cat([part.history[NAME].time for part in (first, other)])
    assert torch.equal(whole.history[NAME].time, times)
    assert len(times) == 3
    assert torch.equal(whole.weights[NAME], other.weights[NAME])


def test_the_same_number_is_the_same_run_and_samples_learn_for_themselves() -> None:
    torch.manual_seed(0)
    net = network(AdditiveSTDP())
    substrate = ready(net, Twin(7))
    one, other, third = (run(net, drive(), 100e-3, substrate=substrate, number=n).weights[NAME] for n in (1, 1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert not torch.equal(one[0], one[1])


def test_homeostasis_brings_rates_together() -> None:
    torch.manual_seed(0)
    net = network(Homeostasis(4, step=1 / 64), start=0.2, period=20e-3, sensor=None)
    record = run(net, drive(batch=1, count=6000, until=2.0), 2.0, substrate=ready(net, Twin(7)), number=1)
    late = torch.bincount(record.spikes["hidden"].unit[record.spikes["hidden"].time > 1.5], minlength=8) / 25
    alive = late > 0
    assert alive.sum() >= 7
    assert (late[alive] - 4).abs().max() < 1.5


def test_the_host_can_speak_to_a_kernel_and_ask_for_a_call() -> None:
    def kernel(view) -> None:
        view.weights += view.state["reward"] * view.causal
        view.state["calls"] = view.state.get("calls", 0) + 1
        view.record("reward", np.array(view.state["reward"]))

    net = network(kernel, period=None, state={"reward": 0.0})
    substrate, sent = ready(net), drive()
    first = run(net, between(sent, 0, 50e-3, False), 50e-3, substrate=substrate, observe=Observe(state=True), number=1)
    assert torch.equal(first.weights[NAME][0], first.weights[NAME][1])
    asked = request(first.state, NAME, reward=np.array([0.0, 1.0]))
    second = run(net, between(sent, 50e-3, 100e-3, True), 50e-3, substrate=substrate, start=asked, number=1)
    assert second.recorded[NAME]["reward"].value.tolist() == [[0.0, 1.0]]
    assert second.recorded[NAME]["reward"].time.tolist() == pytest.approx([50e-3])
    assert second.weights[NAME][1].mean() > second.weights[NAME][0].mean()


def test_what_a_kernel_sees_are_vectors_of_the_processor() -> None:
    seen = {}

    def kernel(view) -> None:
        names = ("weights", "causal", "anticausal", "counts", "source_counts", "membrane")
        seen.update({name: getattr(view, name) for name in names})
        seen["random"], seen["integers"] = view.random(), view.integers(5, 7)

    net = network(kernel, period=100e-3)
    record = run(net, drive(), 100e-3, substrate=ready(net), number=1)
    assert all(isinstance(value, Lanes) for value in seen.values())
    assert {name: value.shape for name, value in seen.items()} == {
        "weights": (10, 8), "causal": (10, 8), "anticausal": (10, 8), "counts": (8,), "source_counts": (10,),
        "membrane": (8,), "random": (10, 8), "integers": (7,),
    }  # fmt: skip
    spikes = record.spikes["hidden"][1]
    assert np.asarray(seen["counts"]).sum() == len(spikes.time)
    assert np.asarray(seen["source_counts"]).sum() == 300
    assert 0.2 < np.asarray(seen["random"]).mean() < 0.8
    assert np.asarray(seen["membrane"]).min() > -0.8


def test_structural_plasticity_moves_synapses() -> None:
    pre, post = torch.arange(20) % 10, torch.arange(20) // 5
    weight = torch.where(torch.arange(20) % 2 == 0, 0.6, 0.02)
    plasticity = Plasticity(Rewiring(0.1, 0.3), w_max=0.8, period=50e-3, sensor=None)
    net = Network(
        {"input": Population(10), "hidden": Population(4, LIF(10e-3, 5e-3))},
        [Projection.sparse("input", "hidden", pre, post, weight, plasticity=plasticity)],
    )
    record = run(net, drive(), 60e-3 + 40e-3, substrate=ready(net), number=1)
    sources = record.sources[NAME]
    assert torch.equal(sources[:, ::2], pre[::2].expand(2, -1))
    assert (sources[:, 1::2] != pre[1::2]).any()
    assert torch.all((record.weights[NAME][:, 1::2] - 0.3 * 0.8).abs() <= CODE)


def test_a_kernel_that_takes_too_long_is_reported() -> None:
    def kernel(view) -> None:
        for _ in range(400):
            view.weights += 0.0 * view.causal

    net = network(kernel, period=10e-3)
    with pytest.warns(UserWarning, match=r"no time for program 'input_to_hidden'.*late and \d+ skipped"):
        record = run(net, drive(), 100e-3, substrate=ready(net), observe=Observe(history={NAME}), number=1)
    assert len(record.history[NAME].time) < 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(network(AdditiveSTDP()), drive(), 100e-3, substrate=ready(net), number=1)


def forever(view) -> None:
    while True:
        view.random()


def wrong_shape(view) -> None:
    view.weights = view.weights[:3]


def counts_for_weights(view) -> None:
    view.weights = view.integers(3)


def keeps_too_much(view) -> None:
    view.state["all"] = view.random(100, 100)


def returns(view) -> int:
    return 3


def raises(view) -> None:
    raise KeyError("reward")


def no_sensor(view) -> None:
    view.weights += view.causal


def divides(view) -> None:
    view.weights = view.weights / view.causal


BROKEN = {
    "never ends": (forever, {"budget": 0.2}, RuleFailed, r"did not end within 0.2 s"),
    "shape": (wrong_shape, {}, ShapeMismatch, r"assigns \(3, 8\) to weights.*\(10, 8\)"),
    "kind": (counts_for_weights, {}, WrongType, "assigns 16-bit whole numbers to weights"),
    "memory": (keeps_too_much, {}, DoesNotFit, "takes 20000 bytes.*at most 16384"),
    "returns": (returns, {}, WrongType, "the rule returns an int"),
    "raises": (raises, {}, RuleFailed, "the rule raised KeyError"),
    "no sensor": (no_sensor, {"sensor": None}, InvalidNetwork, "the synapses have no sensors"),
    "divides": (divides, {}, Unsupported, "the processor cannot divide by a vector"),
    "w_max": (AdditiveSTDP(), {"w_max": 5.0}, OutOfRange, r"w_max is 5.*at most 1\.357"),
    "amplitude": (AdditiveSTDP(), {"sensor": Correlation(5e-3, 0.1)}, OutOfRange, r"amplitude is 0\.1.*0\.001563 to"),
    "window": (AdditiveSTDP(), {"sensor": Correlation(0.1, 1 / 256)}, OutOfRange, r"tau is 0\.1 s.*0\.002 to 0\.03 s"),
    "two windows": (AdditiveSTDP(), {"sensor": Correlation((5e-3, 9e-3))}, Unsupported, "causal and anticausal taus"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_is_said(name: str) -> None:
    kernel, options, error, message = BROKEN[name]
    net = network(kernel, **options)
    with pytest.raises(error, match=message):
        run(net, drive(), 100e-3, substrate=ready(net), number=1)


def test_only_a_chip_that_remembers_learns() -> None:
    net = network(AdditiveSTDP())

    class Forgetful:
        def emulate(self, configuration, events, cycles):
            raise AssertionError

    with pytest.raises(Unsupported, match="weights change, and the chip forgets"):
        run(net, drive(), 100e-3, substrate=OnChip(Forgetful()), number=1)


def test_a_code_is_rounded_at_random_and_on_average_right() -> None:
    """Steps far below a code move the mean weight as they should."""

    def kernel(view) -> None:
        view.weights += 0.1 / 64

    net = network(kernel, sources=20, size=20, period=10e-3, sensor=None)
    record = run(net, drive(20), 200e-3, substrate=ready(net), number=1)
    moved = float((record.weights[NAME] - record.executed[NAME]).mean())
    assert moved == pytest.approx(20 * 0.1 / 64 * 0.8, rel=0.2)


def test_saturations_are_counted() -> None:
    def kernel(view) -> None:
        view.weights = view.weights + view.weights

    net = network(kernel, period=50e-3, sensor=None, start=0.7)
    placed = ready(net)
    record = run(net, drive(), 100e-3, substrate=placed, number=1)
    assert float(record.weights[NAME].max()) <= 0.8
    calls = record.calls[NAME]
    assert (calls.late, calls.skipped) == (0, 0)
    assert calls.made % len(record) == 0
    assert calls.saturated == calls.made * record.weights[NAME][0].numel()  # 0.875 + 0.875, and 1 + 1
    assert calls.longest is not None
    assert 0 < calls.longest < 50e-6
    assert ppu.MEMORY == 16384


def test_a_number_that_is_none_is_refused() -> None:
    def kernel(view) -> None:
        view.weights = view.weights * float("nan")

    net = network(kernel, period=50e-3, sensor=None)
    with pytest.raises(OutOfRange, match="NaN or infinite"):
        run(net, drive(), 100e-3, substrate=ready(net), number=1)


def test_the_window_of_an_ideal_chips_sensors_is_recovered_within_5_percent() -> None:
    """100 pairs at each of 16 distances, the neuron fired by others: amplitude and time constant from the readings."""
    script = benchmark("twin_window")
    windows = script.measure(IDEAL, 2, 8, by_the_laws(IDEAL, script.window_network(2, [1.0])))
    np.testing.assert_allclose(windows.amplitude, script.AMPLITUDE, rtol=0.05)
    np.testing.assert_allclose(windows.tau, script.TAU, rtol=0.05)
