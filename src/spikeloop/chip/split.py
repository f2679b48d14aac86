"""Networks larger than one chip: cut into parts that run one after the other, the spikes of each driving the next.

Populations stay whole where they fit. One that does not is cut into slices of neurons, each of which needs all of its
inputs but none of the others; populations that reach each other, or whose weights one rule changes, have to be on one
chip at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from spikeloop.chip.lower_drivers import key_of
from spikeloop.chip.mapping import place
from spikeloop.errors import DoesNotFit
from spikeloop.network import Network
from spikeloop.population import Population
from spikeloop.projection import Onto, Projection


@dataclass(frozen=True, eq=False)
class Part:
    """What one run takes.

    network: the part as a network of its own, with the names of the whole; what other runs recorded is its input.
    rows: how many row pairs the lines of its inputs take; recorded ones one, as within a chip.
    first: by population that is run, which neuron of the whole is its first.  index: by projection, (K,) int64: which
    of the whole's weights, counted flat, the part's are.
    """

    network: Network
    rows: Mapping[str, int]
    first: Mapping[str, int]
    index: Mapping[str, Tensor]

    def taken(self, whole: Network) -> Network:
        """The part's network, with the weights and the neurons that ``whole`` has now."""
        for name, projection in self.network.projections.items():
            weight = whole.projections[name].weight.detach()
            projection.weight.data = weight.reshape(-1)[self.index[name]].reshape(projection.weight.shape)
        for name, first in self.first.items():
            population = self.network.populations[name]
            for field in population.fields:
                units = slice(first, first + population.size)
                getattr(population, field).copy_(_of(whole.populations[name], field, units))
        return self.network

    def cuts(self, whole: Network, name: str) -> bool:
        """Whether it has only some of the neurons of population ``name``."""
        return self.network.populations[name].size < whole.populations[name].size

    @property
    def fits(self) -> bool:
        """Whether there is a place for it on one chip."""
        try:
            place(self.network, self.rows)
        except DoesNotFit:
            return False
        return True


def split(network: Network, rows_per_input: int) -> list[Part]:
    """The parts of ``network`` in the order in which they run; none where it fits on one chip as a whole.

    Raises ``DoesNotFit`` where populations that reach each other, or a single neuron, do not fit.
    """
    key = (rows_per_input, *((each.synapses, key_of(each)) for each in network.projections.values()))
    known = _splits.setdefault(network, {})
    if key not in known:
        known.clear()
        known[key] = _split(network, rows_per_input)
    return known[key]


_splits: WeakKeyDictionary[Network, dict[object, list[Part]]] = WeakKeyDictionary()


def _split(network: Network, rows: int) -> list[Part]:
    whole = _part(network, rows, [name for name, p in network.populations.items() if p.kind is not None])
    if whole.fits:
        return []
    parts: list[Part] = []
    waiting: list[str] = []  # populations that share the next run
    for group in _groups(network):
        if waiting and _part(network, rows, [*waiting, *group]).fits:
            waiting += group
            continue
        if waiting:
            parts.append(_part(network, rows, waiting))
        waiting = group if _part(network, rows, group).fits else []
        if not waiting:
            parts += _slices(network, rows, group)
    return [*parts, _part(network, rows, waiting)] if waiting else parts


def _groups(network: Network) -> list[list[str]]:
    """Populations that reach each other, or one alone, in an order in which spikes go."""
    names = [name for name, population in network.populations.items() if population.kind is not None]
    reaches = np.eye(len(names), dtype=bool)
    for projection in network.projections.values():
        if projection.source in names:
            reaches[names.index(projection.source), names.index(projection.target)] = True
    for program in network.programs.values():  # one rule is one processor's
        together = [names.index(network.projections[each].target) for each in program.projections]
        reaches[np.ix_(together, together)] = True
    for _ in names:
        reaches = reaches @ reaches
    found: list[list[str]] = []
    for k in np.argsort(reaches.sum(0), kind="stable"):  # by how many come before: the same number within a group
        group = [names[j] for j in np.flatnonzero(reaches[k] & reaches[:, k])]
        if group not in found:
            found.append(group)
    return found


def _slices(network: Network, rows: int, group: list[str]) -> list[Part]:
    """One population in as few slices of equal size as fit."""
    for key, program in network.programs.items():
        if any(network.projections[each].target in group for each in program.projections):
            raise _too_large(
                _part(network, rows, group),
                f"the rule {key!r} sees all its weights, so it has to run on one chip at once",
            )
    if any(p.source in group and p.target in group for p in network.projections.values()):
        raise _too_large(
            _part(network, rows, group), "its neurons reach each other, so it has to run on one chip at once"
        )
    one, size = _part(network, rows, group, slice(0, 1)), network.populations[group[0]].size
    if not one.fits:
        raise _too_large(one, "not even one of its neurons fits on a chip")
    steps = (-(-size // number) for number in range(2, size + 1))
    step = next(step for step in steps if _part(network, rows, group, slice(0, step)).fits)
    return [_part(network, rows, group, slice(k, min(k + step, size))) for k in range(0, size, step)]


def _too_large(part: Part, why: str) -> DoesNotFit:
    """What is short, and why splitting does not help."""
    names = " and ".join(map(repr, part.first))
    try:
        place(part.network, part.rows)
    except DoesNotFit as error:
        return DoesNotFit(
            f"{why}: {error.what}", where=f"population {names}, {error.where}", expected=error.expected,
            todo="Take fewer neurons, fewer inputs or fewer rows_per_input",
        )  # fmt: skip
    raise AssertionError(f"{names} fits after all")


def _part(network: Network, rows: int, names: Collection[str], units: slice | None = None) -> Part:
    """The populations ``names``, or of one of them the ``units``, and all projections to them."""
    populations, projections = dict[str, Population](), dict[str, Projection]()
    first, index = dict[str, int](), dict[str, Tensor]()
    for name, projection in network.projections.items():
        if projection.target in names:
            size = network.populations[projection.target].size
            chosen = units or slice(0, size)
            projections[name], index[name] = _sub_projection(projection, chosen)
            if projection.source not in names:
                populations[projection.source] = Population(network.populations[projection.source].size)
    for name in names:
        given = network.populations[name]
        chosen = units or slice(0, given.size)
        populations[name], first[name] = given.part(chosen), chosen.start
    of_inputs = {name: rows if network.populations[name].kind is None else 1 for name in populations}
    programs = {key: p for key, p in network.programs.items() if p.projections.keys() <= projections.keys()}
    return Part(Network(populations, projections, programs), of_inputs, first, index)


def _of(population: Population, field: str, units: slice) -> Tensor:
    value: Tensor = getattr(population, field).detach().to(torch.float64)
    return value[units].clone() if value.ndim else value.clone()


def _sub_projection(projection: Projection, units: slice) -> tuple[Projection, Tensor]:
    """What leads to ``units`` of the target, and which of the weights, counted flat, that takes."""
    weight, synapses = projection.weight.detach(), projection.synapses
    ends = projection.source, projection.target
    compartment, receptor = projection.place
    onto: Onto = {"compartment": compartment or None, "receptor": receptor or None, "short_term": projection.short_term}
    if synapses is None:
        index = torch.arange(weight.numel()).reshape(weight.shape)[:, units].contiguous()
        return Projection(*ends, weight[:, units], **onto), index.reshape(-1)
    kept = (synapses.target >= units.start) & (synapses.target < units.stop)
    index = synapses.index[kept]
    pre, post = synapses.source[kept], synapses.target[kept] - units.start
    return Projection.sparse(*ends, pre, post, weight.reshape(-1)[index], **onto), index
