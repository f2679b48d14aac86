"""Bad input: states that do not belong to the network, impossible labels, a full disk."""

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input import DURATION, Item, check_error, drive, network

from spikeloop import (
    Events,
    Observe,
    Peak,
    State,
    run,
)
from spikeloop import errors as wrong
from spikeloop.checkpoint import load, save
from spikeloop.loss import (
    first_spike_cross_entropy,
    max_over_time_cross_entropy,
    spike_count_cross_entropy,
)


def ended() -> State:
    state = run(network(), drive(), DURATION, observe=Observe(state=True)).state
    assert state is not None
    return replace(state, time=0.0)


def start(**changed: Mapping[str, Any]) -> Callable[[], object]:
    """A run from the end of another with some fields changed: an entry of None is left out."""

    def act() -> object:
        state = ended()
        fields = {what: {**getattr(state, what), **values} for what, values in changed.items()}
        left = {what: {n: v for n, v in values.items() if v is not None} for what, values in fields.items()}
        return run(network(), drive(), DURATION, start=replace(state, **left))

    return act


ITEMS: dict[str, Item] = {
    "a record to start from": (
        lambda: run(network(), drive(), DURATION, start=run(network(), drive(), DURATION)),  # type: ignore[arg-type]
        wrong.WrongType,
        "start: a Record",
        "record.state",
    ),
    **{
        f"a state without {what}": (
            start(**{what: {"hidden": None}}),
            wrong.UnknownPopulation,
            f"start, {what}: the state of 'hidden' is missing",
            r"all of hidden, output.*Observe\(state=True\)",
        )
        for what in ("membrane", "current", "held")
    },
    "a state of nobody": (
        start(current={"out": torch.zeros(1, 2)}),
        wrong.UnknownPopulation,
        "start, current: there is no 'out'",
        "one of hidden, output",
    ),
    "a state of another size": (
        start(held={"hidden": torch.zeros(1, 4)}),
        wrong.ShapeMismatch,
        r"start, held of population 'hidden': the state is \(1, 4\)",
        r"\(1, 3\)",
    ),
    "a state that is an array": (
        start(held={"hidden": torch.zeros(1, 3).numpy()}),
        wrong.WrongType,
        "held of population 'hidden': the state is a ndarray",
        "a tensor",
    ),
    "a state of NaN": (
        start(membrane={"hidden": torch.full((1, 3), math.nan)}),
        wrong.OutOfRange,
        "membrane of population 'hidden': the state has NaN",
        "finite numbers",
    ),
    "a state elsewhere": (
        start(membrane={"hidden": torch.zeros(1, 3, device="meta")}),
        wrong.Unsupported,
        "membrane of population 'hidden': the state is on meta",
        "to..cpu..",
    ),
    "spikes of nobody on their way": (
        start(recent={"out": drive()}),
        wrong.UnknownPopulation,
        "start, recent: there is no 'out'",
        "one of input, hidden, output",
    ),
    "spikes of other units on their way": (
        start(recent={"hidden": drive()}),
        wrong.ShapeMismatch,
        "start, recent of population 'hidden': the spikes are of 1 samples and 2 units",
        "3 units, its size",
    ),
}


@pytest.mark.parametrize("item", ITEMS)
def test_an_error_says_what_where_and_what_to_do(item: str) -> None:
    check_error(*ITEMS[item])


LOSSES: dict[str, Callable[[Any], object]] = {
    "first spike": lambda label: first_spike_cross_entropy(Events.from_trains([[[1e-3]] * 3] * 2), label),
    "highest membrane": lambda label: max_over_time_cross_entropy(Peak(torch.zeros(2, 3), torch.zeros(2, 3)), label),
    "most spikes": lambda label: spike_count_cross_entropy(torch.zeros(2, 3), label),
}
LABELS: dict[str, tuple[Any, type[wrong.SpikeloopError], str]] = {
    "negative": (torch.tensor([-1, 0]), wrong.OutOfRange, "a label of -1 names no unit"),
    "what torch ignores": (torch.tensor([-100, 0]), wrong.OutOfRange, "a label of -100 names no unit"),
    "too large": (torch.tensor([0, 3]), wrong.OutOfRange, "a label of 3 names no unit"),
    "a column": (torch.zeros(2, 1, dtype=torch.int64), wrong.ShapeMismatch, r"the labels have shape \(2, 1\)"),
    "too few": (torch.zeros(1, dtype=torch.int64), wrong.ShapeMismatch, r"the labels have shape \(1,\)"),
    "fractions": (torch.tensor([0.5, 1.0]), wrong.WrongType, "the labels are of torch.float32"),
    "booleans": (torch.tensor([True, False]), wrong.WrongType, "the labels are of torch.bool"),
    "a list": ([0, 1], wrong.WrongType, "the labels are a list"),
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_says_what_is_wrong_with_a_label(loss: str, label: str) -> None:
    given, kind, found = LABELS[label]
    check_error(
        lambda: LOSSES[loss](given), kind, f"label: {found}", r"\(2,\), one whole number from 0 to 2 per sample"
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_small_integers_are_labels(loss: str, kind: torch.dtype) -> None:
    found = [LOSSES[loss](torch.tensor([0, 2], dtype=each)) for each in (kind, torch.int64)]
    assert torch.is_tensor(found[0])
    assert torch.equal(*found)


def test_a_full_disk_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = tmp_path / "x", Path.open
    save(path, {"value": torch.ones(1)})
    monkeypatch.setattr(Path, "open", lambda self, *more: opened(Path("/dev/full"), *more))
    with pytest.raises(OSError, match="No space left on device; what was in the file before is still there") as caught:
        save(path, {"value": torch.zeros(1)})
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert load(path)[0]["value"].tolist() == [1.0]
