"""Populations that are integrated in steps, as arrays: every kind of neuron as compartments with receptors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikeloop.engine.arrays import Float, Link
from spikeloop.engine.stepped import CELL_FIELDS, Cells, SteppedLink
from spikeloop.network import Network
from spikeloop.neuron import Site
from spikeloop.population import Population

_ABSENT: Mapping[str, float] = {"threshold": np.inf, "tau_adaptation": 1.0, "capacitance": 1.0}
"""What a compartment without the number gets; 0 otherwise."""


def cells_of(name: str, population: Population) -> Cells:
    """A population as the stepped engine takes it; LIF and LI are AdEx without the other terms."""
    structure, size = population.structure, population.size
    assert structure is not None
    sites = structure.sites
    number = {site.name: c for c, site in enumerate(sites)}
    values = np.empty((len(CELL_FIELDS), len(sites), size))
    for row, what in enumerate(CELL_FIELDS):
        for c, site in enumerate(sites):
            values[row, c] = _number(population, what, site.name, "", _ABSENT.get(what, 0.0))
    tau_syn, reversal = (
        _by_receptor(population, what, absent) for what, absent in (("tau_syn", 1.0), ("reversal", np.nan))
    )
    pairs = [(number[one], number[other]) for one, other in structure.couplings]
    coupling = [_number(population, "coupling", one, other, np.nan) for one, other in structure.couplings]
    return Cells(
        name,
        values,
        np.array([site.leaky for site in sites], bool),
        tau_syn,
        reversal,
        np.array(pairs, np.int32).reshape(-1, 2),
        np.array([np.broadcast_to(value, size) for value in coupling]).reshape(-1, size),
        number[structure.output],
    )


def onto(network: Network, link: Link, amplitude: Float | None = None) -> SteppedLink:
    """A projection of ``network``, with the receptor and the compartment it ends at."""
    compartment, receptor = network.projections[link.name].place
    structure = network.populations[link.target].structure
    assert structure is not None
    sites = [site.name for site in structure.sites]
    c = sites.index(compartment)
    return SteppedLink(
        link.name,
        link.source,
        link.target,
        link.weight,
        link.delay,
        link.delays,
        link.rows,
        structure.sites[c].receptors.index(receptor),
        c,
        amplitude,
        link.short_term,
    )


def name_of(population: Population, what: str, compartment: int, receptor: int | None = None) -> str | None:
    """The stored name of a number of the arrays; None where the neuron has no such one."""
    assert population.structure is not None
    site = population.structure.sites[compartment]
    return population.structure.name_of(what, site.name, _receptor(site, receptor))


def _receptor(site: Site, number: int | None) -> str:
    if number is None:
        return ""
    return site.receptors[number] if number < len(site.receptors) else "-"


def _by_receptor(population: Population, what: str, absent: float) -> Float:
    """(K, C, N)"""
    assert population.structure is not None
    sites = population.structure.sites
    values = np.full((max(len(site.receptors) for site in sites), len(sites), population.size), absent)
    for c, site in enumerate(sites):
        for k, receptor in enumerate(site.receptors):
            values[k, c] = _number(population, what, site.name, receptor, absent)
    return values


def _number(population: Population, what: str, compartment: str, receptor: str, absent: float) -> Float | float:
    assert population.structure is not None
    name = population.structure.name_of(what, compartment, receptor)
    return absent if name is None else getattr(population, name).detach().numpy()
