"""Steps of training in one native call: forward, a loss, back, Adam. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine import _core
from spikeloop.engine.adam import Adam
from spikeloop.engine.adjoint import Key
from spikeloop.engine.arrays import Run, Slopes, Stage, Trains, Weights
from spikeloop.engine.exact import calls, explosion

Loss = float | tuple[float, float, float, float]
"""The scale of the cross entropy of peaks; or tau0, tau1, alpha, steepest of that of first spikes (cpp/losses.hpp)."""


@dataclass(frozen=True, eq=False)
class Descent:
    """Steps down a loss: all of them but their batches.

    readout: the population that answers.  spike_limit: of a neuron in a sample.  size: samples of a batch.
    tell: whether the spikes are wanted.
    """

    stages: Sequence[Stage]
    readout: str
    loss: Loss
    duration: float
    spike_limit: int
    slope_floor: float
    size: int
    tell: bool
    threads: int

    def __call__(
        self, drive: Mapping[str, Trains], label: NDArray[np.int64], silent: Mapping[str, NDArray[np.uint8]],
        gradients: Mapping[Key, Weights], adam: Adam | None,
    ) -> Taken | None:  # fmt: skip
        """Answer batches, one after the other, with a step of ``adam`` after each.

        It ends early after a batch whose gradients are left to the caller: the first one without ``adam`` or where its
        spikes are to be told, and any with a label whose unit is silent; and before one that fails: with a label that
        names no unit, with weights that are no numbers, or with an explosion. Then it is for the next call to say so:
        None, and nothing is done, where a label of the first batch names no unit; ``Explosion`` is raised.

        label: (B,).  silent: (B, N) by population, neurons that may not spike.  gradients: zeros, into which those of
        the last batch are written; where there is an ``adam``, its own.
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
            found = _core.dense_steps(
                given, self.duration, self.spike_limit, self.loss, inside[self.readout], label, self.slope_floor,
                self.tell, self.threads, self.size, None if adam is None else adam.native,
            )  # fmt: skip
        except _core.Explosion as where:
            raise explosion(self.stages, where) from None
        told, slopes, waits, trains, mute = found
        spikes = None if trains is None else dict(zip(inside, trains, strict=True))
        return Taken([Told(*each) for each in told], Slopes(*slopes), waits, spikes, mute) if told else None


@dataclass(frozen=True)
class Told:
    """What a step tells: its loss, how many answers were right, and how many spikes neurons sent."""

    loss: float
    right: int
    spikes: int


@dataclass(frozen=True, eq=False)
class Taken:
    """Steps that were taken, and the slopes of all of them.

    waits: whether the last one's gradients are left to the caller.  trains: its spikes by population, where they are
    wanted or a label's unit is silent, which ``silent`` (B,) then says.
    """

    steps: list[Told]
    slopes: Slopes
    waits: bool
    trains: Mapping[str, Trains] | None
    silent: NDArray[np.uint8] | None


def in_one_call(stages: Sequence[Stage]) -> bool:
    """Whether a `Descent` can be made of them."""
    alike = len(calls(stages, Run(0, 0.0, 1))) == 1
    return alike and stages[0].dense and all(link.short_term is None for stage in stages for link in stage.links)
