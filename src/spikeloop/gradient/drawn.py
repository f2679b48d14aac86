"""What arrivals are worth to a loss, and how this goes through the resources that short-term plastic ones draw on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeloop.engine.arrays import Trains
from spikeloop.engine.short_term_grid import DrawnBack, Draws
from spikeloop.gradient.grid import Arrivals, Bundle, Cells, Grid, arrivals
from spikeloop.gradient.holds import Steps

Adjoints = tuple[Tensor, Tensor]
"""Of membrane and current, (K + 1, B, N) each."""


def worth(cells: Cells, moves: Steps, adjoints: Adjoints, arrived: Arrivals, some: slice | Tensor) -> Tensor:
    """(E, N): what a charge of 1 at each of ``some`` arrivals changes, but for releases in the same step."""
    slot = arrived.step[some] * moves.keep.shape[1] + arrived.sample[some]
    membrane, current = (adjoint[1:].reshape(-1, cells.size).index_select(0, slot) for adjoint in adjoints)
    by_current, by_membrane = cells.brought(arrived.left[some])
    if cells.spiking:
        membrane *= moves.keep.view(-1, cells.size).index_select(0, slot) != 0
    return current.mul_(by_current).addcmul_(membrane, by_membrane)


def worth_at_release(
    cells: Cells, moves: Steps, adjoints: Adjoints, arrived: Arrivals, pairs: tuple[Tensor, Tensor]
) -> Tensor:
    """(P,): what it changes by a release in the same step, for each pair of these."""
    freed = moves.releases
    step, sample, unit = (part[pairs[0]] for part in freed.where)
    return freed.brought(cells, arrived, pairs).mul_(adjoints[0][1:][step, sample, unit])


@dataclass(eq=False)
class _Part:
    """One bundle's arrivals in the order of their steps, and pairs of releases and arrivals likewise."""

    bundle: Bundle
    arrived: Arrivals
    order: Tensor
    step: Tensor
    pairs: tuple[Tensor, Tensor]
    pair_step: Tensor

    @classmethod
    def of(cls, grid: Grid, moves: Steps, bundle: Bundle, trains: Trains) -> _Part:
        arrived = arrivals(grid, bundle, trains)
        step, order = torch.sort(arrived.step, stable=True)
        release, arrival = moves.releases.join(arrived, grid.steps)
        pair_step, by_step = torch.sort(arrived.step[arrival], stable=True)
        return cls(bundle, arrived, order, step, (release[by_step], arrival[by_step]), pair_step)


@dataclass(eq=False)
class Drawing:
    """A short-term link in the sweep of its target's stage; bundles: all of its own."""

    grid: Grid
    cells: Cells
    moves: Steps
    draws: Draws
    bundles: Sequence[Bundle]
    trains: Trains
    _back: DrawnBack = field(init=False)
    _parts: list[_Part] = field(init=False)

    def __post_init__(self) -> None:
        self._back = DrawnBack(self.draws)
        self._parts = [_Part.of(self.grid, self.moves, bundle, self.trains) for bundle in self.bundles]

    def back(self, adjoints: Adjoints, first: int, felt: Tensor) -> Tensor:
        """dL/dS of the steps from ``first`` on, from what spikes of size 1 that take nothing are worth (steps, B, S);
        the steps after them have been passed.
        """
        for part in self._parts:
            self._add_sizes(part, adjoints, first, first + len(felt))
        given = felt.contiguous()
        self._back(first, self.grid.origin.numpy(), self.grid.dt, given.numpy())
        return given

    def _add_sizes(self, part: _Part, adjoints: Adjoints, first: int, end: int) -> None:
        """What the sizes of arrivals in steps first:end change."""
        by_size, ends = torch.from_numpy(self._back.by_size), torch.tensor([first, end])
        low, high = torch.searchsorted(part.step, ends).tolist()
        weight, arrived = part.bundle.weight.to(self.cells.dtype), part.arrived
        for some in torch.split(part.order[low:high], max((1 << 22) // max(self.cells.size, 1), 1)):
            each = worth(self.cells, self.moves, adjoints, arrived, some).mul_(weight[arrived.unit[some]])
            by_size.index_add_(0, arrived.event[some], each.sum(1).to(torch.float64))
        low, high = torch.searchsorted(part.pair_step, ends).tolist()
        pairs = (part.pairs[0][low:high], part.pairs[1][low:high])
        each = worth_at_release(self.cells, self.moves, adjoints, arrived, pairs)
        each *= weight[arrived.unit[pairs[1]], self.moves.releases.unit[pairs[0]]]
        by_size.index_add_(0, arrived.event[pairs[1]], each.to(torch.float64))
