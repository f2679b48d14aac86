"""spikeloop: train spiking networks event by event, on an ideal simulator or in the loop with a substrate."""

from typing import TYPE_CHECKING

from spikeloop._attach import attach
from spikeloop._later import later
from spikeloop._run import Experiment, run
from spikeloop._version import __version__
from spikeloop.build import expected_amplitude, feedforward, recurrent
from spikeloop.errors import (
    ActivityExplosion,
    CannotObserve,
    CheckpointError,
    DataError,
    DoesNotFit,
    InvalidEvents,
    InvalidNetwork,
    NoRule,
    OutOfRange,
    RuleFailed,
    ShapeMismatch,
    SpikeloopError,
    SpikeloopWarning,
    UnknownPopulation,
    Unsupported,
    WrongType,
)
from spikeloop.events import Events
from spikeloop.gradient.eventprop import EventProp
from spikeloop.initial import Initialiser, Normal, Uniform
from spikeloop.network import Network
from spikeloop.neuron import LI, LIF, AdEx, Compartment, Compartments, Plateau, Sodium, psp_peak
from spikeloop.population import Population
from spikeloop.projection import Projection, Synapses
from spikeloop.protocols import NOTHING, Cotangent, Every, Gradients, Observe, Rule, Substrate, Trial
from spikeloop.record import Calls, Cost, Lowering, Peak, Record, Recorded, Samples, State
from spikeloop.steps import Steps
from spikeloop.substrate.ideal import Ideal

if TYPE_CHECKING:
    from spikeloop.chip.twin import Twin
    from spikeloop.gradient.surrogate import SuperSpike
    from spikeloop.substrate.onchip import OnChip
else:
    __getattr__, __dir__ = later(
        __name__,
        {
            "OnChip": "spikeloop.substrate.onchip",
            "SuperSpike": "spikeloop.gradient.surrogate",
            "Twin": "spikeloop.chip.twin",
        },
    )

__all__ = [
    "LI",
    "LIF",
    "NOTHING",
    "ActivityExplosion",
    "AdEx",
    "Calls",
    "CannotObserve",
    "CheckpointError",
    "Compartment",
    "Compartments",
    "Cost",
    "Cotangent",
    "DataError",
    "DoesNotFit",
    "EventProp",
    "Events",
    "Every",
    "Experiment",
    "Gradients",
    "Ideal",
    "Initialiser",
    "InvalidEvents",
    "InvalidNetwork",
    "Lowering",
    "Network",
    "NoRule",
    "Normal",
    "Observe",
    "OnChip",
    "OutOfRange",
    "Peak",
    "Plateau",
    "Population",
    "Projection",
    "Record",
    "Recorded",
    "Rule",
    "RuleFailed",
    "Samples",
    "ShapeMismatch",
    "Sodium",
    "SpikeloopError",
    "SpikeloopWarning",
    "State",
    "Steps",
    "Substrate",
    "SuperSpike",
    "Synapses",
    "Trial",
    "Twin",
    "Uniform",
    "UnknownPopulation",
    "Unsupported",
    "WrongType",
    "__version__",
    "attach",
    "expected_amplitude",
    "feedforward",
    "psp_peak",
    "recurrent",
    "run",
]
