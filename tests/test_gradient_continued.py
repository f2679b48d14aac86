"""EventProp of a run that goes on from a state, with neurons that were held when the first one was cut: the state is
given, so gradients are the differences of the second run alone."""

import pytest
import torch
from torch import nn

from spikeloop import (
    LIF,
    EventProp,
    Events,
    Network,
    Normal,
    Observe,
    OnChip,
    Population,
    Projection,
    Record,
    State,
    Unsupported,
    feedforward,
    run,
)  # fmt: skip
from spikeloop.chip.twin import EVERYTHING, Twin

MS = 1e-3
CUT, LENGTH = 21.3 * MS, 30 * MS
TIMES = CUT + torch.tensor([0.0, 0.4, 1.0, 2.3, 5.0, 11.0, 17.0, 29.0], dtype=torch.float64) * MS


def learned(value: float, size: int) -> nn.Parameter:
    return nn.Parameter(value * (1 + 0.04 * torch.cos(3 * torch.arange(size, dtype=torch.float64))))


def network(loop: bool) -> Network:
    """Neurons of two populations with long refractory times, or of one in a loop with delays."""
    generator = torch.Generator().manual_seed(4)

    def weights(rows: int, columns: int, size: float) -> nn.Parameter:
        return nn.Parameter(size * (0.5 + torch.rand(rows, columns, generator=generator, dtype=torch.float64)))

    def neurons(size: int) -> Population:
        values = {"tau_mem": 10 * MS, "tau_syn": 5 * MS, "threshold": 1.0, "leak": 0.1, "reset": -0.2}
        refractory = learned(6.1 * MS, size)
        return Population(size, LIF(**{name: learned(v, size) for name, v in values.items()}, refractory=refractory))

    populations = {"input": Population(3), "hidden": neurons(6), "output": neurons(3)}
    links = [
        Projection("input", "hidden", weights(3, 6, 2.2), 0.3 * MS),
        Projection("hidden", "output", weights(6, 3, 1.3), nn.Parameter(torch.tensor(1.7 * MS, dtype=torch.float64))),
    ]
    if loop:
        links.append(Projection("hidden", "hidden", weights(6, 6, -0.2), 0.9 * MS))
    return Network(populations, links)


def drive(begin: float, end: float, seed: int) -> Events:
    generator = torch.Generator().manual_seed(seed)
    time = begin + (end - begin) * torch.rand(2, 24, generator=generator, dtype=torch.float64)
    return Events.from_padded(time, torch.arange(24).repeat(2, 1) % 3, 3)


def second(net: Network, state: State, rule: EventProp | None) -> Record:
    observe = Observe({"hidden": TIMES, "output": TIMES}, peak={"output"})
    return run(net, drive(CUT, CUT + 0.8 * LENGTH, 2), LENGTH, rule=rule, start=state, observe=observe)


def loss_of(record: Record) -> torch.Tensor:
    """Of spike times, membranes (those that are held, too) and peaks."""
    total = torch.zeros((), dtype=torch.float64)
    for name in ("hidden", "output"):
        time, value = record.spikes[name].time - CUT, record.membrane[name].value
        total = total + (torch.cos(1.0 * torch.arange(len(time))) * time / (10 * MS)).sum()
        total = total + (torch.sin(1.0 + torch.arange(value.numel())).reshape(value.shape) * value).sum()
    return total + record.peak["output"].value.square().sum()


@pytest.mark.parametrize("loop", [False, True], ids=["layers", "loop"])
def test_gradients_of_a_run_that_begins_with_held_neurons_are_its_differences(loop: bool) -> None:
    net = network(loop)
    with torch.no_grad():
        state = run(net, drive(0.0, CUT, 1), CUT, observe=Observe(state=True)).state
    assert state is not None
    assert all(2 <= int((held > 0).sum()) < held.numel() for held in state.held.values())
    record = second(net, state, EventProp())
    assert all(float(record.count[name].detach().sum()) > 3 for name in ("hidden", "output"))
    loss_of(record).backward()
    checked = 0
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        for index in range(0, parameter.numel(), 1 if parameter.numel() < 10 else 4):
            wanted = difference(net, state, parameter, index)
            assert float(parameter.grad.flatten()[index]) == pytest.approx(wanted, rel=1e-6, abs=1e-7), (name, index)
            checked += 1
    assert checked > 60


def difference(net: Network, state: State, parameter: nn.Parameter, index: int) -> float:
    """Of fourth order."""
    flat, size = parameter.detach().flatten().clone(), 2e-6
    with torch.no_grad():
        values: list[float] = []
        for places in (2, 1, -1, -2):
            moved = flat.clone()
            moved[index] += places * size
            parameter.copy_(moved.view_as(parameter))
            values.append(float(loss_of(second(net, state, None))))
        parameter.copy_(flat.view_as(parameter))
    return (-values[0] + 8 * values[1] - 8 * values[2] + values[3]) / (12 * size)


def test_what_is_held_from_before_depends_neither_on_reset_nor_on_how_long() -> None:
    """A run that ends before anything is released, or spikes: of a hold only the state is left."""
    net = network(False)
    with torch.no_grad():
        state = run(net, drive(0.0, CUT, 1), CUT, observe=Observe(state=True)).state
    assert state is not None
    quiet, end = Events.from_lists([[], []], [[], []], 3), 0.05 * MS
    observe = Observe({"hidden": CUT + torch.tensor([0.2, 0.9], dtype=torch.float64) * end})
    record = run(net, quiet, end, rule=EventProp(), start=state, observe=observe)
    held = state.held["hidden"] > end
    assert int(held.sum()) >= 2
    (record.membrane["hidden"].value.sum(1) * held).sum().backward()
    for name, parameter in net.populations["hidden"].named_parameters():
        assert parameter.grad is None or not bool(parameter.grad.any()), name


def test_from_a_chips_state_nothing_is_differentiated():
    """It does not say where the neurons were."""
    net = feedforward([3, 2], LIF(10 * MS, 5 * MS), weight=Normal(2.0, 0.1))
    drive = Events.from_lists([[1 * MS, 2 * MS, 3 * MS]], [[0, 1, 2]], 3)
    chip = OnChip(Twin(7, ideal=EVERYTHING))
    first = run(net, drive, 10 * MS, substrate=chip, observe=Observe(state=True))
    second = run(net, drive.later(10 * MS), 10 * MS, substrate=chip, start=first.state, rule=EventProp())
    with pytest.raises(Unsupported, match="shows no membranes"):
        second.spikes["output"].time.sum().backward()
