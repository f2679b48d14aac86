"""Synaptic currents of exact stages, sampled afterwards: they follow from the spikes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Delays, Float, Link, Run, Trains
from spikeloop.engine.arriving import arriving
from spikeloop.engine.short_term import arriving_sizes

Arrivals = tuple[NDArray[np.int64], Float, NDArray[np.int64], Float, NDArray[np.int64]]
"""(sample, time, column, weight, event) of everything that reaches a neuron that is looked at."""


def sampled(
    links: Sequence[Link], trains: Mapping[str, Trains], run: Run, tau_syn: Float, start: Float | None, time: Float,
    unit: NDArray[np.int32],
) -> Float:  # fmt: skip
    """(B, T, M): the currents of neurons ``unit`` (M,) at ascending ``time`` (T,), an arrival at that time included.

    tau_syn: (N,).  start: (B, N), the currents at ``run.begin``; None: 0.
    """
    decay, found = tau_syn[unit], np.zeros((run.batch, len(time), len(unit)))
    for link in links:
        column = np.full(len(tau_syn), -1, np.int64)
        column[unit] = np.arange(len(unit))
        sample, when, where, weight, event = _arrivals(link, arriving(link, trains, run), column)
        if link.short_term is not None:
            weight = weight * arriving_sizes(link, trains[link.source], run)[event]
        first = np.searchsorted(time, when, side="left")
        keep = (when >= run.begin) & (first < len(time))
        sample, where, first = (part[keep] for part in (sample, where, first))
        when, weight = when[keep], weight[keep]
        np.add.at(found, (sample, first, where), weight * np.exp((when - time[first]) / decay[where]))
    current = np.zeros((run.batch, len(unit))) if start is None else start[:, unit].astype(np.float64)
    for k, passed in enumerate(np.diff(time, prepend=run.begin)):
        current = current * np.exp(-passed / decay) + found[:, k]
        found[:, k] = current
    return found


def _arrivals(link: Link, events: Trains, column: NDArray[np.int64]) -> Arrivals:
    """What ``events`` bring through ``link``; column: (N,), which of those looked at a neuron is, or -1."""
    time, unit, start = events
    sample = np.repeat(np.arange(len(start) - 1), np.diff(start))
    per_unit = link.delay[unit] if link.delays is Delays.PER_UNIT else np.broadcast_to(link.delay[:1], unit.shape)
    if link.rows is None:
        target = np.flatnonzero(column >= 0)
        weight = link.weight[unit][:, target].astype(np.float64)
        when = np.repeat(time + per_unit, len(target))
        event = np.repeat(np.arange(len(unit)), len(target))
        return sample[event], when, np.tile(column[target], len(unit)), weight.ravel(), event
    begin = link.rows.begin[unit]
    fan_out = link.rows.begin[unit + 1] - begin
    event = np.repeat(np.arange(len(unit)), fan_out)
    synapse = begin[event] + np.arange(len(event)) - np.repeat(np.cumsum(fan_out) - fan_out, fan_out)
    where = column[link.rows.target[synapse]]
    event, synapse, where = (part[where >= 0] for part in (event, synapse, where))
    weight = link.weight[synapse if link.rows.weight is None else link.rows.weight[synapse]].astype(np.float64)
    delay = link.delay[synapse] if link.delays is Delays.PER_SYNAPSE else per_unit[event]
    return sample[event], time[event] + delay, where, weight, event
