"""A configured chip as the stepped engine takes it: its neurons step by step, in groups that are put together alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.circuits import Neurons, Pattern
from spikeloop.chip.configuration import CIRCUITS, CYCLE
from spikeloop.chip.drivers import Pulses
from spikeloop.chip.dynamics import Alike, Dynamics, alike
from spikeloop.chip.mismatch import Noise, keyed, normals_at
from spikeloop.chip.plan import Plan, Step
from spikeloop.engine.stepped import Cells, Disturbances, SteppedState, largest_step
from spikeloop.errors import OutOfRange

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
    drivers, if there are any.  step: of the engine, in cycles.
    """

    neurons: Neurons
    dynamics: Dynamics
    plan: Plan
    pattern: Pattern
    noise: Noise
    capacity: bool
    groups: tuple[tuple[Group, ...], ...]
    pulses: Pulses | None = None
    step: int = 1

    def on_grid(self, cycle: int) -> int:
        """The first cycle from ``cycle`` on with which a step begins."""
        return -(-cycle // self.step) * self.step

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """From, to, step: steps of one cycle where ``first`` or ``last`` lies between the grid's."""
        low = min(self.on_grid(first), last)
        high = max(last // self.step * self.step, low)
        for begin, end, step in ((first, low, 1), (low, high, self.step), (high, last, 1)):
            if end > begin:
                yield begin, end, step


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


def check_step(step: int, groups: tuple[tuple[Group, ...], ...]) -> int:
    """``step``, in cycles. Raises ``OutOfRange``, with the largest, where a time constant is too short for it."""
    largest = min((largest_step(group.cells) for part in groups for group in part), default=np.inf) / CYCLE
    if step > max(largest, 1):
        raise OutOfRange(
            f"step is {step} cycles", where="Twin",
            expected=f"at most {2 ** int(np.log2(max(largest, 1)))}: a fifth of the shortest time constant",
        )  # fmt: skip
    return step


def check_end(chip: Chipful, cycle: int, calls: Collection[int]) -> None:
    """Raise ``OutOfRange`` where a run that ends at ``cycle`` could not be gone on from as if it had not been cut.

    calls: cycles at which all runs are cut, whatever their ends are.
    """
    if cycle % chip.step and cycle not in calls:
        raise OutOfRange(
            f"a run that is gone on from ends at cycle {cycle}, within a step", where="Twin.emulate",
            expected=f"a multiple of {chip.step} cycles of 8 ns, its step, or a call of the program",
            todo=f"Choose another duration, or step={cycle & -cycle}",
        )  # fmt: skip


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
