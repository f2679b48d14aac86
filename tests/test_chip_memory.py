"""The memory of the plasticity processor: all that its rules keep is counted, before a run and at every call."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from chips import ready

from spikeloop import LIF, Events, Network, Observe, Population, Projection, run
from spikeloop.chip.formats import FRACTION16, WHOLE8, Meter
from spikeloop.chip.fractional import Lanes
from spikeloop.chip.memory import bytes_of, check_memory
from spikeloop.errors import DoesNotFit
from spikeloop.plasticity import Plasticity, tell

VECTOR = Lanes(np.zeros(128, np.int64), WHOLE8, Meter())


@dataclass
class Trace:
    values: list[float]
    last: float = 0.0


KEPT = {
    "a number": (3.5, 4),
    "nothing": (None, 4),
    "text": ("abcde", 5),
    "8 bits": (VECTOR, 128),
    "16 bits": (Lanes(np.zeros((3, 4), np.int64), FRACTION16, Meter()), 24),
    "bytes": (np.zeros(100, np.uint8), 100),
    "double precision": (np.zeros((5, 5)), 100),
    "a tensor": (torch.zeros(10, dtype=torch.float64), 40),
    "a list": ([1.0] * 1_000_000, 4_000_000),
    "a dict": ({i: i for i in range(1000)}, 8000),
    "nested": ({"a": [(1, 2), {3}], "b": deque([np.zeros(10)])}, 1 + 8 + 4 + 1 + 40),
    "vectors": ([VECTOR[:] for _ in range(1000)], 128_000),
    "an object": (Trace([1.0, 2.0]), 12),
    "an array of objects": (np.array([1, [2, 3], None], object), 16),
    "one list twice": ([one := [1.0] * 10, one], 44),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_counted(name: str) -> None:
    value, size = KEPT[name]
    assert bytes_of([value]) == size


def test_what_holds_itself_is_counted_once() -> None:
    loop: list[Any] = [1.0]
    loop.append(loop)
    deep: list[Any] = [1.0]
    for _ in range(100):
        deep = [deep, deep]
    assert bytes_of([loop]) == 8
    assert bytes_of([deep]) == 4 + 100 * 4


def test_the_limit_is_the_processors() -> None:
    check_memory({"a": {"x": np.zeros(2048)}, "b": {"x": np.zeros(2048)}}, 16384, "here")
    with pytest.raises(
        DoesNotFit, match="here: the states of a processor's rules take 16388 bytes: program 'a' 8192, pro"
    ):
        check_memory({"a": {"x": np.zeros(2048)}, "b": {"x": np.zeros(2049)}}, 16384, "here")


def nothing(view) -> None:
    """A rule that does nothing."""


def network(*kernels, **options) -> Network:
    """A population for each of ``kernels``."""
    rules = [Plasticity(kernel, w_max=0.8, period=5e-3, sensor=None, **options) for kernel in kernels]
    populations = {"input": Population(3), **{f"p{k}": Population(2, LIF(10e-3, 5e-3)) for k in range(len(rules))}}
    weight = torch.full((3, 2), 0.3)
    return Network(populations, [Projection("input", f"p{k}", weight, plasticity=each) for k, each in enumerate(rules)])


SENT = Events.from_lists([[1e-3], [1e-3]], [[0], [0]], 3)


@pytest.mark.parametrize("value", [[1.0] * 5000, {i: i for i in range(3000)}, [VECTOR] * 5000], ids=type)
def test_a_rule_that_keeps_too_much_in_containers_is_named(value) -> None:
    def keeps(view) -> None:
        view.state["x"] = value

    net = network(keeps)
    with pytest.raises(
        DoesNotFit, match=r"program 'input_to_p0', call 0.*the state of the rule takes (20000|24000|640000) bytes"
    ):
        run(net, SENT, 20e-3, substrate=ready(net))


def test_programs_share_the_memory_of_their_processor() -> None:
    def keeps(view) -> None:
        view.state["x"] = np.zeros(2500)

    net = network(keeps)
    run(net, SENT, 20e-3, substrate=ready(net))
    net = network(keeps, keeps)
    with pytest.raises(
        DoesNotFit, match="program 'input_to_p1', call 0.*take 20000 bytes: program 'input_to_p0' 10000"
    ):
        run(net, SENT, 20e-3, substrate=ready(net))


def test_a_state_that_is_too_large_is_refused_before_the_run() -> None:
    net = network(nothing, state={"x": np.zeros(5000)})
    with pytest.raises(DoesNotFit, match="program 'input_to_p0', before the run, sample 0: the state .* 20000 bytes"):
        run(net, SENT, 4e-3, substrate=ready(net))
    net = network(nothing)
    first = run(net, SENT, 4e-3, substrate=ready(net), observe=Observe(state=True))
    told = tell(first.state, "input_to_p0", x=np.stack([np.zeros(5000), np.zeros(5000)]))
    with pytest.raises(DoesNotFit, match="program 'input_to_p0', before the run, sample 0"):
        run(net, Events.from_lists([[], []], [[], []], 3), 1e-3, substrate=ready(net), start=told)
