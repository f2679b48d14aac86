"""What arrives at a stage from earlier ones. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikeloop.engine.arrays import Link, Run, Trains


def arriving(link: Link, trains: Mapping[str, Trains], run: Run) -> Trains:
    """The spikes that a link from an earlier stage brings, recent ones first."""
    new = trains[link.source]
    recent = run.recent.get(link.source)
    return new if recent is None else joined(recent, new)


def joined(first: Trains, second: Trains) -> Trains:
    """Sample by sample, the events of ``first`` before those of ``second``."""
    batch = len(first[2]) - 1
    sample = np.concatenate([np.repeat(np.arange(batch), np.diff(start)) for start in (first[2], second[2])])
    order = np.argsort(sample, kind="stable")
    time, unit = np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
    return time[order], unit[order], first[2] + second[2]
