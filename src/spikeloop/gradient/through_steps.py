"""Stages that are run in steps, in the sweep of `SuperSpike`: the engine differentiates them, on the rule's grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.engine.arrays import Peaks, Run, Trains
from spikeloop.engine.plan import plan
from spikeloop.engine.plan_stepped import name_of
from spikeloop.engine.short_term_grid import Draws
from spikeloop.engine.short_term_stepped import sized
from spikeloop.engine.snapshot import STEPPED
from spikeloop.engine.stepped import (
    CELL_FIELDS,
    Cells,
    SteppedAsk,
    SteppedLink,
    SteppedRun,
    SteppedSampling,
    SteppedStage,
    SteppedState,
    largest_step,
    steps_of,
)
from spikeloop.engine.stepped_adjoint import CellGradients, SteppedGradients, SteppedPull, SteppedWants, backward
from spikeloop.engine.trial_stepped import currents_into, place_of
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.gradient.grid import Grid
from spikeloop.gradient.resumed import at_beginning, states_at_beginning
from spikeloop.network import Key, Network
from spikeloop.protocols import Cotangent, Trial
from spikeloop.record import Record

_TINY = 1e-9  # relative


def in_steps(network: Network) -> list[str]:
    """The populations that are run in steps: those without an exact solution, and what is in a loop with them."""
    return [cells.name for stage in plan(network) if isinstance(stage, SteppedStage) for cells in stage.populations]


def fields_in_steps(network: Network) -> set[Key]:
    """Their numbers."""
    structures = [(name, network.populations[name].structure) for name in in_steps(network)]
    return {(name, field.name) for name, structure in structures if structure is not None for field in structure.fields}


@dataclass(frozen=True, eq=False)
class Observed:
    """A trial, its record and the cotangent, the spikes of all populations, and how the trial was run.

    coming: with those from before.
    """

    trial: Trial
    record: Record
    cotangent: Cotangent
    spikes: Mapping[str, Trains]
    coming: Mapping[str, Trains]
    run: Run


@dataclass(frozen=True, eq=False)
class ThroughSteps:
    """A stage on the grid: ``back`` adds to ``gradients``, by the keys of ``Network.quantities``."""

    stage: SteppedStage
    grid: Grid
    beta: float
    threads: int
    seen: Observed
    gradients: dict[Key, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cells in self.stage.populations:
            _check_step(cells, self.grid.dt)
        if bool(self.grid.origin.any()):
            raise Unsupported(
                "a surrogate gradient of neurons in steps beside membranes that were sampled between their steps",
                where=f"population {self.stage.populations[0].name!r}",
                expected="a run that begins at a multiple of dt, and not on a chip",
                todo="Use SuperSpike(dt, replay=True)",
            )

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """The precision of its populations, by name."""
        dtype = torch.float32 if self.stage.dtype == np.float32 else torch.float64
        return {cells.name: dtype for cells in self.stage.populations}

    @property
    def wanted(self) -> bool:
        """Whether a gradient of its own is asked for."""
        own = {link.name for link in self.stage.links} | set(self.dtypes)
        return any(owner in own for owner, _ in self.seen.cotangent.wants)

    def back(self, push: Mapping[str, Tensor], earlier: Mapping[str, torch.dtype]) -> Iterator[tuple[str, Tensor]]:
        """As `spikeloop.gradient.sweep.Through` has it."""
        wants = self.seen.cotangent.wants
        outside = {link.source for link in self.stage.links} - set(self.dtypes)
        coming = {name: self.seen.coming[name] for name in outside}
        paused = self._paused()
        run = at_beginning(self.stage, self._given, paused)
        found = backward(
            self.stage,
            coming,
            run,
            self._asks(coming, paused),
            {name: self._pull(name, push.get(name)) for name in self.dtypes},
            SteppedWants(
                [link.name for link in self.stage.links if (link.name, "weight") in wants],
                [name for name in earlier if name in outside],
                self.beta,
            ),
            {link.name: self._draws(link, run) for link in self.stage.links if link.short_term is not None},
        )
        self._keep(found)
        for name, felt in found.source.items():
            yield name, torch.from_numpy(felt).transpose(0, 1).to(earlier[name])

    @property
    def _given(self) -> object:
        """What `resumed` found of a state that the trial goes on from."""
        start = self.seen.trial.start
        return None if start is None else start.parts.get(STEPPED)

    def _paused(self) -> SteppedRun:
        """The trial on the grid, its short-term links where its state left them."""
        grid, before = self.grid, self.seen.run
        return SteppedRun(
            grid.batch, grid.dt, grid.steps, threads=self.threads, recent=before.recent, recovered=before.recovered
        )

    def _draws(self, link: SteppedLink, run: SteppedRun) -> Draws:
        """What the events of a short-term link met."""
        return Draws.of(link, self.seen.spikes[link.source], run, lambda time, _: steps_of(time, self.grid.dt))

    def _asks(self, coming: Mapping[str, Trains], paused: SteppedRun) -> dict[str, SteppedAsk]:
        trial = self.seen.trial
        silent = {name: _silent(trial, name) for name in self.dtypes}
        states: Mapping[str, SteppedState] = {}
        if trial.start is not None:
            stage = sized(self.stage, self.seen.spikes, paused)
            states = states_at_beginning(stage, self._given, coming, silent, paused)
        return {
            name: SteppedAsk(silent[name], states.get(name), currents=currents_into(trial, name))
            for name in self.dtypes
        }

    def _pull(self, name: str, push: Tensor | None) -> SteppedPull:
        cotangent, record = self.seen.cotangent, self.seen.record
        samplings: list[SteppedSampling] = []
        for key, value in cotangent.membrane.items():
            population, number = place_of(self.seen.trial.network, key)
            if population == name:
                samples = record.membrane[key]
                unit = samples.unit.to(torch.int32).numpy()
                time = np.atleast_2d(samples.time.detach().to(torch.float64).numpy())
                compartment = np.full(len(unit), number, np.int32)
                samplings.append(SteppedSampling(time, unit, compartment, _float64(value)))
        peaks = None
        if name in cotangent.peak:
            peaks = Peaks(_float64(record.peak[name].time), _float64(cotangent.peak[name]))
        pushed = None if push is None else push.to(self.dtypes[name]).transpose(0, 1).contiguous().numpy()
        return SteppedPull(self.seen.spikes[name], None, pushed, tuple(samplings), peaks)

    def _keep(self, found: SteppedGradients) -> None:
        wants = self.seen.cotangent.wants
        for name, weight in found.weight.items():
            self.gradients[name, "weight"] = torch.from_numpy(weight)
        for cells in self.stage.populations:
            population = self.seen.trial.network.populations[cells.name]
            for what, gradient in _by_name(self, cells, found.cells[cells.name]).items():
                if (cells.name, what) in wants:
                    shared = getattr(population, what).ndim == 0
                    own = torch.from_numpy(gradient)
                    self.gradients[cells.name, what] = own.sum() if shared else own


def _silent(trial: Trial, name: str) -> NDArray[np.uint8] | None:
    silent = trial.silent.get(name)
    return None if silent is None else np.ascontiguousarray(silent.numpy(), dtype=np.uint8)


def _by_name(through: ThroughSteps, cells: Cells, found: CellGradients) -> dict[str, np.ndarray]:
    """(N,) by the stored names of the numbers."""
    population = through.seen.trial.network.populations[cells.name]
    assert population.structure is not None
    named: dict[str | None, np.ndarray] = {}
    for c in range(cells.compartments):
        for row, what in enumerate(CELL_FIELDS):
            named[name_of(population, what, c)] = found.values[row, c]
        for k in range(cells.receptors):
            named[name_of(population, "tau_syn", c, k)] = found.tau_syn[k, c]
            named[name_of(population, "reversal", c, k)] = found.reversal[k, c]
    for number, pair in enumerate(population.structure.couplings):
        named[population.structure.name_of("coupling", *pair)] = found.coupling[number]
    return {name: np.asarray(value, np.float64) for name, value in named.items() if name is not None}


def _check_step(cells: Cells, dt: float) -> None:
    largest = largest_step(cells)
    if dt > largest * (1 + _TINY):
        raise OutOfRange(
            f"dt is {dt:g} s, too large a step for its time constants",
            where=f"SuperSpike, population {cells.name!r}",
            expected=f"at most {largest:g} s",
        )


def _float64(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().to(torch.float64).numpy())
