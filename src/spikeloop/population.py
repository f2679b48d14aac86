"""A population: neurons of one kind, or the lines of an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikeloop.errors import InvalidNetwork, ShapeMismatch
from spikeloop.neuron import LI, LIF, TIMES, Neuron, check_values


class Exact(nn.Module):
    """A module whose fixed float64 numbers keep their digits when ``net.float()`` converts the parameters."""

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        kept = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)
        for name, value in kept.items():
            now = self._buffers[name]
            if now is not None and now.dtype != value.dtype:
                self._buffers[name] = value.to(now.device)
        return self


class Population(Exact):
    """``size`` neurons of one kind (`LIF` or `LI`), or ``size`` input lines where ``neuron`` is None.

    The neuron's fields are attributes in natural units: ``population.tau_mem`` is a tensor in seconds of shape () or
    (size,). Fixed fields are float64 buffers and stay float64. A field given as ``nn.Parameter`` is trainable and keeps
    its dtype: times (tau_mem, tau_syn, refractory) are stored as logarithms (``log_tau_mem``), so that they stay
    positive and one learning rate trains everything; ``population.tau_mem`` is then ``exp(log_tau_mem)``, float64, with
    its graph. The engine always computes with neuron parameters in float64, whatever the weights' dtype is.

    ``dropout`` is the probability that a unit is silenced for a sample while training.
    """

    tau_mem: Tensor
    tau_syn: Tensor
    threshold: Tensor
    leak: Tensor
    reset: Tensor
    refractory: Tensor

    def __init__(self, size: int, neuron: Neuron | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidNetwork(f"size is {size!r}", where="a population", expected="an integer of at least 1")
        if neuron is not None and not isinstance(neuron, LIF | LI):
            raise InvalidNetwork(
                f"the neuron is a {type(neuron).__name__}", where="a population", expected="LIF(...), LI(...) or None"
            )
        if not 0.0 <= dropout < 1.0:
            raise InvalidNetwork(f"dropout is {dropout!r}", where="a population", expected="a probability in [0, 1)")
        if dropout and isinstance(neuron, LI):
            raise InvalidNetwork("dropout silences spikes", where="a population", expected="0 for LI, which has none")
        self.size = size
        self.kind: type[LIF] | type[LI] | None = None if neuron is None else type(neuron)
        self.fields: tuple[str, ...] = () if neuron is None else tuple(f.name for f in fields(neuron))
        self.dropout: float = float(dropout)
        for name in self.fields:
            self._store(name, getattr(neuron, name))

    def _store(self, name: str, value: float | Tensor) -> None:
        tensor = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64).detach()
        if tensor.shape not in ((), (self.size,)):
            raise ShapeMismatch(
                f"{name} has shape {tuple(tensor.shape)}",
                where=f"a population of {self.size}",
                expected=f"a scalar, or one value per neuron: ({self.size},)",
            )
        if not isinstance(value, nn.Parameter):
            self.register_buffer(name, tensor.to(torch.float64, copy=True))
        elif name in TIMES:
            if not bool((tensor > 0).all()):
                raise InvalidNetwork(
                    f"a trainable {name} is zero",
                    where=f"a population of {self.size}",
                    expected="a time above zero: it is stored as a logarithm",
                )
            logarithm = tensor.to(torch.float64).log().to(tensor.dtype)
            self.register_parameter(f"log_{name}", nn.Parameter(logarithm, requires_grad=value.requires_grad))
        else:
            self.register_parameter(name, nn.Parameter(tensor.clone(), requires_grad=value.requires_grad))

    def __getattr__(self, name: str) -> Any:
        if name in TIMES:
            logarithm = self._parameters.get(f"log_{name}")
            if logarithm is not None:
                return logarithm.to(torch.float64).exp()
        return super().__getattr__(name)

    @property
    def spiking(self) -> bool:
        """Whether its units emit spikes: inputs and LIF do, LI does not."""
        return self.kind is not LI

    def check(self, name: str) -> None:
        """Raise ``InvalidNetwork`` naming the population where its values, perhaps learned, make no neuron any more."""
        if self.kind is not None:
            check_values(f"population {name!r}", {field: getattr(self, field) for field in self.fields})

    def extra_repr(self) -> str:
        """``120 LIF, tau_mem 10 ms (trained), ...``"""
        kind = "input" if self.kind is None else self.kind.__name__
        parts = [f"{self.size} {kind}", *(self._describe(field) for field in self.fields)]
        if self.dropout:
            parts.append(f"dropout {self.dropout:g}")
        return ", ".join(parts)

    def _describe(self, field: str) -> str:
        value: Tensor = getattr(self, field).detach()
        scale, unit = (1e3, " ms") if field in TIMES else (1.0, "")
        low, high = float(value.min()) * scale, float(value.max()) * scale
        number = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
        trained = " (trained)" if field in self._parameters or f"log_{field}" in self._parameters else ""
        return f"{field} {number}{unit}{trained}"
