"""Time constants from sampled traces, many neurons at once: a search over the one number that is not linear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Shape = Callable[[Float, Float], Float]
_ROUNDS, _CANDIDATES = 4, 12
SETTLED = 0.65
"""Of the slope: a membrane that is lifted by more may still be on its way."""


def fitted(time: Float, value: Float, weight: Float, start: Float, shape: Shape) -> tuple[Float, Float, Float]:
    """Least squares of ``value = base + height * shape(time, tau)`` for each of N neurons: tau, base and height, (N,).

    time, value, weight: (K, N).  start: (N,), tau is looked for from a fourth to four times it.
    """
    centre, span = np.log(start), np.log(4.0)
    base = height = np.zeros_like(start)
    for _ in range(_ROUNDS):
        offsets = np.linspace(-span, span, _CANDIDATES)
        found = [linear(shape(time, np.exp(centre + offset)), value, weight) for offset in offsets]
        error = np.stack([each[2] for each in found])
        best = error.argmin(0)
        centre = centre + offsets[best]
        base, height = (np.take_along_axis(np.stack([each[k] for each in found]), best[None], 0)[0] for k in (0, 1))
        span = 1.5 * span / _CANDIDATES
    return np.exp(centre), base, height


def exponential(rest: Float, lift: Float, good: NDArray[np.bool_], law: Float) -> tuple[Float, Float]:
    """`_exponential`, of points at which the membrane had come to rest: it comes the slower the nearer it is to firing,
    where the lift is the slope."""
    factor, _ = _exponential(rest, lift, good, law)
    settled = lift < SETTLED * np.where(np.isfinite(factor), factor, 1.0) * law[:, None]
    return _exponential(rest, lift, good & settled, law)


def _exponential(rest: Float, lift: Float, good: NDArray[np.bool_], law: Float) -> tuple[Float, Float]:
    """Least squares of ``lift = slope exp((rest - threshold) / slope)`` for each of N neurons.

    rest, lift, good: (W, L, N), L points of each of W writings.  law: (W, N), what the slope would be.
    Gives the slope over the law's, (N,), the same for all writings, and each writing's threshold, (W, N), NaN where
    nothing good is known.
    """
    offsets, size = np.zeros(rest.shape[2]), np.zeros((len(rest), rest.shape[2]))
    span, middle = np.log(2.5), rest.mean(1)
    for _ in range(_ROUNDS):
        candidates = [offsets + each for each in np.linspace(-span, span, _CANDIDATES)]
        found = [_grown(rest - middle[:, None], lift, good, np.exp(each) * law) for each in candidates]
        best = np.stack([error for _, error in found]).argmin(0)
        offsets = np.take_along_axis(np.stack(candidates), best[None], 0)[0]
        size = np.take_along_axis(np.stack([each for each, _ in found]), best[None, None], 0)[0]
        span = 1.5 * span / _CANDIDATES
    known = (good.sum(1) > 1) & (size > 0)
    slope = np.exp(offsets) * law
    threshold = middle - slope * np.log(np.where(known, size, slope) / slope)
    return np.where(known.any(0), np.exp(offsets), np.nan), np.where(known, threshold, np.nan)


def _grown(rest: Float, lift: Float, good: NDArray[np.bool_], slope: Float) -> tuple[Float, Float]:
    """Size (W, N) and squared error (N,) of ``lift = size exp(rest / slope)``.

    An error of the rest is one of the lift, too, and counts less the steeper the exponential is.
    """
    grown = np.exp(np.clip(rest / slope[:, None], -30, 30))
    weight = good / (1 + np.clip(1 - lift / slope[:, None], 0, 1) ** 2)
    size = (weight * grown * lift).sum(1) / np.maximum((weight * grown**2).sum(1), 1e-12)
    return size, (weight * (lift - size[:, None] * grown) ** 2).sum((0, 1))


def linear(x: Float, y: Float, w: Float) -> tuple[Float, Float, Float]:
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
