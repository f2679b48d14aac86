"""Time constants from sampled traces, many neurons at once: a search over the one number that is not linear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Shape = Callable[[Float, Float], Float]
_ROUNDS, _CANDIDATES = 4, 12


def fitted(time: Float, value: Float, weight: Float, start: Float, shape: Shape) -> tuple[Float, Float, Float]:
    """Least squares of ``value = base + height * shape(time, tau)`` for each of N neurons: tau, base and height, (N,).

    time, value, weight: (K, N).  start: (N,), tau is looked for from a fourth to four times it.
    """
    centre, span = np.log(start), np.log(4.0)
    base = height = np.zeros_like(start)
    for _ in range(_ROUNDS):
        offsets = np.linspace(-span, span, _CANDIDATES)
        found = [_linear(shape(time, np.exp(centre + offset)), value, weight) for offset in offsets]
        error = np.stack([each[2] for each in found])
        best = error.argmin(0)
        centre = centre + offsets[best]
        base, height = (np.take_along_axis(np.stack([each[k] for each in found]), best[None], 0)[0] for k in (0, 1))
        span = 1.5 * span / _CANDIDATES
    return np.exp(centre), base, height


def _linear(x: Float, y: Float, w: Float) -> tuple[Float, Float, Float]:
    """base, height and squared error of ``y = base + height x`` with weights, column by column."""
    total = np.maximum(w.sum(0), 1e-12)
    mean_x, mean_y = (w * x).sum(0) / total, (w * y).sum(0) / total
    dx, dy = x - mean_x, y - mean_y
    height = (w * dx * dy).sum(0) / np.maximum((w * dx * dx).sum(0), 1e-12)
    return mean_y - height * mean_x, height, (w * (dy - height * dx) ** 2).sum(0)


def binned(time: Float, value: Float, span: Float | float, bins: int = 48) -> tuple[Float, Float, Float]:
    """Means of samples (K, N) in bins of 0 < time < span, narrower towards 0: time, value, number, (bins, N) each."""
    neurons = value.shape[1]
    place = np.floor(np.sqrt(np.clip(time / span, 0, 1)) * bins).astype(np.int64)
    inside = (time > 0) & (place < bins)
    cell = (place * neurons + np.arange(neurons))[inside]
    count, t, v = (
        np.bincount(cell, each, bins * neurons).reshape(bins, neurons)
        for each in (None, np.broadcast_to(time, value.shape)[inside], value[inside])
    )
    return t / np.maximum(count, 1), v / np.maximum(count, 1), count.astype(np.float64)


def decay(time: Float, tau: Float) -> Float:
    """exp(-time / tau)."""
    return np.exp(-np.maximum(time, 0) / tau)


def potential(tau_mem: Float) -> Shape:
    """The potential after a unit of current, as a function of time and tau_syn."""

    def response(time: Float, tau_syn: Float) -> Float:
        t = np.maximum(time, 0)
        rate, other = 1 / tau_mem, 1 / tau_syn
        x = t * (other - rate)
        near = np.abs(x) < 1e-6
        phi = np.where(near, 1 - x / 2, -np.expm1(-np.clip(x, -700, 700)) / np.where(near, 1, x))
        return np.exp(-t * rate) * t * rate * phi

    return response
