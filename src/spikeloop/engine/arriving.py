"""What arrives at a stage from earlier ones, and spike trains cut and put together. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Link, Run, Trains


def arriving(link: Link, trains: Mapping[str, Trains], run: Run) -> Trains:
    """The spikes that a link from an earlier stage brings, recent ones first."""
    return coming(link.source, trains, run.recent)


def coming(name: str, trains: Mapping[str, Trains], recent: Mapping[str, Trains]) -> Trains:
    """The spikes of a population, with those from before that are still on their way, which come first."""
    return joined(recent[name], trains[name]) if name in recent else trains[name]


def joined(first: Trains, second: Trains) -> Trains:
    """Sample by sample, the events of ``first`` before those of ``second``."""
    batch = len(first[2]) - 1
    sample = np.concatenate([np.repeat(np.arange(batch), np.diff(start)) for start in (first[2], second[2])])
    order = np.argsort(sample, kind="stable")
    time, unit = np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
    return time[order], unit[order], first[2] + second[2]


def only(trains: Trains, keep: NDArray[np.bool_]) -> Trains:
    """Only the events that ``keep`` (S,) says."""
    time, unit, start = trains
    return time[keep], unit[keep], np.append(0, np.cumsum(keep))[start]


def samples_of(trains: Trains, some: slice) -> Trains:
    """Of the samples ``some``, which follow each other."""
    time, unit, start = trains
    kept = start[some.start : some.stop + 1]
    inside = slice(int(kept[0]), int(kept[-1]))
    return time[inside], unit[inside], kept - kept[0]


def batch_of(parts: Sequence[Trains]) -> Trains:
    """Sample after sample: those of the first part, of the second, ..."""
    width = np.concatenate([np.diff(start) for _, _, start in parts])
    time, unit = np.concatenate([time for time, _, _ in parts]), np.concatenate([unit for _, unit, _ in parts])
    return time, unit, np.append(0, np.cumsum(width))


def nothing(batch: int) -> Trains:
    """No events in any of ``batch`` samples."""
    return np.zeros(0), np.zeros(0, np.int32), np.zeros(batch + 1, np.int64)
