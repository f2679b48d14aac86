"""What circuits shall be for the neurons of a network, and which neurons no circuit can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.calibration import RANGES, Target, outside
from spikeloop.chip.configuration import CAPACITANCE_MAX, CIRCUITS, CYCLE
from spikeloop.chip.mapping import Placement, site_key
from spikeloop.chip.scales import DISTANCE, LEAK, Scale, capacitance_share, number, scale_of
from spikeloop.chip.transfer import REFERENCE_PSP
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.neuron import Site
from spikeloop.population import Population

Float = NDArray[np.float64]

SHORTEST_HOLD = 5 * CYCLE
"""Seconds: the shortest refractory time (hardware.md 1.3)."""


def check_reach(network: Network, speedup: float) -> None:
    """Raise ``OutOfRange``, in the model's numbers and the chip's, where a neuron is what no circuit can be."""
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            _check_above(name, population, site)
            _check_floating(name, population, site)
            for field, value in _wanted(population, site, 1, speedup).items():
                if field in RANGES and len(wrong := outside(np.asarray(value), *RANGES[field][:2])):
                    raise _unreachable((name, population, site.name), field, np.asarray(value), int(wrong[0]), speedup)


def _check_above(name: str, population: Population, site: Site) -> None:
    if not site.fires:
        return
    leak, threshold = (number(population, field, site.name) for field in ("leak", "threshold"))
    above = np.flatnonzero(~((threshold > leak) & np.isfinite(threshold)))
    if len(above):
        raise OutOfRange(
            f"the leak is {leak[above[0]]:g}, the threshold {threshold[above[0]]:g}",
            where=f"population {name!r}",
            expected="a leak below the threshold: their distance is what a chip's potentials are scaled to",
            todo="Lower the leak, or run the network on Ideal()",
        )  # fmt: skip


def _check_floating(name: str, population: Population, site: Site) -> None:
    """A neuron without a leak begins at its reset; its other terms are currents over the leak's."""
    if site.leaky:
        return
    leak, reset, a, slope = (_or_zero(population, field, site) for field in ("leak", "reset", "a", "slope_factor"))
    where = f"population {site_key(name, site.name)!r}"
    apart = np.flatnonzero((reset != leak) & site.fires)
    if len(apart):
        raise Unsupported(
            f"it has no leak, and its reset is {reset[apart[0]]:g}, its leak {leak[apart[0]]:g}", where=where,
            expected="one number: a chip's membrane that has no leak begins where it is reset",
            todo="Set leak=reset, or run it on Ideal",
        )  # fmt: skip
    if a.any() or slope.any():
        raise Unsupported(
            f"it has {'a' if a.any() else 'slope_factor'}, but no leak", where=where,
            expected="b alone: on a chip the others are measured by the leak's conductance",
            todo="Take a long tau_mem, or run it on Ideal",
        )  # fmt: skip


def _or_zero(population: Population, what: str, site: Site) -> Float:
    assert population.structure is not None
    known = population.structure.name_of(what, site.name) is not None
    return number(population, what, site.name) if known else np.zeros(population.size)


def _unreachable(of: tuple[str, Population, str], field: str, value: Float, neuron: int, speedup: float) -> OutOfRange:
    name, population, compartment = of
    low, high, unit = RANGES[field]
    given = number(population, field, compartment)[neuron]
    if unit == "s":
        least, most, own = low * speedup, high * speedup, " s"
        todo = "Choose another speedup, or another time"
    elif unit == "codes":
        least, most, own, todo = low / CAPACITANCE_MAX, high / CAPACITANCE_MAX, "", "Choose one nearer to the largest"
    else:
        scale = scale_of(population, speedup)
        least, most = (scale.leak[neuron] + (end - LEAK) / scale.steps[neuron] for end in (low, high))
        own, todo = "", "Choose one nearer to the leak"
    return OutOfRange(
        f"{field} is {given:g}{own} ({value[neuron]:g} {unit} on the chip)",
        where=f"population {site_key(name, compartment)!r}",
        expected=f"{least:g} to {most:g}{own} ({low:g} to {high:g} {unit} on the chip, at speedup {speedup:g})",
        todo=todo,
    )  # fmt: skip


def target_of(network: Network, placement: Placement, speedup: float) -> Target:
    """What the circuits shall be for ``network``; circuits without a neuron get what the published experiments used."""
    values = {
        "leak": LEAK, "reset": LEAK, "threshold": LEAK + DISTANCE, "tau_mem": 6e-6, "tau_syn": 6e-6,
        "psp": REFERENCE_PSP,
        "refractory": SHORTEST_HOLD, "capacitance": CAPACITANCE_MAX,
    }  # fmt: skip
    check_reach(network, speedup)
    arrays = {name: np.full(CIRCUITS, float(value)) for name, value in values.items()}
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            circuit = placement.site[site_key(name, site.name)]
            for field, value in _wanted(population, site, circuit.shape[1], speedup).items():
                arrays[field][circuit] = np.broadcast_to(value, (len(circuit),))[:, None]
    return Target(**arrays)


def _wanted(population: Population, site: Site, circuits: int, speedup: float) -> dict[str, Float | float]:
    """What the circuits of a compartment shall be."""
    scale = scale_of(population, speedup, site.name)
    share = np.rint(CAPACITANCE_MAX / circuits * capacitance_share(population, site.name))
    wanted: dict[str, Float | float] = {
        "tau_mem": number(population, "tau_mem", site.name) / speedup,
        "tau_syn": number(population, "tau_syn", site.name) / speedup,
        "capacitance": share,
        "psp": scale.psp * circuits,
    }
    several = site.name != ""
    if several:
        wanted["leak"] = _level(population, scale, "leak", site)
    if site.fires:
        wanted["reset"] = _level(population, scale, "reset", site)
        wanted["refractory"] = np.maximum(number(population, "refractory", site.name) / speedup, SHORTEST_HOLD)
        if several:
            wanted["threshold"] = _level(population, scale, "threshold", site)
    elif several and not site.leaky:
        wanted["reset"] = wanted["leak"]
    return wanted


def _level(population: Population, scale: Scale, what: str, site: Site) -> Float:
    """CADC steps of a potential."""
    level: Float = LEAK + scale.steps * (number(population, what, site.name) - scale.leak)
    return level
