"""Conductances and adaptation that are faster than a step."""

import math

import numpy as np
import pytest
import torch
from test_substrate_in_steps import MS

from spikeloop import AdEx, Compartment, Compartments, Events, Ideal, Network, Observe, Population, Projection, run
from spikeloop.engine.plan_stepped import cells_of
from spikeloop.engine.stepped import largest_step
from spikeloop.errors import OutOfRange

EVENTS = Events.from_lists([[1 * MS, 2 * MS, 3.3 * MS]], [[0, 0, 0]], 1)
TIMES = torch.arange(0, 50 * MS, 0.25 * MS, dtype=torch.float64)
ALONE = AdEx(10 * MS, {"exc": 5 * MS}, threshold=math.inf, reversal={"exc": 3.0})
TREE = Compartments(
    {"soma": Compartment(10 * MS, 5 * MS), "tuft": Compartment(10 * MS, {"exc": 5 * MS}, reversal={"exc": 3.0})},
    {("soma", "tuft"): 20 * MS},
)


def membrane(neuron, weight: float, place: str = "cells", step: float | None = None) -> torch.Tensor:
    onto = {"receptor": "exc"} if place == "cells" else {"compartment": "tuft", "receptor": "exc"}
    synapses = Projection("input", "cells", torch.full((1, 1), weight), **onto)
    net = Network({"input": Population(1), "cells": Population(1, neuron)}, [synapses])
    record = run(net, EVENTS, 50 * MS, substrate=Ideal(step=step), observe=Observe({place: TIMES}))
    return record.membrane[place].value[0, :, 0].detach()


@pytest.mark.parametrize("weight", [5.0, 50.0, 100.0, 200.0, 1000.0, 1e4])
@pytest.mark.parametrize(("neuron", "place"), [(ALONE, "cells"), (TREE, "cells.tuft")], ids=["AdEx", "compartments"])
def test_a_large_conductance_draws_to_its_reversal(neuron, place: str, weight: float) -> None:
    found = membrane(neuron, weight, place)
    assert float(found.min()) >= -1e-6
    assert float(found.max()) <= 3.0 + 1e-6
    finest = membrane(neuron, weight, place, step=min(1e-5, 0.5 / (100 * weight)))
    assert torch.allclose(found, finest, atol=0.02), float((found - finest).abs().max())


@pytest.mark.parametrize("a", [0.5, 10.0, 1e3, 1e4])
def test_the_default_step_follows_an_adaptation_that_is_faster_than_its_time_constant(a: float) -> None:
    neuron = AdEx(10 * MS, {"exc": 5 * MS}, threshold=math.inf, a=a, tau_adaptation=10 * MS)
    cells = cells_of("cells", Population(1, neuron))
    rates = np.linalg.eigvals(np.array([[-1.0, -1.0], [a, -1.0]]) / (10 * MS))
    assert largest_step(cells) == pytest.approx(min(5 * MS, 1 / np.abs(rates).max()) / 5)
    assert torch.allclose(membrane(neuron, 1.0), membrane(neuron, 1.0, step=1e-5), atol=2e-3)


def test_what_grows_without_bound_is_refused_by_name() -> None:
    with pytest.raises(OutOfRange, match=r"population 'cells', sample 0.*Ideal\(step=\.\.\.\)"):
        membrane(ALONE, 1e12)
