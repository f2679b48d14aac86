"""What the tests of bad input share: a small network, its drive, and what every error must say."""

from collections.abc import Callable

import pytest
import torch

from spikeloop import LIF, Events, Network, SpikeloopError, feedforward

NEURON, DURATION = LIF(10e-3, 5e-3), 60e-3


def network(hidden: int = 3) -> Network:
    torch.manual_seed(0)
    return feedforward([2, hidden, 2], NEURON)


def drive() -> Events:
    return Events.from_lists([[1e-3, 2e-3, 3e-3]], [[0, 1, 0]], size=2)


Item = tuple[Callable[[], object], type[SpikeloopError], str, str]
"""What is done, the error, its what and where, and what it says was expected or is to be done; both are patterns."""


def check_error(act: Callable[[], object], kind: type[SpikeloopError], found: str, help_: str) -> None:
    with pytest.raises(kind, match=f"(?s){found}.*{help_}") as caught:
        act()
    error = caught.value
    assert type(error) is kind
    assert error.what
    assert error.expected or error.todo
    assert all(part in str(error) for part in (error.what, error.where, error.expected, error.todo) if part)
