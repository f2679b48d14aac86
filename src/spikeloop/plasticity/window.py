"""The window of spike-timing-dependent plasticity, from pairs of spikes and what they changed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeloop.errors import OutOfRange, ShapeMismatch
from spikeloop.plasticity.rule import Correlation


def fit_window(apart: ArrayLike, change: ArrayLike, pairs: int = 1) -> Correlation:
    r"""The amplitudes and time constants of a measured window: least squares of :math:`\\eta e^{-|\\Delta t| / \\tau}`.

    apart: (P,) seconds from arrival to spike; above zero causal.  change: (P,) what ``pairs`` pairs changed, in either
    direction. Raises ``ShapeMismatch``; ``OutOfRange`` where a side has fewer than three points.
    """
    time, size = (np.asarray(values, np.float64) for values in (apart, change))
    if time.shape != size.shape or time.ndim != 1:
        raise ShapeMismatch(f"{time.shape} and {size.shape}", where="fit_window", expected="(P,) times and changes")
    causal, anticausal = (_fitted(np.abs(time[side]), np.abs(size[side])) for side in (time > 0, time < 0))
    return Correlation((causal[1], anticausal[1]), (causal[0] / pairs, anticausal[0] / pairs))


def _fitted(time: NDArray[np.float64], size: NDArray[np.float64]) -> tuple[float, float]:
    """(amplitude, tau) by Gauss and Newton's method, from a straight line through the larger logarithms."""
    if len(time) < 3:
        raise OutOfRange(f"{len(time)} points on one side", where="fit_window", expected="at least three on each")
    large = size > 0.1 * size.max(initial=0.0)
    slope, offset = np.polyfit(time[large], np.log(size[large]), 1)
    amplitude, rate = float(np.exp(offset)), float(-slope)
    for _ in range(20):
        window = np.exp(-rate * time)
        step = np.linalg.lstsq(np.stack([window, -amplitude * time * window], 1), size - amplitude * window)[0]
        amplitude, rate = amplitude + float(step[0]), rate + float(step[1])
    if not (rate > 0 and amplitude > 0):
        raise OutOfRange("the changes do not fall off with time", where="fit_window", expected="a decaying window")
    return amplitude, 1 / rate
