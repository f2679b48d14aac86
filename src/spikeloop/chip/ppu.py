"""The plasticity processor: kernels that are executed while the chip runs, in its arithmetic, time and memory.

There is one for each half of the array, and it works row by row. Weights have 6 bits and a sign, readings of
sensors 7; what a kernel leaves of a weight is rounded to a code stochastically. A call that takes longer than the time
to the next delays that one, and what would have come before it is skipped; `Executed` counts both.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import correlation
from spikeloop.chip.array_codes import SCALE_BITS, Place, codes_of, lay_out, shared_out
from spikeloop.chip.configuration import CIRCUITS, COLUMNS, WEIGHT_MAX
from spikeloop.chip.formats import FRACTION16, WHOLE16, Meter
from spikeloop.chip.fractional import Lanes
from spikeloop.chip.memory import check_memory
from spikeloop.chip.mismatch import Float, keyed
from spikeloop.chip.view import IntegerSynapses, IntegerView
from spikeloop.engine.arrays import Delays
from spikeloop.engine.correlation import Sensors as Held
from spikeloop.engine.correlation import Window, Wires, pass_events, wires
from spikeloop.plasticity.execute import execute
from spikeloop.plasticity.floating import Moment, Shapes
from spikeloop.plasticity.memory import Memory
from spikeloop.plasticity.view import Kernel
from spikeloop.plasticity.watchdog import Watchdog

Indices = NDArray[np.int64]

MEMORY = 16 * 1024
"""Bytes of the processor's memory (hardware.md 1.1)."""
PER_OPERATION = 2
"""Cycles of 8 ns for an operation on one vector: 4 of the processor's own (estimated)."""
PER_ROW = 16
"""Cycles for reading or writing a row of weights, per vector of 128 columns (estimated)."""
PER_READING = 68
"""Cycles for converting both sensors of a row: the column ADC makes 1.85 million conversions a second (1.1)."""
COUNTER_MAX = 255
"""Spike counters have 8 bits (hardware.md 1.2)."""


@dataclass(frozen=True, eq=False)
class Task:
    """A kernel and when it is called: cycles, ascending. Other fields as in `spikeloop.plasticity.Program`.

    requested: whether it is called at once, too.
    """

    kernel: Kernel
    places: Mapping[str, Place]
    cycle: Indices
    cycle_time: float
    state: tuple[Memory, ...]
    seed: int = 0
    budget: float = 10.0
    requested: bool = False
    calls: int = 0

    @cached_property
    def halves(self) -> frozenset[int]:
        """The halves of the array that it is on, each with a processor."""
        return frozenset(half for each in self.places.values() for half in each.halves)


@dataclass
class Executed:
    """What became of the calls of one task in one run.

    time: cycles of those that were made; due: at which they should have been.  recorded: of each, by name.
    history: by projection, the codes after each.  late, skipped: numbers of calls.  cycles: what each took.
    saturations: lanes.
    """

    time: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    recorded: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Indices]] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    late: int = 0
    skipped: int = 0
    saturations: int = 0


@dataclass(frozen=True, eq=False)
class Bank:
    """The sensors of one projection: who meets whom, (2, K) windows, the converters' columns."""

    wiring: Wires
    windows: tuple[Window, Window]
    column: Indices
    synapses: int


@dataclass(eq=False)
class Learning:
    """What one run's processor and sensors hold: part of the chip's state.

    weight: (131072,), the array.  held: sensors by task and projection.  counts: likewise, of targets and sources.
    code: of every synapse; ends: of sparse projections; wiring: of their sensors, where synapses have moved.  memory,
    calls: by task.  free: cycle from which the processor is free; waiting: calls that it had no time for yet.
    """

    weight: NDArray[np.uint8]
    held: dict[tuple[str, str], Held]
    counts: dict[tuple[str, str], tuple[Indices, Indices]]
    code: dict[tuple[str, str], Indices]
    ends: dict[tuple[str, str], tuple[Indices, Indices]]
    memory: dict[str, Memory]
    calls: dict[str, int]
    wiring: dict[tuple[str, str], Wires] = field(default_factory=dict)
    free: int = 0
    waiting: tuple[tuple[int, str], ...] = ()

    def copy(self) -> Learning:
        """One that goes on without changing this one."""
        return copy.deepcopy(self)


class Processor:
    """Executes tasks on the array of one chip; shared by the runs of a batch.

    windows: (2, 131072) steps and seconds of the chip's sensors.  channels: their converters.
    """

    tasks: Mapping[str, Task]
    channels: correlation.Channels
    key: int
    banks: dict[tuple[str, str], Bank]
    shapes: dict[str, Shapes]

    def __init__(
        self, tasks: Mapping[str, Task], windows: tuple[Float, Float], channels: correlation.Channels, key: int
    ) -> None:
        self.tasks, self.channels, self.key = tasks, channels, key
        self.shapes = {name: {} for name in tasks}
        self.banks = {
            (name, projection): _bank(place, windows)
            for name, task in tasks.items()
            for projection, place in task.places.items()
            if place.sensor
        }
        for sample in range(min((len(task.state) for task in tasks.values()), default=0)):
            memory = {name: task.state[sample] for name, task in tasks.items()}
            for name in tasks:
                self._check_memory(name, memory, f"program {name!r}, before the run, sample {sample}")

    def begin(self, weight: NDArray[np.uint8], sample: int) -> Learning:
        """What a run begins with."""
        counts, code, ends = {}, {}, {}
        for name, task in self.tasks.items():
            for projection, place in task.places.items():
                key = name, projection
                counts[key] = np.zeros(len(place.circuit), np.int64), np.zeros(len(place.source), np.int64)
                code[key] = dense = codes_of(weight, place)
                if place.ends is not None:
                    assert place.given is not None
                    code[key] = shared_out(place.given, dense, place.ends, WEIGHT_MAX * len(place.rows))
                    ends[key] = place.ends
        held = {key: Held.empty(bank.synapses, bank.wiring.targets[0].shape[0] - 1) for key, bank in self.banks.items()}
        memory = {name: copy.deepcopy(dict(task.state[sample])) for name, task in self.tasks.items()}
        calls = {name: task.calls for name, task in self.tasks.items()}
        return Learning(weight.copy(), held, counts, code, ends, memory, calls)

    def resumed(self, learning: Learning, sample: int) -> Learning:
        """With what the host has told the kernels in between."""
        learning.memory = {name: copy.deepcopy(dict(task.state[sample])) for name, task in self.tasks.items()}
        return learning

    def passed(self, learning: Learning, events: Mapping[str, tuple[Float, Indices]], end: float) -> None:
        """Sensors and counters see the events of a stretch of one run.

        events: "outside": arrivals and addresses; "inside": arrivals and the circuits that sent them; "fired": times
        and circuits. All ascending in time, seconds.
        """
        for name, task in self.tasks.items():
            for projection, place in task.places.items():
                key = name, projection
                sent = _numbered(events["inside" if place.inside else "outside"], place.source, 1 << 16)
                fired = _numbered(events["fired"], place.circuit, CIRCUITS)
                targets, sources = learning.counts[key]
                targets += np.bincount(fired[1], minlength=len(targets))
                sources += np.bincount(sent[1], minlength=len(sources))
                if key in self.banks:
                    bank = self.banks[key]
                    wiring = learning.wiring.get(key, bank.wiring)
                    learning.held[key] = pass_events(learning.held[key], wiring, bank.windows, sent, fired, end)

    def due(self, learning: Learning, first: int, last: int) -> list[tuple[int, str]]:
        """The calls in cycles from ``first`` to ``last``; those of one cycle in the tasks' order."""
        found = list(learning.waiting)
        for name, task in self.tasks.items():
            calls = np.clip(task.cycle, first, last).tolist()
            if task.requested and first not in calls:
                calls = [first, *calls]
            found += [(cycle, name) for cycle in calls]
        order = list(self.tasks)
        return sorted(found, key=lambda call: (call[0], order.index(call[1])))

    def call(
        self, learning: Learning, name: str, at: tuple[int, int], membrane: Float, watchdog: Watchdog, log: Executed
    ) -> None:
        """Execute a task at a cycle, of a sample; membrane: (512,) readings of the column ADC in steps."""
        cycle, sample = at
        task, meter = self.tasks[name], Meter()
        number = learning.calls[name]
        moment = Moment(cycle * task.cycle_time, number, sample, task.seed, self.shapes[name])
        where = moment.where(name)
        views = {
            projection: self._view((name, projection), place, learning, (cycle, sample, membrane, where, meter))
            for projection, place in task.places.items()
        }
        view = IntegerView(name, views, learning.memory[name], moment, meter)
        execute(task.kernel, view, task.budget, where, watchdog)
        spent = sum(self._adopt((name, each), task.places[each], learning, seen, view) for each, seen in views.items())
        self._check_memory(name, learning.memory, where)
        learning.calls[name] += 1
        took = (spent + meter.operations * PER_OPERATION) // max(len(task.halves), 1)  # each has a processor of its own
        learning.free = cycle + took
        log.time.append(cycle)
        log.recorded.append({key: np.asarray(value) for key, value in view.recorded.items()})
        log.history.append({each: learning.code[name, each].copy() for each in task.places})
        log.cycles.append(took)
        log.saturations += meter.saturations

    def _check_memory(self, name: str, memory: Mapping[str, Memory], where: str) -> None:
        """Raise ``DoesNotFit`` where a processor that executes task ``name`` has no room for what its tasks keep."""
        for half in sorted(self.tasks[name].halves):
            on = {each: memory[each] for each, task in self.tasks.items() if half in task.halves}
            check_memory(on, MEMORY, where)

    def _view(
        self, key: tuple[str, str], place: Place, learning: Learning, at: tuple[int, int, Float, str, Meter]
    ) -> IntegerSynapses:
        cycle, sample, membrane, where, meter = at
        code = learning.code[key]
        wide = (code << FRACTION16.point + SCALE_BITS) // place.scale
        weights = Lanes(np.clip(wide, FRACTION16.low, FRACTION16.high), FRACTION16, meter)
        readings = None
        if key in self.banks:
            stream = int(keyed(keyed(keyed(self.key, sample), zlib.crc32("/".join(key).encode())), cycle))
            readings = self._readings(key, learning.held[key], code.shape, stream)
        targets, sources = learning.counts[key]
        level, distance = place.level
        seen = {
            "counts": Lanes(np.minimum(targets, COUNTER_MAX), WHOLE16, meter),
            "source_counts": Lanes(np.minimum(sources, COUNTER_MAX), WHOLE16, meter),
            "membrane": Lanes.of((membrane[place.circuit] - level) / distance, FRACTION16, meter),
        }
        return IntegerSynapses(f"{where}, projection {key[1]}", weights, learning.ends.get(key), readings, seen)

    def _readings(
        self, key: tuple[str, str], held: Held, shape: tuple[int, ...], stream: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The mean of the rows that a synapse takes; stream: of the noise."""
        bank, found, rows = self.banks[key], [], len(self.tasks[key[0]].places[key[1]].rows)
        for kind, charge in ((correlation.CAUSAL, held.causal), (correlation.ANTICAUSAL, held.anticausal)):
            read = correlation.read(charge * correlation.FULL, bank.column, self.channels, stream, kind)
            found.append(read.reshape(rows, -1).astype(np.int64).sum(0) // rows)
        causal, anticausal = (each.astype(np.uint8).reshape(shape) for each in found)
        return causal, anticausal

    def _adopt(
        self, key: tuple[str, str], place: Place, learning: Learning, view: IntegerSynapses, of: IntegerView
    ) -> int:
        """Take over what a kernel left; gives the cycles that rows took."""
        weights = view.weights
        if not place.signed:
            weights = weights.maximum(0)
        most = np.minimum(place.scale >> SCALE_BITS, WEIGHT_MAX * len(place.rows))
        below = FRACTION16.point + SCALE_BITS  # bits of a code's fraction, of which 15 are random
        code = weights.raw * place.scale + (of.words(weights.shape) << SCALE_BITS) >> below
        code = np.clip(code, -most if place.signed else 0, most)
        if view.moved:
            ends = view.ends()
            assert ends is not None
            self._move(key, place, learning, ends)
        learning.code[key] = lay_out(code, learning.ends.get(key), place, learning.weight)
        for count in learning.counts[key]:
            count[:] = 0
        vectors = place.rows.shape[0] * place.rows.shape[1] * -(-place.rows.shape[2] // (COLUMNS // 2))
        spent = 2 * vectors * PER_ROW
        if key in self.banks:
            if view.reset:
                learning.held[key].causal[:] = 0
                learning.held[key].anticausal[:] = 0
            spent += vectors * PER_READING * view.sensed
        return spent

    def _move(self, key: tuple[str, str], place: Place, learning: Learning, ends: tuple[Indices, Indices]) -> None:
        """Synapses get other labels: their sensors keep what they hold, but nothing has arrived from there yet."""
        moved = ends[0] != learning.ends[key][0]
        if key in self.banks and moved.any():
            learning.held[key].arrival[np.tile(moved, len(place.rows))] = -np.inf
            learning.wiring[key] = _wiring(place, ends)
        learning.ends[key] = ends


def _bank(place: Place, windows: tuple[Float, Float]) -> Bank:
    """Rows of a synapse side by side, (R, S, T) or (R, K)."""
    rows = place.rows if place.ends is None else place.rows[:, place.ends[0], place.ends[1]]
    flat, wiring = rows.reshape(-1), _wiring(place, place.ends)
    amplitude, tau = (np.ascontiguousarray(each[:, flat]) for each in windows)
    made = tuple(Window(amplitude[kind] / correlation.FULL, tau[kind]) for kind in range(2))
    half, column = flat // (COLUMNS * COLUMNS), flat % COLUMNS
    return Bank(wiring, (made[0], made[1]), half * COLUMNS + column, len(flat))


def _wiring(place: Place, ends: tuple[Indices, Indices] | None) -> Wires:
    """Who meets whom at the sensors of synapses between ``ends``; None: of all."""
    size = len(place.source), len(place.circuit)
    sources, targets = np.broadcast_arrays(*(np.ix_(*map(np.arange, size)) if ends is None else ends))
    source, target = (np.tile(each.ravel(), len(place.rows)).astype(np.int64) for each in (sources, targets))
    return wires(source, target, np.zeros(1), Delays.COMMON, size)


def _numbered(events: tuple[Float, Indices], owner: Indices, most: int) -> tuple[Float, NDArray[np.int32]]:
    """Only events of ``owner``, numbered by their place there."""
    table = np.full(most, -1, np.int64)
    table[owner] = np.arange(len(owner))
    number = table[events[1]]
    keep = number >= 0
    return events[0][keep], number[keep].astype(np.int32)
