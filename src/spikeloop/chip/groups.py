"""A configured chip as the stepped engine takes it: its neurons step by step, in groups that are put together alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.circuits import Neurons, Pattern
from spikeloop.chip.configuration import CIRCUITS
from spikeloop.chip.drivers import Pulses
from spikeloop.chip.dynamics import Alike, Dynamics, alike
from spikeloop.chip.mismatch import Noise, keyed, normals_at
from spikeloop.chip.plan import Plan, Step
from spikeloop.engine.stepped import Cells, Disturbances, SteppedState

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Group:
    """Neurons of one step that are put together alike; place: (C, N), their compartments among the step's neurons."""

    name: str
    alike: Alike
    place: Indices
    cells: Cells


@dataclass(frozen=True, eq=False)
class Chipful:
    """A configured chip, as it stays from run to run.

    capacity: whether links and outputs pass one event a cycle.  groups: by step of the plan.  pulses: of its plastic
    drivers, if there are any.
    """

    neurons: Neurons
    dynamics: Dynamics
    plan: Plan
    pattern: Pattern
    noise: Noise
    capacity: bool
    groups: tuple[tuple[Group, ...], ...]
    pulses: Pulses | None = None


def groups_of(neurons: Neurons, dynamics: Dynamics, plan: Plan) -> tuple[tuple[Group, ...], ...]:
    """The groups of every step."""
    sends = np.asarray(plan.routing.sends, bool)[neurons.head]
    return tuple(
        tuple(
            _group(f"{k}.{g}", each, step, neurons, dynamics)
            for g, each in enumerate(alike(dynamics, step.neuron, sends))
        )
        for k, step in enumerate(plan.steps)
    )


def _group(name: str, each: Alike, step: Step, neurons: Neurons, dynamics: Dynamics) -> Group:
    member = each.member
    floor, most, noise, threshold, _ = neurons.population.disturbance[:, member]
    lines = dynamics.lines
    head = neurons.head[member[each.output]]
    cells = Cells(
        name,
        np.ascontiguousarray(dynamics.values[:, member]),
        np.ones(len(member), bool),
        lines.tau_syn[:, member],
        lines.reversal[:, member],
        each.pair,
        dynamics.couplings.tau[each.coupling],
        each.output,
        Disturbances(floor, most, noise, threshold, head.astype(np.float64)),
    )
    return Group(name, each, np.searchsorted(step.neuron, member), cells)


def resting(cells: Cells, samples: NDArray[np.uint64], key: int, floating: NDArray[np.bool_]) -> SteppedState:
    """At rest since long ago: with the noise that membranes and thresholds have at some moment.

    floating: (C, N), compartments without a leak, which begin at their reset.
    """
    state = SteppedState.empty(cells, len(samples), np.float32)
    given = cells.disturbance
    assert given is not None
    leak, reset = cells.field("leak"), cells.field("reset")
    fires = leak >= cells.field("threshold")  # by itself: starts at its reset
    state.membrane[:] = np.where(fires | floating, reset - leak, 0.0)
    shape = (len(samples), *leak.shape)
    for part, rms, kind in (
        (state.noise, np.where(fires, 0.0, given.noise), 0),
        (state.shift, given.threshold_noise, 1),
    ):
        if rms.any():
            sample = keyed(keyed(key, kind), samples)[:, None, None]
            place = given.name.astype(np.uint64) + np.arange(leak.shape[0], dtype=np.uint64)[:, None] * CIRCUITS
            part[:] = rms * normals_at(np.broadcast_to(keyed(sample, place), shape))
    return state
