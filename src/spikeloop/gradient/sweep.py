"""The membranes of a network on a time grid, and their adjoints: the linear maps of `grid` and `holds`, there and back.

Per step, with S the spikes of a population in that step, observed ones at their times and what the surrogate adds to
them in the middle of the step:

    v[k + 1] = keep[k] v[k] + charge[k] I[k] + free[k] sum W S brought_v,    I[k + 1] = decay I[k] + sum W S brought_I
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from spikeloop.engine.arrays import States, Trains
from spikeloop.gradient.drawn import Drawing, worth, worth_at_release
from spikeloop.gradient.grid import Arrivals, Bundle, Cells, Grid, arrivals
from spikeloop.gradient.holds import Steps
from spikeloop.network import Key


@dataclass(frozen=True, eq=False)
class Layer:
    """A population on the grid; slope: (K, B, N), the surrogate derivative of its spikes by its membrane."""

    cells: Cells
    steps: Steps
    bundles: Sequence[Bundle]
    slope: Tensor | None


def replay(
    grid: Grid, cells: Cells, moves: Steps, incoming: Sequence[tuple[Bundle, Trains]], start: States | None
) -> Tensor:
    """(K, B, N): the membrane V where the steps begin, from spikes and parameters: exact, whatever the step."""
    shape = (grid.steps + 1, grid.batch, cells.size)  # the first is where the run begins
    current, membrane = (torch.zeros(shape, dtype=cells.dtype) for _ in range(2))
    released = torch.zeros(len(moves.releases.step), dtype=cells.dtype)
    for bundle, trains in incoming:
        _deliver(
            grid, cells, moves, arrivals(grid, bundle, trains), bundle.weight, (current[1:], membrane[1:], released)
        )
    _begin(cells, current[0], membrane[0], start)
    _from_reset(cells, moves, membrane[1:], released)
    for before, after in pairwise(current.unbind()):
        after.addcmul_(before, moves.decay)
    membrane[1:].addcmul_(moves.charge, current[:-1])
    for (before, after), keep in zip(pairwise(membrane.unbind()), moves.keep.unbind(), strict=True):
        after.addcmul_(before, keep)
    return membrane[:-1].add_(cells.leak.to(cells.dtype))


def _deliver(
    grid: Grid, cells: Cells, moves: Steps, arrived: Arrivals, weight: Tensor, to: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Add what arrivals bring to current, membrane (K, B, N) and released membranes (R,)."""
    by_current, by_membrane = (part.view(-1, cells.size) for part in to[:2])
    slot = arrived.step * grid.batch + arrived.sample
    for some in arrived.chunks(cells.size):
        row = weight.index_select(0, arrived.unit[some]).to(cells.dtype)
        if arrived.size is not None:
            row *= arrived.size[some, None].to(cells.dtype)
        current, membrane = cells.brought(arrived.left[some])
        by_current.index_add_(0, slot[some], row * current)
        by_membrane.index_add_(0, slot[some], row.mul_(membrane))
    pairs = moves.releases.join(arrived, grid.steps)
    each = weight[arrived.unit[pairs[1]], moves.releases.unit[pairs[0]]].to(cells.dtype)
    if arrived.size is not None:
        each *= arrived.size[pairs[1]].to(cells.dtype)
    to[2].index_add_(0, pairs[0], each * moves.releases.brought(cells, arrived, pairs))


def _begin(cells: Cells, current: Tensor, membrane: Tensor, start: States | None) -> None:
    """The state at the beginning, membranes relative to the leak."""
    if start is None:
        membrane += torch.where(cells.leak >= cells.threshold, cells.reset - cells.leak, 0.0).to(cells.dtype)
    else:
        current += torch.from_numpy(start.current).to(cells.dtype)
        membrane += (torch.from_numpy(start.membrane) - cells.leak).to(cells.dtype)


def _from_reset(cells: Cells, moves: Steps, membrane: Tensor, released: Tensor) -> None:
    """Where a neuron was at reset in a step, what it has from there instead of what it had before."""
    reset, freed = cells.reset - cells.leak, moves.releases
    tau_mem, _ = cells.own(freed.unit)
    membrane[moves.held] = reset.to(cells.dtype)[moves.held[2]]
    membrane[freed.where] = (reset[freed.unit] * torch.exp(-freed.left / tau_mem)).to(cells.dtype) + released


@dataclass(frozen=True, eq=False)
class Echo:
    """How one more spike in the middle of a step is felt by a target: ``later`` steps on, by its current and membrane
    at that step's end, through the weights (N_target, N_source)."""

    source: str
    later: int
    by_current: Tensor
    by_membrane: Tensor
    back: Tensor

    @classmethod
    def of(cls, bundle: Bundle, cells: Cells, dt: float) -> Echo:
        """Of a bundle of synapses onto these cells."""
        later, left = bundle.reach(dt)
        return cls(bundle.source, later, *cells.brought(left), bundle.weight.to(cells.dtype).t())

    def felt(self, moves: Steps, adjoints: tuple[Tensor, Tensor], first: int, end: int) -> Tensor:
        """(steps, B, N_source): the loss's derivative by such spikes in steps first:end, shorter where time ends."""
        membrane, current = adjoints
        total = len(moves.keep)
        some = slice(min(first + self.later, total), min(end + self.later, total))
        after = slice(some.start + 1, some.stop + 1)
        felt = current[after] * self.by_current
        return felt.addcmul_(membrane[after] * moves.free[some], self.by_membrane) @ self.back

    def over(self, moves: Steps, adjoints: tuple[Tensor, Tensor], first: int, end: int) -> Tensor:
        """The same, of all these steps: what arrives when time has ended is not felt."""
        felt = self.felt(moves, adjoints, first, end)
        late = end - first - len(felt)
        return torch.cat([felt, felt.new_zeros(late, *felt.shape[1:])]) if late else felt


class Through(Protocol):
    """A stage on the grid, and how the sweep goes back through it; what is wanted of it is kept there."""

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """The precision of its populations, by name."""
        ...

    @property
    def wanted(self) -> bool:
        """Whether a gradient of its own is asked for."""
        ...

    @property
    def gradients(self) -> Mapping[Key, Tensor]:
        """Those that are wanted, once it was gone through; weights in the order of their own list."""
        ...

    def back(self, push: Mapping[str, Tensor], earlier: Mapping[str, torch.dtype]) -> Iterable[tuple[str, Tensor]]:
        """From the loss's derivatives by its spikes those by the spikes of populations in earlier stages, (K, B, N)
        each, in these precisions; a population may come up several times."""
        ...


def sweep(stages: Sequence[Through], push: Mapping[str, Tensor]) -> None:
    """Back through all stages, the last one first, as far as any gradient is wanted.

    stages: earlier ones first.  push: by population (K, B, N), the loss's derivative by the number of spikes in each
    step.
    """
    felt, owned = dict(push), [stage.wanted for stage in stages]
    some = stages[owned.index(True) :] if any(owned) else ()
    earlier = {name: dtype for stage in some for name, dtype in stage.dtypes.items()}
    for stage in reversed(some):
        for name in stage.dtypes:
            del earlier[name]
        own = {name: felt.pop(name) for name in stage.dtypes if name in felt}
        for source, more in stage.back(own, earlier):
            before = felt.get(source)
            felt[source] = more if before is None else more.add_(before)


@dataclass(eq=False)
class ThroughLayers:
    """A stage whose membranes are linear between its spikes; gradients of its weights, in their own order (W,).

    trains: by population, spikes still on their way from before included.
    pull: by population (K + 1, B, N), the loss's derivative by the membrane at the ends of the steps.
    gradients: those that are wanted, added to.
    """

    grid: Grid
    layers: Sequence[Layer]
    trains: Mapping[str, Trains]
    pull: Mapping[str, Tensor | None]
    gradients: dict[Key, Tensor]
    _adjoints: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict[str, tuple[Tensor, Tensor]])

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """The precision of its populations, by name."""
        return {layer.cells.name: layer.cells.dtype for layer in self.layers}

    @property
    def wanted(self) -> bool:
        """Whether a gradient of its own is asked for."""
        return any((bundle.name, "weight") in self.gradients for layer in self.layers for bundle in layer.bundles)

    def back(self, push: Mapping[str, Tensor], earlier: Mapping[str, torch.dtype]) -> Iterator[tuple[str, Tensor]]:
        """As `Through` has it."""
        self._through(push)
        for layer in self.layers:
            for bundle in layer.bundles:
                if (bundle.name, "weight") in self.gradients:
                    self._weigh(layer, bundle)
        for layer in self.layers:
            for bundles in _links(layer):
                if (source := bundles[0].source) in earlier:
                    yield source, self._felt(layer, bundles).to(earlier[source])

    def _through(self, push: Mapping[str, Tensor]) -> None:
        names = set(self.dtypes)
        inner = [(layer, bundles) for layer in self.layers for bundles in _links(layer) if bundles[0].source in names]
        for layer in self.layers:
            self._adjoints[layer.cells.name] = self._ready(layer, push.get(layer.cells.name))
        if inner:
            self._together(inner)
        else:
            for layer in self.layers:
                _back(layer.steps, *self._adjoints[layer.cells.name])

    def _together(self, inner: Sequence[tuple[Layer, Sequence[Bundle]]]) -> None:
        """Back through a loop: what a step's spikes do to later steps must be known before the step before."""
        slopes, dt = {layer.cells.name: layer.slope for layer in self.layers}, self.grid.dt
        links = [
            (layer, [Echo.of(bundle, layer.cells, dt) for bundle in bundles], self._drawing(layer, bundles))
            for layer, bundles in inner
        ]
        for k in range(self.grid.steps - 1, -1, -1):
            for layer in self.layers:
                _back(layer.steps, *self._adjoints[layer.cells.name], slice(k, k + 1))
            for layer, echoes, drawing in links:
                slope, adjoints = slopes[echoes[0].source], self._adjoints[layer.cells.name]
                if slope is None:
                    continue
                felt = torch.stack([echo.over(layer.steps, adjoints, k, k + 1) for echo in echoes]).sum(0)
                if drawing is not None:
                    felt = drawing.back(adjoints, k, felt)
                self._adjoints[echoes[0].source][0][k] += slope[k] * felt[0]

    def _drawing(self, layer: Layer, bundles: Sequence[Bundle]) -> Drawing | None:
        """Where the link of these bundles is a short-term one."""
        draws = bundles[0].draws
        if draws is None:
            return None
        return Drawing(self.grid, layer.cells, layer.steps, draws, bundles, self.trains[bundles[0].source])

    def _ready(self, layer: Layer, push: Tensor | None) -> tuple[Tensor, Tensor]:
        """Adjoints of membrane and current (K + 1, B, N) before the sweep: what the loss and later stages say."""
        shape = (self.grid.steps + 1, self.grid.batch, layer.cells.size)
        membrane, current = (torch.empty(shape, dtype=layer.cells.dtype) for _ in range(2))
        pull = self.pull.get(layer.cells.name)
        if push is None or layer.slope is None:
            membrane.zero_()
        else:
            torch.mul(push, layer.slope, out=membrane[:-1])
            membrane[-1] = 0.0
        if pull is not None:
            membrane += pull
        current[-1] = 0.0
        return membrane, current

    def _felt(self, layer: Layer, bundles: Sequence[Bundle]) -> Tensor:
        """(K, B, N_source): the loss's derivative by one more spike of a link's source in each step."""
        adjoints, felt = self._adjoints[layer.cells.name], list[Tensor]()
        for bundle in bundles:
            echo = Echo.of(bundle, layer.cells, self.grid.dt)
            felt.append(echo.over(layer.steps, adjoints, 0, self.grid.steps))
        total, drawing = felt[0], self._drawing(layer, bundles)
        for more in felt[1:]:
            total += more
        return total if drawing is None else drawing.back(adjoints, 0, total)

    def _weigh(self, layer: Layer, bundle: Bundle) -> None:
        """Add the gradient of a bundle's weights."""
        cells, moves, adjoints = layer.cells, layer.steps, self._adjoints[layer.cells.name]
        dense = torch.zeros(bundle.weight.shape, dtype=cells.dtype)
        arrived = arrivals(self.grid, bundle, self.trains[bundle.source])
        for some in arrived.chunks(cells.size):
            felt = worth(cells, moves, adjoints, arrived, some)
            if arrived.size is not None:
                felt *= arrived.size[some, None].to(cells.dtype)
            dense.index_add_(0, arrived.unit[some], felt)
        pairs = moves.releases.join(arrived, self.grid.steps)
        factor = worth_at_release(cells, moves, adjoints, arrived, pairs)
        if arrived.size is not None:
            factor *= arrived.size[pairs[1]].to(cells.dtype)
        dense.index_put_((arrived.unit[pairs[1]], moves.releases.unit[pairs[0]]), factor, accumulate=True)
        bundle.add_gradient(dense, self.gradients[bundle.name, "weight"])


def _links(layer: Layer) -> list[list[Bundle]]:
    """The bundles of each link onto a population."""
    names = dict.fromkeys(bundle.name for bundle in layer.bundles)
    return [[bundle for bundle in layer.bundles if bundle.name == name] for name in names]


def _back(moves: Steps, membrane: Tensor, current: Tensor, some: slice = slice(None)) -> None:
    """The adjoints (K + 1, B, N) where each of ``some`` steps begins, from those at its end, the last step first."""
    maps = list(zip(moves.keep[some].unbind(), moves.charge[some].unbind(), strict=True))
    begin = slice(some.start, None if some.stop is None else some.stop + 1)
    states = list(zip(membrane[begin].unbind(), current[begin].unbind(), strict=True))
    for (now, now_current), (after, after_current), (keep, charge) in zip(
        states[-2::-1], states[:0:-1], reversed(maps), strict=True
    ):
        now.addcmul_(after, keep)
        torch.mul(after_current, moves.decay, out=now_current)
        now_current.addcmul_(after, charge)
