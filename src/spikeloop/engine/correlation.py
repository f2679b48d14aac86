"""Correlation sensors: what arrivals and spikes leave in the synapses of a projection, in one sample. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Delays, Float

Moments = tuple[Float, NDArray[np.int32]]
"""Times, ascending, and units."""
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Window:
    """Sensors of one kind: ``amplitude`` of a pair without delay and ``tau``, (1,) or (K,)."""

    amplitude: Float
    tau: Float


@dataclass(frozen=True, eq=False)
class Wires:
    """Which synapses arrivals and spikes meet: ``target`` (K,) of each, and groups of synapses by row and target.

    A row is a source unit, or, where every synapse has its own delay, a synapse: ``fan`` are then those of each source.
    delay: seconds, of each row.
    """

    target: NDArray[np.int32]
    delay: Float
    rows: tuple[Places, Places]
    targets: tuple[Places, Places]
    fan: tuple[Places, Places] | None

    def arrivals(self, spikes: Moments) -> Moments:
        """When, and at which rows, ``spikes`` of the sources arrive: ascending in time."""
        time, unit = spikes
        if self.fan is not None:
            begin, synapse = self.fan
            width = begin[unit + 1] - begin[unit]
            first = np.repeat(begin[unit] - (width.cumsum() - width), width)
            time, unit = np.repeat(time, width), synapse[first + np.arange(len(first))].astype(np.int32)
        time = time + self.delay[unit]
        order = np.argsort(time, kind="stable")
        return time[order], unit[order]


def wires(source: Places, target: Places, delay: Float, delays: Delays, sizes: tuple[int, int]) -> Wires:
    """The synapses from ``source`` (K,) to ``target`` (K,) between populations of these ``sizes``.

    delay: (1,), (sources,) or, in the order of the synapses, (K,), as ``delays`` says.
    """
    sources, targets = sizes
    apart = delays is Delays.PER_SYNAPSE
    count = len(source) if apart else sources
    by_source = _groups(source, sources)
    rows = (np.arange(count + 1), np.arange(count)) if apart else by_source
    lags = np.ascontiguousarray(np.broadcast_to(delay, (count,)), np.float64)
    column = np.ascontiguousarray(target, np.int32)
    return Wires(column, lags, rows, _groups(target, targets), by_source if apart else None)


def _groups(unit: Places, count: int) -> tuple[Places, Places]:
    order = np.argsort(unit, kind="stable").astype(np.int64)
    return np.searchsorted(unit[order], np.arange(count + 1)).astype(np.int64), order


@dataclass(frozen=True, eq=False)
class Sensors:
    """What sensors hold: ``causal``, ``anticausal`` (K,), and their neighbours: the latest ``arrival`` at each synapse
    (K,) and ``spike`` of each target (T,), -inf before the first. waiting: arrivals that are still to come.
    """

    causal: Float
    anticausal: Float
    arrival: Float
    spike: Float
    waiting: Moments

    @classmethod
    def empty(cls, synapses: int, targets: int) -> Sensors:
        """Sensors before the first event."""
        none = (np.zeros(0), np.zeros(0, np.int32))
        return cls(np.zeros(synapses), np.zeros(synapses), np.full(synapses, -np.inf), np.full(targets, -np.inf), none)

    def copy(self) -> Sensors:
        """The same, in memory of its own."""
        parts = (self.causal, self.anticausal, self.arrival, self.spike)
        causal, anticausal, arrival, spike = (part.copy() for part in parts)
        return Sensors(causal, anticausal, arrival, spike, self.waiting)


def pass_events(
    sensors: Sensors, wiring: Wires, windows: tuple[Window, Window], sent: Moments, fired: Moments, end: float
) -> Sensors:
    """``sensors`` after the sources have ``sent`` and the targets ``fired``, what arrives before ``end`` included.

    The arrays of ``sensors`` are changed and kept. windows: causal, anticausal. Sensors saturate at 1.
    """
    new = wiring.arrivals(sent)
    time, row = np.concatenate([sensors.waiting[0], new[0]]), np.concatenate([sensors.waiting[1], new[1]])
    order = np.argsort(time, kind="stable")
    time, row = time[order], row[order]
    now = int(np.searchsorted(time, end))
    causal, anticausal = windows
    _core.correlate(
        (time[:now], row[:now]),
        (np.ascontiguousarray(fired[0]), np.ascontiguousarray(fired[1])),
        wiring.rows,
        wiring.targets,
        wiring.target,
        sensors.arrival,
        sensors.spike,
        (sensors.causal, causal.amplitude, 1 / causal.tau),
        (sensors.anticausal, anticausal.amplitude, 1 / anticausal.tau),
        1.0,
    )
    return replace(sensors, waiting=(time[now:], row[now:]))
