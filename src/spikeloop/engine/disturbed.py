"""Neurons as a chip has them: noise, saturation, a floor, and parameters that all differ. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.arrays import Float, Sampling, Trains
from spikeloop.engine.failures import Explosion

Rows = NDArray[np.float32]
Words = NDArray[np.uint64]
_WORD = 2**64 - 1


@dataclass(frozen=True, eq=False)
class Population:
    """N neurons: ``values`` (6, N) as in `arrays.FIELDS`, and ``disturbance`` (5, N) float64.

    The rows of ``disturbance``: floor (an arrival finds V no lower), most (the largest \\|I\\| right after an arrival),
    noise (rms of an Ornstein-Uhlenbeck process with the membrane's time constant that is added to V and starts again
    from 0 at a release), threshold noise (rms, drawn for every spike), name (a whole number that chooses the neuron's
    random streams).
    """

    values: Float
    disturbance: Float

    def part(self, some: NDArray[np.int64]) -> Population:
        """Some of the neurons."""
        return Population(*(np.ascontiguousarray(rows[:, some]) for rows in (self.values, self.disturbance)))


@dataclass(frozen=True, eq=False)
class Passage:
    """How a batch is carried out: ``key`` says which draw of the noise; most events lie on multiples of ``tick``."""

    batch: int
    duration: float
    tick: float
    key: int
    threads: int
    spike_limit: int = 100_000


def forward(
    sources: Sequence[tuple[Trains, Rows]],
    population: Population,
    passage: Passage,
    *,
    loop: Rows | None = None,
    silent: NDArray[np.uint8] | None = None,
    sampling: Sampling | None = None,
) -> Trains:
    """The spikes of ``population``, driven by trains through weights (N_source, N) float32.

    loop: weights (N, N) of the population's own spikes.  silent: (B, N), neurons that are reset but send nothing.
    sampling: ``value`` is filled. Raises ``Explosion``.
    """
    run = (passage.batch, passage.duration, passage.tick, passage.key, passage.spike_limit, passage.threads)
    asked = None if sampling is None else (sampling.time, sampling.unit, sampling.value)
    try:
        return _core.disturbed_forward(
            list(sources), loop, population.values, population.disturbance, run, silent, asked
        )
    except _core.Explosion as where:
        sample, unit, _ = map(int, where.args)
        raise Explosion("", sample, unit) from None


def keyed(key: int, coordinate: int) -> int:
    """The stream ``coordinate`` of the stream ``key``."""
    return _core.keyed(key & _WORD, coordinate & _WORD)


def keyed_each(key: Words, coordinate: Words) -> Words:
    """The streams ``coordinate`` of the streams ``key``, in the shape that both have together."""
    keys, coordinates = np.broadcast_arrays(key, coordinate)
    return _core.keyed_each(keys.ravel(), coordinates.ravel()).reshape(keys.shape)


def normals(key: int, count: int) -> Float:
    """``count`` standard normal numbers of the stream ``key``."""
    return _core.normals(key, count)


def uniforms(key: int, count: int, number: int) -> Float:
    """The ``number``-th uniform number, from 1 on, of each of the first ``count`` streams of ``key``."""
    return _core.uniforms(key, count, number)


def uniforms_of(stream: Words, number: int) -> Float:
    """The ``number``-th uniform number, from 1 on, of each of these streams."""
    return _core.uniforms_of(stream.ravel(), number).reshape(stream.shape)


def converted(potential: Float, slope: Float, base: Float, rms: float, key: int, threads: int) -> NDArray[np.uint8]:
    """What 8-bit converters read of (B, T, C) potentials: round(slope potential + base + noise), within 0..255.

    slope, base: (C,).  rms: of the noise, which each of B takes from a stream of its own of ``key``.
    """
    return _core.converted(np.ascontiguousarray(potential), slope, base, rms, key & _WORD, threads)
