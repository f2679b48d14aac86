"""Bad input through the front door: every error says what is wrong, where, what was expected or what to do.

The errors of single modules are tested beside them; here is what a user meets who runs and trains a network.
"""

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_input import DURATION, NEURON, Item, check_error, drive, network
from safetensors.torch import save_file

from spikeloop import (
    LI,
    LIF,
    EventProp,
    Events,
    Every,
    Ideal,
    Network,
    Observe,
    Population,
    Projection,
    feedforward,
    run,
)
from spikeloop import errors as wrong
from spikeloop.checkpoint import load_network, save_network
from spikeloop.data import MNIST, YinYang
from spikeloop.training import Settings, fit


def events(time: float, unit: int = 0, before: float = 0.0) -> Events:
    """Two events in sample 1, given as they are."""
    times, units = torch.tensor([before, time], dtype=torch.float64), torch.tensor([0, unit], dtype=torch.int32)
    return Events(times, units, torch.tensor([0, 0, 2]), 2)


def one_layer(weight: torch.Tensor, loop: torch.Tensor | None = None) -> Network:
    links = [Projection("input", "hidden", weight)]
    links += [] if loop is None else [Projection("hidden", "hidden", loop)]
    return Network({"input": Population(2), "hidden": Population(3, NEURON)}, links)


def learned_nan() -> None:
    net = network()
    with torch.no_grad():
        net.projection("hidden", "output").weight.fill_(math.nan)
    run(net, drive(), DURATION)


def learned_threshold() -> None:
    net = feedforward([2, 2], LIF(10e-3, 5e-3, threshold=torch.nn.Parameter(torch.ones(2))))
    with torch.no_grad():
        net.populations["output"].threshold -= 2
    run(net, drive(), DURATION)


def explosion() -> None:
    run(one_layer(torch.full((2, 3), 50.0), torch.full((3, 3), 50.0)), drive(), DURATION, substrate=Ideal(100))


def twice() -> None:
    net = network()
    loss = run(net, drive(), DURATION, rule=EventProp()).count["output"].sum()
    torch.autograd.grad(loss, list(net.parameters()), create_graph=True)


def count_without_pseudo_gradient() -> None:
    run(network(), drive(), DURATION, rule=EventProp(count_gradient=False)).count["output"].sum().backward()


ITEMS: dict[str, Item] = {
    "unsorted times": (lambda: events(1e-3, before=2e-3), wrong.InvalidEvents, "sample 1, event 1", "from_lists sorts"),
    "a negative time": (lambda: events(1e-3, before=-1e-3), wrong.InvalidEvents, "sample 1, event 0", "from 0 on"),
    "NaN": (lambda: events(math.nan), wrong.InvalidEvents, "sample 1, event 1: a time of nan", "finite"),
    "an infinite time": (lambda: events(math.inf), wrong.InvalidEvents, "sample 1, event 1: a time of inf", "finite"),
    "a unit out of range": (lambda: events(1e-3, 2), wrong.InvalidEvents, "event 1: unit 2", "units from 0 to 1"),
    "milliseconds": (
        lambda: run(network(), Events.from_lists([[1.0, 20.0]], [[0, 1]], size=2), DURATION),
        wrong.InvalidEvents,
        "drive 'input': all 2 events are after the end, the first at 1 s",
        "Events are in seconds; scale=1e-3 reads ms",
    ),
    "an unknown input": (
        lambda: run(network(), {"inputs": drive()}, DURATION),
        wrong.UnknownPopulation,
        "drive: Events are given for 'inputs'",
        "exactly the input populations: 'input'",
    ),
    "an unknown population to observe": (
        lambda: run(network(), drive(), DURATION, observe=Observe(peak={"out"})),
        wrong.UnknownPopulation,
        "observe: there is no 'out'",
        "one of hidden, output",
    ),
    "a neuron that does not exist": (
        lambda: run(network(), drive(), DURATION, observe=Observe(membrane={"hidden": Every(1e-3, [3])})),
        wrong.OutOfRange,
        "observe, membrane of 'hidden': a neuron does not exist",
        "neurons from 0 to 2",
    ),
    "a transposed weight": (
        lambda: one_layer(torch.ones(3, 2)),
        wrong.ShapeMismatch,
        r"projection input_to_hidden: the weight has shape \(3, 2\), which is the transpose",
        r"\(2, 3\): weight is \(source, target\).*from_linear",
    ),
    "events of other units": (
        lambda: run(network(), Events.from_lists([[1e-3]], [[0]], size=784), DURATION),
        wrong.ShapeMismatch,
        "drive 'input': the events are of 784 units",
        "2, its size",
    ),
    "no time constant": (lambda: LI(10e-3, 0.0), wrong.InvalidNetwork, "LI: tau_syn is 0", "above zero, in seconds"),
    "reset above threshold": (
        lambda: LIF(10e-3, 5e-3, reset=1.5),
        wrong.InvalidNetwork,
        "LIF: reset is not below threshold",
        "lower reset or raise threshold",
    ),
    "a threshold learned below reset": (
        learned_threshold,
        wrong.InvalidNetwork,
        "population 'output': reset is not below threshold",
        "lower reset or raise threshold",
    ),
    "NaN weights": (
        learned_nan,
        wrong.InvalidNetwork,
        "projection hidden_to_output: weight has NaN values",
        "finite numbers",
    ),
    "an explosion": (
        explosion,
        wrong.ActivityExplosion,
        "population 'hidden', sample 0: neuron . spikes more than 100 times",
        "Lower the weights",
    ),
    "no rule": (
        lambda: run(network(), drive(), DURATION).count["output"].sum().backward(),
        wrong.NoRule,
        "made without a rule",
        r"Pass rule=EventProp\(\)",
    ),
    "a cotangent without use": (
        count_without_pseudo_gradient,
        wrong.Unsupported,
        "population 'output': EventProp cannot use a gradient of the count",
        "a loss of membrane, peak, time",
    ),
    "double backward": (twice, wrong.Unsupported, "cannot be differentiated twice", "create_graph=True"),
    "a network elsewhere": (
        lambda: run(network().to("meta"), drive(), DURATION),
        wrong.Unsupported,
        "projection input_to_hidden: its tensors are on meta",
        "Move the network to the CPU",
    ),
    "events elsewhere": (
        lambda: run(network(), drive().to("meta"), DURATION),
        wrong.Unsupported,
        "drive 'input': the events are on meta",
        "to..cpu..",
    ),
}


@pytest.mark.parametrize("item", ITEMS)
def test_an_error_says_what_where_and_what_to_do(item: str) -> None:
    check_error(*ITEMS[item])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-10]), "cannot be read.*use another copy"),
    "foreign": (
        lambda path: save_file({"weight": torch.ones(2)}, path),
        "not written by spikeloop.*format 'spikeloop'",
    ),
    "newer": (
        lambda path: save_file({}, path, {"format": "spikeloop", "version": "2", "meta": "{}"}),
        "format version 2. Expected: at most 1. It was written by a newer spikeloop: upgrade",
    ),
    "another network's": (lambda path: save_network(path, feedforward([2, 2], NEURON)), "lacks .*in excess"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_checkpoint_is_named_and_changes_nothing(tmp_path: Path, kind: str) -> None:
    spoil, message = FILES[kind]
    path, net = tmp_path / "net.safetensors", network()
    save_network(path, net)
    spoil(path)
    spoilt, before = path.read_bytes(), {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(wrong.CheckpointError, match=f"(?s){message}") as caught:
        load_network(path, net)
    assert caught.value.where == str(path)
    assert caught.value.expected or caught.value.todo
    assert path.read_bytes() == spoilt
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_data_file_with_the_wrong_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(b"not the images")
    monkeypatch.setenv("SPIKELOOP_DATA", str(tmp_path))
    with pytest.raises(wrong.DataError, match="sha256 [0-9a-f]{64}. Expected: 8d422c7b.*replace it") as caught:
        MNIST("test")
    assert caught.value.where == str(path)


def test_events_after_the_end_are_counted_and_have_no_effect() -> None:
    net = network()
    late = Events.from_lists([[1e-3, 2e-3, 3e-3, 70e-3]], [[0, 1, 0, 1]], size=2)
    late.time.requires_grad_()
    with pytest.warns(wrong.SpikeloopWarning, match=r"drive 'input': 1 of 4 events are after the end \(0.06 s\)"):
        record = run(net, late, DURATION, rule=EventProp())
    record.spikes["hidden"].time.sum().backward()
    assert len(record.spikes["hidden"].time)
    assert torch.equal(record.spikes["hidden"].time, run(net, drive(), DURATION).spikes["hidden"].time)
    assert late.time.grad is not None
    assert late.time.grad[:3].any()
    assert late.time.grad[3] == 0


def test_a_failed_run_leaves_the_network_usable() -> None:
    net = one_layer(torch.full((2, 3), 50.0), torch.full((3, 3), 50.0))
    with pytest.raises(wrong.ActivityExplosion):
        run(net, drive(), DURATION, substrate=Ideal(spike_limit=100), rule=EventProp())
    with torch.no_grad():
        net.projection("hidden", "hidden").weight.zero_()
    record = run(net, drive(), DURATION, rule=EventProp())
    record.spikes["hidden"].time.sum().backward()
    assert net.projection("input", "hidden").weight.grad is not None


def test_a_disk_that_fills_during_a_training_costs_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(folder: Path, epochs: int, resume: bool = False) -> list[float]:
        torch.manual_seed(0)
        data, settings = YinYang("train", size=20), Settings(duration=DURATION, batch_size=10)
        done = fit(feedforward([5, 10, 3], NEURON), data, settings, epochs=epochs, folder=folder, resume=resume)
        return [line["loss"] for line in done.history]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    whole = train(tmp_path / "whole", 2)
    train(tmp_path / "broken", 1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path / "broken", 2, resume=True)
    monkeypatch.undo()
    assert train(tmp_path / "broken", 2, resume=True) == whole
