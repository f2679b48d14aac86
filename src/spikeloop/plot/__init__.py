"""Pictures of events, membranes, chips and training. The only folder that imports matplotlib (extra `cli`).

Every function draws on the axes it is given and returns them; seconds are shown as milliseconds.
"""

from spikeloop.errors import SpikeloopError

try:
    import matplotlib  # noqa: F401
except ImportError as _missing:
    raise SpikeloopError(
        "spikeloop.plot needs matplotlib, which is not installed", todo='pip install "spikeloop[cli]"'
    ) from _missing

from spikeloop.plot.activity import membrane, raster, traces
from spikeloop.plot.array import array_map, before_after, transfer_curves, weight_codes
from spikeloop.plot.learning import accuracy_bars, decision_map, learning_curve
from spikeloop.plot.plasticity import over_updates, stdp_window, weight_distribution, weight_matrix
from spikeloop.plot.schedule import schedule
from spikeloop.plot.style import canvas, save

__all__ = [
    "accuracy_bars",
    "array_map",
    "before_after",
    "canvas",
    "decision_map",
    "learning_curve",
    "membrane",
    "over_updates",
    "raster",
    "save",
    "schedule",
    "stdp_window",
    "traces",
    "transfer_curves",
    "weight_codes",
    "weight_distribution",
    "weight_matrix",
]
