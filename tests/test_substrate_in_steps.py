"""Networks of AdEx neurons and compartments on `Ideal`, beside SciPy at a tight tolerance (`structured.py`)."""

import itertools
import math

import numpy as np
import pytest
import torch
from structured import Simulation

from spikeloop import (
    LI,
    LIF,
    AdEx,
    Compartment,
    Compartments,
    Events,
    Ideal,
    Network,
    Observe,
    Plateau,
    Population,
    Projection,
    Sodium,
    Steps,
    run,
)
from spikeloop.errors import ActivityExplosion, CannotObserve, OutOfRange

MS = 1e-3
STEP = 0.1 * MS
LATE = STEP / 100
DURATION = 60 * MS
TIMES = torch.linspace(0.0, DURATION, 241, dtype=torch.float64)
CURRENTS = Steps([5 * MS, 30 * MS], torch.tensor([[0.9, 1.2, 0.5], [0.2, -0.3, 0.8]]))
TREE = Compartments(
    {
        "soma": Compartment(
            12 * MS, 4 * MS, capacitance=1.5, spike=Sodium(1.0, -0.2, 2 * MS), tau_adaptation=20 * MS, b=0.2
        ),
        "trunk": Compartment(
            torch.tensor([10.0, 12.0, 15.0]) * MS, {"exc": 3 * MS, "inh": 6 * MS}, reversal={"inh": -0.5}
        ),
        "tuft": Compartment(15 * MS, 5 * MS, leak=0.1, capacitance=0.5, spike=Plateau(0.9, 1.8, 12 * MS), reversal=4.0),
    },
    {("soma", "trunk"): 4 * MS, ("trunk", "tuft"): torch.tensor([6.0, 7.0, 9.0]) * MS},
)
ADEX = AdEx(
    10 * MS, {"exc": 4 * MS, "inh": 8 * MS}, threshold=1.6, reset=-0.1, refractory=torch.tensor([0.0, 1.0, 2.0]) * MS,
    slope_factor=0.15, exponential_threshold=0.9, tau_adaptation=25 * MS, a=0.4, b=0.15, reversal={"exc": 5.0},
)  # fmt: skip


def weights(rows: int, columns: int, mean: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * 7 + columns)
    return mean * (1 + 0.4 * torch.rand(rows, columns, generator=generator, dtype=torch.float64))


def one_layer(neuron, links):
    populations = {"input": Population(4), "cells": Population(3, neuron)}
    return Network(populations, [Projection("input", "cells", weights(4, 3, mean), **onto) for mean, onto in links])


NETWORKS = {
    "an AdEx without its terms": one_layer(AdEx(10 * MS, 5 * MS, refractory=2 * MS), [(1.2, {})]),
    "AdEx": one_layer(ADEX, [(1.6, {"receptor": "exc"}), (-0.3, {"receptor": "inh", "delay": 3 * MS})]),
    "AdEx without a leak": one_layer(AdEx(10 * MS, 5 * MS, leaky=False, b=0.1, tau_adaptation=10 * MS), [(0.8, {})]),
    "AdEx that never fires": one_layer(AdEx(10 * MS, 5 * MS, math.inf, a=2.0, tau_adaptation=10 * MS), [(2.0, {})]),
    "AdEx that fires by itself": one_layer(AdEx(10 * MS, 5 * MS, leak=1.2, b=0.3), [(0.1, {})]),
    "compartments": one_layer(
        TREE,
        [(1.5, {}), (1.2, {"compartment": "trunk", "receptor": "exc"}), (0.9, {"compartment": "tuft"}),
         (-0.3, {"compartment": "trunk", "receptor": "inh", "delay": 1 * MS})],
    ),
    "exact and stepped stages": Network(
        {"input": Population(4), "first": Population(5, LIF(10 * MS, 5 * MS, refractory=1 * MS)),
         "cells": Population(3, ADEX), "output": Population(2, LI(8 * MS, 4 * MS))},
        [Projection("input", "first", weights(4, 5, 1.0)),
         Projection("first", "cells", weights(5, 3, 1.2), 1.5 * MS, receptor="exc"),
         Projection("cells", "output", weights(3, 2, 0.5), 0.7 * MS)],
    ),
    "a loop with delays": Network(
        {"input": Population(4), "first": Population(2, LIF(10 * MS, 5 * MS)), "cells": Population(3, ADEX)},
        [Projection("input", "cells", weights(4, 3, 1.5), receptor="exc"),
         Projection("cells", "first", weights(3, 2, 1.2), 2 * MS),
         Projection("first", "cells", weights(2, 3, 0.4), 2.3 * MS, receptor="inh"),
         Projection("cells", "cells", weights(3, 3, -0.2), 1.1 * MS, receptor="inh")],
    ),
}  # fmt: skip


def trains(seed: int) -> list[tuple[float, int]]:
    generator = np.random.default_rng(seed)
    times = generator.uniform(1e-3, 45e-3, 24)
    return sorted((float(t), int(u)) for t, u in zip(times, generator.integers(0, 4, 24), strict=True))


DRIVE = [trains(seed) for seed in (3, 4)]
EVENTS = Events.from_lists(
    [[t for t, _ in sample] for sample in DRIVE], [[u for _, u in sample] for sample in DRIVE], 4
)


def sites(net: Network) -> list[str]:
    structure = net.populations["cells"].structure
    return [f"cells.{site.name}" if site.name else "cells" for site in structure.sites]


@pytest.mark.parametrize("steps", [False, True], ids=["events", "events and currents"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_does_what_scipy_does(name: str, steps: bool) -> None:
    net, places = NETWORKS[name], sites(NETWORKS[name])
    drive = {"input": EVENTS, places[-1]: CURRENTS} if steps else {"input": EVENTS}
    every = dict.fromkeys(places, TIMES)
    observe = Observe(every, adaptation=every, current=every)
    record = run(net, drive, DURATION, observe=observe, substrate=Ideal(step=STEP))
    both = np.stack([TIMES.numpy(), TIMES.numpy() + LATE], 1).ravel()
    for sample, train in enumerate(DRIVE):
        given = {places[-1]: CURRENTS} if steps else {}
        twin = Simulation(net, {"input": train}, DURATION + LATE, given, both, sample)
        for population, events in record.spikes.items():
            mine, own = events[sample : sample + 1], sorted(twin.spikes[population])
            assert mine.unit.tolist() == [unit for _, unit in own]
            assert mine.time.tolist() == pytest.approx([time for time, _ in own], abs=LATE)
        near = np.abs(TIMES.numpy()[:, None] - np.array([*twin.jumps, -1.0])).min(1) < 2 * LATE
        found = {"membrane": record.membrane, "adaptation": record.adaptation, "current": record.current}
        for trace, place in itertools.product(found, places):
            wanted, later = twin.trace(trace, place)[::2], twin.trace(trace, place)[1::2]
            difference = np.abs(found[trace][place].value[sample].detach().numpy() - wanted)
            assert (difference <= 1e-4 + np.abs(later - wanted))[~near].all(), (
                trace,
                place,
            )  # a steep rise, a little late
    assert name == "AdEx that never fires" or len(record.spikes["cells"].time) > 4


def test_peaks_counts_and_dropout() -> None:
    net = NETWORKS["AdEx"]
    record = run(net, EVENTS, DURATION, observe=Observe({"cells": 0.01 * MS}, peak={"cells"}))
    sampled = record.membrane["cells"].value.amax(1)
    assert bool((record.peak["cells"].value >= sampled - 1e-6).all())
    assert float(record.peak["cells"].value.detach().max()) == pytest.approx(1.6, abs=1e-6)
    assert torch.equal(record.count["cells"], record.spikes["cells"].count)


def test_lif_and_an_adex_without_terms_converge_to_each_other() -> None:
    exact = one_layer(LIF(10 * MS, 5 * MS, refractory=2 * MS), [(1.2, {})])
    wanted = run(exact, EVENTS, DURATION).spikes["cells"].time.detach()
    error = []
    for step in (0.8, 0.4, 0.2):
        found = run(NETWORKS["an AdEx without its terms"], EVENTS, DURATION, substrate=Ideal(step=step * MS))
        error.append(float((found.spikes["cells"].time.detach() - wanted).abs().max()))
    assert error[0] > 2 * error[1] > 4 * error[2]
    assert error[2] < 1e-8


@pytest.mark.parametrize("recurrent", [False, True])
def test_currents_of_exact_stages_are_those_of_scipy(recurrent: bool) -> None:
    lif = LIF(10 * MS, torch.tensor([4.0, 5.0, 6.0]) * MS, refractory=2 * MS)
    net = one_layer(lif, [(1.2, {}), (-0.2, {"delay": 3 * MS})])
    if recurrent:
        loop = Projection("cells", "cells", weights(3, 3, -0.3), 1.5 * MS)
        net = Network(dict(net.populations.items()), [*net.projections.values(), loop])
    record = run(net, EVENTS, DURATION, observe=Observe(current={"cells": TIMES}, state=True))
    for sample, train in enumerate(DRIVE):
        twin = Simulation(net, {"input": train}, DURATION, times=TIMES.numpy(), sample=sample)
        assert np.abs(record.current["cells"].value[sample].numpy() - twin.trace("current", "cells")).max() < 1e-8
    assert record.state is not None
    assert torch.allclose(record.current["cells"].value[:, -1], record.state.current["cells"])
    drive = Events.from_lists([[61 * MS], []], [[0], []], size=4)
    later = run(net, drive, 10 * MS, start=record.state, observe=Observe(current={"cells": 5 * MS}))
    assert later.current["cells"].time.tolist() == pytest.approx([65 * MS, 70 * MS])


def test_a_network_without_inputs_is_driven_by_currents() -> None:
    net = Network({"cells": Population(3, AdEx(10 * MS, 5 * MS))}, [])
    shared = run(net, {"cells": Steps([0.0], [[2.0, 3.0, 0.5]])}, 30 * MS)
    assert len(shared) == 1
    each = run(net, {"cells": Steps([0.0], torch.tensor([[[2.0, 3.0, 0.5]], [[0.0, 0.0, 4.0]]]))}, 30 * MS)
    assert len(each) == 2
    assert torch.equal(each.spikes["cells"][:1].time, shared.spikes["cells"].time)
    first = -10 * MS * math.log(1 - 1 / 2.0)
    assert float(shared.spikes["cells"].time[shared.spikes["cells"].unit == 0][0]) == pytest.approx(first, abs=1e-8)


def test_spikes_after_the_end_are_not_recorded() -> None:
    net = Network({"cells": Population(1, AdEx(10 * MS, 5 * MS))}, [])
    current = {"cells": Steps([0.0], [[2.0]])}  # fires every 6.93 ms
    record = run(net, current, 6.925 * MS, substrate=Ideal(step=0.5 * MS))
    assert not len(record.spikes["cells"].time)
    assert float(record.count["cells"].sum()) == 0
    assert len(run(net, current, 6.935 * MS, substrate=Ideal(step=0.5 * MS)).spikes["cells"].time) == 1


def test_results_do_not_depend_on_threads_or_on_the_batch() -> None:
    net = NETWORKS["a loop with delays"]
    whole = run(net, EVENTS, DURATION).spikes["cells"]
    torch.set_num_threads(1)
    try:
        alone = run(net, EVENTS, DURATION).spikes["cells"]
    finally:
        torch.set_num_threads(2)
    assert torch.equal(whole.time, alone.time)
    assert torch.equal(run(net, EVENTS[1:], DURATION).spikes["cells"].time, whole[1:].time)


@pytest.mark.parametrize("name", ["AdEx", "compartments", "a loop with delays"])
def test_the_step_chosen_is_small_enough(name: str) -> None:
    """Of 0.2 ms: spikes within a tenth of it, membranes within 1e-4 of the threshold but where they rise steeply."""
    net, observe = NETWORKS[name], Observe({"cells": TIMES})
    chosen = run(net, EVENTS, DURATION, observe=observe)
    fine = run(net, EVENTS, DURATION, observe=observe, substrate=Ideal(step=0.01 * MS))
    late = (chosen.spikes["cells"].time - fine.spikes["cells"].time).detach().abs()
    assert 0 < float(late.max()) < 0.02 * MS
    apart = (chosen.membrane["cells"].value - fine.membrane["cells"].value).detach().abs()
    assert float(apart.quantile(0.99)) < 1e-4


def test_a_step_that_is_too_large_is_refused_with_the_largest_allowed() -> None:
    with pytest.raises(OutOfRange, match=r"population 'cells': a step of 0.002 s .*at most 0.0008 s"):
        run(NETWORKS["AdEx"], EVENTS, DURATION, substrate=Ideal(step=2 * MS))
    assert len(run(NETWORKS["AdEx"], EVENTS, DURATION, substrate=Ideal(step=0.8 * MS)).spikes["cells"].time)
    for step in (0.0, -1e-3, math.inf):
        with pytest.raises(OutOfRange, match="step is"):
            Ideal(step=step)


def test_too_many_spikes_are_an_explosion() -> None:
    net = Network({"cells": Population(2, AdEx(10 * MS, 5 * MS))}, [])
    with pytest.raises(ActivityExplosion, match="population 'cells', sample 0: neuron 1 spikes more than 100 times"):
        run(net, {"cells": Steps([0.0], [[0.0, 1e3]])}, 50 * MS, substrate=Ideal(100))


def test_adaptation_is_there_only_where_there_is_some() -> None:
    with pytest.raises(CannotObserve, match="the adaptation of 'first' cannot be sampled"):
        run(NETWORKS["exact and stepped stages"], EVENTS, DURATION, observe=Observe(adaptation={"first": 1e-3}))


def test_compartments_that_cross_together_both_answer() -> None:
    parts = {name: Compartment(10 * MS, 5 * MS, spike=Plateau(1.0, 2.0, 20 * MS)) for name in ("left", "right")}
    neuron = Compartments({"soma": Compartment(10 * MS, 5 * MS), **parts}, {("soma", n): 10 * MS for n in parts})
    net = Network({"cells": Population(1, neuron)}, [])
    drive = {f"cells.{name}": Steps([0.0], [[2.5]]) for name in parts}
    record = run(net, drive, 40 * MS, observe=Observe({f"cells.{name}": 15 * MS for name in parts}))
    assert [record.membrane[f"cells.{name}"].value[0, 1, 0].item() for name in parts] == [2.0, 2.0]
