"""Point neurons: what they are, as values. They hold no state and know nothing of time steps or gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import overload

import torch
from torch import Tensor

from spikeloop.errors import InvalidNetwork

POSITIVE = frozenset({"tau_mem", "tau_syn"})
"""Fields that must be above zero."""
TIMES = POSITIVE | {"refractory"}
"""Fields in seconds; trainable ones are stored as logarithms."""

Value = float | Tensor


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
        check_values(type(self).__name__, {f.name: getattr(self, f.name) for f in fields(self)})


@dataclass(frozen=True, eq=False)
class LI:
    """A leaky integrator that never spikes: ``tau_mem V' = (leak - V) + I``, ``tau_syn I' = -I``; a readout.

    Fields as in `LIF`.
    """

    tau_mem: Value
    tau_syn: Value
    leak: Value = 0.0

    def __post_init__(self) -> None:
        check_values(type(self).__name__, {f.name: getattr(self, f.name) for f in fields(self)})


Neuron = LIF | LI


def check_values(where: str, values: dict[str, Value]) -> None:
    """Raise ``InvalidNetwork`` where a neuron's values (by field) make no neuron; ``where`` names it in the message."""
    tensors = {name: _numbers(where, name, value) for name, value in values.items()}
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise InvalidNetwork(f"{name} is not finite", where=where, expected="finite numbers")
        if name in POSITIVE and not bool((value > 0).all()):
            smallest = float(value.min())
            raise InvalidNetwork(
                f"{name} is {smallest:g}", where=where, expected="time constants above zero, in seconds"
            )
        if name == "refractory" and not bool((value >= 0).all()):
            raise InvalidNetwork(
                f"refractory is {float(value.min()):g}", where=where, expected="a time >= 0, in seconds"
            )
    if "reset" in tensors and not bool((tensors["reset"] < tensors["threshold"]).all()):
        raise InvalidNetwork(
            "reset is not below threshold",
            where=where,
            expected="reset < threshold for every neuron",
            todo="lower reset or raise threshold",
        )


def _numbers(where: str, name: str, value: Value) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidNetwork(
            f"{name} is {value!r}", where=where, expected="a number, or a tensor of numbers"
        ) from error


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
