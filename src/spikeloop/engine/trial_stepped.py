"""What a trial says of populations that are run in steps, as arrays."""

from __future__ import annotations

from spikeloop.engine.stepped import Current
from spikeloop.network import Network
from spikeloop.protocols import Trial


def place_of(network: Network, key: str) -> tuple[str, int]:
    """The population and the number of the compartment that "population.compartment" means."""
    population, compartment = network.place("trial", key)
    structure = network.populations[population].structure
    assert structure is not None
    return population, [site.name for site in structure.sites].index(compartment)


def currents_into(trial: Trial, population: str) -> tuple[Current, ...]:
    """The currents into a population, one for each compartment that has any."""
    found: list[Current] = []
    for key, steps in trial.steps.items():
        name, compartment = place_of(trial.network, key)
        if name == population:
            found.append(Current(compartment, *steps._arrays))
    return tuple(found)
