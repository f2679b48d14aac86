"""Events as frames: what time-stepped programs eat. NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from problem import Batch, Shape


def framed(batch: Batch, shape: Shape, dt: float) -> NDArray[np.float32]:
    """(T, B, N) numbers of events in steps of dt."""
    steps, samples = round(shape.duration / dt), len(batch.label)
    frames = np.zeros((steps, samples, shape.sizes[0]), np.float32)
    sample = np.repeat(np.arange(samples), np.diff(batch.start))
    np.add.at(frames, (np.minimum((batch.time / dt).astype(int), steps - 1), sample, batch.unit), 1.0)
    return frames


class Bisection:
    """A factor on weights, sought on a logarithmic scale until a number of spikes is met within a hundredth."""

    def __init__(self, wanted: float) -> None:
        self.wanted, self.low, self.high, self.left = wanted, 2.0**-12, 2.0**12, 40

    @property
    def factor(self) -> float:
        """What to try next."""
        return (self.low * self.high) ** 0.5

    def met(self, found: float) -> bool:
        """Whether so many spikes will do; otherwise the next factor is nearer."""
        self.left -= 1
        if abs(found - self.wanted) < 0.01 * self.wanted or not self.left:
            return True
        self.low, self.high = (self.factor, self.high) if found < self.wanted else (self.low, self.factor)
        return False
