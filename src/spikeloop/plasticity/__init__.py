"""Plasticity: rules that change weights while a network runs, written once for `Ideal` and for the twin of a chip.

Provisional: details may change in any version.
"""

from spikeloop.plasticity.memory import Learned, request, tell
from spikeloop.plasticity.rule import Correlation, Plastic, Plasticity, Program
from spikeloop.plasticity.rules import (
    AdditiveSTDP,
    Homeostasis,
    MultiplicativeSTDP,
    Relocation,
    RewardModulatedSTDP,
    Rewiring,
)
from spikeloop.plasticity.short_term import ShortTerm
from spikeloop.plasticity.view import Kernel, SynapsesView, View
from spikeloop.plasticity.window import fit_window

__all__ = [
    "AdditiveSTDP",
    "Correlation",
    "Homeostasis",
    "Kernel",
    "Learned",
    "MultiplicativeSTDP",
    "Plastic",
    "Plasticity",
    "Program",
    "Relocation",
    "RewardModulatedSTDP",
    "Rewiring",
    "ShortTerm",
    "SynapsesView",
    "View",
    "fit_window",
    "request",
    "tell",
]
