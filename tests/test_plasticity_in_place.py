"""What a kernel changes in place: the same on `Ideal` and on a twin, and never what is the network's own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from chips import ready, some_events

from spikeloop import LIF, Ideal, Network, Population, Projection, RuleFailed, WrongType, run
from spikeloop.chip.formats import FRACTION16, WHOLE16, Meter
from spikeloop.chip.fractional import Lanes
from spikeloop.plasticity import Plastic, Plasticity, Program, View
from spikeloop.record import Record

NAME = "input_to_o"
CODE = 1.357 / 63
PLACES = pytest.mark.parametrize("place", ["ideal", "twin"])


def sparse(kernel: Callable[[View], None]) -> Network:
    source, target = torch.arange(8) % 4, torch.arange(8) // 4
    rule = Plasticity(kernel, 0.8, period=10e-3)
    return Network(
        {"input": Population(4), "o": Population(2, LIF(10e-3, 5e-3, refractory=2e-3))},
        [Projection.sparse("input", "o", source, target, torch.full((8,), 0.4), plasticity=rule)],
    )


def carried_out(net: Network, place: str) -> Record:
    substrate = Ideal() if place == "ideal" else ready(net)
    return run(net, some_events(4, 2, 30, 10e-3), 10e-3, substrate=substrate, number=1)


@PLACES
@pytest.mark.parametrize("name", ["sources", "targets", "counts", "source_counts", "causal", "anticausal", "membrane"])
@pytest.mark.parametrize("how", ["assigned", "added"])
def test_what_a_kernel_sees_is_read_only(place: str, name: str, how: str) -> None:
    def kernel(view: View) -> None:
        seen = getattr(view, name)
        if how == "assigned":
            seen[:] = 0
        else:
            seen += 1

    net = sparse(kernel)
    with pytest.raises(RuleFailed, match=r"read-only.*Assign what shall change as a whole \(view.sources = \.\.\.\)"):
        carried_out(net, place)
    synapses = net.projections[NAME].synapses
    assert synapses is not None
    assert synapses.source.tolist() == [0, 1, 2, 3] * 2
    assert synapses.target.tolist() == [0] * 4 + [1] * 4


@PLACES
def test_sources_that_were_assigned_are_read_only_too_and_the_networks_stay(place: str) -> None:
    def kernel(view: View) -> None:
        view.sources = given = np.zeros(8, np.int64)
        given[:] = 1
        assert not np.asarray(view.sources).any()
        with pytest.raises(ValueError, match="read-only"):
            view.sources[:] = 2

    net = sparse(kernel)
    record = carried_out(net, place)
    assert not record.sources[NAME][0].any()
    synapses = net.projections[NAME].synapses
    assert synapses is not None
    assert synapses.source.tolist() == [0, 1, 2, 3] * 2


def added(view: View) -> None:
    weights = view.weights
    weights += 0.25


def of_the_view(view: View) -> None:
    view.weights += 0.25


def by_numpy(view: View) -> None:
    np.add(view.weights, 0.25, out=view.weights)


def in_part(view: View) -> None:
    view.weights[:8] += 0.25


def scaled(view: View) -> None:
    weights = view.weights
    weights *= 1.5


def taken_back(view: View) -> None:
    weights = view.weights
    weights -= 0.25
    weights /= 2
    weights += 0.625


@PLACES
@pytest.mark.parametrize("kernel", [added, of_the_view, by_numpy, in_part, scaled, taken_back])
def test_weights_change_in_place_whatever_they_are_called(place: str, kernel: Callable[[View], None]) -> None:
    weights = carried_out(sparse(kernel), place).weights[NAME]
    np.testing.assert_allclose(weights, 0.6, atol=1.5 * CODE)


@PLACES
def test_weights_that_were_assigned_are_the_views_own(place: str) -> None:
    def kernel(view: View) -> None:
        mine = view.weights * 0.5
        view.weights = mine
        mine += 0.5

    np.testing.assert_allclose(carried_out(sparse(kernel), place).weights[NAME], 0.2, atol=1.5 * CODE)


@PLACES
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sources", np.full(8, 2.5), "an array of float64 to sources"),
        ("sources", np.full(8, 2.0), "an array of float64 to sources"),
        ("sources", np.full(8, True), "an array of bool to sources"),
        ("weights", np.full(8, True), "an array of bool to weights"),
        ("weights", np.full(8, 0.5j), "an array of complex128 to weights"),
    ],
)
def test_arrays_of_another_type_are_named(place: str, name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(WrongType, match=f"the rule assigns {message}"):
        carried_out(sparse(lambda view: setattr(view, name, value)), place)


@pytest.mark.filterwarnings("ignore:the plasticity processor has no time")  # for the second of two in one cycle
@PLACES
def test_programs_that_are_due_together_are_called_in_the_networks_order(place: str) -> None:
    called: list[str] = []

    def named(name: str) -> Program:
        return Program(lambda view: called.append(name), {name: Plastic(0.8, sensor=None)}, period=5e-3)

    names = ["z", "a", "m"]
    net = Network(
        {"input": Population(4), "o": Population(2, LIF(10e-3, 5e-3, refractory=2e-3))},
        {name: Projection("input", "o", torch.full((4, 2), 0.2)) for name in names},
        programs={name: named(name) for name in names},
    )
    carried_out(net, place)
    assert list(dict.fromkeys(called)) == names


@PLACES
def test_sources_can_be_changed_as_numpys_integers(place: str) -> None:
    def kernel(view: View) -> None:
        sources = np.array(view.sources)
        sources[0] = 3
        view.sources = sources

    assert carried_out(sparse(kernel), place).sources[NAME].tolist() == [[3, 1, 2, 3, 0, 1, 2, 3]] * 2


def test_a_vector_keeps_its_kind_in_place() -> None:
    whole, number = Lanes.of([1, 2], WHOLE16, Meter()), Lanes.of(0.5, FRACTION16, Meter())
    with pytest.raises(WrongType, match=r"16-bit whole numbers would become Q0.15 in place.*Write x = x \* y"):
        whole *= 0.5
    shifted = whole
    shifted <<= 2
    shifted >>= 1
    assert whole.raw.tolist() == [2, 4]
    copy = +whole
    copy += 1
    assert whole.raw.tolist() == [2, 4]
    number += 0.25
    assert float(number) == 0.75
