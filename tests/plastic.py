"""Slow twins of plasticity: correlations and short-term factors as their definitions say, pair by pair."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


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


class Drawing:
    """The resources of one unit, step after step, with spikes that are not whole: a spike of strength S takes the
    fraction U S of them. What is added to a step's spikes joins the first of them, or is sent in the step's middle.
    """

    def __init__(self, used: float, tau: float, facilitating: bool) -> None:
        self.used, self.tau, self.facilitating = float(used), float(tau), facilitating
        self.x, self.last = torch.ones((), dtype=torch.float64), -np.inf

    def meet(self, time: float, strength: Tensor | float) -> Tensor:
        """How large an event of strength 1 is now; one of ``strength`` takes its part."""
        met = 1 - (1 - self.x) * float(np.exp(-(time - self.last) / self.tau))
        self.x, self.last = met * (1 - self.used * strength), time
        return 1 - (1 - self.used) * met if self.facilitating else self.used * met

    def step(self, times: Sequence[float], middle: float, extra: Tensor | float) -> tuple[list[Tensor], Tensor]:
        """The sizes of the step's observed spikes, and of what is added."""
        if not times:
            return [], extra * self.meet(middle, extra)
        first = self.meet(times[0], 1 + extra)
        return [first, *(self.meet(time, 1.0) for time in times[1:])], extra * first
