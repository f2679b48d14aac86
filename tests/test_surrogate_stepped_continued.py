"""Surrogate gradients of neurons in steps, of a run that goes on from a state: those of that run alone."""

import math

import pytest
import torch
from test_surrogate_stepped import (
    CURRENT,
    DT,
    EARLY,
    EVENTS,
    EXACT,
    LI_EQUAL,
    LIF_EQUAL,
    MS,
    PLACE,
    READOUT,
    adex,
    central,
    chain,
    held_tree,
    network,
    once,
    tree,
)

from spikeloop import (
    AdEx,
    Events,
    Ideal,
    Network,
    Observe,
    Population,
    Projection,
    State,
    SuperSpike,
    run,
)
from spikeloop.errors import Unsupported
from spikeloop.plasticity import ShortTerm

LENGTH = 15 * MS
NEXT = Events.from_lists([[25.4 * MS, 27 * MS, 31 * MS], [26 * MS, 26.1 * MS, 33 * MS]], [[0, 1, 0], [1, 1, 0]], 2)


def until(cut: float, events: Events = EVENTS) -> Events:
    """The events before the cut."""
    rows = [slice(int(a), int(b)) for a, b in zip(events.start[:-1], events.start[1:], strict=True)]
    kept = [events.time[row] < cut for row in rows]
    times = [events.time[row][some] for row, some in zip(rows, kept, strict=True)]
    return Events.from_lists(times, [events.unit[row][some] for row, some in zip(rows, kept, strict=True)], 2)


def before(net: Network, drive: dict, cut: float, substrate: Ideal = PLACE) -> State:
    with torch.no_grad():
        state = run(net, drive, cut, observe=Observe(state=True), substrate=substrate).state
    assert state is not None
    return state


def places(net: Network) -> list[str]:
    structure = net.populations["cells"].structure
    assert structure is not None
    return [f"cells.{site.name}" if site.name else "cells" for site in structure.sites]


def loss_of(net: Network, state: State, drive: dict, rule: SuperSpike | None, substrate: Ideal = PLACE) -> torch.Tensor:
    """A smooth function of membranes after the cut, at the ends of steps."""
    times = state.time + 1.2 * MS * torch.arange(1, 13, dtype=torch.float64)
    record = run(
        net, drive, LENGTH, substrate=substrate, rule=rule, start=state,
        observe=Observe(dict.fromkeys(places(net), times)),
    )  # fmt: skip
    weight = torch.cos(torch.arange(48, dtype=torch.float64)).reshape(2, 12, 2)
    return sum(((weight + 0.3 * k) * record.membrane[place].value).sum() for k, place in enumerate(places(net)))  # type: ignore[return-value]


@pytest.mark.parametrize(("cut", "close"), [(25 * MS, 2e-5), (25.02 * MS, 1e-4)], ids=["at a step", "within one"])
@pytest.mark.parametrize("neuron", [adex, tree], ids=["AdEx", "compartments"])
def test_below_threshold_every_gradient_is_that_of_the_second_run(neuron, cut: float, close: float) -> None:
    """The differences are of runs in steps of a fifth, in which both cuts are at a step: the state there is given."""
    net, fine = network(neuron()), Ideal(step=DT / 5)
    drive = {"input": EVENTS, places(net)[-1]: CURRENT}
    state, same = before(net, drive, cut), before(net, drive, cut, fine)
    assert float(state.current["cells"].abs().min()) > 1e-3
    later = {"input": NEXT, places(net)[-1]: CURRENT}
    loss_of(net, state, later, SuperSpike(DT, beta=1e9)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        wanted = [
            central(lambda: loss_of(net, same, later, None, fine), parameter, k) for k in range(parameter.numel())
        ]
        for found, want in zip(parameter.grad.flatten().tolist(), wanted, strict=True):
            assert found == pytest.approx(want, rel=close, abs=0.1 * close), name


def test_a_hold_from_before_is_given() -> None:
    """Cut while soma and dendrite are held: how long they are held still is the state's."""
    net = once(held_tree())
    state = before(net, {"input": until(5.2 * MS, EARLY)}, 5.2 * MS)
    assert bool((state.held["cells"] > 0).any())
    quiet = {"input": Events.from_lists([[], []], [[], []], 2)}
    loss = loss_of(net, state, quiet, SuperSpike(DT, beta=1e9))
    loss.backward()
    for name, parameter in net.named_parameters():
        if "refractory" in name or "duration" in name or "potential" in name:
            assert parameter.grad is None or not bool(parameter.grad.any()), name


def continued(net: Network, dt: float) -> list[torch.Tensor]:
    """Gradients of the weights of a run from 14.3 ms on, with spikes still on their way."""
    place, cut, end = Ideal(step=dt), 14.3 * MS, 40 * MS
    state = before(net, {"input": until(cut)}, cut, place)
    later = Events.from_lists([[20 * MS], [22 * MS]], [[0], [1]], 2)
    observe, rule = Observe({"output": 1 * MS}), SuperSpike(dt, 3.0, replay=True)
    record = run(net, later, end - cut, substrate=place, rule=rule, observe=observe, start=state)
    assert float(record.count["cells"].detach().sum()) > 0
    (
        record.membrane["output"].value.square().sum() + record.count["first"].sum() + record.count["cells"].sum()
    ).backward()
    return [projection.weight.grad for projection in net.projections.values()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("first", "last"), [(EXACT, READOUT), (LIF_EQUAL, READOUT), (EXACT, LI_EQUAL)],
    ids=["exact, stepped, exact", "stepped, stepped, exact", "exact, stepped, stepped"],
)  # fmt: skip
def test_exact_and_stepped_stages_agree_about_a_run_that_goes_on(first, last) -> None:
    errors = []
    for dt in (0.1 * MS, 0.025 * MS):
        found = continued(chain(first, last), dt)
        wanted = continued(chain(LIF_EQUAL, LI_EQUAL), dt)
        errors.append(max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)))
    assert errors[0] < 2e-3, errors
    assert errors[1] < max(0.3 * errors[0], 1e-8), errors


def loop() -> Network:
    generator = torch.Generator().manual_seed(1)
    inward, around = (
        size * (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64))
        for size, shape in ((3.0, (2, 4)), (0.8, (4, 4)))
    )
    neurons = Population(4, AdEx(10 * MS, 5 * MS, b=0.1, a=0.1, tau_adaptation=20 * MS, refractory=1 * MS))
    links = [Projection("input", "cells", inward), Projection("cells", "cells", around, 2.3 * MS)]
    return Network({"input": Population(2), "cells": neurons}, links)


def test_in_a_loop_the_spikes_from_before_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch in one go or sample by sample, a cut within a step or not: the same, and spikes from before matter."""
    net, found = loop(), []
    state = before(net, {"input": until(20.03 * MS)}, 20.03 * MS)
    quiet = Events.from_lists([[], []], [[], []], 2)
    assert len(state.recent["cells"].time) > 0
    for room in (1 << 21, 1):
        monkeypatch.setattr("spikeloop.gradient.surrogate._ROOM", room)
        record = run(net, quiet, LENGTH, rule=SuperSpike(0.05 * MS), substrate=PLACE, start=state)
        (record.count["cells"].sum(1) * torch.tensor([1.0, 2.0])).sum().backward()
        found.append([projection.weight.grad.clone() for projection in net.projections.values()])
        net.zero_grad()
    assert float(found[0][1].norm()) > 1e-3
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("short", [None, ShortTerm(0.5, 30 * MS)], ids=["alike", "short-term"])
@pytest.mark.parametrize("dt", [0.2 * MS, 0.05 * MS, 0.4 * MS])
def test_what_was_sent_without_delay_arrives_once(short: ShortTerm | None, dt: float) -> None:
    """When the step ends in which it was sent: after a cut there, before a cut in the next step, whatever the rule's
    own step is. Weights of what is felt afterwards have a gradient, those of what was felt before have none."""
    step, populations = 0.2 * MS, {"input": Population(1), "cells": Population(2, AdEx(10 * MS, 5 * MS))}
    weights = [torch.tensor([[4.0, 1.0]]).double(), torch.tensor([[0.0, -0.5], [0.0, 0.0]]).double()]
    net = Network(
        populations,
        [Projection("input", "cells", weights[0]), Projection("cells", "cells", weights[1], short_term=short)],
    )
    drive, quiet = Events.from_lists([[1 * MS]], [[0]], 1), Events.from_lists([[]], [[]], 1)
    (sent,) = run(net, drive, 8 * MS, substrate=Ideal(step=step)).spikes["cells"].detach().time[:1].tolist()
    number = int(sent / step)
    assert 0.6 < sent / step - number < 1, "a spike that is late in its step"
    found = []
    for cut in ((number + 1) * step, (number + 1.5) * step):
        state = before(net, {"input": drive}, cut, Ideal(step=step))
        assert state.recent["cells"].unit.tolist() == [0]
        times = cut + 1 * MS * torch.arange(1, 5, dtype=torch.float64)
        rule, observe = SuperSpike(dt, beta=1e9), Observe({"cells": times})
        record = run(net, {"input": quiet}, 5 * MS, substrate=Ideal(step=step), rule=rule, start=state, observe=observe)
        assert len(record.spikes["cells"].time) == 0
        (gradient,) = torch.autograd.grad(
            record.membrane["cells"].value[..., 1].sum(), [net.projections["cells_to_cells"].weight]
        )
        found.append(float(gradient[0, 1]))
    kernels = [(math.exp(-t / 10) - math.exp(-t / 5)) for t in (1, 2, 3, 4)]
    assert found[0] == pytest.approx(sum(kernels) * (0.5 if short else 1.0), rel=2e-3)
    assert found[1] == 0


def test_membranes_sampled_between_the_steps_are_refused() -> None:
    """LIF beside it is looked at every dt of the clock, which the grid of the steps is not on."""
    net = chain(EXACT, READOUT)
    state = before(net, {"input": until(20.03 * MS)}, 20.03 * MS)
    quiet = Events.from_lists([[], []], [[], []], 2)
    record = run(net, quiet, LENGTH, rule=SuperSpike(0.05 * MS), substrate=PLACE, start=state)
    with pytest.raises(Unsupported, match="between their steps"):
        record.count["cells"].sum().backward()
