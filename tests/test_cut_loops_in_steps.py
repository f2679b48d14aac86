"""Loops and chains of neurons in steps, cut at many random times and continued: the uncut run, bit for bit."""

import numpy as np
import pytest
import torch
from test_substrate_in_steps import ADEX, MS, TREE, weights

from spikeloop import LIF, AdEx, Events, Ideal, Network, Observe, Population, Projection, Record, run
from spikeloop.plasticity import Plasticity

DURATION = 50 * MS
CUTS = 25
PLAIN = AdEx(10 * MS, 5 * MS, b=0.1, refractory=2 * MS)
DELAYS = [0.0, 0.2 * MS, 2 * MS]


def drive(units: int, count: int) -> Events:
    generator = np.random.default_rng(units)
    times = np.sort(generator.uniform(0, DURATION, count))
    return Events.from_lists([times.tolist()], [generator.integers(0, units, count).tolist()], units)


def loop(neuron, strength: float, delay: float, onto: dict[str, str], rule: Plasticity | None = None) -> Network:
    populations = {"input": Population(6), "cells": Population(3, neuron)}
    synapses = weights(3, 3, 0.1)
    return Network(populations, [Projection("input", "cells", weights(6, 3, strength), plasticity=rule, **onto),
                                 Projection("cells", "cells", synapses, delay=delay, **onto)])  # fmt: skip


def cuts(seed: int) -> list[float]:
    return np.random.default_rng(seed).uniform(0, DURATION, CUTS).tolist()


def part(events: Events, begin: float, end: float) -> Events:
    keep = (events.time >= begin) & (events.time < end)
    return Events._from_rows(events.time[keep], events.unit[keep], events.sample[keep], len(events), events.size)


def cut_at(net: Network, events: Events, cut: float, observe: Observe) -> tuple[Record, Record, Record]:
    """Uncut, until the cut, and from there on."""
    rest = DURATION - cut
    whole = run(net, events, cut + rest, observe=observe)
    first = run(net, part(events, 0, cut), cut, observe=observe)
    return whole, first, run(net, part(events, cut, 1.0), rest, observe=observe, start=first.state)


def same(whole: Record, first: Record, second: Record, name: str) -> None:
    for what in ("time", "unit"):
        both = torch.cat([getattr(each.spikes[name], what) for each in (first, second)])
        assert torch.equal(both, getattr(whole.spikes[name], what)), what
    both = torch.cat([each.membrane[name].value for each in (first, second)], 1)
    assert torch.equal(both, whole.membrane[name].value)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(
    ("neuron", "strength", "onto"),
    [(PLAIN, 0.7, {}), (ADEX, 1.0, {"receptor": "exc"}), (TREE, 1.5, {"compartment": "soma"})],
    ids=["AdEx without its terms", "AdEx", "compartments"],
)
def test_what_a_loop_sends_around_a_cut_arrives_once(
    neuron, strength: float, onto: dict[str, str], delay: float
) -> None:
    net, events = loop(neuron, strength, delay, onto), drive(6, 200)
    observe, spikes = Observe({"cells": 0.2 * MS}, state=True), 0
    for cut in cuts(1):
        whole, first, second = cut_at(net, events, cut, observe)
        same(whole, first, second, "cells")
        spikes = len(whole.spikes["cells"].time)
    assert spikes > 20


def test_a_spike_before_a_cut_does_not_know_what_arrives_after_it() -> None:
    populations = {"input": Population(20), "cells": Population(5, PLAIN), "heard": Population(3, LIF(10 * MS, 5 * MS))}
    generator = torch.Generator().manual_seed(3)
    mixed = 0.3 + torch.randn(20, 5, generator=generator, dtype=torch.float64)
    onward = Projection("cells", "heard", weights(5, 3, 0.5))
    net, events = Network(populations, [Projection("input", "cells", mixed), onward]), drive(20, 1500)
    observe, within = Observe({"heard": 0.2 * MS, "cells": 0.2 * MS}, state=True), 0
    for cut in cuts(2):
        whole, first, second = cut_at(net, events, cut, observe)
        for name in ("cells", "heard"):
            same(whole, first, second, name)
        within += int(((cut - 0.5 * MS < whole.spikes["cells"].time) & (whole.spikes["cells"].time < cut)).sum())
    assert within > 10  # about as many in the steps that are cut


@pytest.mark.parametrize("delay", DELAYS)
def test_a_rule_that_does_nothing_changes_nothing(delay: float) -> None:
    events = drive(6, 200)
    alone = run(loop(PLAIN, 0.7, delay, {}), events, DURATION)
    for period in (5.3 * MS, 1.3 * MS):
        rule = Plasticity(lambda _: None, 1.0, period=period)
        called = run(loop(PLAIN, 0.7, delay, {}, rule), events, DURATION)
        for what in ("time", "unit"):
            assert torch.equal(getattr(called.spikes["cells"], what), getattr(alone.spikes["cells"], what))
        assert len(alone.spikes["cells"].time) > 20


@pytest.mark.parametrize(
    ("neuron", "strength", "onto"), [(PLAIN, 1.0, ({}, {})), (ADEX, 1.0, ({"receptor": "exc"}, {"receptor": "inh"})),
                                     (TREE, 4.0, ({"compartment": "soma"}, {"compartment": "soma"}))],
    ids=["AdEx without its terms", "AdEx", "compartments"],
)  # fmt: skip
def test_spikes_are_seen_that_inhibition_follows_within_the_step(
    neuron, strength: float, onto: tuple[dict, dict]
) -> None:
    """Strong excitation, and 30 us later as strong inhibition: above the threshold between them, not at the step's end.

    As many spikes as in steps of a hundredth, and runs that are cut between the two are the uncut one.
    """
    gap, up = 0.03 * MS, strength * torch.tensor([[150.0, 500.0, 900.0]], dtype=torch.float64)
    net = Network({"up": Population(1), "down": Population(1), "cells": Population(3, neuron)}, [
        Projection("up", "cells", up, **onto[0]), Projection("down", "cells", -up - 20, **onto[1]),
    ])  # fmt: skip
    first = [np.array([5.0, 30.0]) * MS + 0.0137 * MS * sample for sample in range(20)]
    events = {"up": Events.from_trains([[times] for times in first], 1),
              "down": Events.from_trains([[times + gap] for times in first], 1)}  # fmt: skip
    exact = run(net, events, DURATION, substrate=Ideal(step=2e-6)).count["cells"]
    coarse = run(net, events, DURATION).count["cells"]
    assert int(exact.sum()) >= 20
    assert torch.equal(coarse, exact)
    observe = Observe({"cells": 0.2 * MS}, state=True)
    for sample in range(0, 20, 4):
        cut = float(first[sample][1]) + 0.6 * gap
        alone = {name: each[sample : sample + 1] for name, each in events.items()}
        whole = run(net, alone, cut + (DURATION - cut), observe=observe)
        begun = run(net, {name: part(each, 0, cut) for name, each in alone.items()}, cut, observe=observe)
        ended = run(net, {name: part(each, cut, 1.0) for name, each in alone.items()}, DURATION - cut,
                    observe=observe, start=begun.state)  # fmt: skip
        same(whole, begun, ended, "cells")
