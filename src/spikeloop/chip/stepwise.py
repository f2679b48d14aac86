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
    COLUMNS,
    CYCLE,
    DEPTH,
    LINKS,
    OUTPUTS,
    AddressedEvents,
    Configuration,
    Readout,
)
from spikeloop.chip.groups import Chipful, Group, resting
from spikeloop.chip.lanes import Flight, Lanes, empty_lanes, flight_of
from spikeloop.chip.links import Links
from spikeloop.chip.mismatch import Float, Quantity, keyed, normals, normals_at, uniforms
from spikeloop.chip.plan import Step
from spikeloop.chip.readings import Clock, Readings
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

LATENCY = 3.0
"""Standard deviations of the jitter between a crossing and its event, and where the jitter is cut off."""
Watched = tuple[Indices, SteppedSampling]
"""Which of the chip's neurons a sampling looks at, and what it sees."""


@dataclass(frozen=True, eq=False)
class Sender:
    """What of one step's events is under way: requests to its outputs, exits from them; seconds; outputs in cycles.

    recent: spikes of the engine's last step, which reach neurons of the same group of stages in its next one; by group.
    """

    outputs: Lanes
    requests: Flight
    exits: Flight
    recent: Mapping[str, Trains]


@dataclass(frozen=True, eq=False)
class ChipState:
    """Where a run of a chip was cut: nobody's business but the chip's.

    cycle: the clock.  trial: the draw of the noise.  links, arrivals: of the events from outside, cycles and addresses.
    cells: by step and group.  senders: by step.  owner: which chip, and which configuration.  resources: of the plastic
    drivers, as in `Driving`.  around: of those in loops, by their links' source.
    """

    cycle: int
    trial: int
    links: Lanes
    arrivals: Flight
    cells: tuple[tuple[SteppedState, ...], ...]
    senders: tuple[Sender, ...]
    owner: object
    resources: tuple[Float, Float] | None = None
    around: Mapping[str, Recovered] = field(default_factory=dict[str, Recovered])

    def __len__(self) -> int:
        return len(self.links.free)


class Stepwise:
    """One run, or one stretch of it."""

    chip: Chipful
    configuration: Configuration
    drive: AddressedEvents
    batch: int
    threads: int
    sample: int
    step: int
    first: int
    last: int
    trial: int
    code: NDArray[np.uint8]
    lost: Indices
    before: ChipState | None
    clock: Clock
    seen: dict[int, Float]
    adaptation: dict[int, Float]
    arrived: Flight
    inside: list[Flight]
    fired: list[Flight]
    links: Links

    def __init__(
        self, chip: Chipful, configuration: Configuration, drive: AddressedEvents, cycles: int, start: ChipState | None,
        sample: int = 0, step: int = 1,
    ) -> None:  # fmt: skip
        """sample: the number of the batch's first run, which chooses the noise of each.  step: cycles; the
        run begins with one, and ends with one if its state is used."""
        self.step = step
        self.chip, self.drive, self.configuration = chip, drive, configuration
        self.batch, self.threads, self.sample = len(drive), torch.get_num_threads(), sample
        self.first = 0 if start is None else start.cycle
        self.last = self.first + cycles
        self.trial = drive.trial if start is None else start.trial
        self.code = np.ascontiguousarray(configuration.weight, np.uint8).reshape(-1)
        self.lost = np.zeros(self.batch, np.int64)
        self.before = start
        self.clock = Clock(configuration.instruments, self.first, self.last, self._phase())
        self.seen = {}
        self.adaptation = {}
        self.arrived = Flight.none()
        self.inside, self.fired = [], []
        resources, around = (None, {}) if start is None else (start.resources, start.around)
        self.links = Links(chip, self.code, self.batch, resources, around)

    def key(self, quantity: Quantity) -> int:
        """The stream of a quantity in this trial."""
        return int(keyed(keyed(self.chip.pattern.seed, quantity), self.trial))

    def _phase(self) -> float:
        """Seconds until the column ADC's first sample: one draw for the whole batch, whose samples are in step."""
        return self.chip.noise.cadc_phase * float(uniforms(self.key(Quantity.CADC_PHASE), 0, (1,))[0])

    def run(self, owner: object) -> tuple[Readout, ChipState]:
        """What was read, and where it was cut."""
        arrived, links, arrivals = self._from_outside()
        self.arrived = arrived
        sent: list[Flight] = []
        cells, senders = list[tuple[SteppedState, ...]](), list[Sender]()
        for number, step in enumerate(self.chip.plan.steps):
            ends, spikes = self._step(number, step, arrived, sent)
            exits, sender = self._leave(number, step, spikes)
            cells.append(ends)
            senders.append(sender)
            if step.sends:
                sent.append(exits)
            head = self.chip.neurons.head[step.neuron]
            self.inside.append(Flight(exits.sample, exits.time, head[exits.unit]))
            self.fired += [Flight(f.sample, f.time, head[f.unit]) for f in self._fired(number, spikes)]
        driving = self.links.driving
        resources = None if driving is None else (driving.x, driving.last)
        state = ChipState(
            self.last, self.trial, links, arrivals, tuple(cells), tuple(senders), owner, resources, self.links.around
        )
        return self._readout(sent), state

    def events(self) -> dict[str, tuple[Float, Indices]]:
        """Of a single run, ascending in time: what arrived from outside, by address; what left circuits, and when they
        fired, by head."""
        flights = {"outside": self.arrived, "inside": Flight.merged(self.inside), "fired": Flight.merged(self.fired)}
        return {name: (flight.time, flight.unit) for name, flight in flights.items()}

    # ---- events --------------------------------------------------------------------------------------------------

    def _from_outside(self) -> tuple[Flight, Lanes, Flight]:
        """Arrivals in seconds, with addresses as units; the links after that; arrivals that come later."""
        drive, before = self.drive, self.before
        links = empty_lanes(self.batch, LINKS, DEPTH) if before is None else before.links
        sample = np.repeat(np.arange(self.batch), np.diff(drive.start))
        events = Flight(sample, drive.cycle.astype(np.float64), drive.address.astype(np.int64))
        inside = (events.time >= self.first) & (events.time < self.last)
        if not inside.all():  # what comes when the run is over is lost, too
            self.lost += np.bincount(sample[~inside], minlength=self.batch)
            events = events[inside]
        if self.chip.capacity:
            passed, links = links.passed(events, events.unit >> 14, self.threads)
            self.lost += np.bincount(events.sample[passed < 0], minlength=self.batch)
            events = Flight(events.sample, passed, events.unit)[passed >= 0]
        waiting = Flight.none() if before is None else before.arrivals
        now, later = Flight.merged([waiting, events]).until(self.last)
        return Flight(now.sample, now.time * CYCLE, now.unit), links, later

    def _leave(self, number: int, step: Step, spikes: dict[str, Trains]) -> tuple[Flight, Sender]:
        """Events that leave until the end, and what is left."""
        before = None if self.before is None else self.before.senders[number]
        outputs = empty_lanes(self.batch, OUTPUTS, DEPTH) if before is None else before.outputs
        waiting, leaving = (Flight.none(), Flight.none()) if before is None else (before.requests, before.exits)
        fired = Flight.merged(self._fired(number, spikes))
        if not self.chip.capacity:
            fired = fired[step.sending[fired.unit]]
        head = self.chip.neurons.head[step.neuron]
        late = Flight(fired.sample, fired.time + self._jitter(fired, head), fired.unit)
        now, requests = Flight.merged([waiting, late]).until(self.last * CYCLE)
        if self.chip.capacity:
            cycles = Flight(now.sample, now.time / CYCLE, now.unit)
            passed, outputs = outputs.passed(cycles, head[now.unit] % COLUMNS // (COLUMNS // OUTPUTS), self.threads)
            sends = step.sending[now.unit]
            self.lost += np.bincount(now.sample[(passed < 0) & sends], minlength=self.batch)
            now = Flight(now.sample, passed * CYCLE, now.unit)[(passed >= 0) & sends]
        exits, later = Flight.merged([leaving, now]).until(self.last * CYCLE)
        recent = {name: only(trains, trains[0] >= self._since) for name, trains in spikes.items()}
        return exits, Sender(outputs, requests, later, recent)

    def _fired(self, number: int, spikes: dict[str, Trains]) -> list[Flight]:
        """By group, the spikes of a step's neurons."""
        found: list[Flight] = []
        for group in self.chip.groups[number]:
            fired = flight_of(spikes[group.name])
            found.append(Flight(fired.sample, fired.time, group.place[group.alike.output][fired.unit]))
        return found

    def _jitter(self, fired: Flight, head: Indices) -> Float:
        """Seconds that each event takes to leave."""
        rms = self.chip.noise.jitter
        if not rms:
            return np.zeros(len(fired))
        key = keyed(
            keyed(self.key(Quantity.JITTER), fired.sample.astype(np.uint64)), head[fired.unit].astype(np.uint64)
        )
        drawn = normals_at(keyed(key, cycle_of(fired.time).astype(np.uint64)))
        return rms * (LATENCY + np.clip(drawn, -LATENCY, LATENCY))

    @property
    def _since(self) -> float:
        """Seconds: when the engine's last step began."""
        return (self.last - self.step) * CYCLE

    # ---- neurons -------------------------------------------------------------------------------------------------

    def _step(
        self, number: int, step: Step, arrived: Flight, sent: list[Flight]
    ) -> tuple[tuple[SteppedState, ...], dict[str, Trains]]:
        groups = self.chip.groups[number]
        before = None if self.before is None else self.before.cells[number]
        cells = tuple(self._cells(group) for group in groups)
        stage = SteppedStage(cells, tuple(self.links.of(number, arrived, sent)), np.dtype(np.float32))
        asks, watched, ends = dict[str, SteppedAsk](), list[Watched](), list[SteppedState]()
        for g, (group, each) in enumerate(zip(groups, cells, strict=True)):
            start = self._resting(group, each) if before is None else before[g]
            samplings = self._samplings(step, group)
            ends.append(SteppedState.empty(each, self.batch, np.float32))
            asks[group.name] = SteppedAsk(
                silent=self._muted(group), start=start, end=ends[g], samplings=tuple(s for _, s in samplings),
                currents=tuple(self._currents(group)),
            )  # fmt: skip
            watched += samplings
        recent = {} if self.before is None else self.before.senders[number].recent
        first, steps = self.first // self.step, -(-(self.last - self.first) // self.step)
        run = SteppedRun(self.batch, self.step * CYCLE, steps, first, self.threads, recent=recent,
                         recovered=self.links.recovered)  # fmt: skip
        spikes = forward(stage, self.links.trains, run, asks)
        self.links.ended(spikes, self._since)
        if self.last % self.step:  # the last step goes on after the end
            spikes = {name: only(each, each[0] < self.last * CYCLE) for name, each in spikes.items()}
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
            wander = normals(self.key(Quantity.THRESHOLD_RUN), 0, (CIRCUITS,))[self.chip.neurons.head[member]]
            values = values.copy()
            values[1] += noise.threshold_run * wander * distance
        disturbance = replace(given, key=self._engine_key)
        return replace(cells, values=values, disturbance=disturbance)

    def _resting(self, group: Group, cells: Cells) -> SteppedState:
        floating = self.chip.neurons.floating[group.alike.member]
        return resting(cells, self._samples, self.key(Quantity.STEPPED), floating)

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
                value = np.zeros((self.batch, len(self.clock.time), len(unit)))
                sampling = SteppedSampling(
                    self.clock.time[None], unit.astype(np.int32), compartment.astype(np.int32), value, trace
                )
                found.append((group.alike.member[compartment, unit], sampling))
        return found

    @property
    def _engine_key(self) -> int:
        """The engine numbers runs, and steps of every length, from 0 on."""
        key = self.key(Quantity.STEPPED)
        key = int(keyed(key, self.step)) if self.step > 1 else key
        return int(keyed(key, self.sample)) if self.sample else key

    @property
    def _samples(self) -> NDArray[np.uint64]:
        return np.arange(self.sample, self.sample + self.batch, dtype=np.uint64)

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
        readings = Readings(self.chip, self.configuration.instruments, self.clock, self.key, self._samples)
        return Readout(
            out.time.astype(np.int64), out.unit.astype(np.uint16), out.start(self.batch), self.lost,
            readings.cadc(self.seen), readings.stamps(), readings.madc(self.seen, self.adaptation),
        )  # fmt: skip


def cycle_of(time: Float) -> Indices:
    """The cycle that each time lies in, as the engine has it: from k CYCLE to before (k + 1) CYCLE."""
    cycle = np.floor(time / CYCLE).astype(np.int64)
    cycle += (cycle + 1) * CYCLE <= time
    return cycle - (cycle * CYCLE > time)


def potentials(chip: Chipful, state: ChipState) -> Float:
    """(512,) volts of the membranes of a single run, now; where no circuit is run, its leak."""
    found = chip.neurons.population.values[3].copy()
    for groups, cells in zip(chip.groups, state.cells, strict=True):
        for group, each in zip(groups, cells, strict=True):
            found[group.alike.member] = group.cells.field("leak") + each.membrane[0] + each.noise[0]
    return found[chip.neurons.of]
