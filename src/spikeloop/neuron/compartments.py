"""Neurons of several compartments: a tree of them, each with its synapses and perhaps a spike mechanism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikeloop.errors import InvalidNetwork, WrongType, kind_of
from spikeloop.neuron.structure import (
    Field,
    Reversals,
    Site,
    Structure,
    Value,
    Values,
    check_name,
    check_unique,
    never,
    receptor_values,
    receptors_of,
)

TERMS = ("leak", "capacitance", "slope_factor", "exponential_threshold", "tau_adaptation", "a", "b")
"""The numbers of a `Compartment` besides tau_mem, those of its receptors and of its mechanism."""


@dataclass(frozen=True, eq=False)
class Sodium:
    """A fast spike: when ``V`` reaches ``threshold`` from below, ``V = reset`` is held for ``refractory`` seconds."""

    threshold: Value = 1.0
    reset: Value = 0.0
    refractory: Value = 0.0


@dataclass(frozen=True, eq=False)
class Plateau:
    """A dendritic spike (NMDA, calcium): when ``V`` reaches ``threshold`` from below, it is clamped at ``potential``.

    That lasts ``duration`` seconds; then ``V`` is released and decays. ``potential`` may lie above ``threshold``: a
    crossing is always one from below, so the release starts no second plateau.
    """

    threshold: Value = 1.0
    potential: Value = 1.0
    duration: Value = 50e-3


_MECHANISMS = {
    Sodium: {"threshold": "threshold", "reset": "reset", "refractory": "refractory"},
    Plateau: {"threshold": "threshold", "potential": "reset", "duration": "refractory"},
}


@dataclass(frozen=True, eq=False)
class Compartment:
    """One compartment of a `Compartments` neuron: membrane, receptors, and a ``spike`` mechanism or None.

    ``capacitance`` is in units of a reference capacitance, which the couplings refer to. All else as in `AdEx`, whose
    exponential and adaptive terms are off unless given.
    """

    tau_mem: Value
    tau_syn: Values
    leak: Value = 0.0
    capacitance: Value = 1.0
    spike: Sodium | Plateau | None = None
    reversal: Reversals = None
    slope_factor: Value = 0.0
    exponential_threshold: Value = 1.0
    tau_adaptation: Value = 100e-3
    a: Value = 0.0
    b: Value = 0.0
    leaky: bool = True

    def __post_init__(self) -> None:
        if self.spike is not None and not isinstance(self.spike, Sodium | Plateau):
            raise InvalidNetwork(
                f"spike is {kind_of(self.spike)}", where="Compartment", expected="Sodium(...), Plateau(...) or None"
            )
        for name in ("tau_syn", "reversal"):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, dict(given))
        fields = tuple(self.numbers(""))
        Structure(Compartment, fields, (self.site(""),)).check("Compartment", self._values())

    def numbers(self, name: str) -> dict[Field, Value]:
        """Its numbers as the compartment ``name``."""
        where = f"compartment {name!r}"
        prefix = f"{name}_" if name else ""
        return {
            Field(f"{prefix}tau_mem", "tau_mem", name): self.tau_mem,
            **receptor_values(receptors_of(where, self.tau_syn, self.reversal), name),
            **self._mechanism(prefix, name),
            **{Field(f"{prefix}{what}", what, name): getattr(self, what) for what in TERMS},
        }

    def site(self, name: str) -> Site:
        """What of it is no number."""
        receptors = tuple(receptors_of(f"compartment {name!r}", self.tau_syn, self.reversal))
        fires = self.spike is not None and not never(self.spike.threshold)
        return Site(name, receptors, self.leaky, fires, isinstance(self.spike, Plateau))

    def _mechanism(self, prefix: str, name: str) -> dict[Field, Value]:
        if self.spike is None:
            return {}
        return {
            Field(f"{prefix}{own}", what, name, infinite=what == "threshold"): getattr(self.spike, own)
            for own, what in _MECHANISMS[type(self.spike)].items()
        }

    def _values(self) -> dict[str, Value]:
        return {field.name: value for field, value in self.numbers("").items()}


@dataclass(frozen=True, eq=False)
class Compartments:
    r"""A neuron of several compartments, a tree of conductances.

    Compartment :math:`c` of capacitance :math:`C_c` (in units of a reference) follows

    .. math::
        \tau_{m,c} \dot V_c = (V_{L,c} - V_c) + \dots + \sum_r I_{c,r} + J_c
            + \tau_{m,c} \sum_d \frac{V_d - V_c}{\tau_{cd}\, C_c}

    with the terms of `AdEx` for the dots and :math:`\tau_{cd}` = ``couplings[c, d]``, in seconds: the reference
    capacitance over the conductance between the two. Each compartment may have a mechanism of its own: `Sodium`, held
    at a reset, or `Plateau`, clamped at a high potential for a while.

    compartments: by name.  couplings: (one, other): seconds; one less than there are compartments, all connected.
    output: the compartment whose crossings are the neuron's spikes (by default the first one). Without a mechanism
    there the neuron never spikes.

    A `Population` calls the numbers ``soma_tau_mem``, ``soma_threshold``, ``dendrite_tau_syn_NAME``, ...,
    ``coupling_soma_dendrite``; a plateau's ``dendrite_threshold``, ``dendrite_potential`` and ``dendrite_duration``.

    Raises ``InvalidNetwork``, ``WrongType``.
    """

    compartments: Mapping[str, Compartment]
    couplings: Mapping[tuple[str, str], Value]
    output: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.compartments, Mapping) or not self.compartments:
            raise InvalidNetwork(
                "there are no compartments", where="Compartments", expected="a mapping from names to Compartment(...)"
            )
        for name, compartment in self.compartments.items():
            check_name("Compartments", name)
            if not isinstance(compartment, Compartment):
                raise InvalidNetwork(
                    f"compartment {name!r} is {kind_of(compartment)}", where="Compartments", expected="Compartment(...)"
                )
        if not isinstance(self.couplings, Mapping):
            raise WrongType(
                f"the couplings are {kind_of(self.couplings)}", where="Compartments",
                expected='a mapping from pairs to seconds: {("soma", "dendrite"): 1e-3}',
            )  # fmt: skip
        object.__setattr__(self, "compartments", dict(self.compartments))
        object.__setattr__(self, "couplings", dict(self.couplings))
        object.__setattr__(self, "output", self.output or next(iter(self.compartments)))
        if self.output not in self.compartments:
            raise _unknown("output", self.output, self.compartments)
        _check_tree(list(self.compartments), list(self.couplings))
        self.structure.check("Compartments", self.values)

    @property
    def values(self) -> dict[str, Value]:
        """Its numbers by the names that a population stores them under."""
        return {field.name: value for field, value in self._numbers().items()}

    @property
    def structure(self) -> Structure:
        """What of it is no number."""
        fields = tuple(self._numbers())
        check_unique("Compartments", fields)
        sites = tuple(compartment.site(name) for name, compartment in self.compartments.items())
        return Structure(Compartments, fields, sites, tuple(self.couplings), self.output)

    def _numbers(self) -> dict[Field, Value]:
        found: dict[Field, Value] = {}
        for name, compartment in self.compartments.items():
            found |= compartment.numbers(name)
        for (one, other), value in self.couplings.items():
            found[Field(f"coupling_{one}_{other}", "coupling", one, other)] = value
        return found


def _check_tree(names: list[str], couplings: list[tuple[str, str]]) -> None:
    """Raise where the couplings do not connect all compartments without a loop."""
    root = {name: name for name in names}

    def top(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for pair in couplings:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidNetwork(f"{pair!r} is no pair", where="couplings", expected="pairs of compartments as keys")
        for name in pair:
            if name not in root:
                raise _unknown("couplings", name, root)
        one, other = (top(name) for name in pair)
        if one == other:
            raise InvalidNetwork(
                f"{pair[0]!r} and {pair[1]!r} are connected already",
                where="couplings",
                expected="a tree: one way between any two compartments",
            )
        root[one] = other
    apart = [name for name in names if top(name) != top(names[0])]
    if apart:
        raise InvalidNetwork(
            f"{', '.join(map(repr, apart))} is not connected with {names[0]!r}",
            where="couplings",
            expected="a tree of all compartments",
        )


def _unknown(where: str, name: object, known: Mapping[str, object]) -> InvalidNetwork:
    return InvalidNetwork(f"there is no compartment {name!r}", where=where, expected=f"one of {', '.join(known)}")
