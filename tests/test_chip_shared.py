"""Sparse synapses that share a row and a column of the array: what they have of it, and what is said of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from chips import ready

from spikeloop import LIF, Events, Network, Observe, Population, Projection, run
from spikeloop.chip.array_codes import shared_out
from spikeloop.chip.configuration import WEIGHT_MAX
from spikeloop.plasticity import Plasticity, View
from spikeloop.record import Record

CODE = 1.357 / 63
"""Model weight of a code."""


def learned(sources: list[int], weights: list[float], kernel: Callable[[View], None] | None, **given: bool) -> Record:
    """Synapses onto one neuron; 0 sends once."""
    rule = {} if kernel is None else {"plasticity": Plasticity(kernel, 1.3, period=10e-3, **given)}
    target = torch.zeros(len(sources), dtype=torch.int64)
    net = Network(
        {"input": Population(6), "o": Population(1, LIF(10e-3, 5e-3))},
        [Projection.sparse("input", "o", torch.tensor(sources), target, torch.tensor(weights), **rule)],
    )
    drive = Events.from_lists([[15e-3]], [[0]], 6)
    wish = Observe(peak={"o"}, history=set() if kernel is None else {"input_to_o"})
    return run(net, drive, 40e-3, substrate=ready(net), number=1, observe=wish)


def nothing(view: View) -> None:
    pass


@pytest.mark.parametrize(("weights", "signed"), [([0.3, 0.3], False), ([0.6, 0.1], False), ([0.6, -0.5], True)])
def test_a_rule_that_does_nothing_changes_nothing_where_synapses_share_a_place(
    weights: list[float], signed: bool
) -> None:
    learns, still = learned([0, 0], weights, nothing, signed=signed), learned([0, 0], weights, None)
    np.testing.assert_allclose(learns.weights["input_to_o"][0], weights, atol=2 * CODE)
    assert float(learns.weights["input_to_o"].sum()) == pytest.approx(sum(weights), abs=1.5 * CODE)
    assert torch.equal(learns.peak["o"].value.detach(), still.peak["o"].value.detach())


def test_of_synapses_that_a_rule_moves_onto_one_place_only_what_the_row_holds_is_told() -> None:
    def together(view: View) -> None:
        view.sources = view.sources * 0
        view.weights = view.weights * 0 + 0.9

    record = learned([0, 1, 2, 3], [0.1] * 4, together)
    for told in (record.weights["input_to_o"][0], record.history["input_to_o"].value[0, 0]):
        assert float(told.sum()) == pytest.approx(63 * CODE, rel=1e-3)
        assert float(told.max() - told.min()) <= 1.01 * CODE


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_parts_add_up_and_are_in_proportion(signed: bool, whole: bool) -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        count = int(random.integers(0, 12))
        ends = random.integers(0, 2, count), random.integers(0, 3, count)
        code = random.uniform(-63 if signed else 0, 63, count)
        code = np.rint(code) if whole else code
        total, shared = np.zeros((2, 3)), np.zeros((2, 3))
        np.add.at(total, ends, code)
        dense = np.clip(np.rint(total), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int64)
        parts = shared_out(code, dense, ends, WEIGHT_MAX)
        np.add.at(shared, ends, parts)
        np.testing.assert_array_equal(shared, dense)
        room = (WEIGHT_MAX / np.maximum(np.abs(total), WEIGHT_MAX))[ends]
        assert np.abs(parts - code * room).max(initial=0) < 1 + 1e-6
        assert signed or parts.min(initial=0) >= 0
