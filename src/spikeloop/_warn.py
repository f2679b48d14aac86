"""Warnings that point at the user's line."""

from __future__ import annotations

import inspect
import warnings

from spikeloop.errors import SpikeloopWarning

_OURS = ("spikeloop", "torch")


def warn(message: str) -> None:
    """A SpikeloopWarning that points at the first caller that is neither in this package nor in torch."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, SpikeloopWarning, stacklevel=level)
