"""One sample of a batch on its way through a run in which it learns: its network, its synapses, its rules' memories."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.engine.arrays import Float
from spikeloop.engine.correlation import Moments
from spikeloop.errors import ActivityExplosion
from spikeloop.network import Network
from spikeloop.plasticity.execute import execute
from spikeloop.plasticity.floating import FloatSynapses, FloatView, Moment, Shapes
from spikeloop.plasticity.memory import Learned, Memory
from spikeloop.plasticity.rule import Program
from spikeloop.plasticity.watchdog import Watchdog
from spikeloop.population import Population
from spikeloop.protocols import Trial
from spikeloop.record import Record, State
from spikeloop.substrate.pieces import part_of
from spikeloop.substrate.synapses import LearningSynapses

Counts = dict[str, dict[str, NDArray[np.int64]]]
"""By program and population, the spikes since the program's last call."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a learner goes on with besides what `Learned` holds."""

    state: State | None
    sensors: Mapping[str, object]
    counts: Counts


class Learner:
    """Sample ``number``, which starts from ``start`` with the network's weights, or goes on where ``before`` ended."""

    number: int
    programs: Mapping[str, Program]
    network: Network
    state: State | None
    synapses: dict[str, LearningSynapses]
    memory: dict[str, Memory]
    counts: Counts

    def __init__(self, network: Network, number: int, start: State | None, before: Learned | None) -> None:
        self.number = number
        self.programs = network.programs
        self.network = _bare(network)
        self.state = start
        self.synapses = {
            name: LearningSynapses(self.network, name, plastic)
            for program in self.programs.values()
            for name, plastic in program.projections.items()
        }
        self.memory: dict[str, Memory] = {name: copy.deepcopy(dict(p.state)) for name, p in self.programs.items()}
        self.counts: Counts = {name: self._zeros(program) for name, program in self.programs.items()}
        if before is not None:
            self._resume(before)

    def _zeros(self, program: Program) -> dict[str, NDArray[np.int64]]:
        ends = [self.network.projections[name] for name in program.projections]
        names = {end for projection in ends for end in (projection.source, projection.target)}
        return {name: np.zeros(self.network.populations[name].size, np.int64) for name in sorted(names)}

    def _resume(self, before: Learned) -> None:
        snapshot = cast("tuple[Snapshot, ...]", before.own["learners"])[self.number]
        self.state = snapshot.state
        for name, synapses in self.synapses.items():
            synapses.resume(before, self.number, snapshot.sensors[name])
        self.memory = {name: copy.deepcopy(memories[self.number]) for name, memories in before.memory.items()}
        self.counts = copy.deepcopy(snapshot.counts)

    def snapshot(self) -> Snapshot:
        """Where it is; it goes on without changing what it gave away."""
        sensors = {name: synapses.snapshot() for name, synapses in self.synapses.items()}
        return Snapshot(self.state, sensors, copy.deepcopy(self.counts))

    def advance(self, run: Callable[[Trial], Record], trial: Trial, begin: float, end: float) -> Record:
        """Run from ``begin`` to ``end``; sensors and counters see what happens."""
        part = part_of(trial, self.network, self.state, self.number, begin, end)
        try:
            with torch.no_grad():
                record = run(part)
        except ActivityExplosion as error:
            where = (error.where or "").replace("sample 0", f"sample {self.number}")
            raise ActivityExplosion(error.what, where=where, expected=error.expected, todo=error.todo) from None
        self.state = record.state
        trains = {name: _moments(record, name) for name in record.spikes}
        for name, synapses in self.synapses.items():
            projection = self.network.projections[name]
            synapses.pass_events(trains[projection.source], trains.get(projection.target), end)
        for counts in self.counts.values():
            for name in counts.keys() & trains.keys():
                counts[name] += np.bincount(trains[name][1], minlength=len(counts[name]))
        return record

    def call(self, name: str, at: float, number: int, watchdog: Watchdog, shapes: Shapes) -> dict[str, Any]:
        """Let a program change the synapses; returns what its kernel recorded. shapes: of what it did before."""
        program = self.programs[name]
        moment = Moment(at, number, self.number, program.seed, shapes)
        where = moment.where(name)
        views = {each: self._view(name, each, where) for each in program.projections}
        view = FloatView(name, views, self.memory[name], moment)
        execute(program.kernel, view, program.budget, where, watchdog)
        for each, seen in views.items():
            self.synapses[each].adopt(seen)
        for count in self.counts[name].values():
            count[:] = 0
        return view.recorded

    def _view(self, program: str, projection: str, where: str) -> FloatSynapses:
        ends, counts = self.network.projections[projection], self.counts[program]
        seen = {
            "counts": counts[ends.target],
            "source_counts": counts[ends.source],
            "membrane": _membrane(self.network.populations[ends.target], self.state, ends.target),
        }
        return self.synapses[projection].view(f"{where}, projection {projection}", seen)


def _bare(network: Network) -> Network:
    """A network of the same populations, with plastic weights of its own and without programs."""
    plastic = {name for program in network.programs.values() for name in program.projections}
    shared = [*network.populations.values(), *(p for name, p in network.projections.items() if name not in plastic)]
    memo: dict[int, Any] = {id(module): module for module in shared}
    memo[id(network.programs)] = {}
    memo |= {id(p.plasticity): None for p in network.projections.values() if p.plasticity is not None}
    return copy.deepcopy(network, memo)


def _moments(record: Record, name: str) -> Moments:
    time, unit, _ = record.spikes[name]._arrays
    return time, unit


def _membrane(population: Population, state: State | None, name: str) -> Float:
    """V of the output compartments of one sample, where leak is 0 and threshold 1 (without one: V above leak)."""
    leak = _number(population, "leak", 0.0)
    threshold = _number(population, "threshold", math.inf)
    if state is None:
        now = np.where(leak < threshold, leak, _number(population, "reset", 0.0))
    else:
        now = state.membrane[name][0].detach().double().numpy()
    return (now - leak) / np.where(np.isfinite(threshold), threshold - leak, 1.0)


def _number(population: Population, what: str, otherwise: float) -> Float:
    """(N,): a number of the output compartment of every neuron."""
    structure = population.structure
    assert structure is not None
    stored = structure.name_of(what, structure.output)
    value = otherwise if stored is None else getattr(population, stored).detach().double().numpy()
    return np.broadcast_to(np.asarray(value, np.float64), (population.size,))
