"""AdEx terms and couplings between compartments, from model numbers to what a chip shall have, and to its codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.calibration import Target, code_of, outside
from spikeloop.chip.configuration import CIRCUITS, CODE_MAX
from spikeloop.chip.mapping import Placement, site_key
from spikeloop.chip.scales import LEAK, capacitances, number, scale_of
from spikeloop.chip.terms import Kinds, Switches, Terms
from spikeloop.errors import OutOfRange
from spikeloop.network import Network
from spikeloop.population import Population

Float = NDArray[np.float64]

COUPLING_RANGE = 0.1e-6, 30e-6
"""Seconds: tau_icc (hardware.md 1.3)."""


@dataclass(frozen=True, eq=False)
class TermsTarget:
    """What the terms of the circuits shall be, (512,) each, NaN where there is no such term.

    slope: CADC steps.  exponential_threshold: likewise, as the column ADC reads it.  a: over the leak's conductance.
    b: CADC steps.  tau_adaptation: s.  tau_coupling: s, full capacitance over the conductance of the circuit.
    """

    slope: Float
    exponential_threshold: Float
    a: Float
    b: Float
    tau_adaptation: Float
    tau_coupling: Float

    @property
    def kinds(self) -> Kinds:
        """What any circuit has."""
        there = (np.isfinite(value).any() for value in (self.slope, self.tau_adaptation, self.tau_coupling))
        return Kinds(*map(bool, there))

    @property
    def empty(self) -> bool:
        """Whether no circuit has an AdEx term."""
        return not (np.isfinite(self.slope).any() or np.isfinite(self.tau_adaptation).any())


def terms_target(network: Network, placement: Placement, speedup: float) -> TermsTarget:
    """What ``network`` asks of the circuits that it is placed on. Raises ``OutOfRange`` for what no code gives."""
    arrays = {name: np.full(CIRCUITS, np.nan) for name in TermsTarget.__dataclass_fields__}
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            if population.structure is not None and population.structure.name_of("slope_factor", site.name) is not None:
                head = placement.site[site_key(name, site.name)][:, 0]
                for field, value in _asked(population, site.name, speedup).items():
                    arrays[field][head] = value
    for (name, one, other), circuit in placement.coupling.items():
        population = network.populations[name]
        # the largest compartment has the full capacitance
        value = number(population, "coupling", one, other) / speedup * np.max(capacitances(population), axis=0)
        _check(f"population {name!r}", f"coupling_{one}_{other}", value, COUPLING_RANGE, "s on the chip")
        arrays["tau_coupling"][circuit] = value
    return TermsTarget(**arrays)


def _asked(population: Population, compartment: str, speedup: float) -> dict[str, Float]:
    """By field of `TermsTarget`, NaN for neurons that have no such term."""
    scale = scale_of(population, speedup, compartment)
    slope, threshold, tau, a, b = (
        number(population, what, compartment)
        for what in ("slope_factor", "exponential_threshold", "tau_adaptation", "a", "b")
    )
    exponential, adaptation = slope > 0, (a != 0) | (b != 0)
    return {
        "slope": np.where(exponential, slope * scale.steps, np.nan),
        "exponential_threshold": np.where(exponential, LEAK + scale.steps * (threshold - scale.leak), np.nan),
        "a": np.where(adaptation, a, np.nan),
        "b": np.where(adaptation, b * scale.steps, np.nan),
        "tau_adaptation": np.where(adaptation, tau / speedup, np.nan),
    }


def nominal_terms(
    wanted: TermsTarget, target: Target, heads: NDArray[np.integer], placement: Placement
) -> Terms | None:
    """The codes of the laws; heads: (512,), of each circuit, whose joined capacitance its terms work on.

    Raises ``OutOfRange``, naming a neuron's term, where there is no such code.
    """
    if wanted.empty:
        return None
    joined = np.bincount(heads, np.rint(target.capacitance), CIRCUITS)[heads]
    resistance = transfer.resistance(target.tau_mem, np.maximum(joined, 1))
    tau_code, division = transfer.adaptation_code(np.nan_to_num(wanted.tau_adaptation, nan=100e-6))
    values = {
        "slope": wanted.slope * transfer.STEP / transfer.SLOPE_CODE,
        "exponential_threshold": transfer.code_of_steps(wanted.exponential_threshold),
        "a": np.abs(wanted.a) / resistance * transfer.REFERENCE_A,
        "b": np.abs(wanted.b) * transfer.STEP / transfer.REFERENCE_PULSE / resistance * transfer.REFERENCE_B,
        "tau_adaptation": np.where(np.isfinite(wanted.tau_adaptation), tau_code, np.nan),
    }
    for name, value in values.items():
        _check_codes(name, value, placement)
    codes = {name: code_of(np.nan_to_num(value, nan=0.0)) for name, value in values.items()}
    adaptive = np.isfinite(wanted.tau_adaptation)
    return Terms(
        exponential=np.isfinite(wanted.slope), adaptation=adaptive, invert_a=adaptive & (wanted.a < 0),
        invert_b=adaptive & (wanted.b < 0), adaptation_division=division, **codes,
    )  # fmt: skip


def nominal_switches(switches: Switches | None, wanted: TermsTarget) -> Switches | None:
    """``switches`` with the codes of the laws for the conductances."""
    if switches is None:
        return None
    code, scale = transfer.coupling_code(np.nan_to_num(wanted.tau_coupling, nan=30e-6))
    there = np.isfinite(wanted.tau_coupling)
    return replace(
        switches,
        conductance=np.where(there, code_of(code), 0).astype(np.int16),
        conductance_scale=np.where(there, scale, 0).astype(np.int8),
    )


def _check_codes(name: str, value: Float, placement: Placement) -> None:
    wrong = np.flatnonzero(np.isfinite(value) & ((value < (0 if name in "ab" else 0.5)) | (value > CODE_MAX + 0.5)))
    if len(wrong):
        raise OutOfRange(
            f"{name} needs code {value[wrong[0]]:.4g}", where=_owner(int(wrong[0]), placement.site),
            expected=f"what the chip's codes 0 to {CODE_MAX} give", todo="Choose another speedup, or another value",
        )  # fmt: skip


def _owner(circuit: int, sites: Mapping[str, NDArray[np.int64]]) -> str:
    return next((f"population {name!r}" for name, of in sites.items() if circuit in of[:, 0]), f"circuit {circuit}")


def _check(where: str, what: str, value: Float, limits: tuple[float, float], unit: str) -> None:
    wrong = outside(value, *limits)
    if len(wrong):
        raise OutOfRange(
            f"{what} is {value[wrong[0]]:.4g} {unit}", where=where,
            expected=f"{limits[0]:g} to {limits[1]:g} {unit}: what the chip reaches",
            todo="Choose another speedup, or another coupling",
        )  # fmt: skip
