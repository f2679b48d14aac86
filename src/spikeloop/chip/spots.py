"""Which circuits neurons are put on: spots that they may take, and who chooses first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import CIRCUITS, COLUMNS, HALVES, Flags
from spikeloop.chip.morphology import Form
from spikeloop.chip.sensing import zones
from spikeloop.errors import DoesNotFit
from spikeloop.network import Network

Indices = NDArray[np.int64]


def choose_circuits(
    network: Network, per_neuron: Mapping[str, int], bad: Flags, forms: Mapping[str, Form]
) -> dict[str, Indices]:
    """Circuits of every population, the largest neurons first, those that send to others before those that do not.

    With bad circuits small populations choose first: a bad neuron of a readout costs a class, one of many hardly
    anything. Those that need quadrants of their own, for their sensors, choose before all others.
    """
    sends, size = {p.source for p in network.projections.values()}, {n: p.size for n, p in network.populations.items()}
    choosy = bool(bad.any())
    zone = zones(network, per_neuron)
    order = sorted(
        per_neuron,
        key=lambda name: (name not in zone, -per_neuron[name], size[name] if choosy else name not in sends),
    )
    free = np.ones(CIRCUITS, bool)
    spots = {name: _spots_of(forms[name]) if name in forms else _spots(per_neuron[name]) for name in order}
    for name, allowed in zone.items():
        quadrant = spots[name] // COLUMNS * 2 + spots[name] % COLUMNS // (COLUMNS // 2)
        spots[name] = spots[name][allowed[quadrant].all(1)]
    width = {name: forms[name].width if name in forms else max(1, per_neuron[name] // 2) for name in order}
    return {name: _take(free, bad, name, size[name], spots[name], width[name]) for name in order}


def _take(free: Flags, bad: Flags, name: str, size: int, spots: Indices, width: int) -> Indices:
    """``size`` neurons on some of the ``spots`` (S, n), which are spread evenly over the eight outputs."""
    order = np.argsort(bad[spots].sum(1), kind="stable")
    found: list[Indices] = []
    for spot in spots[order]:
        if len(found) < size and free[spot].all():
            free[spot] = False
            found.append(spot)
    if len(found) < size:
        raise DoesNotFit(
            f"{size - len(found)} of {size} neurons do not find {width} free columns side by side",
            where=f"population {name!r}",
            todo="Take fewer neurons or fewer inputs",
        )
    return np.stack(found)


def _spots(count: int) -> Indices:
    """(S, count): circuits that a neuron of ``count`` may be joined from; of one, or of whole columns side by side."""
    width = max(1, count // 2)
    spread = np.arange(COLUMNS).reshape(8, -1)[:, : COLUMNS // 8 // width * width]
    firsts = spread.reshape(8, -1, width)[:, :, 0].T.ravel()
    if count == 1:
        return np.concatenate([half * COLUMNS + firsts for half in range(HALVES)])[:, None]
    column, half = np.repeat(np.arange(width), HALVES), np.tile(np.arange(HALVES), width)
    return half * COLUMNS + firsts[:, None] + column


def _spots_of(form: Form) -> Indices:
    """(S, n): circuits, in the order of `Form.order`, that a neuron of this form may be put on."""
    if form.width > COLUMNS // 8:
        return np.zeros((0, len(form.order)), np.int64)
    firsts = np.arange(COLUMNS).reshape(8, -1)[:, : COLUMNS // 8 // form.width * form.width : form.width].T.ravel()
    row, column = np.array(form.order).T
    flips = range(HALVES) if form.one_row else (0,)
    return np.concatenate([(row ^ flip) * COLUMNS + firsts[:, None] + column for flip in flips])
