"""What reaches the neurons of a step of a chip's plan: links of the engine, and what plastic drivers make of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import CIRCUITS
from spikeloop.chip.driving import Driving
from spikeloop.chip.groups import Chipful, Group
from spikeloop.chip.lanes import Flight
from spikeloop.chip.mismatch import Float
from spikeloop.chip.wiring import Wires
from spikeloop.engine.arrays import Recovered, Recovery, Trains
from spikeloop.engine.short_term import resources, sizes_of
from spikeloop.engine.stepped import SteppedLink

Indices = NDArray[np.int64]
_OUTSIDE, _EVERY = "outside", np.arange(CIRCUITS)


@dataclass(frozen=True, eq=False)
class Pulsed:
    """Events of plastic drivers: the lengths of their pulses, or what these follow from within a loop."""

    length: Float | None = None
    recovery: Recovery | None = None


_WHOLE = Pulsed()


class Links:
    """The links of one run, or of one stretch of it.

    trains: what came from outside the step that was looked at last, by source.  recovered: where the resources of its
    loop's drivers are, by link.  around: the same when the run has ended, by driver.
    """

    chip: Chipful
    code: NDArray[np.uint8]
    batch: int
    driving: Driving | None
    trains: dict[str, Trains]
    recovered: dict[str, Recovered]
    around: dict[str, Recovered]

    def __init__(
        self, chip: Chipful, code: NDArray[np.uint8], batch: int, resources: tuple[Float, Float] | None,
        around: Mapping[str, Recovered],
    ) -> None:  # fmt: skip
        self.chip, self.code, self.batch = chip, code, batch
        self.driving = None if chip.pulses is None else Driving(chip.pulses, chip.plan, batch, resources)
        self.trains, self.recovered, self.around = {}, {}, {}
        self._before = around
        self._looped: list[tuple[Group, str, Recovery]] = []

    def of(self, number: int, arrived: Flight, sent: list[Flight]) -> list[SteppedLink]:
        """Those of a step of the plan, to which events from outside and of earlier steps come."""
        plan, step = self.chip.plan, self.chip.plan.steps[number]
        self.trains, self.recovered, self._looped = {}, {}, []
        links: list[SteppedLink] = []
        outside = plan.outside[number]
        if len(outside.cell):
            self.trains[_OUTSIDE] = arrived.trains(self.batch, plan.source[arrived.unit])
            links += self._fan(number, _OUTSIDE, self._plain(outside))
        for k, wires in step.inside:
            self.trains[f"step {k}"] = sent[k].trains(self.batch)
            links += self._fan(number, f"step {k}", self._plain(wires))
        if step.loop is not None and len(step.loop.cell):
            for group in self.chip.groups[number]:
                links += self._fan(number, group.name, self._plain(step.loop), group.place[group.alike.output])
        if self.driving is not None:
            links += self._driven(self.driving, number, arrived, sent)
            links += self._around(self.driving, number)
        return links

    def ended(self, spikes: Mapping[str, Trains], since: float) -> None:
        """Follow the drivers in the loop of the step that was looked at last, to the end of its ``spikes``, by group;
        those from ``since`` on are still on their way.
        """
        for group, name, recovery in self._looped:
            trains = spikes[group.name]
            found = resources(trains, recovery, self._before.get(name))
            size = sizes_of(found.x, trains[1], recovery)[trains[0] >= since]
            self.around[name] = Recovered(found.end, found.last, size)

    def _driven(self, driving: Driving, number: int, arrived: Flight, sent: list[Flight]) -> Iterator[SteppedLink]:
        """Through plastic drivers, of events that are known."""
        plan = self.chip.plan
        senders = [(0, plan.source, plan.outside[number])]
        senders += [(k + 1, _EVERY, wires) for k, wires in plan.steps[number].inside]
        for sender, row, wires in senders:
            for place, part, rows in driving.reached(wires):
                name = f"driver {place} from {sender}"
                self.trains[name], length = driving.passed(place, arrived, sent).of(sender, row, rows, self.batch)
                yield from self._fan(number, name, part, rows, Pulsed(length))

    def _around(self, driving: Driving, number: int) -> Iterator[SteppedLink]:
        """Through plastic drivers, of neurons in the loop."""
        for rank, around in enumerate(driving.around(self.chip.plan.steps[number])):
            for group in self.chip.groups[number]:
                rows, name = group.place[group.alike.output], f"driver {rank} of {group.name}"
                recovery = driving.pulses.of(around.place[rows])  # of those without one it does not matter
                self._looped.append((group, name, recovery))
                for link in self._fan(number, group.name, around.wires, rows, Pulsed(recovery=recovery), name):
                    if name in self._before:
                        self.recovered[link.name] = self._before[name]
                    yield link

    def _plain(self, wires: Wires) -> Wires:
        """Those of drivers without plasticity."""
        return wires if self.driving is None else wires.some(self.driving.plain)

    def _fan(
        self, number: int, source: str, wires: Wires, rows: Indices | None = None, pulsed: Pulsed = _WHOLE,
        name: str | None = None,
    ) -> Iterator[SteppedLink]:  # fmt: skip
        """Links from one source, or some of its units, to every receptor and compartment of the step it reaches."""
        lines, member = self.chip.dynamics.lines, self.chip.plan.steps[number].neuron
        for receptor, height in enumerate(self._heights):
            weight = wires.weights(self.code, height)
            weight = weight if rows is None else weight[rows]
            if lines.two:
                weight = weight * lines.strength[receptor, member].astype(np.float32)
            for group in self.chip.groups[number]:
                for compartment, place in enumerate(group.place):
                    part = np.ascontiguousarray(weight[:, place])
                    if part.any():
                        ends = f"{name or source} to {group.name}, {compartment}, {receptor}", source, group.name
                        yield SteppedLink(
                            *ends, part, np.zeros(1), receptor=receptor, compartment=compartment,
                            amplitude=pulsed.length, short_term=pulsed.recovery,
                        )  # fmt: skip

    @cached_property
    def _heights(self) -> tuple[NDArray[np.float32], ...]:
        """What weight 1 of each synapse adds: to the only receptor, or to the excitatory and to the inhibitory one."""
        height = self.chip.plan.height
        return (np.maximum(height, 0), np.minimum(height, 0)) if self.chip.dynamics.lines.two else (height,)
