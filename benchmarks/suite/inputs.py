"""Where the events of the workloads come from: real digits and points, and random ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from problem import Array, Batch, Shape

from spikeloop import Events
from spikeloop.data import MNIST, YinYang
from spikeloop.data.dataset import EventDataset, ImageEvents

SEED = 3


def digits(shape: Shape, samples: int) -> Batch:
    """The first training images of MNIST, 28 x 28 or 16 x 16 pixels, as latencies."""
    return _first(MNIST("train", 28 if shape.sizes[0] == 784 else 16), samples)


def points(shape: Shape, samples: int) -> Batch:
    """The first training points of Yin-Yang."""
    return _first(YinYang("train"), samples)


def _first(data: ImageEvents | EventDataset, samples: int) -> Batch:
    events, label = data.batch(torch.arange(samples))
    return _as_arrays(events, label.numpy())


def poisson(events: float, until: float) -> Callable[[Shape, int], Batch]:
    """So many events per sample on average, at any time before `until` and of any unit."""

    def draw(shape: Shape, samples: int) -> Batch:
        rng = np.random.default_rng(SEED)
        sample = np.repeat(np.arange(samples), rng.poisson(events, samples))
        time, unit = rng.uniform(0.0, until, len(sample)), rng.integers(shape.sizes[0], size=len(sample))
        return _sorted(shape, (time, unit, sample), rng.integers(shape.sizes[-1], size=samples))

    return draw


def speech(events: float) -> Callable[[Shape, int], Batch]:
    """So many events per sample, gathered around six ridges that move through channels and time as the class says."""

    def draw(shape: Shape, samples: int) -> Batch:
        rng = np.random.default_rng(SEED)
        label = rng.integers(shape.sizes[-1], size=samples)
        ridges = rng.uniform(size=(shape.sizes[-1], 6, 3))  # of each class: channel, time, slope
        sample = np.repeat(np.arange(samples), rng.poisson(events, samples))
        channel, centre, slope = ridges[label[sample], rng.integers(6, size=len(sample))].T
        time = np.clip(0.1 + 0.6 * centre + 0.08 * rng.normal(size=len(sample)), 0.0, 0.9)
        place = channel + (slope - 0.5) * (time - centre) + 0.06 * rng.normal(size=len(sample))
        unit = np.clip(place * shape.sizes[0], 0, shape.sizes[0] - 1).astype(np.int32)
        return _sorted(shape, (time * shape.duration, unit, sample), label)

    return draw


def _sorted(shape: Shape, rows: tuple[Array, Array, Array], label: Array) -> Batch:
    time, unit, sample = rows
    splits = np.searchsorted(sample, np.arange(1, len(label)))
    events = Events.from_lists(np.split(time, splits), np.split(unit, splits), shape.sizes[0])
    return _as_arrays(events, label)


def _as_arrays(events: Events, label: Array) -> Batch:
    return Batch(events.time.numpy(), events.unit.numpy(), events.start.numpy(), label)
