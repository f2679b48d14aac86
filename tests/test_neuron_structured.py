"""AdEx and neurons of several compartments as values: checks, stored names, places for projections."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from spikeloop import (
    LIF,
    AdEx,
    Compartment,
    Compartments,
    EventProp,
    Events,
    Network,
    Normal,
    Plateau,
    Population,
    Projection,
    Sodium,
    feedforward,
    psp_peak,
    recurrent,
    run,
)
from spikeloop.errors import InvalidNetwork, ShapeMismatch, Unsupported


def two(**changes):
    """A soma with a fast spike and a dendrite with two receptors and a plateau."""
    parts = {
        "soma": Compartment(10e-3, 5e-3, spike=Sodium(1.0, -0.2, 2e-3)),
        "dendrite": Compartment(
            20e-3, {"ampa": 3e-3, "nmda": 30e-3}, spike=Plateau(0.8, 1.5, 40e-3), reversal={"nmda": 3.0}
        ),
    }
    return Compartments(**{"compartments": parts, "couplings": {("soma", "dendrite"): 8e-3}, **changes})


ADEX = AdEx(10e-3, {"exc": 5e-3, "inh": 8e-3}, 1.5, slope_factor=0.1, a=0.3, b=0.1, reversal={"inh": -0.5})


def test_adex_names_its_receptors():
    population = Population(4, ADEX)
    assert population.fields[:4] == ("tau_mem", "tau_syn_exc", "tau_syn_inh", "reversal_inh")
    assert float(population.tau_syn_inh) == 8e-3
    assert population.kind is AdEx
    assert population.spiking
    assert not Population(4, AdEx(10e-3, 5e-3, threshold=math.inf)).spiking
    assert "reversal" not in Population(4, AdEx(10e-3, 5e-3)).fields


def test_compartments_name_their_numbers():
    population = Population(3, two())
    assert {
        "soma_tau_mem", "soma_tau_syn", "soma_threshold", "soma_reset", "soma_refractory", "soma_capacitance",
        "dendrite_tau_syn_ampa", "dendrite_tau_syn_nmda", "dendrite_reversal_nmda", "dendrite_potential",
        "dendrite_duration", "coupling_soma_dendrite",
    } <= set(population.fields)  # fmt: skip
    assert float(population.dendrite_duration) == 40e-3
    assert float(population.coupling_soma_dendrite) == 8e-3
    assert population.structure.output == "soma"
    assert population.spiking
    passive = {name: Compartment(10e-3, 5e-3) for name in ("soma", "dendrite")}
    assert not Population(3, two(compartments=passive)).spiking


def test_trainable_times_and_capacitances_are_logarithms():
    def learned(value):
        return nn.Parameter(torch.tensor(value, dtype=torch.float64))

    parts = {
        "soma": Compartment(learned(10e-3), 5e-3, capacitance=learned(0.5), spike=Sodium(learned(1.0))),
        "dendrite": Compartment(20e-3, {"nmda": learned(30e-3)}, b=learned(0.1)),
    }
    population = Population(3, Compartments(parts, {("soma", "dendrite"): learned(8e-3)}))
    assert {name for name, _ in population.named_parameters()} == {
        "log_soma_tau_mem", "log_soma_capacitance", "soma_threshold", "log_dendrite_tau_syn_nmda", "dendrite_b",
        "log_coupling_soma_dendrite",
    }  # fmt: skip
    net = Network({"input": Population(2), "cells": population}, [Projection("input", "cells", torch.ones(2, 3))])
    trained = {what for owner, what in net.trainable() if owner == "cells"}
    assert trained == {
        "soma_tau_mem", "soma_capacitance", "soma_threshold", "dendrite_tau_syn_nmda", "dendrite_b",
        "coupling_soma_dendrite",
    }  # fmt: skip
    assert trained < {what for owner, what in net.quantities() if owner == "cells"}
    assert float(net.quantities()["cells", "coupling_soma_dendrite"].detach()) == pytest.approx(8e-3, rel=1e-14)
    assert "coupling_soma_dendrite 8 ms (trained)" in repr(population)


def test_copies_and_pickles_are_equal():
    population = Population(3, two())
    for twin in (copy.deepcopy(population), pickle.loads(pickle.dumps(population))):
        assert repr(twin) == repr(population)
        assert twin.structure == population.structure


PARTS = two().compartments
BARE = Compartment(10e-3, 5e-3)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: AdEx(-1.0, 5e-3), "AdEx: tau_mem is -1. Expected: time constants above zero"),
        (lambda: AdEx(10e-3, {}), "there is no receptor"),
        (lambda: AdEx(10e-3, {"exc": 0.0}), "tau_syn_exc is 0"),
        (lambda: AdEx(10e-3, {"a b": 5e-3}), "'a b' cannot be a name"),
        (lambda: AdEx(10e-3, {"exc": 5e-3}, reversal={"inh": 1.0}), "no receptor 'inh'. Expected: one of exc"),
        (lambda: AdEx(10e-3, {"exc": 5e-3}, reversal=3.0), "reversal is a float. Expected: a mapping by receptor"),
        (lambda: AdEx(10e-3, 5e-3, reversal={"exc": 3.0}), "reversal is by receptor, tau_syn is not"),
        (lambda: AdEx(10e-3, 5e-3, reversal=0.0), "reversal of receptor 'default' equals leak"),
        (lambda: AdEx(10e-3, 5e-3, slope_factor=-0.1), "slope_factor is -0.1"),
        (lambda: AdEx(10e-3, 5e-3, threshold=math.inf, slope_factor=0.1), "no threshold to end at"),
        (lambda: AdEx(10e-3, 5e-3, threshold=-math.inf), "threshold is not finite"),
        (lambda: AdEx(10e-3, 5e-3, threshold=math.nan), "threshold is not finite"),
        (lambda: AdEx(10e-3, 5e-3, tau_adaptation=0.0), "tau_adaptation is 0"),
        (lambda: AdEx(10e-3, 5e-3, reset=1.0), "reset is not below threshold"),
        (lambda: AdEx(10e-3, 5e-3, b=math.inf), "b is not finite"),
        (lambda: AdEx(10e-3, 5e-3, a=torch.zeros(2), b=torch.zeros(3)), r"different sizes: a \(2,\), b \(3,\)"),
        (lambda: Compartment(10e-3, 5e-3, spike=1.0), "spike is a float"),  # type: ignore[arg-type]
        (lambda: Compartment(10e-3, 5e-3, capacitance=0.0), "capacitance is 0. Expected: a number above zero"),
        (lambda: Compartment(10e-3, 5e-3, slope_factor=0.1), "no threshold to end at"),
        (lambda: Compartment(10e-3, 5e-3, spike=Sodium(1.0, 2.0)), "reset is not below threshold"),
        (lambda: Compartment(10e-3, 5e-3, spike=Plateau(duration=-1.0)), "duration is -1"),
        (lambda: two(compartments={}), "there are no compartments"),
        (lambda: two(compartments={"soma": BARE, "dendrite": 1.0}), "compartment 'dendrite' is a float"),
        (lambda: two(compartments={"soma": BARE, "log": BARE}), "'log' cannot be a name"),
        (lambda: two(couplings={}), "'dendrite' is not connected with 'soma'. Expected: a tree"),
        (lambda: two(couplings={("soma", "axon"): 1e-3}), "no compartment 'axon'. Expected: one of soma, dendrite"),
        (lambda: two(couplings={("soma", "soma"): 1e-3}), "connected already"),
        (lambda: two(couplings={"soma": 1e-3}), "'soma' is no pair"),
        (lambda: two(couplings={("soma", "dendrite"): 0.0}), "coupling_soma_dendrite is 0"),
        (lambda: two(output="axon"), "output: there is no compartment 'axon'"),
        (
            lambda: Compartments(dict.fromkeys("abc", BARE), {("a", "b"): 1e-3, ("b", "c"): 1e-3, ("c", "a"): 1e-3}),
            "connected already. Expected: a tree",
        ),
        (
            lambda: two(
                compartments={"a": Compartment(1e-3, {"x_tau_mem": 1e-3}), "a_tau_syn_x": BARE},
                couplings={("a", "a_tau_syn_x"): 1e-3},
            ),
            "two of its numbers are called a_tau_syn_x_tau_mem",
        ),
        (lambda: Population(3, AdEx(10e-3, 5e-3, threshold=math.inf), dropout=0.5), "dropout silences spikes"),
    ],
)
def test_impossible_values_are_refused(make, what):
    with pytest.raises(InvalidNetwork, match=what) as caught:
        make()
    assert caught.value.expected or caught.value.todo


def test_what_became_impossible_by_learning_names_the_population():
    net = layer(AdEx(10e-3, 5e-3, slope_factor=nn.Parameter(torch.tensor(0.1))))
    with torch.no_grad():
        net.populations["cells"].slope_factor -= 1.0
    with pytest.raises(InvalidNetwork, match="population 'cells': slope_factor is -0.9"):
        net.check()


def test_a_vector_of_the_wrong_length_is_refused():
    with pytest.raises(ShapeMismatch, match=r"tau_syn_exc has shape \(2,\)"):
        Population(3, AdEx(10e-3, {"exc": torch.full((2,), 1e-3)}))


def layer(neuron, **onto):
    weight = onto.pop("weight", torch.ones(2, 3))
    return Network(
        {"input": Population(2), "cells": Population(3, neuron)}, [Projection("input", "cells", weight, **onto)]
    )


@pytest.mark.parametrize(
    ("neuron", "onto", "what"),
    [
        (ADEX, {}, "projection input_to_cells: the target has several receptors. Expected: one of exc, inh"),
        (ADEX, {"receptor": "nmda"}, "no receptor 'nmda'. Expected: one of exc, inh"),
        (ADEX, {"receptor": "exc", "compartment": "soma"}, "no compartment 'soma'. Expected: no compartment"),
        (LIF(1e-2, 5e-3), {"receptor": "exc"}, "no receptor 'exc'. Expected: no receptor"),
        (LIF(1e-2, 5e-3), {"compartment": "soma"}, "no compartment 'soma'"),
        (two(), {"compartment": "axon"}, "no compartment 'axon'. Expected: one of soma, dendrite"),
        (two(), {"compartment": "dendrite"}, "several receptors. Expected: one of ampa, nmda"),
        (two(), {"receptor": ""}, "no receptor ''"),
    ],
)
def test_a_place_that_the_target_does_not_have_is_refused(neuron, onto, what):
    with pytest.raises(InvalidNetwork, match=what):
        layer(neuron, **onto)


def test_projections_end_at_a_place():
    assert layer(two()).projection("input", "cells").place == ("soma", "")
    placed = layer(two(), compartment="dendrite", receptor="nmda").projection("input", "cells")
    assert placed.place == ("dendrite", "nmda")
    assert "compartment dendrite, receptor nmda" in repr(placed)
    sparse = Projection.sparse("input", "cells", [0, 1], [2, 0], torch.ones(2), receptor="exc")
    net = Network({"input": Population(2), "cells": Population(3, ADEX)}, [sparse])
    assert net.projection("input", "cells").place == ("", "exc")


def test_initial_amplitudes_are_those_of_the_place():
    for neuron, onto, peak in (
        (ADEX, {"receptor": "inh"}, psp_peak(10e-3, 8e-3)),
        (two(), {"compartment": "dendrite", "receptor": "nmda"}, psp_peak(20e-3, 30e-3)),
        (AdEx(10e-3, 5e-3, leaky=False), {}, 0.5),
    ):
        weight = layer(neuron, weight=Normal(0.3, 0.0), **onto).projection("input", "cells").weight
        assert float(weight.detach()[0, 0]) * peak == pytest.approx(0.3, rel=1e-6)


def test_a_trainable_delay_has_the_receptors_time_as_its_unit():
    net = layer(ADEX, receptor="inh", delay=nn.Parameter(torch.tensor(2e-3)))
    assert float(net.projection("input", "cells").delay_scale) == 8e-3
    assert float(net.projection("input", "cells").delay.detach()) == pytest.approx(2e-3, rel=1e-6)


def test_builders_take_them():
    for build in (feedforward, recurrent):
        assert build([2, 4, 3], AdEx(10e-3, 5e-3)).populations["hidden"].kind is AdEx
    assert feedforward([2, 3], two()).projection("input", "output").place == ("soma", "")


def test_a_rule_that_cannot_use_them_says_so():
    net, drive = layer(AdEx(10e-3, 5e-3)), Events.from_lists([[1e-3]], [[0]], size=2)
    with pytest.raises(Unsupported, match="no gradient of AdEx neurons.*SuperSpike"):
        run(net, drive, 10e-3, rule=EventProp())
