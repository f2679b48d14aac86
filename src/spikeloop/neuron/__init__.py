"""Neurons: what they are, as values. They hold no state and know nothing of time steps or gradients."""

from spikeloop.neuron.adex import AdEx
from spikeloop.neuron.compartments import Compartment, Compartments, Plateau, Sodium
from spikeloop.neuron.point import LI, LIF, psp_peak
from spikeloop.neuron.structure import LOGARITHMIC, TIMES, Field, Site, Structure, Value

__all__ = [
    "LI",
    "LIF",
    "LOGARITHMIC",
    "TIMES",
    "AdEx",
    "Compartment",
    "Compartments",
    "Field",
    "Neuron",
    "Plateau",
    "Site",
    "Sodium",
    "Structure",
    "Value",
    "psp_peak",
]

Neuron = LIF | LI | AdEx | Compartments
