"""Networks without spikes, whose products the analog array of a chip computes (provisional).

Layers are those of `torch.nn` with the same parameters. `calibrate` finds their scales from data, a place says where
they compute: in integers as the array does (`Quantised`), in floating point (`Float`), or on chips (`OnChips`).
"""

from spikeloop.ann.calibrate import Range, calibrate
from spikeloop.ann.convert import convert
from spikeloop.ann.convolution import Conv1d, Conv2d, ExpandedConv1d
from spikeloop.ann.experiment import Experiment
from spikeloop.ann.layers import Linear
from spikeloop.ann.onchips import OnChips
from spikeloop.ann.place import Float, Quantised, computing
from spikeloop.ann.results import Add, ArgMax, ConvertingReLU

__all__ = [
    "Add",
    "ArgMax",
    "Conv1d",
    "Conv2d",
    "ConvertingReLU",
    "ExpandedConv1d",
    "Experiment",
    "Float",
    "Linear",
    "OnChips",
    "Quantised",
    "Range",
    "calibrate",
    "computing",
    "convert",
]
