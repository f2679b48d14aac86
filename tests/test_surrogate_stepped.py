"""Surrogate gradients of AdEx neurons and compartments, through networks of exact and stepped stages."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spikeloop import (
    LI,
    LIF,
    AdEx,
    Compartment,
    Compartments,
    EventProp,
    Events,
    Ideal,
    Network,
    Observe,
    Plateau,
    Population,
    Projection,
    Sodium,
    Steps,
    SuperSpike,
    run,
)
from spikeloop.errors import OutOfRange, Unsupported

MS = 1e-3
DT = 0.05 * MS
DURATION = 40 * MS
PLACE = Ideal(step=DT)
TIMES = torch.linspace(2 * MS, 40 * MS, 20, dtype=torch.float64)
EVENTS = Events.from_lists(
    [[2 * MS, 5 * MS, 9 * MS, 11 * MS, 20 * MS], [1 * MS, 4 * MS, 4.3 * MS, 22 * MS]],
    [[0, 1, 0, 1, 0], [1, 0, 1, 0]],
    2,
)
CURRENT = Steps([0.0, 15 * MS], torch.tensor([[0.2, 0.3], [-0.1, 0.1]]))


def learned(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64))


def adex(threshold: float = 50.0) -> AdEx:
    """Every number of it is learned; with a high threshold it never spikes."""
    return AdEx(
        learned(10 * MS, 12 * MS), {"exc": learned(4 * MS), "inh": learned(7 * MS, 8 * MS)}, learned(threshold),
        learned(0.1), learned(-0.2, -0.3), 0.5 * MS, learned(0.1), learned(0.9, 1.1), learned(20 * MS),
        learned(0.3, 0.5), learned(0.2), {"inh": learned(-0.6)},
    )  # fmt: skip


def tree(threshold: float = 50.0) -> Compartments:
    parts = {
        "soma": Compartment(
            learned(10 * MS), learned(4 * MS), learned(0.05), learned(1.2),
            Sodium(learned(threshold), learned(-0.1), 1 * MS), tau_adaptation=learned(15 * MS), a=learned(0.2),
            b=learned(0.1),
        ),
        "dendrite": Compartment(
            learned(15 * MS, 12 * MS), {"nmda": learned(9 * MS)}, 0.0, learned(0.8, 0.7), Plateau(40.0, 41.0),
            {"nmda": learned(3.0)},
        ),
    }  # fmt: skip
    return Compartments(parts, {("soma", "dendrite"): learned(6 * MS, 8 * MS)})


def network(neuron: AdEx | Compartments) -> Network:
    places = (
        [{"receptor": "exc"}, {"receptor": "inh"}] if isinstance(neuron, AdEx) else [{}, {"compartment": "dendrite"}]
    )
    weights = [torch.tensor([[0.6, 0.9], [0.8, 0.5]]), torch.tensor([[0.4, -0.3], [-0.2, 0.3]])]
    links = [
        Projection("input", "cells", weight.double() * (-1 if "inh" in place.values() else 1), **place)
        for weight, place in zip(weights, places, strict=True)
    ]
    return Network({"input": Population(2), "cells": Population(2, neuron)}, links)


def loss_of(net: Network, rule: SuperSpike | None) -> torch.Tensor:
    """A smooth function of what is sampled of the membranes."""
    structure = net.populations["cells"].structure
    assert structure is not None
    places = [f"cells.{site.name}" if site.name else "cells" for site in structure.sites]
    drive = {"input": EVENTS, places[-1]: CURRENT}
    record = run(net, drive, DURATION, substrate=PLACE, rule=rule, observe=Observe(dict.fromkeys(places, TIMES)))
    weight = torch.cos(torch.arange(TIMES.numel() * 4, dtype=torch.float64)).reshape(2, TIMES.numel(), 2)
    return sum(((weight + 0.3 * k) * record.membrane[place].value).sum() for k, place in enumerate(places))  # type: ignore[return-value]


@pytest.mark.parametrize("neuron", [adex, tree], ids=["AdEx", "compartments"])
def test_below_threshold_every_gradient_is_that_of_the_model_itself(neuron) -> None:
    net = network(neuron())
    loss_of(net, SuperSpike(DT, beta=1e9)).backward()  # so narrow that nothing goes through spikes
    names = {name for name, _ in net.named_parameters()}
    assert len(names) > 12
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        for index in range(parameter.numel()):
            found = float(parameter.grad.flatten()[index])
            wanted = difference(net, parameter, index)
            assert found == pytest.approx(wanted, rel=2e-5, abs=2e-6), (name, index)


def difference(net: Network, parameter: nn.Parameter, index: int) -> float:
    """The central difference of the loss."""
    return central(lambda: loss_of(net, None), parameter, index)


def central(loss: Callable[[], torch.Tensor], parameter: nn.Parameter, index: int) -> float:
    """The central difference by one entry."""
    flat, values, size = parameter.detach().flatten().clone(), [], 1e-4
    with torch.no_grad():
        for sign in (1, -1):
            moved = flat.clone()
            moved[index] += sign * size
            parameter.copy_(moved.view_as(parameter))
            values.append(float(loss()))
        parameter.copy_(flat.view_as(parameter))
    return (values[0] - values[1]) / (2 * size)


def held_adex() -> AdEx:
    return AdEx(
        10 * MS, 5 * MS, reset=learned(-0.2), refractory=learned(3.31 * MS, 4.17 * MS), tau_adaptation=20 * MS, a=0.2,
        b=0.1,
    )  # fmt: skip


def held_tree() -> Compartments:
    soma = Sodium(1.0, learned(-0.2), learned(3.31 * MS, 4.17 * MS))
    dendrite = Plateau(1.0, learned(2.0), learned(8.23 * MS, 6.36 * MS))
    parts = {"soma": Compartment(10 * MS, 5 * MS, spike=soma), "dendrite": Compartment(10 * MS, 5 * MS, spike=dendrite)}
    return Compartments(parts, {("soma", "dendrite"): 25 * MS})


def once(neuron: AdEx | Compartments) -> Network:
    """Every compartment is held once, from the first events on."""
    places = [{"compartment": site.name} if site.name else {} for site in neuron.structure.sites]
    weight = torch.tensor([[7.0, 6.0], [0.3, 0.4]], dtype=torch.float64)
    links = [Projection("input", "cells", weight, **place) for place in places]
    return Network({"input": Population(2), "cells": Population(2, neuron)}, links)


EARLY = Events.from_lists([[2 * MS, 9 * MS, 11 * MS], [1 * MS, 12 * MS]], [[0, 1, 1], [0, 1]], 2)


def held_loss(net: Network, dt: float, rule: SuperSpike | None) -> torch.Tensor:
    """A sum of samples of all membranes."""
    structure = net.populations["cells"].structure
    assert structure is not None
    places = [f"cells.{site.name}" if site.name else "cells" for site in structure.sites]
    observe = Observe(dict.fromkeys(places, TIMES))
    record = run(net, EARLY, DURATION, substrate=Ideal(step=dt), rule=rule, observe=observe)
    assert bool((record.count["cells"] == 1).all())
    weight = torch.cos(torch.arange(TIMES.numel() * 4, dtype=torch.float64)).reshape(2, TIMES.numel(), 2)
    return sum((weight * record.membrane[place].value).sum() for place in places)  # type: ignore[return-value]


def held_errors(net: Network, dt: float) -> list[float]:
    """Of each number, how far its gradient is from differences of the model itself."""
    held_loss(net, dt, SuperSpike(dt, beta=1e9)).backward()
    found = []
    for name, parameter in net.named_parameters():
        if "weight" not in name:
            of_each = [central(lambda: held_loss(net, dt, None), parameter, k) for k in range(parameter.numel())]
            wanted = torch.tensor(of_each)
            assert parameter.grad is not None
            assert float(wanted.norm()) > 0.03, name
            found.append(float((parameter.grad.flatten() - wanted).norm() / wanted.norm()))
    return found


@pytest.mark.parametrize(("neuron", "numbers"), [(held_adex, 2), (held_tree, 4)], ids=["AdEx", "sodium and plateau"])
def test_how_long_and_where_neurons_are_held_has_the_gradient_of_the_model_itself(neuron, numbers: int) -> None:
    """To the first order in the step: there a compartment crosses at the end of a step, and rises evenly in the one in
    which it is released."""
    coarse, fine = (held_errors(once(neuron()), dt) for dt in (0.2 * MS, 0.0125 * MS))
    assert len(fine) == numbers
    assert max(fine) < 5e-3, fine
    assert max(fine) < 0.2 * max(coarse), (coarse, fine)


def chain(first: LIF | AdEx, last: LI | AdEx, threshold: float = 1.0) -> Network:
    """LIF or its equal in steps; AdEx; a readout, or its equal in steps."""
    generator = torch.Generator().manual_seed(3)

    def weights(rows: int, columns: int, size: float) -> torch.Tensor:
        return size * (0.5 + torch.rand(rows, columns, generator=generator, dtype=torch.float64))

    middle = AdEx(10 * MS, 5 * MS, threshold, b=0.1, a=0.1, tau_adaptation=20 * MS)
    populations = {"input": Population(2), "first": Population(4, first), "cells": Population(3, middle)}
    return Network(
        {**populations, "output": Population(2, last)},
        [
            Projection("input", "first", weights(2, 4, 3.0)),
            Projection("first", "cells", weights(4, 3, 1.5), 0.7 * MS),
            Projection("cells", "output", weights(3, 2, 0.5), 1.3 * MS),
        ],
    )


EXACT, READOUT = LIF(10 * MS, 5 * MS), LI(8 * MS, 4 * MS)
LIF_EQUAL = AdEx(10 * MS, 5 * MS)
LI_EQUAL = AdEx(8 * MS, 4 * MS, threshold=float("inf"))


def weight_gradients(net: Network, dt: float, beta: float = 3.0) -> list[torch.Tensor]:
    observe = Observe({"output": 1 * MS})
    rule = SuperSpike(dt, beta, replay=True)
    record = run(net, EVENTS, DURATION, substrate=Ideal(step=dt), rule=rule, observe=observe)
    loss = (
        record.membrane["output"].value.square().sum() + record.count["first"].sum() * 0.3 + record.count["cells"].sum()
    )
    assert all(float(record.count[name].detach().sum()) > 3 for name in ("first", "cells"))
    loss.backward()
    return [projection.weight.grad for projection in net.projections.values()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("first", "last"), [(EXACT, READOUT), (LIF_EQUAL, READOUT), (EXACT, LI_EQUAL)],
    ids=["exact, stepped, exact", "stepped, stepped, exact", "exact, stepped, stepped"],
)  # fmt: skip
def test_exact_and_stepped_stages_pass_gradients_to_each_other(first, last) -> None:
    """All in steps, or with exact stages around: the same, the more so the smaller the step."""
    errors = []
    for dt in (0.1 * MS, 0.025 * MS):
        found = weight_gradients(chain(first, last), dt)
        wanted = weight_gradients(chain(LIF_EQUAL, LI_EQUAL), dt)
        errors.append(max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)))
    assert errors[0] < 1e-3
    assert errors[1] < max(0.2 * errors[0], 1e-8)


def test_a_batch_in_parts_has_the_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(adex(1.0))
    each = Steps([0.0], torch.tensor([[[2.0, 1.8]], [[1.5, 2.2]]]))  # others for each sample
    found = []
    for room in (1 << 21, 1):
        monkeypatch.setattr("spikeloop.gradient.surrogate._ROOM", room)
        record = run(net, {"input": EVENTS, "cells": each}, DURATION, rule=SuperSpike(0.2 * MS), substrate=PLACE)
        assert int(record.count["cells"].detach().min()) > 0
        (record.count["cells"] * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
        found.append([parameter.grad for parameter in net.parameters()])
        net.zero_grad()
    for whole, parts in zip(*found, strict=True):
        assert whole is not None
        assert torch.allclose(whole, parts, rtol=1e-9, atol=1e-12)


def test_it_learns() -> None:
    """A silent AdEx neuron is taught to spike about three times, by its weights and by numbers of its own."""
    torch.manual_seed(0)
    neuron = AdEx(learned(10 * MS), 5 * MS, learned(1.0), b=learned(0.1), tau_adaptation=30 * MS)
    net = Network(
        {"input": Population(2), "cells": Population(1, neuron)},
        [Projection("input", "cells", torch.full((2, 1), 0.4, dtype=torch.float64))],
    )
    assert run(net, EVENTS, DURATION).count["cells"].tolist() == [[0.0], [0.0]]
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        count = run(net, EVENTS, DURATION, rule=SuperSpike(0.5 * MS)).count["cells"]
        loss = (count - 3).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float((run(net, EVENTS, DURATION).count["cells"].detach() - 3).abs().max()) <= 1


def test_what_it_cannot_do_is_refused() -> None:
    net = network(adex(1.0))
    with pytest.raises(OutOfRange, match="population 'cells'.*at most"):
        run(net, EVENTS, DURATION, rule=SuperSpike(2 * MS)).count["cells"].sum().backward()
    with pytest.raises(Unsupported, match="EventProp has no gradient of AdEx"):
        run(net, EVENTS, DURATION, rule=EventProp())
    delayed = network(adex(1.0))
    first = delayed.projections["input_to_cells"]
    late = Projection("input", "cells", first.weight.detach(), nn.Parameter(torch.tensor(1e-3)), receptor="exc")
    delayed = Network(dict(delayed.populations.items()), [late])
    with pytest.raises(Unsupported, match="no gradient of delay"):
        run(delayed, EVENTS, DURATION, rule=SuperSpike(DT)).count["cells"].sum().backward()
    state = run(net, EVENTS, 25 * MS, observe=Observe(state=True), substrate=PLACE).state
    later = Events.from_lists([[26 * MS], []], [[0], []], 2)
    record = run(net, later, 20 * MS, start=state, rule=SuperSpike(DT), substrate=PLACE)
    with pytest.raises(Unsupported, match="start"):
        record.count["cells"].sum().backward()
