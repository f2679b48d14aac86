"""Linear point neurons: what they are, as values. They hold no state and know nothing of time steps or gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import overload

import torch
from torch import Tensor

from spikeloop.neuron.structure import Field, Site, Structure, Value


@dataclass(frozen=True, eq=False)
class LIF:
    """A leaky integrate-and-fire neuron with an exponentially decaying synaptic current.

    ``tau_mem V' = (leak - V) + I``,  ``tau_syn I' = -I``.  An arriving spike adds its weight to ``I``. When ``V``
    reaches ``threshold`` from below the neuron spikes, ``V = reset`` is held for ``refractory`` seconds and then
    released; ``I`` is never reset. ``V(0) = leak``, but ``reset`` where leak >= threshold (a neuron that fires without
    input); ``I(0) = 0``.

    Every field is a number or a tensor: a scalar is shared by the population, a vector of the population's size gives
    one value per neuron. A field given as ``nn.Parameter`` is trainable (each population gets its own copy), all else
    is fixed. Times are in seconds, potentials in units of your choice (usually leak 0, threshold 1).

    Raises ``InvalidNetwork`` for time constants that are not positive, a negative refractory time, ``reset >=
    threshold`` or a value that is not finite.
    """

    tau_mem: Value
    tau_syn: Value
    threshold: Value = 1.0
    leak: Value = 0.0
    reset: Value = 0.0
    refractory: Value = 0.0

    def __post_init__(self) -> None:
        self.structure.check(type(self).__name__, self.values)

    @property
    def values(self) -> dict[str, Value]:
        """Its numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def structure(self) -> Structure:
        """What of it is no number."""
        return Structure(type(self), tuple(Field(name, name) for name in self.values))


@dataclass(frozen=True, eq=False)
class LI:
    """A leaky integrator that never spikes: ``tau_mem V' = (leak - V) + I``, ``tau_syn I' = -I``; a readout.

    Fields as in `LIF`.
    """

    tau_mem: Value
    tau_syn: Value
    leak: Value = 0.0

    def __post_init__(self) -> None:
        self.structure.check(type(self).__name__, self.values)

    @property
    def values(self) -> dict[str, Value]:
        """Its numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def structure(self) -> Structure:
        """What of it is no number."""
        return Structure(type(self), tuple(Field(name, name) for name in self.values), (Site(fires=False),))


@overload
def psp_peak(tau_mem: float, tau_syn: float) -> float: ...
@overload
def psp_peak(tau_mem: Tensor, tau_syn: Tensor) -> Tensor: ...
def psp_peak(tau_mem: Value, tau_syn: Value) -> Value:
    """The peak of ``V - leak`` after one spike of weight 1: ``r ** (-r / (r - 1))`` with ``r = tau_mem / tau_syn``.

    ``V`` peaks at ``t = tau_syn r ln(r) / (r - 1)``, where it equals the current. Stable at ``tau_mem == tau_syn``,
    where it is 1/e.
    """
    if isinstance(tau_mem, Tensor) or isinstance(tau_syn, Tensor):
        ratio = torch.as_tensor(tau_mem, dtype=torch.float64) / torch.as_tensor(tau_syn, dtype=torch.float64)
        excess = ratio - 1.0
        slope = torch.where(excess == 0, 1.0, torch.log1p(excess) / torch.where(excess == 0, 1.0, excess))
        return torch.exp(-ratio * slope)
    ratio = tau_mem / tau_syn
    excess = ratio - 1.0
    return math.exp(-ratio * (math.log1p(excess) / excess if excess else 1.0))
