"""How the membranes of a population step along the grid, around their observed spikes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from spikeloop.engine.arrays import States, Trains
from spikeloop.gradient.grid import Arrivals, Cells, Grid, charge


@dataclass(frozen=True, eq=False)
class Releases:
    """Ends of refractory times after which a neuron is free until its step ends: all (R,).

    left: seconds to the end of the step.
    """

    step: Tensor
    sample: Tensor
    unit: Tensor
    time: Tensor
    left: Tensor

    @property
    def where(self) -> tuple[Tensor, Tensor, Tensor]:
        """(step, sample, unit)"""
        return self.step, self.sample, self.unit

    def join(self, arrived: Arrivals, steps: int) -> tuple[Tensor, Tensor]:
        """All pairs (which release, which arrival) of the same sample and step."""
        here, there = self.sample * steps + self.step, arrived.sample * steps + arrived.step
        low = torch.searchsorted(there, here)
        number = torch.searchsorted(there, here, right=True) - low
        release = torch.repeat_interleave(torch.arange(len(here)), number)
        within = torch.arange(len(release)) - (number.cumsum(0) - number)[release]
        return release, low[release] + within

    def brought(self, cells: Cells, arrived: Arrivals, pairs: tuple[Tensor, Tensor]) -> Tensor:
        """By pair: the membrane at the end of the step, per weight of the arrival; before the release it stays 0."""
        release, arrival = pairs
        tau_mem, tau_syn = cells.own(self.unit[release])
        early = (self.time[release] - arrived.time[arrival]).clamp_min(0.0)
        left = torch.minimum(self.left[release], arrived.left[arrival])
        return (torch.exp(-early / tau_syn) * charge(left, tau_mem, tau_syn)).to(cells.dtype)


@dataclass(frozen=True, eq=False)
class Steps:
    r"""The linear map of each step, for ``v = V - leak`` and ``I`` at its ends:

    .. math:: v_{k+1} = \mathit{keep}_k v_k + \mathit{charge}_k I_k + \dots, \qquad I_{k+1} = \mathit{decay} I_k + \dots

    keep and charge: (K, B, N). held: (step, sample, unit), each (H,): neurons at reset when the step ends.
    releases: where a refractory time ends within the step; charge counts from there on. In both keep is 0.
    """

    keep: Tensor
    charge: Tensor
    decay: Tensor
    held: tuple[Tensor, Tensor, Tensor]
    releases: Releases

    @cached_property
    def free(self) -> Tensor:
        """(K, B, N): 1; 0 where the neuron was at reset at any time of the step, so that what came before is gone."""
        free = torch.ones_like(self.charge)
        self.stop(free)
        return free

    def stop(self, values: Tensor) -> None:
        """Zeros into ``values`` (K, B, N) where a neuron was at reset."""
        values[self.held] = 0.0
        values[self.releases.where] = 0.0


def steps(grid: Grid, cells: Cells, trains: Trains, start: States | None) -> Steps:
    """The map of each step, given the neurons' observed spikes."""
    shape = (grid.steps, grid.batch, cells.size)
    dt = torch.tensor(grid.dt, dtype=torch.float64)
    keep, decay = ((-dt / tau).exp().to(cells.dtype) for tau in (cells.tau_mem, cells.tau_syn))
    whole = charge(dt, cells.tau_mem, cells.tau_syn).to(cells.dtype)
    if not cells.spiking:
        return Steps(
            keep.expand(shape), whole.expand(shape), decay, _NOWHERE, Releases(_NONE, _NONE, _NONE, _NEVER, _NEVER)
        )
    held, releases = _holds(grid, cells, *_spikes(cells, trains, start, grid.batch))
    keep = keep.clamp_min(torch.finfo(cells.dtype).tiny)  # 0 says that nothing is kept
    moves = Steps(keep.repeat(_times(shape, keep)), whole.repeat(_times(shape, whole)), decay, held, releases)
    for map_ in (moves.keep, moves.charge):
        moves.stop(map_)
    tau_mem, tau_syn = cells.own(releases.unit)
    late = torch.exp(-(grid.dt - releases.left) / tau_syn) * charge(releases.left, tau_mem, tau_syn)
    moves.charge[releases.where] = late.to(cells.dtype)
    return moves


_NEVER = torch.zeros(0, dtype=torch.float64)
_NONE = torch.zeros(0, dtype=torch.int64)
_NOWHERE = (_NONE, _NONE, _NONE)


def _times(shape: tuple[int, int, int], values: Tensor) -> tuple[int, int, int]:
    return *shape[:2], shape[2] // len(values)


def _spikes(cells: Cells, trains: Trains, start: States | None, batch: int) -> tuple[Tensor, ...]:
    """(spike, release, sample, unit) in order of time within each sample; a hold from before comes first."""
    time, unit, begin = (torch.from_numpy(part) for part in trains)
    unit, sample = unit.to(torch.int64), torch.repeat_interleave(torch.arange(batch), begin.diff())
    release = time + cells.refractory[unit]
    if start is None:
        return time, release, sample, unit
    held = torch.from_numpy(start.held)
    owner, who = held.nonzero(as_tuple=True)
    old = (torch.zeros(len(who), dtype=torch.float64), held[owner, who], owner, who)
    return tuple(torch.cat(parts) for parts in zip(old, (time, release, sample, unit), strict=True))


def _holds(
    grid: Grid, cells: Cells, spike: Tensor, release: Tensor, sample: Tensor, unit: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Releases]:
    """Where neurons are held when a step ends, and the releases that no later spike in the step undoes."""
    # What happens just when a step ends has happened in that step: the membrane there sees it.
    first = (torch.ceil(grid.place(spike, sample)) - 1).clamp_min(0.0).to(torch.int64)
    last = torch.maximum((torch.ceil(grid.place(release, sample)) - 1).to(torch.int64), first)
    which, step = _all_between(first, last.clamp_max(grid.steps))
    held = (step, sample[which], unit[which])
    slot = (last * grid.batch + sample) * cells.size + unit
    still = (held[0] * grid.batch + held[1]) * cells.size + held[2]  # here a later spike holds it when the step ends
    mine = ((last < grid.steps) & ~torch.isin(slot, still)).nonzero()[:, 0]
    mine = mine[_last_of_each(slot[mine])]
    step, sample, unit, time = last[mine], sample[mine], unit[mine], release[mine]
    return held, Releases(step, sample, unit, time, grid.left(time, sample, step))


def _all_between(first: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Every integer from ``first`` to before ``end``, and which of the ranges it is from."""
    number = (end - first).clamp_min(0)
    which = torch.repeat_interleave(torch.arange(len(first)), number)
    return which, first[which] + torch.arange(len(which)) - (number.cumsum(0) - number)[which]


def _last_of_each(slot: Tensor) -> Tensor:
    """Where every value stands for the last time."""
    _, back = np.unique(slot.numpy()[::-1], return_index=True)
    return torch.from_numpy(len(slot) - 1 - back)
