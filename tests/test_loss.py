"""Losses against their formulas, their gradients, and what they do about silence."""

import math

import pytest
import torch

from spikeloop import LI, LIF, EventProp, Events, Network, Normal, Observe, Peak, Samples, feedforward, run
from spikeloop.errors import OutOfRange, ShapeMismatch, Unsupported
from spikeloop.loss import (
    activity_target,
    first_spike_class,
    first_spike_cross_entropy,
    max_over_time,
    max_over_time_cross_entropy,
    silent_neurons,
    spike_budget,
    spike_count_cross_entropy,
)

MS = 1e-3


def spikes(trains, size=3):
    """Events with a graph, and a count that can be differentiated."""
    events = Events.from_trains(trains, size=size, scale=MS)
    events.time.requires_grad_()
    count = events.count.double().requires_grad_()
    return Events._trusted(events.time, events.unit, events.start, size, count), count


def test_the_class_is_the_first_to_spike():
    events = Events.from_trains([[[3], [2, 9], []], [[], [], []], [[1], [1], [5]]], scale=MS)
    assert first_spike_class(events).tolist() == [1, -1, 0]
    assert first_spike_class(events).dtype == torch.int64
    assert first_spike_class(events[:0]).tolist() == []


def test_first_spike_cross_entropy_is_its_formula():
    times = torch.tensor([[12.0, 13.0, 15.0], [9.0, 8.5, 20.0]], dtype=torch.float64)
    label = torch.tensor([0, 0])
    events, _ = spikes([[[t] for t in sample] for sample in times.tolist()])
    tau0, tau1, alpha = 0.5, 6.4, 3e-3
    logs = -torch.log_softmax(-times / tau0, 1)[:, 0]
    expected = (logs + alpha * (torch.exp(times[:, 0] / tau1) - 1)).mean()
    loss = first_spike_cross_entropy(events, label)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
    share = torch.softmax(-times / tau0, 1)
    slope = -share / (tau0 * MS)
    slope[:, 0] += 1 / (tau0 * MS) + alpha / (tau1 * MS) * torch.exp(times[:, 0] / tau1)
    found = events.time.grad
    assert found is not None
    assert torch.zeros(2, 3, dtype=torch.float64).index_put(
        (events.sample, events.unit.long()), found
    ).flatten().tolist() == (pytest.approx((slope / 2).flatten().tolist(), rel=1e-9))


def test_first_spike_cross_entropy_has_the_gradient_of_its_value():
    events, _ = spikes([[[12, 14], [13], [15]], [[9], [8.5], []], [[3], [40], [2]]])
    label = torch.tensor([0, 1, 1])

    def loss(time):
        return first_spike_cross_entropy(Events._trusted(time, events.unit, events.start, 3), label, tau0=3 * MS)

    time = events.time.detach().requires_grad_()
    assert torch.autograd.gradcheck(loss, time, eps=1e-9, atol=1e-4, rtol=1e-6)
    with pytest.raises(Unsupported, match="twice"):
        torch.autograd.grad(loss(time), time, create_graph=True)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_must_name_a_unit(label):
    events, _ = spikes([[[12], [13], [15]]])
    with pytest.raises(OutOfRange, match="names no unit"):
        first_spike_cross_entropy(events, torch.tensor([label]))


def test_a_silent_label_pushes_through_its_count_alone():
    events, count = spikes([[[], [10], [11]], [[9], [10], []]])
    loss = first_spike_cross_entropy(events, torch.tensor([0, 0]), silent_push=2.0)
    assert math.isfinite(loss.item())
    loss.backward()
    assert count.grad is not None
    assert count.grad.tolist() == [[-1.0, 0, 0], [0, 0, 0]]
    assert events.time.grad is not None
    assert bool(events.time.grad.isfinite().all())
    wrong = events.time.grad[:2]  # the first sample's spikes of other units: later is better
    assert bool((wrong < 0).all())


def test_silent_others_do_not_matter():
    events, count = spikes([[[9], [], []]])
    loss = first_spike_cross_entropy(events, torch.tensor([0]), alpha=0.0)
    assert 0 < loss.item() < 1e-4
    loss.backward()
    assert count.grad is None


def test_total_silence_is_finite_and_pushes_every_label():
    events, count = spikes([[[], [], []], [[], [], []]])
    loss = first_spike_cross_entropy(events, torch.tensor([2, 1]))
    assert loss.item() == pytest.approx(math.log(3) + 10.0)
    loss.backward()
    assert count.grad is not None
    assert count.grad.tolist() == [[0, 0, -5], [0, -5, 0]]


def test_late_spikes_stay_finite():
    events, _ = spikes([[[1e7], [2e7], [3e7]]])
    for alpha in (0.0, 3e-3):
        loss = first_spike_cross_entropy(events, torch.tensor([0]), alpha=alpha)
        assert math.isfinite(loss.item())
        (slope,) = torch.autograd.grad(loss, events.time)
        assert bool(slope.isfinite().all())


def test_an_empty_batch_costs_nothing():
    events, count = spikes([])
    label = torch.empty(0, dtype=torch.int64)
    assert first_spike_cross_entropy(events, label).item() == 0
    for loss in (spike_budget(count, 3), activity_target(count, 0.0), spike_count_cross_entropy(count, label)):
        assert loss.item() == 0
    assert silent_neurons(count).item() == pytest.approx(0.3)


def test_labels_have_one_entry_per_sample():
    events, _ = spikes([[[9], [], []]])
    with pytest.raises(ShapeMismatch, match=r"shape \(2,\).*\(1,\)"):
        first_spike_cross_entropy(events, torch.tensor([0, 1]))
    with pytest.raises(ShapeMismatch, match="labels"):
        spike_count_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 1))


def test_max_over_time_of_peaks_and_of_samples():
    value = torch.tensor([[[0.1, 0.5], [0.4, 0.2], [0.3, 0.3]]], requires_grad=True)
    samples = Samples(torch.arange(3.0), torch.arange(2), value)
    assert torch.equal(max_over_time(samples), torch.tensor([[0.4, 0.5]]))
    peak = Peak(torch.zeros(1, 2), torch.tensor([[0.4, 0.5]], requires_grad=True))
    one, other = (max_over_time_cross_entropy(seen, torch.tensor([1]), scale=10.0) for seen in (samples, peak))
    assert one.item() == pytest.approx(math.log1p(math.exp(-1.0)), rel=1e-5)
    assert one.item() == other.item()
    one.backward()
    assert value.grad is not None
    assert value.grad.nonzero().tolist() == [[0, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_that_of_torch(dtype: torch.dtype):
    value = 3 * torch.randn(7, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    found, expected = (value.clone().requires_grad_() for _ in range(2))
    loss = max_over_time_cross_entropy(Peak(torch.zeros(7, 5), found), label, scale=10.0)
    other = torch.nn.functional.cross_entropy(10.0 * expected, label)
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(other.item(), rel=1e-5 if dtype == torch.float32 else 1e-12)
    (2 * loss).backward()
    (2 * other).backward()
    assert found.grad is not None
    torch.testing.assert_close(found.grad, expected.grad)
    assert spike_count_cross_entropy(torch.tensor([[1, 0, 2]]), torch.tensor([0])).item() == pytest.approx(
        math.log(math.e + 1 + math.e**2) - 1
    )


def test_spike_counts_name_the_class():
    events, count = spikes([[[1, 2], [3], []], [[], [1], [2, 3, 4]]])
    expected = torch.nn.functional.cross_entropy(0.5 * count, torch.tensor([0, 2]))
    assert spike_count_cross_entropy(events, torch.tensor([0, 2]), scale=0.5).item() == pytest.approx(expected.item())
    ends = []
    for scale in (2.0, 2):
        count = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 2.0]], requires_grad=True)
        spike_count_cross_entropy(count, torch.tensor([0, 2]), scale=scale).backward()
        ends.append(count.grad)
    assert torch.equal(*ends)


def test_a_budget_costs_only_what_exceeds_it():
    _, count = spikes([[[1, 2], [3], []], [[], [1], []]])
    loss = spike_budget(count, 2)
    assert loss.item() == 0.5
    loss.backward()
    assert count.grad is not None
    assert count.grad.tolist() == [[0.5] * 3, [0.0] * 3]


def test_an_activity_target_pulls_both_ways():
    _, count = spikes([[[1, 2], [3], []], [[1, 2], [1], []]])
    loss = activity_target(count, 1.0)
    assert loss.item() == pytest.approx((1 + 0 + 1) / 3 / 2)
    loss.backward()
    assert count.grad is not None
    assert count.grad.sign().tolist() == [[1, 0, -1]] * 2


def test_only_neurons_that_are_silent_over_the_batch_are_lifted():
    _, count = spikes([[[1], [3], []]] + [[[], [], []]] * 9 + [[[], [2], []]] * 10)
    loss = silent_neurons(count, minimum=0.1)
    assert loss.item() == pytest.approx(0.05 + 0 + 0.1)
    loss.backward()
    assert count.grad is not None
    assert (count.grad != 0).any(0).tolist() == [True, False, True]


def silent_network(readout: LI | None = None) -> Network:
    """Sixteen hidden neurons that ten input spikes leave far below the threshold."""
    torch.manual_seed(0)
    return feedforward([10, 16, 3], LIF(20e-3, 5e-3), readout=readout, weight=Normal(0.01, 0.01))


def drive(batch=8):
    time = 20e-3 * torch.rand(batch, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Events.from_padded(time, torch.arange(10).expand(batch, 10), 10)


def steps_until(net, loss_of, done, rate=1e-2, limit=1000):
    """How many steps of Adam it takes until `done(record)`."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for step in range(limit):
        record = run(net, drive(), 60e-3, rule=EventProp())
        if done(record):
            return step
        optimizer.zero_grad()
        loss_of(record).backward()
        optimizer.step()
    return limit


def test_a_network_that_is_silent_everywhere_starts_to_spike_within_200_steps():
    label = torch.arange(8) % 3

    def loss_of(record):
        silent = silent_neurons(record.count["hidden"])
        return first_spike_cross_entropy(record.spikes["output"], label) + silent

    net = silent_network()
    with torch.no_grad():
        assert not len(run(net, drive(), 60e-3).spikes["hidden"].time)
    taken = steps_until(net, loss_of, lambda record: bool((record.count["output"].sum(1) > 0).all()))
    assert 0 < taken <= 200


def test_the_cure_alone_wakes_every_hidden_neuron_within_100_steps():
    def awake(record):
        return bool((record.count["hidden"].mean(0) >= 0.1).all())

    taken = steps_until(silent_network(), lambda record: silent_neurons(record.count["hidden"]), awake)
    assert 0 < taken <= 100


def test_the_cure_lifts_the_weights_of_silent_neurons_only():
    torch.manual_seed(0)
    net = feedforward([10, 16, 3], LIF(20e-3, 5e-3), weight=Normal(0.15, 0.15))
    record = run(net, drive(), 60e-3, rule=EventProp())
    silent = record.count["hidden"].mean(0) < 0.1
    assert 0 < int(silent.sum()) < 16
    silent_neurons(record.count["hidden"], minimum=0.1).backward()
    gradient = net.projection("input", "hidden").weight.grad
    assert gradient is not None
    assert bool((gradient[:, silent] < 0).all())
    assert not bool(gradient[:, ~silent].any())


def test_a_budget_changes_hidden_weights_and_is_met():
    torch.manual_seed(0)
    net = feedforward([10, 16, 3], LIF(20e-3, 5e-3), readout=LI(20e-3, 5e-3), weight=Normal(0.3, 0.1))
    with torch.no_grad():
        assert float(spike_budget(run(net, drive(), 60e-3).count["hidden"], 20)) > 5
    before = net.projection("input", "hidden").weight.detach().clone()
    met = steps_until(
        net,
        lambda record: spike_budget(record.count["hidden"], 20),
        lambda record: spike_budget(record.count["hidden"].detach(), 20).item() == 0,
    )
    assert 0 < met <= 200
    assert bool((net.projection("input", "hidden").weight.detach() < before).any(0).all())


def test_the_membrane_loss_of_a_network_without_hidden_spikes_is_finite():
    net = silent_network(readout=LI(20e-3, 5e-3))
    record = run(net, drive(), 60e-3, rule=EventProp(), observe=Observe(peak={"output"}, membrane={"output": 1e-3}))
    for seen in (record.peak["output"], record.membrane["output"]):
        loss = max_over_time_cross_entropy(seen, torch.arange(8) % 3)
        assert loss.item() == pytest.approx(math.log(3))
        loss.backward(retain_graph=True)
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert not bool(parameter.grad.any())
