"""Trees of compartments: what the switches connect is the tree that was asked for, or the tree is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spikeloop import Network, Population, Projection
from spikeloop.chip.configuration import Configuration, Routing
from spikeloop.chip.mapping import place
from spikeloop.chip.morphology import form
from spikeloop.chip.terms import Switches, Terms
from spikeloop.errors import DoesNotFit, OutOfRange, Unsupported
from spikeloop.neuron import Compartment, Compartments, Sodium


def chain(count: int) -> list[tuple[str, str]]:
    return [(f"c{k}", f"c{k + 1}") for k in range(count - 1)]


def star(count: int) -> list[tuple[str, str]]:
    return [("soma", f"d{k}") for k in range(count)]


def binary(depth: int, name: str = "r") -> list[tuple[str, str]]:
    if not depth:
        return []
    return [pair for side in "ab" for pair in ((name, name + side), *binary(depth - 1, name + side))]


def names(couplings: list[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for pair in couplings for name in pair))


TREES = {
    "a pair": chain(2),
    "a chain of five": chain(5),
    "a chain of twelve": chain(12),
    "a star": star(6),
    "stars along a chain": [*chain(4), *((f"c{k}", f"s{k}{j}") for k in range(4) for j in range(2))],
    "a binary tree": binary(3),
    "given against the grain": [("b", "a"), ("c", "b"), ("d", "b")],
}


def network(couplings, size: int = 3, fan_in: int = 4, reached: str | None = None) -> Network:
    parts = {
        name: Compartment(10e-3, 5e-3, spike=Sodium() if k == 0 else None) for k, name in enumerate(names(couplings))
    }
    neuron = Compartments(parts, dict.fromkeys(couplings, 5e-3))
    weight = torch.zeros(fan_in, size)
    return Network(
        {"input": Population(fan_in), "cells": Population(size, neuron)},
        [Projection("input", "cells", weight, compartment=reached)],
    )


@pytest.mark.parametrize("tree", TREES)
def test_switches_connect_what_was_asked_for(tree: str) -> None:
    couplings = TREES[tree]
    placement = place(network(couplings, size=4))
    assert placement.switches is not None
    head = placement.routing.head
    placement.switches.check_heads(head)
    found = placement.switches.couplings(head)
    pairs = {frozenset(pair) for pair in zip(found.one.tolist(), found.other.tolist(), strict=True)}
    of = {name: placement.site[f"cells.{name}"][:, 0] for name in names(couplings)}
    wanted = {frozenset((int(of[one][n]), int(of[other][n]))) for one, other in couplings for n in range(4)}
    assert pairs == wanted
    assert len(found.one) == len(wanted)
    for (name, one, other), circuit in placement.coupling.items():
        assert name == "cells"
        for n in range(4):
            which = int(np.flatnonzero(found.circuit == circuit[n])[0])
            assert {int(found.one[which]), int(found.other[which])} == {int(of[one][n]), int(of[other][n])}


def test_a_compartment_with_many_inputs_takes_more_circuits() -> None:
    placement = place(network(chain(3), size=2, fan_in=300, reached="c2"))
    assert placement.site["cells.c2"].shape[1] >= 3
    assert placement.switches is not None
    placement.switches.check_heads(placement.routing.head)
    assert len(placement.switches.couplings(placement.routing.head).one) == 4


def test_a_pair_leaves_room_for_256_neurons() -> None:
    assert place(network(chain(2), size=256)).circuit["cells"].shape == (256, 2)
    with pytest.raises(DoesNotFit, match="514 neuron circuits"):
        place(network(chain(2), size=257))


def test_a_tree_that_branches_too_often_is_refused() -> None:
    couplings = binary(4)
    with pytest.raises(Unsupported, match=r"population 'cells'.*no form .* was found for its tree of 31 compartments"):
        place(network(couplings, size=1))


def test_a_neuron_wider_than_an_output_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="free columns side by side"):
        place(network(star(40), size=1))


def test_every_form_has_its_cells_once() -> None:
    for couplings in TREES.values():
        made = form(dict.fromkeys(names(couplings), 1), couplings)
        cells = [cell for each in made.cells.values() for cell in each]
        assert len(set(cells)) == len(cells)
        assert not made.direct & made.conductance.keys()
        assert made.order[: len(made.cells[names(couplings)[0]])] == made.cells[names(couplings)[0]]


def flags(*circuits: int) -> np.ndarray:
    found = np.zeros(512, bool)
    found[list(circuits)] = True
    return found


BAD = {
    "no neighbour": (lambda: Switches(connect_right=flags(255)), "connect_right of the last column is on"),
    "two ways": (lambda: Switches(connect_soma=flags(3), connect_conductance=flags(3)), "circuit 3 is on its line"),
    "no middle": (lambda: Switches(connect_conductance=flags(4)).couplings(np.arange(512)), "line that no membrane"),
    "conductance": (lambda: Switches(conductance=np.full(512, 1023)), r"conductance\[0\] is 1023.*0 to 1022"),
    "scale": (lambda: Switches(conductance_scale=np.full(512, 2)), "conductance_scale"),
    "slope": (lambda: Terms(slope=np.full(512, -1)), r"slope\[0\] is -1"),
    "heads": (
        lambda: Configuration(routing=Routing(), switches=Switches(connect_right=flags(7))),
        "circuit 8 has the head 8, and its membrane is that of 7",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_written_is_checked(name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(OutOfRange, match=message):
        make()


def test_membranes_meet_on_a_line() -> None:
    switches = Switches(connect_soma=flags(5, 7), connect_soma_right=flags(5, 6))
    assert switches.membranes()[7] == 5
    assert replace(switches, connect_soma=flags(5)).membranes()[7] == 7
