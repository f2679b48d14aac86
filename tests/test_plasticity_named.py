"""What goes wrong in a call of a rule says which call it is, on both substrates; what descriptions may be given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from chips import ready

import spikeloop as sl
from spikeloop.plasticity import Correlation, Plasticity, Program, ShortTerm

CALL = r"program 'input_to_o', call 1 at 0\.02 s, sample 0"


def fails(kernel: Callable[[Any], None], place: str) -> None:
    """Run ``kernel`` from the second call on, on Ideal or a chip."""

    def second(view) -> Any:
        return kernel(view) if view.call == 1 else None

    rule = Plasticity(second, w_max=0.8, period=10e-3, sensor=Correlation(5e-3, 1 / 128))
    net = sl.Network(
        {"input": sl.Population(3), "o": sl.Population(2, sl.LIF(10e-3, 5e-3))},
        [sl.Projection("input", "o", torch.full((3, 2), 0.4), plasticity=rule)],
    )
    drive = sl.Events.from_lists([[1e-3], [1e-3]], [[0], [0]], 3)
    sl.run(net, drive, 30e-3, substrate=sl.Ideal() if place == "ideal" else ready(net), number=1)


def assigns(value: Any) -> Callable[[Any], None]:
    def kernel(view) -> None:
        view.weights = value

    return kernel


def raises(view) -> None:
    raise KeyError("reward")


ANYWHERE = {
    "shape": (assigns(np.zeros((2, 3))), sl.ShapeMismatch, r", projection input_to_o: the rule assigns \(2, 3\)"),
    "list": (assigns([0.5]), sl.WrongType, ", projection input_to_o: the rule assigns a list to weights"),
    "nan": (assigns(np.full((3, 2), np.nan)), sl.OutOfRange, ".*NaN or infinite"),
    "raises": (raises, sl.RuleFailed, ": the rule raised KeyError: 'reward'"),
    "returns": (lambda view: 3, sl.WrongType, ": the rule returns an int"),
    "several": (lambda view: view["other"], sl.UnknownPopulation, ": the rule asks for 'other'"),
    "records": (lambda view: view.record("x", object()), sl.WrongType, ", 'x': the rule records an object"),
    "no name": (lambda view: view.record(1, 1.0), sl.WrongType, ": the rule records under an int"),
}
ON_A_CHIP = {
    "kinds": (lambda view: view.weights + view.counts, sl.WrongType, ".*Q0.15 and 16-bit whole numbers together"),
    "not finite": (lambda view: view.weights * np.nan, sl.OutOfRange, ".*NaN or infinite"),
    "divides": (lambda view: view.weights / view.causal, sl.Unsupported, ".*the processor cannot divide by a vector"),
    "function": (lambda view: np.exp(view.weights), sl.Unsupported, ".*the processor cannot do exp"),
    "keeps": (lambda view: view.state.update(x=np.zeros(5000)), sl.DoesNotFit, ": the state of the rule takes 20000"),
    "integers": (lambda view: view.integers(10**6), sl.OutOfRange, ": integers below 1000000"),
}


@pytest.mark.parametrize("place", ["ideal", "chip"])
@pytest.mark.parametrize("name", ANYWHERE)
def test_a_wrong_call_is_named(name: str, place: str) -> None:
    kernel, error, message = ANYWHERE[name]
    with pytest.raises(error, match=CALL + message):
        fails(kernel, place)


@pytest.mark.parametrize("name", ON_A_CHIP)
def test_what_a_chip_cannot_do_is_named(name: str) -> None:
    kernel, error, message = ON_A_CHIP[name]
    with pytest.raises(error, match=CALL + message):
        fails(kernel, "chip")


@pytest.mark.parametrize("place", ["ideal", "chip"])
def test_shapes_that_change_from_call_to_call_are_named(place: str) -> None:
    def grows(view) -> None:
        view.record("x", np.zeros(view.call + 1))

    rule = Plasticity(grows, w_max=0.8, period=10e-3, sensor=None)
    net = sl.Network(
        {"input": sl.Population(3), "o": sl.Population(2, sl.LIF(10e-3, 5e-3))},
        [sl.Projection("input", "o", torch.full((3, 2), 0.4), plasticity=rule)],
    )
    drive = sl.Events.from_lists([[1e-3]], [[0]], 3)
    with pytest.raises(sl.ShapeMismatch, match=CALL + r", 'x': the rule records \(2,\)\. Expected: \(1,\), as in"):
        sl.run(net, drive, 30e-3, substrate=sl.Ideal() if place == "ideal" else ready(net))


def test_samples_record_the_same_shape() -> None:
    def by_spikes(view) -> None:
        view.record("x", np.zeros(int(np.asarray(view.source_counts).sum()) + 1))

    rule = Plasticity(by_spikes, w_max=0.8, period=30e-3, sensor=None)
    net = sl.Network(
        {"input": sl.Population(3), "o": sl.Population(2, sl.LIF(10e-3, 5e-3))},
        [sl.Projection("input", "o", torch.full((3, 2), 0.4), plasticity=rule)],
    )
    drive = sl.Events.from_lists([[1e-3], []], [[0], []], 3)
    for substrate in (sl.Ideal(), ready(net)):
        with pytest.raises(sl.ShapeMismatch, match=r"call 0 at 0\.03 s, sample 1, 'x': the rule records \(1,\)"):
            sl.run(net, drive, 30e-3, substrate=substrate)


GIVEN = [list, tuple, np.array, torch.tensor]


@pytest.mark.parametrize("given", GIVEN)
def test_numbers_may_be_lists_arrays_and_tensors(given: Callable[[list[float]], Any]) -> None:
    program = Plasticity(lambda view: None, 1.0, period=given([0.25, 0.5, 1.0])).program("p")
    assert program.calls(0.0, 0.75) == [0.25, 0.5]
    assert ShortTerm(given([0.25, 0.5]), given([0.125, 1.0])) == ShortTerm((0.25, 0.5), (0.125, 1.0))
    sensor = Correlation(given([0.25, 0.5]), given([0.125, 1.0]))
    assert (sensor.taus, sensor.amplitudes) == ((0.25, 0.5), (0.125, 1.0))
    assert sensor == Correlation((0.25, 0.5), (0.125, 1.0))


@pytest.mark.parametrize("given", [np.float64, np.array, torch.tensor])
def test_a_number_may_be_an_array_without_axes(given: Callable[[float], Any]) -> None:
    assert Plasticity(lambda view: None, 1.0, period=given(0.25)).program("p").calls(0.0, 0.5) == [0.25, 0.5]
    assert ShortTerm(given(0.25), given(0.5)) == ShortTerm(0.25, 0.5)
    assert Correlation(given(0.25), given(0.5)) == Correlation(0.25, 0.5)


def test_times_are_kept_as_they_were_given() -> None:
    times = [0.25, 0.5]
    rule = Plasticity(lambda view: None, 1.0, period=times)
    program = rule.program("p")
    times.append(0.1)
    assert program.calls(0.0, 1.0) == rule.program("p").calls(0.0, 1.0) == [0.25, 0.5]


@pytest.mark.parametrize("given", [np.ones((2, 2)), torch.ones(2, 2), {1e-3}, iter([1e-3]), "often"], ids=type)
def test_what_is_no_number_is_refused(given: Any) -> None:
    for make in (
        lambda: Plasticity(lambda view: None, 1.0, period=given),
        lambda: ShortTerm(given, 0.1),
        lambda: ShortTerm(0.1, given),
        lambda: Correlation(given, 0.1),
        lambda: Correlation(1e-3, given),
    ):
        with pytest.raises(sl.WrongType, match=r" is an? "):
            make()


@pytest.mark.parametrize("given", [np.ones(2), torch.ones(2), [1.0, 2.0]], ids=type)
@pytest.mark.parametrize("name", ["w_max", "start", "budget"])
def test_one_number_is_not_several(name: str, given: Any) -> None:
    with pytest.raises(sl.WrongType, match=f"{name} is an?"):
        Plasticity(**{"kernel": lambda view: None, "w_max": 1.0, "period": 1.0, name: given})


def test_wrong_lengths_and_couplings_are_refused() -> None:
    with pytest.raises(sl.OutOfRange, match="tau has 3 numbers"):
        Correlation(np.ones(3))
    with pytest.raises(sl.OutOfRange, match="not in order"):
        Program(lambda view: None, {"p": sl.plasticity.Plastic(1.0)}, period=np.array([2.0, 1.0]))
    cell = sl.Compartment(10e-3, 5e-3)
    with pytest.raises(sl.WrongType, match="the couplings are a list.*a mapping from pairs"):
        sl.Compartments({"a": cell, "b": cell}, [("a", "b", 1e-3)])  # type: ignore[arg-type]
