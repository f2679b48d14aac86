"""The standard rules."""

import pickle

import numpy as np
import plastic
import pytest
import torch
from learning import LIF, SENSOR, STATE, drive, network

import spikeloop as sl
from spikeloop.plasticity import (
    Homeostasis,
    MultiplicativeSTDP,
    Plastic,
    Plasticity,
    Program,
    Relocation,
    Rewiring,
)

pytestmark = pytest.mark.filterwarnings("ignore:drive 'input'")  # the drive is longer than most runs


def test_multiplicative_steps_shrink_towards_the_ends():
    rule = MultiplicativeSTDP(causal=0.5, anticausal=0.25)
    record = sl.run(network(rule), drive(1), 10e-3, observe=STATE)
    seen = sl.run(network(lambda v: v.record("c", np.array([v.causal, v.anticausal]))), drive(1), 10e-3)
    causal, anticausal = seen.recorded["input_to_output"]["c"].value[0, 0]
    expected = 0.5 + 0.5 * 0.5 * causal - 0.25 * 0.5 * anticausal
    torch.testing.assert_close(record.weights["input_to_output"][0].double(), expected, rtol=1e-6, atol=0)
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_homeostasis_reaches_its_target():
    net = network(Homeostasis(target=5, step=0.01), weight=0.0, sources=20, targets=8, period=50e-3, sensor=None)
    record = sl.run(net, drive(1, 20, duration=4.0, seed=3), 4.0)
    late = record.spikes["output"].raster(50e-3, 4.0)[0, 40:].double()
    assert abs(float(late.mean()) - 5) < 0.5


def test_rewiring_gives_weak_synapses_new_sources():
    net = sl.Network(
        {"input": sl.Population(50), "output": sl.Population(3, LIF)},
        [
            sl.Projection.sparse(
                "input", "output", torch.zeros(30), torch.arange(30) % 3, torch.linspace(0, 0.9, 30),
                plasticity=Plasticity(Rewiring(threshold=0.3, start=0.4), 1.0, 10e-3),
            )
        ],
    )  # fmt: skip
    record = sl.run(net, drive(2, 50), 0.01, observe=sl.Observe(state=True))
    sources, weights = record.sources["input_to_output"], record.weights["input_to_output"]
    weak = torch.linspace(0, 0.9, 30) < 0.3
    assert not sources[:, ~weak].any()
    assert len(sources[:, weak].unique()) > 8
    assert torch.equal(weights[0, weak], torch.full((int(weak.sum()),), 0.4))
    assert not torch.equal(sources[0], sources[1])
    assert not net.projections["input_to_output"].synapses.source.any()


def test_synapses_with_new_sources_hear_them():
    def kernel(view):
        view.record("causal", view.causal)
        if view.call == 0:
            view.sources = np.array([1])

    events = sl.Events.from_trains([[[1e-3], [12e-3]]])
    rule = Plasticity(kernel, 50.0, 10e-3, sensor=SENSOR)
    net = sl.Network(
        {"input": sl.Population(2), "output": sl.Population(1, LIF)},
        [
            sl.Projection.sparse(
                "input", "output", torch.tensor([0]), torch.tensor([0]), torch.tensor([9.0]), plasticity=rule
            )
        ],
    )
    record = sl.run(net, events, 20e-3)
    spikes = record.spikes["output"].time.detach()
    assert (spikes > 12e-3).any()
    late = spikes[spikes > 10e-3].numpy()
    found = float(record.recorded["input_to_output"]["causal"].value[1, 0, 0])
    assert found == pytest.approx(plastic.causal([12e-3], late, 6e-3, 0.03))


def test_relocation_moves_synapses_between_projections():
    rule = Program(Relocation(threshold=0.2, start=0.5), {"near": Plastic(1.0), "far": Plastic(1.0)}, period=10e-3)
    weights = {"near": [[0.1, 0.6, 0.0]], "far": [[0.0, 0.1, 0.15]]}
    net = sl.Network(
        {"input": sl.Population(1), "output": sl.Population(3, LIF)},
        {name: sl.Projection("input", "output", torch.tensor(w)) for name, w in weights.items()},
        programs={"move": rule},
    )
    found = sl.run(net, drive(1, 1), 10e-3).weights
    assert found["near"][0].tolist() == [pytest.approx([0.0, 0.6, 0.5])]
    assert found["far"][0].tolist() == [pytest.approx([0.5, 0.1, 0.0])]
