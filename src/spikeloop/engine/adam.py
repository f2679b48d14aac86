"""Steps of Adam in the engine. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from spikeloop.engine import _core
from spikeloop.engine.arrays import Weights


class Moments(NamedTuple):
    """Weights, their gradient, and the means of it and of its square after ``steps`` steps; all flat, of one dtype."""

    weight: Weights
    mean: Weights
    square: Weights
    gradient: Weights
    steps: float


@dataclass(eq=False, slots=True)  # not frozen: made in every step
class Adam:
    """Steps of Adam (Kingma and Ba, 1412.6980), one with each of ``rates``, of arrays of one dtype, in place.

    decay: of the weights, as a part of their gradient (L2).  maximise: up the gradient.
    """

    beta1: float
    beta2: float
    epsilon: float
    decay: float
    maximise: bool
    rates: Sequence[float]
    moments: Sequence[Moments]

    @property
    def native(self) -> tuple[Any, ...]:
        """As the core takes it."""
        floats = float(self.beta1), float(self.beta2), float(self.epsilon), float(self.decay)
        return (*floats, bool(self.maximise)), np.array(self.rates, np.float64), list(self.moments)

    def step(self, threads: int) -> None:
        """The first step."""
        _core.adam_step(self.native, threads)
