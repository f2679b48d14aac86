"""Rules, programs and descriptions that are wrong, and what is said of them."""

import math
import pickle
import time

import numpy as np
import pytest
import torch
from learning import LIF, drive, network, nothing

import spikeloop as sl
from spikeloop.plasticity import (
    AdditiveSTDP,
    Plastic,
    Program,
)

pytestmark = pytest.mark.filterwarnings("ignore:drive 'input'")  # the drive is longer than most runs


def assign(**values):
    def kernel(view):
        for name, value in values.items():
            setattr(view, name, value)

    return kernel


def in_place(view):
    view.causal[:] = 0


def failing(view):
    if view.call == 1:
        raise KeyError("reward")


@pytest.mark.parametrize(
    ("kernel", "error", "match"),
    [
        (assign(weights=np.zeros((3, 4))), sl.ShapeMismatch, r"call 0 at 0.01 s, sample 0.*assigns \(3, 4\).*\(4, 3\)"),
        (assign(weights=0.5), sl.WrongType, "assigns a float to weights"),
        (assign(weights=np.full((4, 3), "a")), sl.WrongType, "assigns an array of <U1"),
        (assign(weights=torch.zeros(4, 3)), sl.WrongType, "assigns a Tensor"),
        (assign(weights=np.full((4, 3), np.nan)), sl.OutOfRange, "NaN or infinite"),
        (assign(sources=np.zeros(12, int)), sl.InvalidNetwork, "dense"),
        (lambda view: view.weights, sl.WrongType, "returns a ndarray"),
        (lambda view: view["other"], sl.UnknownPopulation, "asks for 'other'"),
        (lambda view: view.record("x", object()), sl.WrongType, "records an object"),
        (in_place, sl.RuleFailed, "ValueError: .*read-only"),
        (failing, sl.RuleFailed, "call 1 at 0.02 s, sample 0: the rule raised KeyError: 'reward'"),
        (lambda view: view.nothing, sl.RuleFailed, "AttributeError"),
    ],
)  # fmt: skip
def test_a_rule_that_is_wrong_is_named(kernel, error, match):
    with pytest.raises(error, match=match):
        sl.run(network(kernel), drive(), 0.05)


def test_a_rule_without_sensors_cannot_read_them():
    with pytest.raises(sl.InvalidNetwork, match="no sensors"):
        sl.run(network(lambda view: view.causal, sensor=None), drive(), 0.05)


def endless(view):
    while True:
        pass


def stubborn(view):
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        try:
            time.sleep(1e-3)
        except BaseException:
            continue


@pytest.mark.parametrize("kernel", [endless, stubborn])
def test_a_rule_that_never_ends_is_ended(kernel):
    began = time.monotonic()
    with pytest.raises(sl.RuleFailed, match=r"did not end within 0\.2 s"):
        sl.run(network(kernel, budget=0.2), drive(), 0.05)
    assert time.monotonic() - began < 5


def test_a_rule_is_called_again_after_one_was_ended():
    with pytest.raises(sl.RuleFailed):
        sl.run(network(endless, budget=0.05), drive(1), 0.05)
    for _ in range(20):
        assert sl.run(network(AdditiveSTDP(), budget=5.0), drive(1), 0.02).weights


def test_a_gradient_of_a_run_that_learns_is_refused():
    with pytest.raises(sl.Unsupported, match="'input_to_output' change during the run"):
        sl.run(network(), drive(), 0.05, rule=sl.EventProp())
    record = sl.run(network(), drive(), 0.05)
    with pytest.raises(sl.NoRule):
        record.spikes["output"].time.sum().backward()


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"kernel": 3}, sl.WrongType, "the kernel is an int"),
        ({"w_max": 0.0}, sl.OutOfRange, "w_max is 0"),
        ({"w_max": math.inf}, sl.OutOfRange, "w_max is inf"),
        ({"w_max": 0.4}, sl.InvalidNetwork, "the weights are 0.5 to 0.5"),
        ({"period": -1.0}, sl.OutOfRange, "period is -1"),
        ({"period": [2.0, 1.0]}, sl.OutOfRange, "not in order"),
        ({"period": "often"}, sl.WrongType, "a time is a str"),
        ({"sensor": 3}, sl.WrongType, "the sensor is an int"),
        ({"state": [1]}, sl.WrongType, "the state is a list"),
        ({"seed": -1}, sl.OutOfRange, "seed is -1"),
        ({"budget": 0}, sl.OutOfRange, "budget is 0"),
    ],
)
def test_a_description_that_is_wrong_is_refused(given, error, match):
    with pytest.raises(error, match=match):
        network(**given)


def test_programs_belong_to_their_network():
    populations = {"input": sl.Population(2), "output": sl.Population(2, LIF)}
    plain = sl.Projection("input", "output", torch.zeros(2, 2))
    rule = Program(nothing, {"input_to_output": Plastic(1.0)})
    with pytest.raises(sl.UnknownPopulation, match="other"):
        sl.Network(populations, [plain], programs={"p": Program(nothing, {"other": Plastic(1.0)})})
    with pytest.raises(sl.InvalidNetwork, match="is changed by program 'p', too"):
        sl.Network(populations, [plain], programs={"p": rule, "q": rule})
    with pytest.raises(sl.WrongType, match="a function"):
        sl.Network(populations, [plain], programs={"p": nothing})
    with pytest.raises(sl.WrongType, match="the plasticity is"):
        sl.Projection("input", "output", torch.zeros(2, 2), plasticity=nothing)
    with pytest.raises(sl.Unsupported, match="part of a network, whose rules are known.*Make the network anew"):
        sl.Network(populations, [plain]).projections["input_to_output"].plasticity = None
    with pytest.raises(sl.UnknownPopulation, match="no plastic projection"):
        sl.run(sl.Network(populations, [plain]), drive(1, 2), 0.01, observe=sl.Observe(history={"input_to_output"}))
    with pytest.raises(sl.InvalidNetwork, match="share weights"):
        sl.Network(
            {"input": sl.Population(4), "output": sl.Population(4, LIF)},
            {"c": sl.Projection.conv2d("input", "output", torch.ones(1, 1, 1, 1), (1, 2, 2))},
            programs={"p": Program(nothing, {"c": Plastic(1.0)})},
        )


def test_a_network_that_learns_is_copied_and_saved():
    net = network(AdditiveSTDP())
    assert pickle.loads(pickle.dumps(net)).programs.keys() == net.programs.keys()
    assert net.state_dict().keys() == network().state_dict().keys()
