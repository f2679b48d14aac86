"""What of a neuron is no number (compartments, receptors, mechanisms), the names of its numbers, and their checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spikeloop.errors import InvalidNetwork, kind_of

Value = float | Tensor
Values = Value | Mapping[str, Value]
"""One value, or one per receptor."""
Reversals = Value | Mapping[str, Value | None] | None
"""Reversal potentials of one receptor or by receptor; None: current-based."""

TIMES = frozenset({"tau_mem", "tau_syn", "refractory", "tau_adaptation", "coupling"})
"""What is in seconds."""
LOGARITHMIC = TIMES | {"capacitance"}
"""What is stored as a logarithm where it is trainable."""
POSITIVE = LOGARITHMIC - {"refractory"}
"""What must be above zero."""
_ALONE = "default"  # what a message calls the only receptor, which has no name
_NAME = re.compile(r"(?!log|raw)[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Field:
    """One number of a neuron: its ``name`` as a population stores it, ``what`` it is in the equations, and where.

    ``what`` is a field of `AdEx` or "tau_syn", "reversal", "capacitance", "coupling"; a plateau's potential is a
    "reset", its duration a "refractory". A coupling is between ``compartment`` and ``receptor``, the other one.
    infinite: whether it may be infinite.
    """

    name: str
    what: str
    compartment: str = ""
    receptor: str = ""
    infinite: bool = False


@dataclass(frozen=True)
class Site:
    """A compartment without its numbers: what a neuron has in one place. A point neuron has one, named "".

    receptors: their names; ("",): one without a name.  fires: whether it has a threshold.  plateau: whether it may be
    held above it.
    """

    name: str = ""
    receptors: tuple[str, ...] = ("",)
    leaky: bool = True
    fires: bool = True
    plateau: bool = False


@dataclass(frozen=True)
class Structure:
    """A kind of neuron without its numbers: its fields in order, its compartments, and how they are coupled."""

    kind: type
    fields: tuple[Field, ...]
    sites: tuple[Site, ...] = (Site(),)
    couplings: tuple[tuple[str, str], ...] = ()
    output: str = ""

    @cached_property
    def spiking(self) -> bool:
        """Whether its output compartment has a threshold."""
        return self.site(self.output).fires

    def site(self, name: str) -> Site:
        """The compartment ``name``."""
        return next(site for site in self.sites if site.name == name)

    def name_of(self, what: str, compartment: str = "", receptor: str = "") -> str | None:
        """The stored name of a number; None where the neuron has no such one."""
        wanted = (what, compartment, receptor)
        return next((f.name for f in self.fields if (f.what, f.compartment, f.receptor) == wanted), None)

    def place(self, where: str, compartment: str | None, receptor: str | None) -> tuple[str, str]:
        """Which compartment and receptor are meant; None: the output, the only receptor. Raises ``InvalidNetwork``."""
        names = [site.name for site in self.sites]
        chosen = self.output if compartment is None else compartment
        if chosen not in names:
            raise InvalidNetwork(
                f"the target has no compartment {chosen!r}",
                where=where,
                expected="no compartment: it is a point neuron" if names == [""] else f"one of {', '.join(names)}",
            )
        return chosen, self._receptor(where, chosen, receptor)

    def _receptor(self, where: str, compartment: str, receptor: str | None) -> str:
        known = self.site(compartment).receptors
        if receptor is None and len(known) == 1:
            return known[0]
        if receptor and receptor in known:
            return receptor
        raise InvalidNetwork(
            "the target has several receptors" if receptor is None else f"the target has no receptor {receptor!r}",
            where=where,
            expected="no receptor: it has one without a name" if known == ("",) else f"one of {', '.join(known)}",
        )

    def check(self, where: str, values: Mapping[str, Value]) -> None:
        """Raise ``InvalidNetwork`` where values (by stored name) make no neuron; ``where`` names it in the message."""
        tensors = {field.name: _numbers(where, field.name, values[field.name]) for field in self.fields}
        for field in self.fields:
            _check_value(where, field, tensors[field.name])
        _check_sizes(where, tensors)
        for site in self.sites:
            self._check_site(where, site, tensors)

    def _check_site(self, where: str, site: Site, tensors: Mapping[str, Tensor]) -> None:
        def of(what: str, receptor: str = "") -> Tensor | None:
            name = self.name_of(what, site.name, receptor)
            return None if name is None else tensors[name]

        where = f"{where}, compartment {site.name!r}" if site.name else where
        threshold, reset, leak, slope = of("threshold"), of("reset"), of("leak"), of("slope_factor")
        if threshold is not None and reset is not None and not site.plateau and not bool((reset < threshold).all()):
            raise InvalidNetwork(
                "reset is not below threshold",
                where=where,
                expected="reset < threshold for every neuron",
                todo="lower reset or raise threshold",
            )
        endless = True if threshold is None else threshold.isinf()
        if slope is not None and bool(((slope > 0) & endless).any()):
            raise InvalidNetwork(
                "the exponential term has no threshold to end at",
                where=where,
                expected="a finite threshold where slope_factor is above 0",
            )
        for receptor in site.receptors:
            reversal = of("reversal", receptor)
            if reversal is not None and leak is not None and bool((reversal == leak).any()):
                raise InvalidNetwork(
                    f"reversal of receptor {receptor or _ALONE!r} equals leak",
                    where=where,
                    expected="another potential: weights are sizes at V = leak, where such a synapse does nothing",
                )


def check_name(where: str, name: object) -> None:
    """Raise ``InvalidNetwork`` where this cannot name a compartment or a receptor."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidNetwork(
            f"{name!r} cannot be a name",
            where=where,
            expected="letters, digits and underscores, a letter first, and neither log nor raw as the beginning",
        )


def check_unique(where: str, fields: tuple[Field, ...]) -> None:
    """Raise ``InvalidNetwork`` where two numbers would be stored under one name."""
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidNetwork(
            f"two of its numbers are called {twice[0]}", where=where, todo="Rename a compartment or a receptor"
        )


def receptors_of(where: str, tau_syn: Values, reversal: Reversals) -> dict[str, tuple[Value, Value | None]]:
    """(tau_syn, reversal) by receptor; one without a name is "". Raises ``InvalidNetwork``."""
    if not isinstance(tau_syn, Mapping):
        if isinstance(reversal, Mapping):
            raise InvalidNetwork(
                "reversal is by receptor, tau_syn is not", where=where, expected="a mapping for both, or for none"
            )
        return {"": (tau_syn, reversal)}
    if not tau_syn:
        raise InvalidNetwork("there is no receptor", where=where, expected="at least one in tau_syn")
    for name in tau_syn:
        check_name(f"{where}, receptors", name)
    if reversal is not None and not isinstance(reversal, Mapping):
        raise InvalidNetwork(
            f"reversal is {kind_of(reversal)}", where=where, expected="a mapping by receptor, as tau_syn is"
        )
    given = reversal or {}
    for name in given:
        if name not in tau_syn:
            raise InvalidNetwork(
                f"there is no receptor {name!r}", where=f"{where}, reversal", expected=f"one of {', '.join(tau_syn)}"
            )
    return {name: (tau, given.get(name)) for name, tau in tau_syn.items()}


def receptor_values(receptors: Mapping[str, tuple[Value, Value | None]], compartment: str = "") -> dict[Field, Value]:
    """Their numbers: tau_syn_NAME, and reversal_NAME of those that are conductance-based."""
    found: dict[Field, Value] = {}
    for name, (tau_syn, reversal) in receptors.items():
        for what, value in (("tau_syn", tau_syn), ("reversal", reversal)):
            if value is not None:
                stored = "_".join(part for part in (compartment, what, name) if part)
                found[Field(stored, what, compartment, name)] = value
    return found


def never(threshold: Value) -> bool:
    """Whether no neuron can reach it."""
    return bool(torch.as_tensor(threshold).detach().isposinf().all())


def _check_value(where: str, field: Field, value: Tensor) -> None:
    finite = value.isfinite() | value.isposinf() if field.infinite else value.isfinite()
    if not bool(finite.all()):
        raise InvalidNetwork(f"{field.name} is not finite", where=where, expected="finite numbers")
    smallest = float(value.min())
    if field.what in POSITIVE and not smallest > 0:
        expected = "a number above zero" if field.what == "capacitance" else "time constants above zero, in seconds"
        raise InvalidNetwork(f"{field.name} is {smallest:g}", where=where, expected=expected)
    if field.what in ("refractory", "slope_factor") and not smallest >= 0:
        expected = "a time >= 0, in seconds" if field.what == "refractory" else "a potential >= 0; 0: no such term"
        raise InvalidNetwork(f"{field.name} is {smallest:g}", where=where, expected=expected)


def _check_sizes(where: str, tensors: Mapping[str, Tensor]) -> None:
    sizes = {name: tuple(value.shape) for name, value in tensors.items() if value.shape}
    if len(set(sizes.values())) > 1:
        shapes = ", ".join(f"{name} {shape}" for name, shape in sizes.items())
        raise InvalidNetwork(
            f"its fields are of populations of different sizes: {shapes}",
            where=where,
            expected="numbers, or one value per neuron in each",
        )


def _numbers(where: str, name: str, value: Value) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidNetwork(
            f"{name} is {value!r}", where=where, expected="a number, or a tensor of numbers"
        ) from error
