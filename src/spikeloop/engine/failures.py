"""What makes the engine give up, and where: a neuron of a population, in one sample."""

from __future__ import annotations


class Failure(Exception):
    """A run cannot go on, for the sake of one neuron."""

    population: str
    sample: int
    unit: int

    def __init__(self, population: str, sample: int, unit: int) -> None:
        super().__init__(population, sample, unit)
        self.population, self.sample, self.unit = population, sample, unit


class Explosion(Failure):
    """It passed the limit of spikes."""


class Divergence(Failure):
    """It is no number at the end of a run: the steps are too long for it."""
