"""Currents as a drive: what they must be, and where they may be given."""

import math
from typing import Any

import pytest
import torch
from bad_input import Item, check_error

from spikeloop import (
    LI,
    LIF,
    AdEx,
    Compartment,
    Compartments,
    Events,
    Network,
    Observe,
    OnChip,
    Population,
    Projection,
    Steps,
    Twin,
    run,
)
from spikeloop import errors as wrong

DRIVE = Events.from_lists([[1e-3], [2e-3]], [[0], [1]], size=2)
FALLING = Steps([0.0, 1e-2], torch.tensor([[0.5] * 3, [0.2] * 3]))
PAIR = Compartments(
    {"soma": Compartment(1e-2, 5e-3), "dendrite": Compartment(1e-2, 5e-3)}, {("soma", "dendrite"): 1e-2}
)


def network(neuron: Any = PAIR, *, inputs: bool = True) -> Network:
    cells = {"cells": Population(3, neuron)}
    if not inputs:
        return Network(cells, [])
    return Network({"input": Population(2), **cells}, [Projection("input", "cells", torch.ones(2, 3))])


def steps(*shape: int) -> Steps:
    return Steps([0.0, 1e-2], torch.ones(shape or (2, 3)))


def given(**drive: Any):
    return lambda: run(network(), {"input": DRIVE, **{name.replace("__", "."): d for name, d in drive.items()}}, 30e-3)


ITEMS: dict[str, Item] = {
    "times that descend": (lambda: Steps([1e-2, 0.0], torch.ones(2, 3)), wrong.OutOfRange, "Steps", "ascending"),
    "equal times": (lambda: Steps([0.0, 0.0], torch.ones(2, 3)), wrong.OutOfRange, "Steps", "ascending"),
    "a negative time": (lambda: Steps([-1e-3, 0.0], torch.ones(2, 3)), wrong.OutOfRange, "Steps", "from 0 on"),
    "NaN": (lambda: Steps([0.0], [[math.nan]]), wrong.OutOfRange, "the value has NaN", "finite"),
    "infinite times": (lambda: Steps([math.inf], [[1.0]]), wrong.OutOfRange, "the time has NaN", "finite"),
    "no times": (lambda: Steps([], torch.ones(0, 3)), wrong.ShapeMismatch, r"the times are \(0,\)", "at least one"),
    "one row too few": (lambda: Steps([0.0, 1e-2], torch.ones(1, 3)), wrong.ShapeMismatch, r"\(1, 3\)", r"\(2, size\)"),
    "a vector": (lambda: Steps([0.0], torch.ones(1)), wrong.ShapeMismatch, "the values are", r"\(1, size\)"),
    "words": (lambda: Steps([0.0], [["much"]]), wrong.WrongType, "the value is a list", "numbers"),
    "complex": (lambda: Steps([0.0], torch.ones(1, 1) * 1j), wrong.WrongType, "complex", "real"),
    "for nobody": (given(axon=steps()), wrong.UnknownPopulation, "drive 'axon': there is no 'axon'", "cells"),
    "for an input": (
        lambda: run(network(), {"input": steps()}, 30e-3), wrong.UnknownPopulation, "Events are given for nothing",
        "input",
    ),
    "for an input too": (
        lambda: run(Network({"a": Population(2), **dict(network().populations.items())}, []),
                    {"a": DRIVE, "input": steps()}, 30e-3),
        wrong.UnknownPopulation, "Events are given for 'a'", "'a', 'input'",
    ),
    "for no compartment": (given(cells__axon=steps()), wrong.UnknownPopulation, "no compartment 'axon'", "cells.soma"),
    "of the wrong size": (given(cells=steps(2, 4)), wrong.ShapeMismatch, "of 4 neurons", "3, its size"),
    "of the wrong batch": (given(cells=steps(3, 2, 3)), wrong.ShapeMismatch, "of 3 samples", "2, or for all"),
    "twice": (
        given(cells=steps(), cells__soma=steps()), wrong.InvalidNetwork, "given as 'cells'", "one of the two names",
    ),
    "with a gradient": (
        given(cells=Steps([0.0], torch.ones(1, 3, requires_grad=True))), wrong.Unsupported, "no gradient", "detach",
    ),
    "neither events nor currents": (
        lambda: run(network(inputs=False), {}, 30e-3), wrong.InvalidNetwork, "no input population",
        "Steps in the drive",
    ),
    "plain events without an input": (
        lambda: run(network(inputs=False), DRIVE, 30e-3), wrong.UnknownPopulation, "the network has 0", "to Steps",
    ),
    "two strengths on a chip": (
        lambda: run(network(LIF(1e-2, 5e-3)), {"input": DRIVE, "cells": FALLING}, 30e-3, substrate=OnChip(Twin(7))),
        wrong.Unsupported, "the current of neuron 0 is 0.2 from 0.01 s on, and 0.5 elsewhere", "to source or sink",
    ),
    "the adaptation of a LIF": (
        lambda: run(network(LIF(1e-2, 5e-3)), DRIVE, 30e-3, observe=Observe(adaptation={"cells": 1e-3})),
        wrong.CannotObserve, "the adaptation of 'cells' cannot be sampled", "offers",
    ),
    "a compartment that is not there": (
        lambda: run(network(), DRIVE, 30e-3, observe=Observe({"cells.axon": 1e-3})),
        wrong.UnknownPopulation, "observe: 'cells' has no compartment 'axon'", "cells.soma, cells.dendrite",
    ),
    "a compartment of a point neuron": (
        lambda: run(network(LI(1e-2, 5e-3)), DRIVE, 30e-3, observe=Observe(current={"cells.soma": 1e-3})),
        wrong.UnknownPopulation, "'cells' has no compartment 'soma'", "'cells'",
    ),
    "currents that are no mapping": (
        lambda: Observe(current=1e-3), wrong.WrongType, "the currents are a float", 'current={"output": 0.5e-3}',  # type: ignore[arg-type]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ITEMS)
def test_what_cannot_be_done_is_refused(name: str) -> None:
    check_error(*ITEMS[name])


def test_they_are_values() -> None:
    made = Steps([0.0, 1.0], torch.ones(4, 2, 3))
    assert (made.size, made.batch) == (3, 4)
    assert made.of(slice(1, 3)).batch == 2
    assert steps().of(slice(1, 3)).batch is None
    assert made.value.dtype == made.time.dtype == torch.float64
    assert "4 samples, 2 times, 3 neurons" in repr(made)


def test_a_place_is_a_population_and_a_compartment() -> None:
    net = network()
    assert net.place("here", "cells") == ("cells", "soma")
    assert net.place("here", "cells.dendrite") == ("cells", "dendrite")
    assert network(AdEx(1e-2, 5e-3)).place("here", "cells") == ("cells", "")


def test_what_is_observed_can_be_united() -> None:
    one, other = (
        Observe({"a": 1e-3}, current={"a": 1e-3}),
        Observe({"a.b": 2e-3}, current={"a": 5e-4}, adaptation={"a": 1e-3}),
    )
    both = one.union(other)
    assert {trace: set(given) for trace, given in both.traces()} == {
        "membrane": {"a", "a.b"}, "adaptation": {"a"}, "current": {"a"},
    }  # fmt: skip
    assert both.current["a"].period == 5e-4
    assert one.union(Observe()) is one
    with pytest.raises(wrong.CannotObserve, match="the current of 'a' is asked for at two samplings"):
        one.union(Observe(current={"a": 0.7e-3}))
