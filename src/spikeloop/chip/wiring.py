"""Whom an event reaches: addresses and labels as weights from sources to neurons, and the order to run those in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import BUSES, COLUMNS, LINKS, ROWS, Integers, Routing
from spikeloop.engine.codes import wired

Indices = NDArray[np.int64]
PER_BUS = 32
"""Drivers of one half on one bus."""


@dataclass(frozen=True, eq=False)
class Wires:
    """Synapses from S sources to N neurons: synapse[k] (flat in half, row, column) of ``cell`` source * N + neuron.

    Ascending in cell.
    """

    synapse: NDArray[np.int32]
    cell: Indices
    shape: tuple[int, int]

    @cached_property
    def first(self) -> NDArray[np.int32]:
        """(S N + 1,): where the synapses of each cell begin, and the end."""
        return np.append(0, np.cumsum(self._counts())).astype(np.int32)

    def _counts(self) -> Indices:
        return np.bincount(self.cell, minlength=self.shape[0] * self.shape[1])

    def weights(self, code: NDArray[np.uint8], height: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """(S, N) float32: the sums of the synapses' codes, each times its height; both flat in half, row, column."""
        return wired(code, height, self.synapse, self.first, self.shape, threads)

    def connected(self) -> NDArray[np.bool_]:
        """(S, N): whether there is any synapse."""
        return (self._counts() > 0).reshape(self.shape)

    def beside(self, other: Wires) -> Wires:
        """Those of more sources to the same neurons, too."""
        assert self.shape[1] == other.shape[1]
        cell = np.concatenate([self.cell, other.cell + self.shape[0] * self.shape[1]])
        shape = (self.shape[0] + other.shape[0], self.shape[1])
        return Wires(np.concatenate([self.synapse, other.synapse]), cell, shape)

    def some(self, keep: NDArray[np.bool_]) -> Wires:
        """Those of some synapses only; ``keep``: flat in half, row, column."""
        kept = keep[self.synapse]
        return Wires(self.synapse[kept], self.cell[kept], self.shape)

    def part(self, sources: Indices, neurons: Indices) -> Wires:
        """The wires from some sources to some neurons, both ascending, renumbered."""
        row, column = np.full(self.shape[0], -1), np.full(self.shape[1], -1)
        row[sources], column[neurons] = np.arange(len(sources)), np.arange(len(neurons))
        source, neuron = row[self.cell // self.shape[1]], column[self.cell % self.shape[1]]
        keep = (source >= 0) & (neuron >= 0)
        return Wires(self.synapse[keep], (source * len(neurons) + neuron)[keep], (len(sources), len(neurons)))


def external(routing: Routing, address: Indices, of: Indices, neurons: int) -> Wires:
    """From events sent with each of ``address`` (16 bit) to the neurons; ``of``: (512,), the neuron of each circuit."""
    found = [_reached(routing, int(label) & 0x3FFF, link_buses(routing, int(label))) for label in address]
    return _wires(found, of, neurons)


def link_buses(routing: Routing, address: int) -> list[tuple[int, int]]:
    """(half, bus) pairs that an event from outside enters."""
    link, label = address >> 14, address & 0x3FFF
    passes = (label & routing.link_mask[link % LINKS]) == routing.link_target[link % LINKS]
    return [(int(b) // BUSES, int(b) % BUSES) for b in np.flatnonzero(passes)]


def internal(routing: Routing, heads: Indices, of: Indices) -> Wires:
    """From the spikes of each neuron to the neurons."""
    labels = own_labels(routing, heads).tolist()
    found = [
        _reached(routing, label, output_buses(routing, int(c), label)) for c, label in zip(heads, labels, strict=True)
    ]
    return _wires(found, of, len(heads))


def own_labels(routing: Routing, circuit: Integers) -> Indices:
    """Bits 0-10 of the events that each ``circuit`` sends."""
    return routing.neuron_label[circuit].astype(np.int64) | (circuit % COLUMNS // PER_BUS).astype(np.int64) << 8


def output_buses(routing: Routing, circuit: int, label: int) -> list[tuple[int, int]]:
    """(half, bus) pairs that the event of a circuit's spike enters."""
    if not routing.sends[circuit]:
        return []
    output = circuit % COLUMNS // PER_BUS
    passes = (label & routing.output_mask[output]) == routing.output_target[output]
    return [(int(half), output % BUSES) for half in np.flatnonzero(passes)]


def fired(routing: Routing, label: int, half: int, bus: int) -> Indices:
    """The drivers of a half that an event with ``label`` on this bus fires."""
    mask = routing.driver_mask[half, bus * PER_BUS : (bus + 1) * PER_BUS]
    return np.flatnonzero((np.arange(PER_BUS) & mask) == (label >> 6 & 31 & mask)) + bus * PER_BUS


def _reached(routing: Routing, label: int, buses: list[tuple[int, int]]) -> Indices:
    """The synapses, flat, that answer to ``label`` on these buses."""
    wanted, parts = label & 63, [np.zeros(0, np.int64)]
    for half, bus in buses:
        driver = fired(routing, label, half, bus)
        row = (2 * driver[:, None] + np.arange(2)).ravel()
        row = row[routing.row_sign[half, row] != 0]
        which, column = np.nonzero(routing.label[half, row] == wanted)
        parts.append((half * ROWS + row[which]) * COLUMNS + column)
    return np.concatenate(parts)


def _wires(found: list[Indices], of: Indices, neurons: int) -> Wires:
    synapse = np.concatenate([np.zeros(0, np.int64), *found])
    source = np.repeat(np.arange(len(found)), [len(each) for each in found])
    circuit = synapse // (ROWS * COLUMNS) * COLUMNS + synapse % COLUMNS
    cell = source * neurons + of[circuit]
    order = np.argsort(cell, kind="stable")
    return Wires(synapse[order].astype(np.int32), cell[order], (len(found), neurons))


def stages(reaches: NDArray[np.bool_]) -> list[tuple[Indices, bool]]:
    """Neurons that run together, earlier ones first, and whether they reach each other; reaches: (N, N)."""
    closure = _closure(reaches)
    together = (closure & closure.T) | np.eye(len(reaches), dtype=bool)
    before = closure & ~together
    depth = _depth(before)
    loops = np.diagonal(closure)
    found: list[tuple[Indices, bool]] = []
    for level in np.unique(depth):
        at = np.flatnonzero(depth == level)
        alone, looped = at[~loops[at]], at[loops[at]]
        found += [(part, loop) for part, loop in ((alone, False), (looped, True)) if len(part)]
    return found


def _closure(reaches: NDArray[np.bool_]) -> NDArray[np.bool_]:
    closure = reaches.copy()
    while True:
        longer = closure | (closure.astype(np.float32) @ closure.astype(np.float32) > 0)
        if np.array_equal(longer, closure):
            return closure
        closure = longer


def _depth(before: NDArray[np.bool_]) -> Indices:
    """(N,): the number of stages that come before each neuron's."""
    depth = np.zeros(len(before), np.int64)
    while True:
        later = np.where(before, depth[:, None] + 1, 0).max(0, initial=0)
        if np.array_equal(later, depth):
            return depth
        depth = later


def senders_of(routing: Routing) -> Indices:
    """(2048,): the circuit whose events have a label and an output, bits 0-10; -1: none."""
    table = np.full(2048, -1, np.int64)
    senders = np.flatnonzero(routing.sends)
    table[own_labels(routing, senders)] = senders
    return table
