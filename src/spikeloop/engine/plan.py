"""Network to arrays: stages in topological order, weights and parameters as NumPy views."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloop.engine.arrays import FIELDS, Delays, Float, Link, Neurons, Recovery, Rows, Stage, Weights
from spikeloop.engine.plan_stepped import cells_of, onto
from spikeloop.engine.stepped import SteppedLink, SteppedStage
from spikeloop.network import Network, Standing
from spikeloop.neuron import AdEx, Compartments
from spikeloop.population import Population
from spikeloop.projection import Projection, Synapses

_INERT = {"threshold": np.inf}  # what a neuron without the field gets; 0 otherwise
_STEPPED = (AdEx, Compartments)
_orders: weakref.WeakKeyDictionary[Network, list[list[str]]] = weakref.WeakKeyDictionary()
_rows: weakref.WeakKeyDictionary[Synapses, Rows] = weakref.WeakKeyDictionary()


def on_a_grid(network: Network) -> list[str]:
    """The populations that have no exact solution between events and are integrated in steps."""
    return [name for name, p in network.populations.items() if p.kind in _STEPPED]


def plan(
    network: Network, executed: Mapping[str, Tensor] | None = None, standing: Standing | None = None
) -> list[Stage | SteppedStage]:
    """The stages of ``network``, earlier ones first. ``executed`` replaces weights, by projection; ``standing``: how it
    stands, if that is known.

    A stage is run in steps where a population in it has no exact solution, else event by event.

    Weights are views: a plan is made anew only when a tensor was replaced, or a delay, a neuron parameter or short-term
    plasticity changed. One with other weights has the rest of it.
    """
    made = (standing or network.standing()).made
    stages = made.get(plan)
    if stages is None:
        stages = [_stage(network, names) for names in _order(network)]
        if all(_is_view(link.weight, network.projections[link.name].weight) for each in stages for link in each.links):
            made[plan] = stages
    return [_executing(stage, network, executed) for stage in stages] if executed else stages


def together(stages: list[Stage | SteppedStage]) -> list[list[Stage] | SteppedStage]:
    """In order: one stage that is run in steps, or those that follow each other and are run event by event."""
    groups: list[list[Stage] | SteppedStage] = []
    for stage in stages:
        if isinstance(stage, SteppedStage):
            groups.append(stage)
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _is_view(array: Weights, tensor: Tensor) -> bool:
    """Whether an optimiser's step on ``tensor`` is seen in ``array``."""
    return array.ctypes.data == tensor.data_ptr()


def _order(network: Network) -> list[list[str]]:
    """Names of the populations of each stage: the strongly connected components, sources first."""
    if network not in _orders:
        graph: dict[str, list[str]] = {name: [] for name, p in network.populations.items() if p.kind is not None}
        for projection in network.projections.values():
            if projection.source in graph:
                graph[projection.target].append(projection.source)
        _orders[network] = _components(graph)
    return _orders[network]


def _components(sources: dict[str, list[str]]) -> list[list[str]]:
    """Strongly connected components, each after all that it listens to (Tarjan 1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for root, heard in sources.items():
        work = [(root, iter(heard))] if root not in index else []
        while work:
            node, rest = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
            new = next((n for n in rest if n not in index), None)
            if new is not None:
                work.append((new, iter(sources[new])))
                continue
            work.pop()
            low[node] = min([low[node], *(low[n] for n in sources[node] if n in stack)])
            if low[node] == index[node]:
                members = stack[stack.index(node) :]
                del stack[stack.index(node) :]
                found.append(sorted(members, key=list(sources).index))
    return found


def _executing(stage: Stage | SteppedStage, network: Network, executed: Mapping[str, Tensor]) -> Stage | SteppedStage:
    """A stage of ``network``, with other weights."""
    weights, dtype = _weights({link.name: network.projections[link.name] for link in stage.links}, executed)
    flat = {
        link.name: weights[link.name] if link.rows is None else weights[link.name].reshape(-1) for link in stage.links
    }
    return replace(stage, links=tuple(replace(link, weight=flat[link.name]) for link in stage.links), dtype=dtype)


def _stage(network: Network, names: list[str]) -> Stage | SteppedStage:
    incoming = {name: p for name, p in network.projections.items() if p.target in names}
    delays = {name: delays_of(p) for name, p in incoming.items()}
    stepped = any(network.populations[name].kind in _STEPPED for name in names)
    if stepped:
        return _in_steps(network, names, incoming, delays)
    dense = len(names) == 1 and all(
        p.source not in names and p.synapses is None and delays[name][0] is not Delays.PER_SYNAPSE
        for name, p in incoming.items()
    )
    weights, dtype = _weights(incoming, {})
    links = tuple(_link(name, p, weights[name], delays[name], dense) for name, p in incoming.items())
    populations = (network.populations[name] for name in names)
    neurons = (Neurons(name, *_neurons_of(p)) for name, p in zip(names, populations, strict=True))
    return Stage(tuple(neurons), links, dense, dtype)


def _in_steps(
    network: Network,
    names: list[str],
    incoming: Mapping[str, Projection],
    delays: Mapping[str, tuple[Delays, Float]],
) -> SteppedStage:
    weights, dtype = _weights(incoming, {})
    links: list[SteppedLink] = []
    for name, projection in incoming.items():
        dense = projection.synapses is None and delays[name][0] is not Delays.PER_SYNAPSE
        links.append(onto(network, _link(name, projection, weights[name], delays[name], dense)))
    cells = tuple(cells_of(name, network.populations[name]) for name in names)
    return SteppedStage(cells, tuple(links), dtype)


def _weights(
    incoming: Mapping[str, Projection], executed: Mapping[str, Tensor]
) -> tuple[dict[str, Weights], np.dtype[np.floating[Any]]]:
    """The weights of a stage, all of one precision."""
    weights = {name: _array(executed.get(name, p.weight)) for name, p in incoming.items()}
    dtype = np.result_type(*(w.dtype for w in weights.values())) if weights else np.dtype(np.float64)
    return {name: weight.astype(dtype, copy=False) for name, weight in weights.items()}, dtype


def _array(tensor: Tensor) -> Weights:
    array = tensor.detach()
    if array.dtype not in (torch.float32, torch.float64):
        array = array.to(torch.float32)
    return np.ascontiguousarray(array.numpy())


def _neurons_of(population: Population) -> tuple[Float, bool]:
    values = np.empty((len(FIELDS), population.size))
    for row, field in enumerate(FIELDS):
        known = field in population.fields
        values[row] = getattr(population, field).detach().numpy() if known else _INERT.get(field, 0.0)
    return values, population.spiking


def delays_of(projection: Projection) -> tuple[Delays, Float]:
    """What has a delay of its own, and the delays in seconds, flat."""
    delay = projection.delay.detach().to(torch.float64)
    values: Float = np.ascontiguousarray(delay.numpy().reshape(-1))
    if delay.ndim == 0:
        return Delays.COMMON, values
    per_unit = delay.ndim == 2 and delay.shape[1] == 1 and projection.shape != tuple(delay.shape)
    return (Delays.PER_UNIT if per_unit else Delays.PER_SYNAPSE), values


def _link(name: str, projection: Projection, weight: Weights, delay: tuple[Delays, Float], dense: bool) -> Link:
    delays, values = delay
    rows = None if dense else rows_of(projection)
    if rows is not None:
        weight = weight.reshape(-1)
        if delays is Delays.PER_SYNAPSE and rows.synapse is not None:
            values = values[rows.synapse]
    recovery = recovery_of(projection)
    return Link(name, projection.source, projection.target, weight, rows, values, delays, recovery)


def recovery_of(projection: Projection) -> Recovery | None:
    """The short-term plasticity of each source unit, if there is any."""
    given = projection.short_term
    if given is None:
        return None
    assert projection.shape is not None
    used, tau = (np.broadcast_to(np.array(given.each(name)), projection.shape[:1]) for name in ("utilisation", "tau"))
    return Recovery.of(used.astype(np.float64), tau.astype(np.float64), given.facilitating)


def rows_of(projection: Projection) -> Rows:
    """The synapses of ``projection`` by presynaptic unit; kept for as long as its list of synapses lives."""
    assert projection.shape is not None
    synapses = projection.synapses
    if synapses is None:
        return _all_to_all(*projection.shape)
    if synapses not in _rows:
        source, target, index = (part.numpy() for part in (synapses.source, synapses.target, synapses.index))
        order = np.argsort(source, kind="stable")
        begin = np.searchsorted(source[order], np.arange(projection.shape[0] + 1))
        _rows[synapses] = Rows(begin.astype(np.int64), _column(target[order]), index[order].astype(np.int64), order)
    return _rows[synapses]


def _all_to_all(sources: int, targets: int) -> Rows:
    begin = np.arange(sources + 1, dtype=np.int64) * targets
    return Rows(begin, _column(np.tile(np.arange(targets), sources)), None, None)


def _column(target: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.ascontiguousarray(target, dtype=np.int32)
