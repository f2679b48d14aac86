"""A population: neurons of one kind, or the lines of an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikeloop.errors import InvalidNetwork, ShapeMismatch
from spikeloop.neuron import LI, LIF, LOGARITHMIC, TIMES, AdEx, Compartments, Neuron, Structure, psp_peak


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
    """``size`` neurons of one kind (`LIF`, `LI`, `AdEx`, `Compartments`), or ``size`` input lines where it is None.

    The neuron's fields are attributes in natural units: ``population.tau_mem`` is a tensor in seconds of shape () or
    (size,). Fixed fields are float64 buffers and stay float64. A field given as ``nn.Parameter`` is trainable and keeps
    its dtype: times (tau_mem, tau_syn, refractory, ...) and capacitances are stored as logarithms (``log_tau_mem``), so
    that they stay positive and one learning rate trains everything; ``population.tau_mem`` is then
    ``exp(log_tau_mem)``, float64, with its graph. The engine always computes with neuron parameters in float64,
    whatever the weights' dtype is. ``fields`` lists the names: ``tau_syn_exc`` of a receptor, ``soma_tau_mem`` of a
    compartment, ``coupling_soma_dendrite`` between two; ``structure`` says what of the neuron is no number.

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
        if neuron is not None and not isinstance(neuron, LIF | LI | AdEx | Compartments):
            raise InvalidNetwork(
                f"the neuron is a {type(neuron).__name__}",
                where="a population",
                expected="LIF(...), LI(...), AdEx(...), Compartments(...) or None",
            )
        if not 0.0 <= dropout < 1.0:
            raise InvalidNetwork(f"dropout is {dropout!r}", where="a population", expected="a probability in [0, 1)")
        self.structure: Structure | None = None if neuron is None else neuron.structure
        if dropout and self.structure is not None and not self.structure.spiking:
            raise InvalidNetwork(
                "dropout silences spikes", where="a population", expected="0 for neurons that never spike"
            )
        self.size = size
        self.kind: type[Neuron] | None = None if neuron is None else type(neuron)
        self.fields: tuple[str, ...] = ()
        self.dropout: float = float(dropout)
        if neuron is not None:
            values = neuron.values
            self.fields = tuple(values)
            for field in neuron.structure.fields:
                self._store(field.name, values[field.name], field.what in LOGARITHMIC)

    def _store(self, name: str, value: float | Tensor, logarithmic: bool) -> None:
        tensor = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64).detach()
        if tensor.shape not in ((), (self.size,)):
            raise ShapeMismatch(
                f"{name} has shape {tuple(tensor.shape)}",
                where=f"a population of {self.size}",
                expected=f"a scalar, or one value per neuron: ({self.size},)",
            )
        if not isinstance(value, nn.Parameter):
            self.register_buffer(name, tensor.to(torch.float64, copy=True))
        elif logarithmic:
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
        logarithm = self.__dict__.get("_parameters", {}).get(f"log_{name}")
        if logarithm is not None:
            return logarithm.to(torch.float64).exp()
        return super().__getattr__(name)

    @property
    def kind_name(self) -> str:
        """``LIF``, ``AdEx``, ...; ``input`` where it has no neurons."""
        return "input" if self.kind is None else self.kind.__name__

    @property
    def spiking(self) -> bool:
        """Whether its units emit spikes: inputs do, LI does not, others do if they have a threshold at their output."""
        return self.structure is None or self.structure.spiking

    def part(self, units: slice) -> Population:
        """Some of its neurons as a population of its own, with the numbers they have now, fixed."""
        made = Population(len(range(self.size)[units]))
        made.structure, made.kind, made.fields = self.structure, self.kind, self.fields
        for field in self.fields:
            value = getattr(self, field).detach()
            made._store(field, value[units] if value.ndim else value, False)
        return made

    def time_constants(self, compartment: str, receptor: str) -> tuple[Tensor, Tensor]:
        """(tau_mem, tau_syn) of a place, as `Structure.place` gives it: () or (size,) each, without a graph."""
        assert self.structure is not None
        names = self.structure.name_of("tau_mem", compartment), self.structure.name_of("tau_syn", compartment, receptor)
        tau_mem, tau_syn = (getattr(self, str(name)).detach().to(torch.float64) for name in names)
        return tau_mem, tau_syn

    def psp_peak(self, compartment: str, receptor: str) -> Tensor:
        """What an initialiser's amplitudes are in units of: the peak of ``V`` after a spike of weight 1 at rest.

        That of the compartment alone, without its exponential term, adaptation and neighbours; `psp_peak` of the two
        time constants, or ``tau_syn / tau_mem`` where there is no leak.
        """
        assert self.structure is not None
        tau_mem, tau_syn = self.time_constants(compartment, receptor)
        return psp_peak(tau_mem, tau_syn) if self.structure.site(compartment).leaky else tau_syn / tau_mem

    def check(self, name: str) -> None:
        """Raise ``InvalidNetwork`` naming the population where its values, perhaps learned, make no neuron any more."""
        if self.structure is not None:
            self.structure.check(f"population {name!r}", {field: getattr(self, field) for field in self.fields})

    def extra_repr(self) -> str:
        """``120 LIF, tau_mem 10 ms (trained), ...``"""
        fields = () if self.structure is None else self.structure.fields
        parts = [
            f"{self.size} {self.kind_name}",
            *(self._describe(field.name, field.what in TIMES) for field in fields),
        ]
        if self.dropout:
            parts.append(f"dropout {self.dropout:g}")
        return ", ".join(parts)

    def trains(self, field: str) -> bool:
        """Whether a field is trainable: a parameter, frozen or not."""
        return field in self._parameters or f"log_{field}" in self._parameters

    def _describe(self, field: str, seconds: bool) -> str:
        value: Tensor = getattr(self, field).detach()
        scale, unit = (1e3, " ms") if seconds else (1.0, "")
        low, high = float(value.min()) * scale, float(value.max()) * scale
        number = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
        return f"{field} {number}{unit}{' (trained)' if self.trains(field) else ''}"
