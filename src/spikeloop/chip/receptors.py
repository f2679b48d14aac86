"""Which receptor of a neuron each of a circuit's two synaptic lines is: the excitatory one, the inhibitory one.

A line has one time constant and one reversal potential, and its rows one sign. So receptors that differ need weights
of different signs; those that are alike, and a single current-based one, may have both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.errors import Unsupported
from spikeloop.network import Network
from spikeloop.neuron import Site
from spikeloop.population import Population
from spikeloop.projection import Projection

Float = NDArray[np.float64]


class Lines(NamedTuple):
    """The receptors that the excitatory and the inhibitory line of a compartment are."""

    excitatory: str
    inhibitory: str


def lines_of(network: Network) -> dict[tuple[str, str], Lines]:
    """By population and compartment, of those whose lines may differ: several receptors, or conductance-based ones.

    Raises ``Unsupported`` where a line would have to be two receptors, or one that no conductance is.
    """
    found: dict[tuple[str, str], Lines] = {}
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            if len(site.receptors) > 1 or any(
                reversal_of(population, site, each) is not None for each in site.receptors
            ):
                found[name, site.name] = _lines(network, name, site)
    return found


def tau_of(population: Population, site: Site, receptor: str) -> Float:
    """(N,) seconds: tau_syn of a receptor."""
    value = _number(population, "tau_syn", site, receptor)
    assert value is not None
    return value


def reversal_of(population: Population, site: Site, receptor: str) -> Float | None:
    """(N,): the reversal potential of a receptor; None where it is current-based."""
    return _number(population, "reversal", site, receptor)


def _number(population: Population, what: str, site: Site, receptor: str) -> Float | None:
    assert population.structure is not None
    name = population.structure.name_of(what, site.name, receptor)
    if name is None:
        return None
    value = getattr(population, name).detach().to(torch.float64).numpy()
    return np.broadcast_to(value, (population.size,)).copy()


def _lines(network: Network, name: str, site: Site) -> Lines:
    population, signs = network.populations[name], _signs(network, name, site)
    chosen: list[str] = []
    for line, what in enumerate(("positive", "negative")):
        users = [each for each in site.receptors if signs[each][line]]
        other = next((each for each in users[1:] if not _alike(population, site, users[0], each)), None)
        if other is not None:
            raise Unsupported(
                f"receptors {users[0]!r} and {other!r} both have {what} weights", where=_where(name, site),
                expected="one sign for each: a circuit has one excitatory line, with its time constant and reversal, "
                "and one inhibitory line", todo="Give them weights of different signs, or run it on Ideal",
            )  # fmt: skip
        if users:
            _check_conductance(name, population, site, users[0], line)
        chosen.append(users[0] if users else "")
    free = next((each for each in chosen if each), site.receptors[0])
    return Lines(*(each or free for each in chosen))


def _signs(network: Network, name: str, site: Site) -> dict[str, tuple[bool, bool]]:
    """By receptor, whether any of its weights are, or may become, positive, and negative."""
    found: dict[str, tuple[bool, bool]] = dict.fromkeys(site.receptors, (False, False))
    for key, projection in network.projections.items():
        if projection.target == name and projection.place[0] == site.name:
            up, down = found[projection.place[1]]
            more, less = _range(network, key, projection)
            found[projection.place[1]] = up or more, down or less
    return found


def _range(network: Network, key: str, projection: Projection) -> tuple[bool, bool]:
    weight = projection.weight.detach()
    up, down = bool((weight > 0).any()), bool((weight < 0).any())
    for program in network.programs.values():
        if key in program.projections:
            up, down = True, down or program.projections[key].signed
    return up, down


def _alike(population: Population, site: Site, one: str, other: str) -> bool:
    pairs = [(of(population, site, one), of(population, site, other)) for of in (tau_of, reversal_of)]
    return all(
        a is b if a is None or b is None else np.allclose(a, b, rtol=1e-6, atol=0) for a, b in pairs
    )  # fmt: skip


def _check_conductance(name: str, population: Population, site: Site, receptor: str, line: int) -> None:
    reversal = reversal_of(population, site, receptor)
    if reversal is None:
        return
    leak = _number(population, "leak", site, "")
    assert leak is not None
    above = reversal > leak
    wrong = np.flatnonzero(above if line else ~above)
    if len(wrong):
        what, side = (("negative", "above"), ("positive", "below"))[1 - line]
        raise Unsupported(
            f"receptor {receptor or 'default'!r} has {what} weights, and its reversal ({reversal[wrong[0]]:g}) lies "
            f"{side} the leak", where=_where(name, site),
            expected="a reversal above the leak for positive weights, and below it for negative ones: a conductance",
            todo="Change the weights' sign, or leave reversal out",
        )  # fmt: skip


def _where(name: str, site: Site) -> str:
    return f"population {name!r}" + (f", compartment {site.name!r}" if site.name else "")


def split_lines(network: Network) -> Iterator[tuple[str, Population, Site, Lines]]:
    """Every compartment whose lines may differ."""
    for (name, compartment), lines in lines_of(network).items():
        population = network.populations[name]
        assert population.structure is not None
        yield name, population, population.structure.site(compartment), lines
