"""The synapses of one projection on the array: where they are, and the codes that they hold there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import COLUMNS, WEIGHT_MAX
from spikeloop.chip.mismatch import Float
from spikeloop.engine.codes import lay

Indices = NDArray[np.int64]

SCALE_BITS = 8
"""Of a code's fraction in `Place.scale`."""


@dataclass(frozen=True, eq=False)
class Place:
    """The synapses of one projection on the array.

    rows: (R, S, T), flat excitatory synapses of the R row pairs; the inhibitory ones are a row further on.  source:
    (S,), addresses of events from outside, or circuits; inside says which.  circuit: (T,), the heads of the targets:
    those of their output compartments, whichever the synapses are on.
    largest: (T,), the code, not necessarily whole, of a weight of 1.  ends: (K,) sources and targets of a sparse
    projection's synapses, or None.  signed: whether weights have both signs.  sensor: whether its sensors are used.
    level: (2, T), CADC steps of the outputs' leak and of threshold above it.  given: (K,), the codes, not necessarily
    whole, that synapses of a sparse projection begin with: those that share a place have their parts of what is there.
    """

    rows: Indices
    source: Indices
    inside: bool
    circuit: Indices
    largest: Float
    ends: tuple[Indices, Indices] | None = None
    signed: bool = False
    sensor: bool = True
    level: Float = field(default_factory=lambda: np.array([[80.0], [70.0]]))
    given: Float | None = None

    @property
    def scale(self) -> Indices:
        """``largest`` of every synapse, in 256ths of a code: (T,) or (K,)."""
        scale = np.rint(self.largest * (1 << SCALE_BITS)).astype(np.int64)
        return scale if self.ends is None else scale[self.ends[1]]

    @cached_property
    def halves(self) -> frozenset[int]:
        """Of the array, in which there are synapses."""
        return frozenset(np.unique(self.rows // (COLUMNS * COLUMNS)).tolist())


def codes_of(weight: NDArray[np.uint8], place: Place) -> Indices:
    """(S, T): signed codes, summed over the rows of a synapse."""
    flat = weight.reshape(-1).astype(np.int64)
    return (flat[place.rows] - flat[place.rows + COLUMNS]).sum(0)


def lay_out(code: Indices, ends: tuple[Indices, Indices] | None, place: Place, weight: NDArray[np.uint8]) -> Indices:
    """Put signed codes on the rows of their synapses; gives what the rows hold of each."""
    most, dense = WEIGHT_MAX * len(place.rows), code
    if ends is not None:
        dense = np.zeros(place.rows.shape[1:], np.int64)
        np.add.at(dense, ends, code)
        dense = np.clip(dense, -most, most)
        code = shared_out(code, dense, ends, most)
    lay(np.ascontiguousarray(dense, np.int32), place.rows, COLUMNS, weight)
    return code


def shared_out(code: NDArray[Any], dense: Indices, ends: tuple[Indices, Indices], most: int) -> Indices:
    """(K,): what synapses have of ``dense``, (S, T): the sums of ``code`` (K,), rounded, and at most ``most``.

    Rounded one after the other, so that nothing is left over where several share a place; in proportion beyond most.
    """
    place = np.ravel_multi_index(ends, dense.shape)
    order = np.argsort(place, kind="stable")
    at, total = place[order], np.abs(np.bincount(place, code, dense.size))
    first, last = (np.insert(at[1:] != at[:-1], end, True)[: len(at)] for end in (0, max(len(at) - 1, 0)))
    until = np.append(0.0, np.cumsum((code * (most / np.maximum(total, most))[place])[order]))
    until = until[1:] - until[np.maximum.accumulate(np.where(first, np.arange(len(at)), 0))]
    whole = np.where(last, dense.reshape(-1)[at], np.rint(until).astype(np.int64))
    found = np.empty_like(whole)
    found[order] = whole - np.where(first, 0, np.roll(whole, 1))
    return found
