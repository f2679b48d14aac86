"""Plasticity programs of a network as tasks of a chip's processor, and what became of them in model units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import scales
from spikeloop.chip.array_codes import Place
from spikeloop.chip.configuration import CYCLE, WEIGHT_MAX
from spikeloop.chip.learning import Processed
from spikeloop.chip.mapping import site_key
from spikeloop.chip.ppu import Task
from spikeloop.chip.setup import Setup
from spikeloop.errors import OutOfRange
from spikeloop.network import Network
from spikeloop.plasticity.memory import Learned, Memory
from spikeloop.plasticity.rule import Plastic
from spikeloop.projection import Projection

Float = NDArray[np.float64]
_SLACK = 0.5  # of a code that w_max may lie beyond the last one


def tasks_of(
    network: Network, setup: Setup, span: tuple[float, float], batch: int, learned: Learned | None
) -> dict[str, Task]:
    """The programs, with their calls in a run from and to ``span``, seconds; learned: where the last run ended."""
    cycle = CYCLE * setup.wish.speedup
    found: dict[str, Task] = {}
    for name, program in network.programs.items():
        places = {each: _place(network, setup, each, plastic) for each, plastic in program.projections.items()}
        calls = np.array([scales.cycle_at(time, cycle) for time in program.calls(*span)], np.int64)
        memory: Sequence[Memory] = [dict(program.state)] * batch if learned is None else learned.memory[name]
        found[name] = Task(
            program.kernel, places, calls, cycle, tuple(memory), program.seed, program.budget,
            learned is not None and name in learned.requested, 0 if learned is None else learned.calls[name],
        )  # fmt: skip
    return found


def _place(network: Network, setup: Setup, name: str, plastic: Plastic) -> Place:
    projection = network.projections[name]
    scale = setup.scales[site_key(projection.target, projection.place[0])]
    rows, largest = setup.placement.synapse[name], plastic.w_max / scale.weight
    most = WEIGHT_MAX * len(rows)
    if largest.max() > most + _SLACK:
        reach = float(scale.weight.min()) * most
        raise OutOfRange(
            f"w_max is {plastic.w_max:g}", where=f"projection {name}, plasticity",
            expected=f"at most {reach:.4g}: {WEIGHT_MAX} steps on each of {len(rows)} row pairs",
            todo="Lower w_max, or give inputs more rows_per_input",
        )  # fmt: skip
    inside = projection.source not in setup.placement.address
    source = setup.placement.circuit[projection.source][:, 0] if inside else setup.placement.address[projection.source]
    return Place(
        rows, source, inside, setup.placement.circuit[projection.target][:, 0], largest, _ends(projection),
        plastic.signed, plastic.sensor is not None, _level(network, setup, projection.target),
        _given(projection, scale.weight),
    )  # fmt: skip


def _level(network: Network, setup: Setup, target: str) -> Float:
    """(2, N): CADC steps of the outputs' leak, and of their threshold (without one: of a model unit) above it."""
    population = network.populations[target]
    assert population.structure is not None
    output = population.structure.output
    scale, distance = setup.scales[site_key(target, output)], np.ones(population.size)
    if population.spiking:
        threshold, leak = (scales.number(population, what, output) for what in ("threshold", "leak"))
        distance = threshold - leak
    return np.stack([scale.rest, scale.steps * distance])


def _ends(projection: Projection) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    synapses = projection.synapses
    return None if synapses is None else (synapses.source.numpy(), synapses.target.numpy())


def _given(projection: Projection, unit: Float) -> Float | None:
    """(K,): the codes of a sparse projection's weights, before rounding; unit: (T,), the weight of a code."""
    synapses = projection.synapses
    if synapses is None:
        return None
    weight: Float = projection.weight.detach().double().numpy().reshape(-1)[synapses.index.numpy()]
    return weight / unit[synapses.target.numpy()]


def weights_of(network: Network, setup: Setup, done: Sequence[Processed]) -> dict[str, Float]:
    """By plastic projection, (B, S, T) or (B, K), model units: what is in the arrays."""
    found: dict[str, Float] = {}
    for program, name in _plastic(network):
        unit = unit_of(network, setup, name, done[0].learning.ends.get((program, name)))
        found[name] = np.stack([each.learning.code[program, name] * unit for each in done])
    return found


def sources_of(network: Network, done: Sequence[Processed]) -> dict[str, NDArray[np.int64]]:
    """By sparse plastic projection, (B, K)."""
    keys = [(program, name) for program, name in _plastic(network) if (program, name) in done[0].learning.ends]
    return {name: np.stack([each.learning.ends[program, name][0] for each in done]) for program, name in keys}


def unit_of(network: Network, setup: Setup, name: str, ends: tuple[Any, Any] | None) -> Float:
    """Model weight of a code, (T,) or (K,)."""
    projection = network.projections[name]
    unit = setup.scales[site_key(projection.target, projection.place[0])].weight
    return unit if ends is None else unit[ends[1]]


def _plastic(network: Network) -> list[tuple[str, str]]:
    return [(program, name) for program, each in network.programs.items() for name in each.projections]


def handed_on(
    network: Network, weights: Mapping[str, Float], sources: Mapping[str, NDArray[np.int64]], done: Sequence[Processed]
) -> Learned:
    """What is handed to the next run, and what the host may speak to in between."""
    return Learned(
        weight=weights,
        source=sources,
        memory={name: tuple(each.learning.memory[name] for each in done) for name in network.programs},
        calls={name: done[0].learning.calls[name] for name in network.programs},
    )
