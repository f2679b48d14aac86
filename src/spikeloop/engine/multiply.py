"""A chip's array as a multiplier: activations times weights, as its parts distort them. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core

Single = NDArray[np.float32]
_WORD = 2**64 - 1


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of the array; all in single precision.

    synapse: (2 rows, columns) of a whole half, gain of each synapse: even rows excite, odd ones inhibit.  row, column:
    the signed row and the column where the part begins.  pulse: (K,), added to each activation that is not 0, but not
    to below 0.  columns: (4, N): gain (result steps per activation and weight step), offset (steps), and 1 / how many
    steps below, and above, the ``linear`` range the result can get at most; 0: as many as you like.  noise: rms, steps.
    """

    synapse: Single
    row: int
    column: int
    pulse: Single
    columns: Single
    linear: tuple[float, float]
    noise: float


def multiply(
    tile: Tile, weights: NDArray[np.int8], activations: NDArray[np.uint8], key: int, threads: int
) -> NDArray[np.int8]:
    """(B, N): ``floor(gain sum + offset + noise)`` of activations (B, K) and weights (K, N), saturated, cut to 8 bits.

    The noise of each sample comes from a stream of its own of ``key``.
    """
    synapses = (tile.synapse, tile.row, tile.column, tile.pulse)
    return _core.multiply(
        weights, activations, synapses, tile.columns, (*tile.linear, tile.noise, key & _WORD), threads
    )
