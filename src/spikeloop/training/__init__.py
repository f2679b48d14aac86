"""Training: `fit`, `evaluate` and what they are told with."""

from spikeloop.training.course import Metrics, Progress
from spikeloop.training.folder import RunFolder
from spikeloop.training.loop import Training, evaluate, fit
from spikeloop.training.readout import FirstSpike, MaxOverTime, Readout, readout_of
from spikeloop.training.settings import Cosine, Decay, LiftSilent, Settings, adam, lion

__all__ = [
    "Cosine",
    "Decay",
    "FirstSpike",
    "LiftSilent",
    "MaxOverTime",
    "Metrics",
    "Progress",
    "Readout",
    "RunFolder",
    "Settings",
    "Training",
    "adam",
    "evaluate",
    "fit",
    "lion",
    "readout_of",
]
