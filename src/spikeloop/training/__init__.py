"""Training: `fit`, `evaluate` and what they are told with."""

from spikeloop.training.course import Metrics, Progress
from spikeloop.training.folder import RunFolder
from spikeloop.training.loop import Training, evaluate, evaluate_ann, fit, fit_ann
from spikeloop.training.readout import FirstSpike, HighestOutput, MaxOverTime, Readout, readout_of
from spikeloop.training.settings import Adam, Cosine, Decay, LiftSilent, Settings, SpikePenalty

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
