"""The adaptive exponential integrate-and-fire neuron, of which every term can be left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikeloop.neuron.structure import (
    Field,
    Reversals,
    Site,
    Structure,
    Value,
    Values,
    check_unique,
    never,
    receptor_values,
    receptors_of,
)

POINT = (
    "threshold", "leak", "reset", "refractory", "slope_factor", "exponential_threshold", "tau_adaptation", "a", "b",
)  # fmt: skip
"""The numbers of an `AdEx` besides tau_mem and those of its receptors."""


@dataclass(frozen=True, eq=False)
class AdEx:
    r"""An adaptive exponential integrate-and-fire neuron (Brette & Gerstner 2005) with any number of receptors.

    .. math::
        \tau_m \dot V &= (V_L - V) + \Delta_T e^{(V - V_T) / \Delta_T} - w + \sum_r I_r + J \\
        \tau_w \dot w &= a (V - V_L) - w, \qquad \tau_r \dot I_r = -I_r

    with tau_mem, leak, slope_factor, exponential_threshold, tau_adaptation, a and tau_syn; ``J`` is a current of the
    drive (`Steps`). When ``V`` reaches ``threshold`` from below the neuron spikes: ``w`` grows by ``b`` and ``V =
    reset`` is held for ``refractory`` seconds (``w`` goes on with the held ``V``), then released. ``V(0) = leak``, but
    ``reset`` where leak >= threshold; ``w(0) = I_r(0) = 0``. Conductances are in units of the leak's: with ``g_L`` of
    the usual form, ``a`` and ``b`` are a / g_L and b / g_L, in the unit of ``V`` for ``b``.

    Every term can be off: ``slope_factor=0`` (no exponential), ``a = b = 0`` (no adaptation), ``threshold=inf`` (never
    fires), ``leaky=False`` (no ``V_L - V``; tau_mem is then the scale of the capacitance).

    Receptors: ``tau_syn`` is one time constant, or a mapping from names to time constants: ``{"exc": 5e-3, "inh":
    10e-3}``. An arriving spike adds its weight to ``I_r``. With a ``reversal`` potential ``E_r`` (one, or by name) a
    receptor is conductance-based: the current is ``I_r (E_r - V) / (E_r - leak)``, so that a weight has the size it
    says at ``V = leak``; of a synapse that inhibits, it is negative, and weights of the other sign are no conductance.

    Fields as in `LIF`; a `Population` calls those of named receptors ``tau_syn_NAME`` and ``reversal_NAME``.

    Raises ``InvalidNetwork`` for times that are not positive (a refractory time may be 0), ``reset >= threshold``, an
    exponential term without a finite threshold, a reversal at the leak, or values that are not finite.
    """

    tau_mem: Value
    tau_syn: Values
    threshold: Value = 1.0
    leak: Value = 0.0
    reset: Value = 0.0
    refractory: Value = 0.0
    slope_factor: Value = 0.0
    exponential_threshold: Value = 1.0
    tau_adaptation: Value = 100e-3
    a: Value = 0.0
    b: Value = 0.0
    reversal: Reversals = None
    leaky: bool = True

    def __post_init__(self) -> None:
        for name in ("tau_syn", "reversal"):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, dict(given))
        self.structure.check("AdEx", self.values)

    @property
    def values(self) -> dict[str, Value]:
        """Its numbers by the names that a population stores them under."""
        return {field.name: value for field, value in self._numbers().items()}

    @property
    def structure(self) -> Structure:
        """What of it is no number."""
        receptors = tuple(receptors_of("AdEx", self.tau_syn, self.reversal))
        fields = tuple(self._numbers())
        check_unique("AdEx", fields)
        return Structure(AdEx, fields, (Site("", receptors, self.leaky, not never(self.threshold)),))

    def _numbers(self) -> dict[Field, Value]:
        return {
            Field("tau_mem", "tau_mem"): self.tau_mem,
            **receptor_values(receptors_of("AdEx", self.tau_syn, self.reversal)),
            **{Field(name, name, infinite=name == "threshold"): getattr(self, name) for name in POINT},
        }
