"""The stepped engine's reverse sweep: surrogate gradients of what `Cells` and links hold. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikeloop.engine import _core
from spikeloop.engine.arrays import Float, Peaks, Trains, Weights
from spikeloop.engine.arriving import coming
from spikeloop.engine.short_term_grid import Draws
from spikeloop.engine.stepped import (
    CELL_FIELDS,
    NOTHING,
    SteppedAsk,
    SteppedRun,
    SteppedSampling,
    SteppedStage,
    asked_in,
    cells_in,
    link_in,
    linked,
    run_in,
    samplings_in,
)


@dataclass(frozen=True, eq=False)
class SteppedPull:
    """What was observed of one population, and what a loss says of it.

    spikes: of the output compartment, those of the run in absolute times.  count: (B, N) dL/dcount and push: (B, steps,
    N) dL/dS of every step, from the populations it reaches, both in the stage's dtype.  samplings: of membranes alone;
    peaks: at their times; ``value`` of both is the cotangent.
    """

    spikes: Trains
    count: Weights | None = None
    push: Weights | None = None
    samplings: tuple[SteppedSampling, ...] = ()
    peaks: Peaks | None = None


@dataclass(frozen=True, eq=False)
class SteppedWants:
    """weights: links whose gradient is wanted.  sources: sources outside the stage that want dL/dS.  beta: how narrow
    the surrogate is.
    """

    weights: Sequence[str] = ()
    sources: Sequence[str] = ()
    beta: float = 10.0


@dataclass(frozen=True, eq=False)
class CellGradients:
    """dL/d of what `Cells` holds, laid out as there."""

    values: Float
    tau_syn: Float
    reversal: Float
    coupling: Float

    def field(self, name: str) -> Float:
        """(C, N): of one of `CELL_FIELDS`."""
        return self.values[CELL_FIELDS.index(name)]


@dataclass(frozen=True, eq=False)
class SteppedGradients:
    """cells: by population.  weight: by link, shaped as its weights.  source: by source outside the stage, (B, steps,
    N_source), dL/dS of every step: the ``push`` of that population's own sweep.
    """

    cells: Mapping[str, CellGradients]
    weight: Mapping[str, Weights]
    source: Mapping[str, Weights]


def backward(
    stage: SteppedStage,
    trains: Mapping[str, Trains],
    run: SteppedRun,
    asks: Mapping[str, SteppedAsk],
    pulls: Mapping[str, SteppedPull],
    wants: SteppedWants,
    draws: Mapping[str, Draws] | None = None,
) -> SteppedGradients:
    """Surrogate gradients through a stage on the grid of its steps, from observed spikes.

    The model of cpp/stepped_smooth.hpp is run anew from ``start`` of ``asks`` (whose currents and silent neurons hold,
    too; silent ones pass nothing on), resets forced by the spikes of ``pulls``, and differentiated exactly, but for
    the spikes: S of a step has the derivative 1 / (unit (1 + beta \\|V - threshold\\| / unit)^2) where V is not held,
    with V at the beginning of the step and ``unit`` the distance from reset to threshold, a constant. What a step
    sends beside the spikes observed it sends in its middle. How long a compartment is held moves its release within a
    step, the spike's time being what was observed; a hold from before the run is a number. Noise, floors and saturation
    are not in the model. The states of a sample at all steps are kept meanwhile, of as many samples as there are
    threads, in the stage's dtype.  draws: by short-term link, what its
    events met.
    """
    number = {cells.name: n for n, cells in enumerate(stage.populations)}
    own = {name: pulls[name].spikes for name in number}
    sent = {name: coming(name, own, run.recent) for name in number}
    drawn, sending = draws or {}, replace(run, recent=sent)
    links = [
        linked(link, number, of.trains, of.size, None, of.given())
        if (of := drawn.get(link.name)) is not None
        else link_in(link, number, trains, sending)
        for link in stage.links
    ]
    weight = {link.name: np.zeros_like(link.weight, order="C") for link in stage.links if link.name in wants.weights}
    outer = [name for name in wants.sources if name not in number]
    source = {name: np.zeros((run.batch, run.steps, _units(stage, name)), stage.dtype) for name in outer}
    flat = {name: array.reshape(-1) for name, array in weight.items()}
    pushes = [(flat.get(link.name), source.get(link.source)) for link in stage.links]
    given = run_in(run)
    door = _core.stepped_backward_single if stage.dtype == np.float32 else _core.stepped_backward_double
    wishes = [
        asked_in(replace(asks.get(name, NOTHING), end=None, samplings=(), peaks=None, count=None)) for name in number
    ]
    wanted = [_pulled(pulls[name]) for name in number]
    found = door([cells_in(cells) for cells in stage.populations], links, given, wishes, wanted, pushes, wants.beta)
    return SteppedGradients({name: CellGradients(*found[n]) for name, n in number.items()}, weight, source)


def _units(stage: SteppedStage, source: str) -> int:
    link = next(link for link in stage.links if link.source == source)
    return len(link.weight) if link.rows is None else len(link.rows.begin) - 1


def _pulled(pull: SteppedPull) -> Any:
    peaks = None if pull.peaks is None else (pull.peaks.time, pull.peaks.value)
    return (pull.spikes, pull.count, pull.push, samplings_in(pull.samplings), peaks)
