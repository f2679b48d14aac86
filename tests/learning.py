"""Small networks that learn, and what is looked at in them."""

import numpy as np
import torch

import spikeloop as sl
from spikeloop.plasticity import Correlation, Plasticity

LIF = sl.LIF(tau_mem=10e-3, tau_syn=5e-3)
SENSOR = Correlation(tau=(6e-3, 9e-3), amplitude=(0.03, 0.02))
STATE = sl.Observe(state=True)


def nothing(view):
    """A rule that does nothing."""


def network(kernel=nothing, *, weight=0.5, sources=4, targets=3, delay=0.0, **given):
    given = {"w_max": 1.0, "period": 10e-3, "sensor": SENSOR, **given}
    synapses = sl.Projection(
        "input", "output", torch.full((sources, targets), weight), delay, plasticity=Plasticity(kernel, **given)
    )
    return sl.Network({"input": sl.Population(sources), "output": sl.Population(targets, LIF)}, [synapses])


def drive(batch=2, units=4, rate=200.0, duration=0.1, seed=0):
    rng = np.random.default_rng(seed)
    trains = [[rng.uniform(0, duration, rng.poisson(rate * duration)) for _ in range(units)] for _ in range(batch)]
    return sl.Events.from_trains(trains, units)


def trains_of(events, sample):
    inside = slice(int(events.start[sample]), int(events.start[sample + 1]))
    time, unit = events.time[inside].detach().numpy(), events.unit[inside].numpy()
    return [time[unit == u] for u in range(events.size)]
