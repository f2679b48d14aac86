"""Bad input: things of another kind than was asked for, and things that are not there."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bad_input import DURATION, NEURON, Item, check_error, drive, network

from spikeloop import (
    LIF,
    EventProp,
    Events,
    Every,
    Experiment,
    Ideal,
    Network,
    Observe,
    Population,
    Projection,
    Trial,
    attach,
    run,
)
from spikeloop import errors as wrong
from spikeloop.loss import (
    first_spike_class,
    max_over_time,
    spike_budget,
)

RASTER: Any = torch.zeros(1, 10, 2)


def run_with(**given: Any) -> Callable[[], object]:
    return lambda: run(**{"network": network(), "drive": drive(), "duration": DURATION, **given})


def attach_class() -> None:
    net = network()
    attach(Trial(net, {"input": drive()}, DURATION), run(net, drive(), DURATION), EventProp)  # type: ignore[arg-type]


def leads(source: str, target: str) -> Callable[[], object]:
    groups = {"input": Population(2), "hidden": Population(3, NEURON)}
    return lambda: Network(groups, [Projection(source, target, torch.ones(2, 3))])


FROM_RASTER = "Events.from_raster"
ITEMS: dict[str, Item] = {
    "a raster as the drive": (run_with(drive=RASTER), wrong.WrongType, "drive: a Tensor was given", FROM_RASTER),
    "an array as the drive": (run_with(drive=RASTER.numpy()), wrong.WrongType, "drive: a ndarray", FROM_RASTER),
    "no drive": (run_with(drive=None), wrong.WrongType, "drive: a NoneType was given", FROM_RASTER),
    "a raster of a population": (run_with(drive={"input": RASTER}), wrong.WrongType, "'input': a Tensor", FROM_RASTER),
    "a rule's class": (run_with(rule=EventProp), wrong.WrongType, "rule: the class EventProp", r"EventProp\(\)"),
    "a rule's name": (run_with(rule="eventprop"), wrong.WrongType, "rule: a str", r"EventProp\(\), or None"),
    "a class attached": (attach_class, wrong.WrongType, "rule: the class EventProp", r"EventProp\(\)"),
    "a substrate's class": (run_with(substrate=Ideal), wrong.WrongType, "substrate: the class Ideal", r"Ideal\(\)"),
    "no substrate": (run_with(substrate=None), wrong.WrongType, "substrate: a NoneType", r"Ideal\(\)"),
    "a module as the network": (
        run_with(network=torch.nn.Linear(2, 2)),
        wrong.WrongType,
        "network: a Linear",
        "a Network",
    ),
    "a class in an experiment": (
        lambda: Experiment(network(), DURATION, rule=EventProp),  # type: ignore[arg-type]
        wrong.WrongType,
        "rule: the class EventProp",
        r"EventProp\(\)",
    ),
    "a duration in words": (run_with(duration="60 ms"), wrong.WrongType, "the duration is a str", "number of seconds"),
    "a dict to observe": (run_with(observe={}), wrong.WrongType, "observe: a dict", "Observe\\("),
    "a name as membranes": (
        lambda: Observe(membrane="hidden"),  # type: ignore[arg-type]
        wrong.WrongType,
        "observe: the membranes are a str",
        "a mapping",
    ),
    "a list of times": (
        lambda: Observe(membrane={"hidden": [1e-3]}),  # type: ignore[dict-item]
        wrong.WrongType,
        "the sampling period is a list",
        "a tensor of times",
    ),
    "a period in words": (lambda: Every("1 ms"), wrong.WrongType, "period is a str", "seconds"),  # type: ignore[arg-type]
    "an unknown membrane": (
        run_with(observe=Observe(membrane={"out": 1e-3})),
        wrong.UnknownPopulation,
        "observe: there is no 'out'",
        "one of hidden, output",
    ),
    "an input's membrane": (
        run_with(observe=Observe(membrane={"input": 1e-3})),
        wrong.UnknownPopulation,
        "observe: 'input' is an input and has no membrane",
        "one of hidden, output",
    ),
    "a peak not asked for": (
        lambda: run(network(), drive(), DURATION).peak["output"],
        wrong.UnknownPopulation,
        "record: there is no peak of 'output'",
        r"observe=Observe\(peak=\{'output'\}\)",
    ),
    "spikes of nobody": (
        lambda: run(network(), drive(), DURATION).spikes["out"],
        wrong.UnknownPopulation,
        "record: there is no spike train of 'out'",
        "one of input, hidden, output",
    ),
    "a population that is not there": (
        lambda: network().populations["out"],
        wrong.UnknownPopulation,
        "populations: there is no 'out'",
        "one of input, hidden, output",
    ),
    "a projection that is not there": (
        lambda: network().projection("input", "output"),
        wrong.UnknownPopulation,
        "projections: there is no projection from 'input' to 'output'",
        "one of input_to_hidden, hidden_to_output",
    ),
    "a projection from nowhere": (
        leads("in", "hidden"),
        wrong.UnknownPopulation,
        "projection in_to_hidden: there is no 'in'",
        "one of input, hidden",
    ),
    "a neuron in words": (
        lambda: LIF("10 ms", 5e-3),  # type: ignore[arg-type]
        wrong.InvalidNetwork,
        "LIF: tau_mem is '10 ms'",
        "a number",
    ),
    "a limit below zero": (lambda: Ideal(-1), wrong.OutOfRange, "Ideal: spike_limit is -1", "a number of spikes"),
    "lists as events": (
        lambda: Events([1e-3], [0], [0, 1], 2),  # type: ignore[arg-type]
        wrong.WrongType,
        "Events: time is a list",
        "from_lists",
    ),
    "one flat list": (
        lambda: Events.from_lists([1e-3, 2e-3], [0, 1], size=2),
        wrong.ShapeMismatch,
        r"row 0 has shape \(\)",
        "one-dimensional arrays",
    ),
    "times without units": (
        lambda: Events.from_lists([[1e-3, 2e-3]], [[0]], size=2),
        wrong.ShapeMismatch,
        "sample 0: 2 times, but 1 units",
        "one of each",
    ),
    "fewer than no units": (
        lambda: Events.from_lists([[]], [[]], size=-1),
        wrong.InvalidEvents,
        "size is -1",
        "the number of units",
    ),
    "a record as events": (
        lambda: first_spike_class(run(network(), drive(), DURATION)),  # type: ignore[arg-type]
        wrong.WrongType,
        "loss: a Record",
        "record.spikes",
    ),
    "a record as peaks": (
        lambda: max_over_time(run(network(), drive(), DURATION)),  # type: ignore[arg-type]
        wrong.WrongType,
        "loss: a Record",
        "record.peak",
    ),
    "a record as counts": (
        lambda: spike_budget(run(network(), drive(), DURATION), 1.0),  # type: ignore[arg-type]
        wrong.WrongType,
        "loss: a Record",
        "record.count",
    ),
}


@pytest.mark.parametrize("item", ITEMS)
def test_an_error_says_what_where_and_what_to_do(item: str) -> None:
    check_error(*ITEMS[item])


def test_what_a_record_lacks_is_a_key_error_and_a_record_can_be_copied() -> None:
    with torch.no_grad():
        record = run(network(), drive(), DURATION, observe=Observe(peak={"hidden"}))
    for twin in (record, pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
        assert "output" not in twin.peak
        assert twin.peak.get("output") is None
        assert list(twin.peak) == ["hidden"]
        with pytest.raises(KeyError, match=r"one of hidden\. Ask for it"):
            twin.peak["output"]
