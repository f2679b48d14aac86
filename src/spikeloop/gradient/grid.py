"""A network on a time grid: steps, propagators, arrivals within steps, and where neurons are held at reset."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikeloop.engine.arrays import Delays, Link, Neurons, Trains
from spikeloop.engine.short_term_grid import Draws
from spikeloop.errors import Unsupported

MOST_DELAYS = 1000
_TINY = 1e-9  # of a step: what rounding makes of times that lie on the grid
_ROOM = 1 << 22  # values held at a time where every arrival needs one per neuron


@dataclass(frozen=True, eq=False)
class Grid:
    """Step k of sample b lasts from ``origin[b] + k dt`` to ``origin[b] + (k + 1) dt``; K steps reach the end.

    origin: (B,) float64 seconds, above -dt and at most 0.
    """

    dt: float
    steps: int
    origin: Tensor

    @classmethod
    def over(cls, duration: float, dt: float, origin: Tensor) -> Grid:
        """The grid that reaches from ``origin`` (B,) to ``duration``."""
        first = float(origin.min()) if len(origin) else 0.0
        return cls(dt, max(math.ceil((duration - first) / dt - _TINY), 1), origin)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.origin)

    def times(self) -> Tensor:
        """(B, K + 1): where the steps begin, and the last one ends."""
        return self.origin[:, None] + self.dt * torch.arange(self.steps + 1, dtype=torch.float64)

    def place(self, time: Tensor, sample: Tensor) -> Tensor:
        """Times in steps since the origin, as real numbers."""
        return (time - self.origin[sample]) / self.dt

    def step_of(self, time: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """The step that each time lies in, as arrivals have it."""
        place = self.place(torch.from_numpy(time), torch.from_numpy(sample))
        return torch.floor(place).to(torch.int64).numpy()

    def left(self, time: Tensor, sample: Tensor, step: Tensor) -> Tensor:
        """Seconds from times in these steps to the steps' ends."""
        end = self.origin[sample] + (step + 1).to(torch.float64) * self.dt
        return (end - time).clamp(0.0, self.dt)


@dataclass(frozen=True, eq=False)
class Cells:
    """The neurons of a population; time constants (1,) where all are alike, else (N,), the other fields (N,)."""

    name: str
    spiking: bool
    tau_mem: Tensor
    tau_syn: Tensor
    threshold: Tensor
    leak: Tensor
    reset: Tensor
    refractory: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, neurons: Neurons, dtype: torch.dtype) -> Cells:
        """From the engine's arrays."""
        fields = list(torch.from_numpy(neurons.values))
        alike = all(bool((tau == tau[0]).all()) for tau in fields[:2])
        mem, syn = (tau[:1] if alike else tau for tau in fields[:2])
        return cls(neurons.name, neurons.spiking, mem, syn, *fields[2:6], dtype=dtype)

    @property
    def size(self) -> int:
        """N."""
        return len(self.leak)

    def brought(self, left: Tensor) -> tuple[Tensor, Tensor]:
        """Current and membrane that an arrival of weight 1 has made ``left`` (E,) seconds later: (E, 1) or (E, N)."""
        left = left[:, None]
        current = torch.exp(-left / self.tau_syn)
        return current.to(self.dtype), charge(left, self.tau_mem, self.tau_syn).to(self.dtype)

    def own(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """tau_mem and tau_syn of each of these neurons."""
        return (self.tau_mem.expand(self.size)[unit], self.tau_syn.expand(self.size)[unit])


def charge(time: Tensor, tau_mem: Tensor, tau_syn: Tensor) -> Tensor:
    """V - leak after ``time`` from 0 and for I = 1: ``exp(-t / tau_mem) t / tau_mem phi(t / tau_syn - t / tau_mem)``.

    ``phi(x) = (1 - exp(-x)) / x``; written with the slower of the two so that nothing overflows.
    """
    x = time * (1 / tau_syn - 1 / tau_mem).abs()
    phi = torch.where(x == 0, 1.0, -torch.expm1(-x) / torch.where(x == 0, 1.0, x))
    return torch.exp(-time / torch.maximum(tau_mem, tau_syn)) * (time / tau_mem) * phi


@dataclass(frozen=True, eq=False)
class Bundle:
    """The synapses of a projection that share one delay.

    weight: (N_source, N_target), zero where there is none.  synapses: (source, target, which weight), each (S,);
    None: all pairs.  draws: what the events of a short-term one met.
    """

    name: str
    source: str
    target: str
    weight: Tensor
    synapses: tuple[Tensor, Tensor, Tensor] | None
    delay: float
    draws: Draws | None = None

    def add_gradient(self, dense: Tensor, total: Tensor) -> None:
        """Add the gradient ``dense`` (N_source, N_target) to that of the projection's own weights, (W,)."""
        if self.synapses is None:
            total += dense.flatten()
        else:
            source, target, which = self.synapses
            total.index_add_(0, which, dense[source, target])

    def reach(self, dt: float) -> tuple[int, Tensor]:
        """Where a spike in the middle of a step arrives: how many steps later, seconds (1,) to the end of that step."""
        place = 0.5 + self.delay / dt
        later = math.floor(place)
        return later, torch.tensor([(later + 1 - place) * dt], dtype=torch.float64)


def bundles(link: Link, sources: int, targets: int, draws: Draws | None = None) -> list[Bundle]:
    """``link`` as bundles of one delay each. Raises ``Unsupported`` for more than ``MOST_DELAYS`` different ones."""
    weight = torch.from_numpy(link.weight)
    if link.rows is None and link.delays is Delays.COMMON:
        return [Bundle(link.name, link.source, link.target, weight, None, float(link.delay[0]), draws)]
    source, target, which = _synapses(link, sources, targets)
    different, group = np.unique(_delay_of_each(link, source), return_inverse=True)
    if len(different) > MOST_DELAYS:
        raise Unsupported(
            f"{len(different)} different delays",
            where=f"projection {link.name}",
            expected=f"at most {MOST_DELAYS}: a time grid takes the synapses delay by delay",
            todo="Round the delays, or use EventProp",
        )
    found: list[Bundle] = []
    for number, delay in enumerate(different.tolist()):
        mine = torch.from_numpy(group == number)
        ends = (source[mine], target[mine], which[mine])
        dense = torch.zeros(sources, targets, dtype=weight.dtype)
        dense.index_put_(ends[:2], weight.flatten()[ends[2]], accumulate=True)
        found.append(Bundle(link.name, link.source, link.target, dense, ends, delay, draws))
    return found


def _synapses(link: Link, sources: int, targets: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = link.rows
    if rows is None:
        every = torch.arange(sources * targets)
        return every // targets, every % targets, every
    source = torch.repeat_interleave(torch.arange(sources), torch.from_numpy(rows.begin).diff())
    which = torch.arange(len(source)) if rows.weight is None else torch.from_numpy(rows.weight)
    return source, torch.from_numpy(rows.target).to(torch.int64), which


def _delay_of_each(link: Link, source: Tensor) -> np.ndarray:
    if link.delays is Delays.PER_UNIT:
        return link.delay[source.numpy()]
    return np.broadcast_to(link.delay, (len(source),))


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Spikes reaching their targets within the run: all (E,), ordered by sample, then time.

    left: seconds to the end of the step.  event: which of the trains' spikes.  size: of a short-term bundle, how large
    they are.
    """

    sample: Tensor
    step: Tensor
    unit: Tensor
    time: Tensor
    left: Tensor
    event: Tensor
    size: Tensor | None

    def chunks(self, size: int) -> Iterator[slice]:
        """Slices of so few arrivals that one value for each of ``size`` neurons fits."""
        room = max(_ROOM // max(size, 1), 1)
        return (slice(first, first + room) for first in range(0, len(self.step), room))


def arrivals(grid: Grid, bundle: Bundle, trains: Trains) -> Arrivals:
    """The spikes of ``trains`` after the bundle's delay."""
    time, unit, start = (torch.from_numpy(part) for part in trains)
    sample = torch.repeat_interleave(torch.arange(grid.batch), start.diff())
    time = time + bundle.delay
    step = torch.floor(grid.place(time, sample)).to(torch.int64)
    keep = (time >= 0) & (step < grid.steps)
    if bundle.synapses is not None:
        connected = torch.zeros(len(bundle.weight), dtype=torch.bool)
        connected[bundle.synapses[0]] = True
        keep &= connected[unit.to(torch.int64)]
    event = keep.nonzero()[:, 0]
    sample, step, unit, time = (part[keep] for part in (sample, step, unit.to(torch.int64), time))
    size = None if bundle.draws is None else torch.from_numpy(bundle.draws.size)[event]
    return Arrivals(sample, step, unit, time, grid.left(time, sample, step), event, size)
