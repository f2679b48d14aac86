"""The populations of a trial that are integrated in steps: which step, what is asked of the engine, what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.engine.arrays import Peaks, Run, Trains
from spikeloop.engine.stepped import (
    Cells,
    Current,
    Quantity,
    SteppedAsk,
    SteppedRun,
    SteppedSampling,
    SteppedStage,
    forward,
    largest_step,
)
from spikeloop.errors import OutOfRange
from spikeloop.network import Network
from spikeloop.observe import When, neurons_of, times_of
from spikeloop.protocols import Trial
from spikeloop.record import Samples

_TINY = 1e-9  # relative: what rounding makes of a whole number of steps
_ROUND = (5.0, 2.0, 1.0)  # a step chosen here is one of these times a power of ten
_QUANTITIES = {"membrane": Quantity.MEMBRANE, "adaptation": Quantity.ADAPTATION, "current": Quantity.CURRENT}


@dataclass(frozen=True, eq=False)
class InSteps:
    """How the stepped stages of a trial are run: steps of ``step`` seconds, as many as reach the end; what is asked."""

    step: float
    spike_limit: int
    asks: Mapping[str, SteppedAsk]

    @classmethod
    def of(cls, trial: Trial, stages: Sequence[SteppedStage], step: float | None, spike_limit: int) -> InSteps:
        """For these stages of ``trial``. Raises ``OutOfRange`` where the step is too large."""
        asks = {cells.name: ask_of(trial, cells) for stage in stages for cells in stage.populations}
        return cls(step_for(stages, step) if stages else math.inf, spike_limit, asks)

    def forward(self, stage: SteppedStage, trains: Mapping[str, Trains], run: Run) -> dict[str, Trains]:
        """The spikes of the stage's populations up to the run's end."""
        steps = max(math.ceil(run.duration / self.step * (1 - _TINY)), 1)
        how = SteppedRun(run.batch, self.step, steps, 0, run.threads, self.spike_limit, run.recent)
        made = forward(stage, trains, how, self.asks)
        return {name: _until(run.duration, train, self.asks[name].count) for name, train in made.items()}

    def samples(self, trial: Trial, trace: str) -> dict[str, Samples]:
        """What was sampled of a trace: by the name it was asked for under."""
        found: dict[str, Samples] = {}
        for name, ask in self.asks.items():
            for (which, key, _), made in zip(_wishes(trial, name), ask.samplings, strict=True):
                if which == trace:
                    time, unit, value = (torch.from_numpy(array) for array in (made.time[0], made.unit, made.value))
                    found[key] = Samples(time, unit.to(torch.int64), value)
        return found


def step_for(stages: Sequence[SteppedStage], wanted: float | None) -> float:
    """The step in seconds: ``wanted``, or the largest round number that the time constants allow.

    Raises ``OutOfRange`` where the wanted one is larger than they do.
    """
    cells = [each for stage in stages for each in stage.populations]
    largest, name = min((largest_step(each), each.name) for each in cells)
    if wanted is None:
        return _round(largest)
    if wanted > largest * (1 + _TINY):
        raise OutOfRange(
            f"a step of {wanted:g} s is too large for its time constants",
            where=f"population {name!r}",
            expected=f"at most {largest:g} s",
            todo="Lower Ideal(step=...), or leave it out",
        )
    return wanted


def ask_of(trial: Trial, cells: Cells) -> SteppedAsk:
    """What ``trial`` asks of a population."""
    name, batch, size = cells.name, trial.batch, cells.size
    silent = trial.silent.get(name)
    peaks = name in trial.observe.peak
    return SteppedAsk(
        silent=None if silent is None else np.ascontiguousarray(silent.numpy(), dtype=np.uint8),
        samplings=tuple(_sampling(trial, trace, key, when, batch) for trace, key, when in _wishes(trial, name)),
        currents=tuple(_currents(trial, name)),
        peaks=Peaks(np.empty((batch, size)), np.empty((batch, size))) if peaks else None,
        count=np.zeros((batch, size), np.float32) if trial.network.populations[name].spiking else None,
    )


def places_of(network: Network, name: str) -> list[str]:
    """What a population and its compartments are called where something is observed or driven."""
    structure = network.populations[name].structure
    assert structure is not None
    return [name, *(f"{name}.{site.name}" for site in structure.sites if site.name)]


def _wishes(trial: Trial, name: str) -> list[tuple[str, str, When]]:
    """(trace, key, when) of everything that is to be sampled of a population and its compartments."""
    return [
        (trace, key, when)
        for trace, given in trial.observe.traces()
        for key, when in given.items()
        if key.partition(".")[0] == name
    ]


def _sampling(trial: Trial, trace: str, key: str, when: When, batch: int) -> SteppedSampling:
    population, number = _place(trial.network, key)
    time = np.ascontiguousarray(times_of(when, trial.duration, trial.begin).numpy().reshape(1, -1))
    unit = neurons_of(when, trial.network.populations[population].size).to(torch.int32).numpy()
    compartment = np.full(len(unit), number, np.int32)
    return SteppedSampling(time, unit, compartment, np.empty((batch, time.shape[1], len(unit))), _QUANTITIES[trace])


def _currents(trial: Trial, name: str) -> list[Current]:
    found: list[Current] = []
    for key, steps in trial.steps.items():
        population, number = _place(trial.network, key)
        if population == name:
            value = np.ascontiguousarray(steps.value.detach().numpy())
            found.append(Current(number, steps.time.numpy(), value if value.ndim == 3 else value[None]))
    return found


def _place(network: Network, key: str) -> tuple[str, int]:
    """The population and the number of the compartment that "population.compartment" means."""
    population, compartment = network.place("trial", key)
    structure = network.populations[population].structure
    assert structure is not None
    return population, [site.name for site in structure.sites].index(compartment)


def _round(largest: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above it."""
    power = 10.0 ** math.floor(math.log10(largest))
    return next(power * part for part in _ROUND if power * part <= largest * (1 + _TINY))


def _until(end: float, trains: Trains, count: NDArray[np.float32] | None) -> Trains:
    """Without the spikes of the last step that lie behind the end, which are taken from the counts, too."""
    time, unit, start = trains
    late = time > end
    if not late.any():
        return trains
    sample = np.repeat(np.arange(len(start) - 1), np.diff(start))
    if count is not None:
        np.subtract.at(count, (sample[late], unit[late]), 1)
    kept = np.concatenate([[0], np.cumsum(~late)])[start]
    return time[~late], unit[~late], kept
