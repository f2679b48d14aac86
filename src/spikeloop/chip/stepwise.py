"""A twin's run in steps of a few cycles: any neurons, and a state from which it goes on as if nothing had been cut.

What is not a function of the state is one of the absolute clock: noise of membranes by step, of converters by sample,
of the comparators' jitter by neuron and cycle. A spike leaves its circuit `LATENCY` standard deviations of the jitter
later, at least at once: a run can be cut because nothing leaves before it was caused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip.configuration import (
    CIRCUITS,
    CYCLE,
    AddressedEvents,
    Configuration,
    Readout,
)
from spikeloop.chip.groups import Chipful, Group, resting
from spikeloop.chip.lanes import Flight
from spikeloop.chip.links import Links
from spikeloop.chip.mismatch import Float, Quantity, keyed, normals, uniforms
from spikeloop.chip.plan import Step
from spikeloop.chip.readings import Clock, Readings
from spikeloop.chip.ways import Incoming, Sender, Span, Ways, cycle_of
from spikeloop.engine.arrays import Recovered, Trains
from spikeloop.engine.arriving import only
from spikeloop.engine.stepped import (
    Cells,
    Current,
    SteppedAsk,
    SteppedRun,
    SteppedSampling,
    SteppedStage,
    SteppedState,
    forward,
)
from spikeloop.engine.stepped import Quantity as Trace

Indices = NDArray[np.int64]

Watched = tuple[Indices, SteppedSampling]
"""Which of the chip's neurons a sampling looks at, and what it sees."""


@dataclass(frozen=True, eq=False)
class ChipState:
    """Where a run of a chip was cut: nobody's business but the chip's.

    cycle: the clock.  trial: the draw of the noise.  incoming: events from outside.  cells: by step and group.
    senders: by step.  owner: which chip, and which configuration.  resources: of the plastic drivers, as in `Driving`.
    around: of those in loops, as in `Links`.
    """

    cycle: int
    trial: int
    incoming: Incoming
    cells: tuple[tuple[SteppedState, ...], ...]
    senders: tuple[Sender, ...]
    owner: object
    resources: tuple[Float, Float] | None = None
    around: Mapping[str, Recovered] = field(default_factory=dict[str, Recovered])

    def __len__(self) -> int:
        return len(self.incoming)


class Stepwise:
    """One run, or one stretch of it."""

    chip: Chipful
    configuration: Configuration
    drive: AddressedEvents
    span: Span
    sample: int
    before: ChipState | None
    clock: Clock
    seen: dict[int, Float]
    adaptation: dict[int, Float]
    arrived: Flight
    inside: list[Flight]
    fired: list[Flight]
    links: Links
    ways: Ways

    def __init__(
        self, chip: Chipful, configuration: Configuration, drive: AddressedEvents, cycles: int, start: ChipState | None,
        sample: int = 0, step: int = 1,
    ) -> None:  # fmt: skip
        """sample: the number of the batch's first run, which chooses the noise of each.  step: cycles; the
        run begins with one, and ends with one if its state is used."""
        first, trial = (0, drive.trial) if start is None else (start.cycle, start.trial)
        self.span = Span(chip, len(drive), torch.get_num_threads(), trial, first, first + cycles, step)
        self.chip, self.drive, self.configuration, self.sample = chip, drive, configuration, sample
        self.before = start
        self.clock = Clock(configuration.instruments, first, self.span.last, self._phase())
        self.seen = {}
        self.adaptation = {}
        self.arrived = Flight.none()
        self.inside, self.fired = [], []
        resources, around = (None, {}) if start is None else (start.resources, start.around)
        code = np.ascontiguousarray(configuration.weight, np.uint8).reshape(-1)
        self.links, self.ways = Links(chip, code, self.span.batch, resources, around), Ways(self.span)

    def _phase(self) -> float:
        """Seconds until the column ADC's first sample: one draw for the whole batch, whose samples are in step."""
        return self.chip.noise.cadc_phase * float(uniforms(self.span.key(Quantity.CADC_PHASE), 0, (1,))[0])

    def run(self, owner: object) -> tuple[Readout, ChipState]:
        """What was read, and where it was cut."""
        before, ways = self.before, self.ways
        self.arrived, incoming = ways.into(self.drive, None if before is None else before.incoming)
        sent: list[Flight] = []
        cells, senders = list[tuple[SteppedState, ...]](), list[Sender]()
        for number, step in enumerate(self.chip.plan.steps):
            ends, spikes = self._step(number, step, sent)
            exits, sender = ways.out(number, spikes, None if before is None else before.senders[number])
            cells.append(ends)
            senders.append(sender)
            if step.sends:
                sent.append(exits)
            head = step.head
            self.inside.append(Flight(exits.sample, exits.time, head[exits.unit]))
            self.fired += [Flight(f.sample, f.time, head[f.unit]) for f in ways.fired(number, spikes)]
        driving = self.links.driving
        resources = None if driving is None else (driving.x, driving.last)
        state = ChipState(
            self.span.last, self.span.trial, incoming, tuple(cells), tuple(senders), owner, resources, self.links.around
        )
        return self._readout(sent), state

    def events(self) -> dict[str, tuple[Float, Indices]]:
        """Of a single run, ascending in time: what arrived from outside, by address; what left circuits, and when they
        fired, by head."""
        flights = {"outside": self.arrived, "inside": Flight.merged(self.inside), "fired": Flight.merged(self.fired)}
        return {name: (flight.time, flight.unit) for name, flight in flights.items()}

    # ---- neurons -------------------------------------------------------------------------------------------------

    def _step(self, number: int, step: Step, sent: list[Flight]) -> tuple[tuple[SteppedState, ...], dict[str, Trains]]:
        groups, span = self.chip.groups[number], self.span
        before = None if self.before is None else self.before.cells[number]
        cells = tuple(self._cells(group) for group in groups)
        stage = SteppedStage(cells, tuple(self.links.of(number, self.arrived, sent)), np.dtype(np.float32))
        asks, watched, ends = dict[str, SteppedAsk](), list[Watched](), list[SteppedState]()
        for g, (group, each) in enumerate(zip(groups, cells, strict=True)):
            start = self._resting(group, each) if before is None else before[g]
            samplings = self._samplings(step, group)
            ends.append(SteppedState.empty(each, self.span.batch, np.float32))
            asks[group.name] = SteppedAsk(
                silent=self._muted(group), start=start, end=ends[g], samplings=tuple(s for _, s in samplings),
                currents=tuple(self._currents(group)),
            )  # fmt: skip
            watched += samplings
        recent = {} if self.before is None else self.before.senders[number].recent
        first, steps = span.first // span.step, -(-(span.last - span.first) // span.step)
        run = SteppedRun(span.batch, span.step * CYCLE, steps, first, span.threads, recent=recent,
                         recovered=self.links.recovered, settled=-np.inf)  # fmt: skip
        spikes = forward(stage, self.links.trains, run, asks)
        self.links.ended(spikes, span.since)
        if span.last % span.step:  # the last step goes on after the end
            spikes = {name: only(each, each[0] < span.last * CYCLE) for name, each in spikes.items()}
        for neuron, sampling in watched:
            store = self.seen if sampling.quantity is Trace.MEMBRANE else self.adaptation
            store |= {int(n): sampling.value[:, :, k] for k, n in enumerate(neuron)}
        return tuple(ends), spikes

    def _cells(self, group: Group) -> Cells:
        """The group's neurons with this trial's thresholds and noise."""
        cells, noise, member = group.cells, self.chip.noise, group.alike.member
        given = cells.disturbance
        assert given is not None
        values = cells.values
        distance = self.chip.neurons.distance[member]
        if noise.threshold_run:
            wander = normals(self.span.key(Quantity.THRESHOLD_RUN), 0, (CIRCUITS,))[self.chip.neurons.head[member]]
            values = values.copy()
            values[1] += noise.threshold_run * wander * distance
        disturbance = replace(given, key=self._engine_key)
        return replace(cells, values=values, disturbance=disturbance)

    def _resting(self, group: Group, cells: Cells) -> SteppedState:
        floating = self.chip.neurons.floating[group.alike.member]
        return resting(cells, self._samples, self.span.key(Quantity.STEPPED), floating)

    def _currents(self, group: Group) -> Iterator[Current]:
        """The constant currents of every compartment that has one, as the drive switches them."""
        inputs, switched = self.configuration.inputs, self.drive.currents
        if inputs is None or not self.chip.dynamics.offset.any():
            return
        time, state = np.zeros(1), np.asarray(inputs.offset_switch)[None, None]
        if switched is not None and len(switched.cycle):
            first = np.broadcast_to(state, (len(switched.switch), 1, CIRCUITS))
            time = np.append(-CYCLE, switched.cycle * CYCLE)
            state = np.concatenate([first, switched.switch], 1)
        volts = state * self.chip.dynamics.offset
        for compartment, member in enumerate(group.alike.member):
            value = volts @ (self.chip.neurons.of[:, None] == member).astype(np.float64)  # joined circuits' add up
            if value.any():
                yield Current(compartment, time, np.ascontiguousarray(value))

    def _muted(self, group: Group) -> NDArray[np.uint8] | None:
        if not len(self.drive.muted):
            return None
        head = self.chip.neurons.head[group.alike.member[group.alike.output]]
        return np.ascontiguousarray(self.drive.muted[:, head], np.uint8)

    def _samplings(self, step: Step, group: Group) -> list[Watched]:
        """Which of the chip's neurons each sampling of a group looks at, and what it will see."""
        found: list[Watched] = []
        watching = np.zeros(len(step.neuron), bool)
        watching[step.watched] = True
        compartment, unit = np.nonzero(watching[group.place])
        if len(unit) and self.clock.time.size:
            for trace in (Trace.MEMBRANE, *((Trace.ADAPTATION,) if self._adaptation_watched else ())):
                value = np.zeros((self.span.batch, len(self.clock.time), len(unit)))
                sampling = SteppedSampling(
                    self.clock.time[None], unit.astype(np.int32), compartment.astype(np.int32), value, trace
                )
                found.append((group.alike.member[compartment, unit], sampling))
        return found

    @property
    def _engine_key(self) -> int:
        """The engine numbers runs, and steps of every length, from 0 on."""
        key = self.span.key(Quantity.STEPPED)
        key = int(keyed(key, self.span.step)) if self.span.step > 1 else key
        return int(keyed(key, self.sample)) if self.sample else key

    @property
    def _samples(self) -> NDArray[np.uint64]:
        return np.arange(self.sample, self.sample + self.span.batch, dtype=np.uint64)

    @property
    def _adaptation_watched(self) -> bool:
        return bool(np.any(self.configuration.instruments.madc_adaptation))

    # ---- readout -------------------------------------------------------------------------------------------------

    def _readout(self, sent: list[Flight]) -> Readout:
        steps = [step for step in self.chip.plan.steps if step.sends]
        parts = [
            Flight(s.sample, cycle_of(s.time).astype(np.float64), step.label[s.unit])
            for s, step in zip(sent, steps, strict=True)
        ]
        out = Flight.joined(parts)
        order = np.lexsort((out.time, out.sample))
        out = Flight(out.sample[order], out.time[order], out.unit[order])
        readings = Readings(self.chip, self.configuration.instruments, self.clock, self.span.key, self._samples)
        return Readout(
            out.time.astype(np.int64), out.unit.astype(np.uint16), out.start(self.span.batch), self.ways.lost,
            readings.cadc(self.seen), readings.stamps(), readings.madc(self.seen, self.adaptation),
        )  # fmt: skip


def potentials(chip: Chipful, state: ChipState) -> Float:
    """(512,) volts of the membranes of a single run, now; where no circuit is run, its leak."""
    found = chip.neurons.population.values[3].copy()
    for groups, cells in zip(chip.groups, state.cells, strict=True):
        for group, each in zip(groups, cells, strict=True):
            found[group.alike.member] = group.cells.field("leak") + each.membrane[0] + each.noise[0]
    return found[chip.neurons.of]
