"""Weight initialisers in units of the postsynaptic potential: they mean the same for any time constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Initialiser(Protocol):
    """Draws amplitudes: the peaks of the potentials that one spike makes in the target."""

    def amplitude(self, *shape: int) -> Tensor:
        """A tensor of ``shape``, drawn from torch's global generator, in units of the potential."""
        ...


@dataclass(frozen=True)
class Normal:
    """Amplitudes from a normal distribution: a weight of amplitude ``a`` is ``a / psp_peak(tau_mem, tau_syn)``.

    With threshold 1 and leak 0, ``Normal(0.25, 0.1)`` means that about four coincident spikes reach the threshold.
    """

    mean: float
    std: float

    def amplitude(self, *shape: int) -> Tensor:
        """``mean + std * standard normal``, float64."""
        return self.mean + self.std * torch.randn(*shape, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform:
    """Amplitudes drawn evenly between ``low`` and ``high``: a weight is ``amplitude / psp_peak(tau_mem, tau_syn)``."""

    low: float
    high: float

    def amplitude(self, *shape: int) -> Tensor:
        """``low + (high - low) * uniform``, float64."""
        return self.low + (self.high - self.low) * torch.rand(*shape, dtype=torch.float64)
