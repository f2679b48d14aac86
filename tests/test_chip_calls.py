"""Calls that a chip makes late, or not at all, in some samples of a batch: each sample is told its own."""

import numpy as np
import pytest
import torch
from chips import ready
from learning import drive, network

from spikeloop import LIF, Events, Network, Observe, Population, Projection, run
from spikeloop.plasticity import Plasticity

NAME = "input_to_hidden"
SEEN = Observe(history={NAME})
BUSY = Events.from_lists(
    [torch.linspace(0, 0.03, 80).double(), torch.tensor([1e-3])], [torch.arange(80) % 6, torch.tensor([0])], 6
)
"""Sample 0 keeps a processor busy that is slow where neurons spike; sample 1 leaves it free."""


def slow(view) -> None:
    active = float(np.asarray(view.counts).sum()) > 8
    for _ in range(1200 if active else 1):
        view.weights = view.weights * 1.0
    view.weights = view.weights - 1 / 64
    view.record("time", view.time)
    view.record("calls", view.call)
    if active:
        view.record("spikes", view.counts)


def hidden(kernel) -> Network:
    plasticity = Plasticity(kernel, w_max=1.2, period=10e-3, sensor=None)
    return Network(
        {"input": Population(6), "hidden": Population(3, LIF(10e-3, 5e-3))},
        [Projection("input", "hidden", torch.full((6, 3), 0.7), plasticity=plasticity)],
    )


@pytest.mark.filterwarnings("ignore:the plasticity processor has no time")
def test_each_sample_of_a_batch_has_the_calls_that_it_has_beside_another() -> None:
    net = hidden(slow)
    both = run(net, BUSY, 0.15, substrate=ready(net), observe=SEEN, number=1)
    calm = run(net, BUSY[[1, 1]], 0.15, substrate=ready(net), observe=SEEN, number=1)
    history, recorded = both.history[NAME], both.recorded[NAME]
    assert calm.history[NAME].time.shape == (15,)
    assert history.time.shape == (15, 2)
    assert torch.equal(history.time[:, 1], calm.history[NAME].time)
    assert torch.equal(history.value[:, 1], calm.history[NAME].value[:, 1])
    made = ~history.time.isnan()
    assert made.sum(0).tolist() == [6, 15]
    assert int(made.sum()) == both.calls[NAME].made
    assert both.calls[NAME].late > 0
    assert both.calls[NAME].skipped == 30 - both.calls[NAME].made
    assert torch.equal(history.value.isnan(), ~made[:, :, None, None].expand_as(history.value))
    assert torch.equal(recorded["time"].time.nan_to_num(-1), history.time.nan_to_num(-1))
    assert torch.equal(recorded["time"].value[made], history.time[made])
    for sample in range(2):
        assert recorded["calls"].value[made[:, sample], sample].tolist() == list(range(int(made[:, sample].sum())))
        assert torch.equal(history.value[made[:, sample], sample][-1], both.weights[NAME][sample])


@pytest.mark.filterwarnings("ignore:the plasticity processor has no time")
def test_what_only_one_sample_records_is_kept() -> None:
    net = hidden(slow)
    found = run(net, BUSY, 0.15, substrate=ready(net), number=1).recorded[NAME]["spikes"]
    assert len(found.time) > 0
    assert found.time.shape == found.value.shape[:2]
    assert bool((found.value[:, 0].sum(-1) > 8).all())
    assert bool(found.value[:, 1].isnan().all())


def test_samples_that_agree_share_their_times() -> None:
    def kernel(view) -> None:
        view.record("counts", view.counts)
        view.record("call", view.call)

    net = hidden(kernel)
    record = run(net, BUSY, 0.05, substrate=ready(net), observe=SEEN, number=1)
    assert record.history[NAME].time.tolist() == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])
    assert record.recorded[NAME]["call"].time.shape == (5,)
    assert record.recorded[NAME]["call"].value.dtype == torch.int64
    assert record.recorded[NAME]["counts"].value.shape == (5, 2, 3)


def test_samples_may_record_at_other_calls_on_the_ideal_substrate_too() -> None:
    def kernel(view) -> None:
        if view.counts.sum() > 1:
            view.record("spikes", view.counts)

    found = run(network(kernel), drive(3), 0.1).recorded["input_to_output"]["spikes"]
    spikes = run(network(lambda view: view.record("spikes", view.counts)), drive(3), 0.1).recorded["input_to_output"]
    expected = spikes["spikes"].value.double()
    expected[expected.sum(-1) <= 1] = torch.nan
    rows = ~expected.isnan().flatten(1).all(1)
    assert int(expected[rows].isnan().sum()) > 0
    assert torch.equal(found.value.nan_to_num(-1), expected[rows].nan_to_num(-1))
    assert torch.equal(found.time.isnan(), found.value.isnan().any(-1))
