"""Slow twins of plasticity: correlations and short-term factors as their definitions say, pair by pair."""

from collections.abc import Sequence

import numpy as np


def nearest(events: Sequence[float], after: float, until: float, closed: bool) -> float | None:
    """The latest of ``events`` between ``after`` and ``until``; closed: until itself counts, after itself does not."""
    inside = [t for t in events if (after < t <= until if closed else after <= t < until)]
    return max(inside, default=None)


def causal(arrivals: Sequence[float], spikes: Sequence[float], tau: float, amplitude: float) -> float:
    """What the causal sensor of one synapse holds."""
    total, before = 0.0, -np.inf
    for spike in sorted(spikes):
        arrival = nearest(arrivals, before, spike, closed=True)
        if arrival is not None:
            total = min(1.0, total + amplitude * np.exp(-(spike - arrival) / tau))
        before = spike
    return total


def anticausal(arrivals: Sequence[float], spikes: Sequence[float], tau: float, amplitude: float) -> float:
    """What the anticausal sensor of one synapse holds."""
    total, before = 0.0, -np.inf
    for arrival in sorted(arrivals):
        spike = nearest(spikes, before, arrival, closed=False)
        if spike is not None:
            total = min(1.0, total + amplitude * np.exp(-(arrival - spike) / tau))
        before = arrival
    return total


def sizes(times: Sequence[float], used: float, tau: float, facilitating: bool) -> list[float]:
    """How large the events of one source are, one after the other."""
    found, x, last = [], 1.0, None
    for time in times:
        if last is not None:
            x = 1 - (1 - (1 - used) * x) * np.exp(-(time - last) / tau)
        found.append(1 - (1 - used) * x if facilitating else used * x)
        last = time
    return found
