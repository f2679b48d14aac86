"""Training: `fit`, `evaluate` and what they are told with."""

from typing import TYPE_CHECKING

from spikeloop._later import later
from spikeloop.training.course import Metrics, Progress
from spikeloop.training.folder import RunFolder
from spikeloop.training.loop import Training, evaluate, fit
from spikeloop.training.readout import FirstSpike, HighestOutput, MaxOverTime, Readout, readout_of
from spikeloop.training.settings import Adam, Cosine, Decay, LiftSilent, Settings, SpikePenalty

if TYPE_CHECKING:
    from spikeloop.training.ann import evaluate_ann, fit_ann
else:
    __getattr__, __dir__ = later(
        __name__, {"evaluate_ann": "spikeloop.training.ann", "fit_ann": "spikeloop.training.ann"}
    )

__all__ = [
    "Adam",
    "Cosine",
    "Decay",
    "FirstSpike",
    "HighestOutput",
    "LiftSilent",
    "MaxOverTime",
    "Metrics",
    "Progress",
    "Readout",
    "RunFolder",
    "Settings",
    "SpikePenalty",
    "Training",
    "evaluate",
    "evaluate_ann",
    "fit",
    "fit_ann",
    "readout_of",
]
