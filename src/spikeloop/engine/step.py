"""A step of training in one native call: forward, a loss, back. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.adjoint import Key
from spikeloop.engine.arrays import Run, Slopes, Stage, Trains, Weights
from spikeloop.engine.exact import calls, explosion

Loss = float | tuple[float, float, float, float]
"""The scale of the cross entropy of peaks; or tau0, tau1, alpha, steepest of that of first spikes (cpp/losses.hpp)."""


@dataclass(frozen=True, eq=False)
class Step:
    """All of a step but its batch.

    readout: the population that answers.  spike_limit: of a neuron in a sample.
    """

    stages: Sequence[Stage]
    readout: str
    loss: Loss
    duration: float
    spike_limit: int
    slope_floor: float

    def __call__(
        self, drive: Mapping[str, Trains], label: NDArray[np.int64], silent: Mapping[str, NDArray[np.uint8]],
        gradients: Mapping[Key, Weights], tell: bool, threads: int,
    ) -> Stepped | None:  # fmt: skip
        """Answer a batch and add to ``gradients`` of weights; None, and nothing is done, where a label names no unit.

        label: (B,).  silent: (B, N) by population, neurons that may not spike.  tell: whether the spikes are wanted.
        Raises ``Explosion``.
        """
        inside = {stage.populations[0].name: number for number, stage in enumerate(self.stages)}
        come: dict[str, Any] = {**drive, **inside}
        given: list[Any] = []
        for stage in self.stages:
            (neurons,) = stage.populations
            sources = [(come[link.source], link.weight, link.delay) for link in stage.links]
            wanted = [gradients.get((link.name, "weight")) for link in stage.links]
            given.append((sources, neurons.values, neurons.spiking, silent.get(neurons.name), wanted))
        try:
            found = _core.dense_step(
                given, self.duration, self.spike_limit, self.loss, inside[self.readout], label, self.slope_floor, tell,
                threads,
            )  # fmt: skip
        except _core.Explosion as where:
            raise explosion(self.stages, where) from None
        if found is None:
            return None
        loss, right, spikes, passed, floored, trains, mute = found
        told = None if trains is None else dict(zip(inside, trains, strict=True))
        return Stepped(loss, right, spikes, Slopes(passed, floored), told, mute)


@dataclass(frozen=True, eq=False)
class Stepped:
    """What a step tells.

    right: how many answers are.  spikes: how many all neurons sent.  trains: theirs by population, where they are
    wanted or a label's unit is silent, which ``silent`` (B,) then says.
    """

    loss: float
    right: int
    spikes: int
    slopes: Slopes
    trains: Mapping[str, Trains] | None
    silent: NDArray[np.uint8] | None


def in_one_call(stages: Sequence[Stage]) -> bool:
    """Whether a `Step` can be made of them."""
    alike = len(calls(stages, Run(0, 0.0, 1))) == 1
    return alike and stages[0].dense and all(link.short_term is None for stage in stages for link in stage.links)
