"""One run of a network that fits on one chip: down to codes, through the chip, and up again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.chip import lower, lower_inputs, tasks, transfer
from spikeloop.chip.by_value import locked
from spikeloop.chip.configuration import (
    CADC_PERIOD_MIN,
    CIRCUITS,
    CYCLE,
    MADC_NEURONS,
    Configuration,
    Instruments,
    Readout,
)
from spikeloop.chip.host import Backlog, Continued, addressed, send
from spikeloop.chip.inputs import Switching
from spikeloop.chip.learning import Processed
from spikeloop.chip.mapping import site_key
from spikeloop.chip.ppu import Executed
from spikeloop.chip.sensing import sensors_of
from spikeloop.chip.setup import Setup, strength_of_currents
from spikeloop.chip.wiring import circuits_of
from spikeloop.errors import CannotObserve, ShapeMismatch, Unsupported
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.observe import When, times_of
from spikeloop.plasticity.memory import PART as LEARNED
from spikeloop.plasticity.memory import Learned, learned_of
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Calls, Cost, Lowering, Peak, Record, Recorded, Samples, State

PART = "chip"
"""Where a chip's own state lies in ``State.parts``."""


def emulated(trial: Trial, setup: Setup, draw: int) -> Record:
    """Carry out ``trial`` on the setup's chip; ``draw``: which of the trial-to-trial noise."""
    began, wish, network = time.perf_counter(), setup.wish, trial.network
    before = continued(trial)
    draw = draw if before is None else before.number
    lowered = lower.lower_weights(network, setup.placement, setup.scales, wish.strict)
    instruments = _instruments(setup, network, trial.observe)
    inputs, currents = lower_inputs.lower_steps(
        network, trial.steps, setup.placement, setup.inputs, wish.speedup,
        (setup.scales, setup.calibration.target, strength_of_currents(setup) if trial.steps else np.ones(CIRCUITS)),
    )  # fmt: skip
    configuration = Configuration(
        lowered.weight, setup.placement.routing, setup.analog, instruments, setup.terms, setup.switches,
        sensors_of(network, setup.placement.synapse, wish.speedup), inputs, setup.drivers,
    )  # fmt: skip
    out, state = _run(trial, setup, configuration, before, (draw, currents))
    spikes = _spikes(setup, trial, out)
    membrane, peak, adaptation = _membranes(setup, trial, out)
    cost = Cost(
        wall_time=time.perf_counter() - began,
        chip_time=trial.duration / wish.speedup,
        spikes=len(out.cycle),
        events_lost=int(out.lost.sum()),
    )
    record = Record(
        {**trial.drive, **spikes}, trial.duration, membrane=membrane, peak=peak, executed=lowered.executed,
        number=draw, lowering=_lowering(setup, lowered, cost.events_lost), cost=cost, adaptation=adaptation,
        begin=trial.begin,
    )  # fmt: skip
    learned = _learned(trial, setup, out)
    parts = {**({} if state is None else {PART: state}), **({} if learned is None else {LEARNED: learned[0]})}
    return replace(
        record,
        state=State(time=trial.end, parts=parts) if trial.observe.state else None,
        **({} if learned is None else learned[1]),
    )


def continued(trial: Trial) -> Continued | None:
    """A chip's part of the state that ``trial`` starts from.

    Raises ``Unsupported`` where it has none, ``ShapeMismatch`` where that is of another batch.
    """
    if trial.start is None:
        return None
    part = trial.start.parts.get(PART)
    if not isinstance(part, Continued):
        raise Unsupported("a chip cannot continue from a state of another place", where="start",
                          expected="record.state of a run on it", todo="Leave out start=")  # fmt: skip
    if len(part) != trial.batch:
        what = f"the state is of {len(part)} samples"
        raise ShapeMismatch(what, where="start", expected=f"{trial.batch}, as the drive")
    return part


def _run(
    trial: Trial, setup: Setup, configuration: Configuration, before: Continued | None,
    given: tuple[int, Switching | None],
) -> tuple[Readout, Continued | None]:  # fmt: skip
    """What the chip read, and where it was left; given: the draw of its noise, and how currents are switched."""
    draw, currents = given
    wish, network = setup.wish, trial.network
    keep = trial.observe.state or before is not None
    first = 0 if before is None else before.cycle
    last = max(first + 1, int(np.floor(trial.end / (wish.speedup * CYCLE) + 1e-6)))
    muted = _muted(setup, trial)
    if not keep and not network.programs and currents is None:
        events = lower.lower_events(trial.drive, setup.placement, wish.speedup, muted, draw)
        return wish.chip.emulate(configuration, events, last - first), None
    backlog = Backlog.none(trial.batch) if before is None else before.backlog
    sent, backlog = send(trial.drive, setup.placement, wish.speedup, last, backlog)
    events = replace(addressed(sent, trial.batch, muted, draw), currents=currents)
    options: dict[str, Any] = {"keep": keep, **({} if before is None else {"start": before.chip})}
    if network.programs:
        span = trial.begin, trial.end
        learned = learned_of(trial.start)
        options["program"] = tasks.tasks_of(network, setup, span, trial.batch, learned)
    out = wish.chip.emulate(configuration, events, last - first, **options)
    return out, Continued(out.state, draw, last, backlog) if keep else None


def _learned(trial: Trial, setup: Setup, out: Readout) -> tuple[Learned, dict[str, Any]] | None:
    """What is handed on, and the record's fields."""
    network = trial.network
    if not network.programs:
        return None
    done = cast("tuple[Processed, ...]", out.program)
    weights, sources = tasks.weights_of(network, setup, done), tasks.sources_of(network, done)
    fields = {
        "weights": {name: torch.from_numpy(value) for name, value in weights.items()},
        "sources": {name: torch.from_numpy(value) for name, value in sources.items()},
        "history": _history(trial, setup, done),
        "recorded": {name: _recorded(setup, [each.log[name] for each in done]) for name in network.programs},
        "calls": {name: _calls([each.log[name] for each in done]) for name in network.programs},
    }
    return tasks.handed_on(network, weights, sources, done), fields


def _history(trial: Trial, setup: Setup, done: Sequence[Processed]) -> dict[str, Recorded]:
    found: dict[str, Recorded] = {}
    for program, each in trial.network.programs.items():
        logs = [one.log[program] for one in done]
        for name in each.projections.keys() & set(trial.observe.history):
            unit = tasks.unit_of(trial.network, setup, name, done[0].learning.ends.get((program, name)))
            calls = min(len(log.history) for log in logs)
            shape = calls, len(logs), *done[0].learning.code[program, name].shape  # of no calls, too
            codes = np.array([[log.history[k][name] for log in logs] for k in range(calls)]).reshape(shape)
            found[name] = Recorded(_times(setup, logs[0].time[:calls]), torch.from_numpy(codes * unit))
    return found


def _recorded(setup: Setup, logs: Sequence[Executed]) -> dict[str, Recorded]:
    """By name, (U, B, ...): the calls in which all runs recorded it."""
    names = {name for log in logs for call in log.recorded for name in call}
    found: dict[str, Recorded] = {}
    for name in sorted(names):
        calls = [k for k in range(min(len(log.time) for log in logs)) if all(name in log.recorded[k] for log in logs)]
        value = np.array([[log.recorded[k][name] for log in logs] for k in calls])
        found[name] = Recorded(_times(setup, [logs[0].time[k] for k in calls]), torch.from_numpy(value))
    return found


def _calls(logs: Sequence[Executed]) -> Calls:
    cycles = [took for log in logs for took in log.cycles]
    late, skipped, saturated = (sum(getattr(log, what) for log in logs) for what in ("late", "skipped", "saturations"))
    return Calls(len(cycles), late, skipped, max(cycles, default=0) * CYCLE, saturated)


def _times(setup: Setup, cycles: Sequence[int]) -> Tensor:
    return torch.tensor(cycles, dtype=torch.float64) * (CYCLE * setup.wish.speedup)


def _lowering(setup: Setup, lowered: lower.Lowered, dropped: int) -> Lowering:
    used, good = setup.placement.used, setup.calibration.success
    circuit = setup.placement.circuit.items()
    return Lowering(
        clipped=lowered.clipped,
        rounded=lowered.rounded,
        rounding=lowered.rounding,
        placed=int(used.sum()),
        failed=int((used & ~good).sum()),
        masked=int((~used & ~good).sum()),
        dropped=dropped,
        placement={name: torch.from_numpy(of) for name, of in circuit},
        run={name: torch.zeros(len(of), dtype=torch.int64) for name, of in circuit},
        calibration=f"{setup.calibration.chip}, version {setup.calibration.version}",
    )


def _muted(setup: Setup, trial: Trial) -> NDArray[np.bool_]:
    """(B, 512) circuits without events, or (0, 512)."""
    batch = trial.batch
    muted = np.zeros((batch if trial.silent else 0, CIRCUITS), bool)
    for name, silent in trial.silent.items():
        muted[:, setup.placement.circuit[name][:, 0]] = silent.numpy()
    return muted


def _heads(setup: Setup, network: Network, name: str) -> NDArray[np.int64]:
    """(N,): the circuits whose membranes are those of "population" or "population.compartment"."""
    return setup.placement.site[site_key(*network.place("observe", name))][:, 0]


def _instruments(setup: Setup, network: Network, observe: Observe) -> Instruments:
    """The column ADC as fast as it goes for the populations that are asked for, the fast one for single neurons."""
    slow, fast = watched(observe, setup.wish.speedup)
    if (slow, fast) not in setup.watch:
        heads = [np.zeros(0, np.int64), *(_heads(setup, network, name) for name in slow)]
        single = [_heads(setup, network, name)[neuron] for (_, name), neurons in fast for neuron in neurons]
        adapting = np.zeros(MADC_NEURONS, bool)
        adapting[: len(single)] = [trace == ADAPTATION for (trace, _), neurons in fast for _ in neurons]
        period = np.array([CADC_PERIOD_MIN if slow else 0], np.int32)
        made = Instruments(
            period, np.concatenate(heads).astype(np.int16), setup.calibration.cadc_offset,
            madc_circuit=np.array(single, np.int16), madc_adaptation=adapting,
        )  # fmt: skip
        setup.watch[slow, fast] = locked(made)
    return setup.watch[slow, fast]


def _spikes(setup: Setup, trial: Trial, out: Readout) -> dict[str, Events]:
    """Events of every spiking population."""
    circuit = circuits_of(setup.placement.routing, out.address)
    populations = trial.network.populations
    spiking = {name: of for name, of in setup.placement.circuit.items() if populations[name].spiking}
    return lower.lift_events(out.cycle, circuit, out.start, spiking, setup.wish.speedup)


Traces = dict[str, Samples]


def _membranes(setup: Setup, trial: Trial, out: Readout) -> tuple[Traces, dict[str, Peak], Traces]:
    """Samples, of those that were made the nearest to what was asked for, and highest samples, in model units."""
    membrane, peak = Traces(), dict[str, Peak]()
    cycle, network = CYCLE * setup.wish.speedup, trial.network
    seconds = torch.from_numpy(out.cadc_cycle * cycle)
    cut = trial.observe.state or trial.start is not None
    number = _numbers(trial, out)
    slow, fast = watched(trial.observe, setup.wish.speedup)
    first = 0
    for name in slow:
        head, scale = _heads(setup, network, name), _scale(setup, network, name)
        reading, gain = out.cadc[:, :, first : first + len(head)], setup.calibration.cadc_gain[head]
        first += len(head)
        lifted = partial(lower.lift_slow, gain=gain, scale=scale, neuron=np.arange(len(head)))
        if name in trial.observe.membrane and (MEMBRANE, name) not in dict(fast):
            unit = trial.observe.neurons(name, len(head))
            at = _nearest(trial.observe.membrane[name], trial.duration, CADC_PERIOD_MIN * cycle, number, cut)
            membrane[name] = Samples(seconds[:, at], unit, torch.from_numpy(lifted(reading))[:, at][:, :, unit])
        if name in trial.observe.peak and reading.shape[1]:
            highest, when = torch.from_numpy(reading).max(1)
            peak[name] = Peak(torch.gather(seconds, 1, when), torch.from_numpy(lifted(highest.numpy())))
    traces = _fast(setup, trial, out, fast, cut)
    return {**membrane, **traces[MEMBRANE]}, peak, traces[ADAPTATION]


def _numbers(trial: Trial, out: Readout) -> NDArray[np.int64]:
    """(T,): which of all samples of the column ADC those of this run are."""
    if len(out.cadc_cycle):
        return out.cadc_cycle[0].astype(np.int64) // CADC_PERIOD_MIN
    before = continued(trial)
    began = 0 if before is None else -(-before.cycle // CADC_PERIOD_MIN)
    return np.arange(began, began + out.cadc.shape[1])


def _fast(setup: Setup, trial: Trial, out: Readout, fast: Fast, cut: bool) -> dict[str, Traces]:
    """What the fast converter saw, by trace."""
    found: dict[str, Traces] = {MEMBRANE: {}, ADAPTATION: {}}
    period, first = transfer.MADC_PERIOD * setup.wish.speedup, 0
    before = continued(trial)
    began = 0 if before is None else -(-before.cycle * 4 // 17)  # 34 ns are 17 / 4 cycles
    number = np.arange(began, began + out.madc.shape[1])
    lifts = {MEMBRANE: lower.lift_fast, ADAPTATION: lower.lift_adaptation}
    for (trace, name), neurons in fast:
        reading = out.madc[:, :, first : first + len(neurons)]
        first += len(neurons)
        value = torch.from_numpy(lifts[trace](reading, _scale(setup, trial.network, name), np.array(neurons)))
        at = _nearest(getattr(trial.observe, trace)[name], trial.duration, period, number, cut)
        time = torch.from_numpy(number)[at].to(torch.float64) * period
        found[trace][name] = Samples(time, torch.tensor(neurons), value[:, at])
    return found


def _scale(setup: Setup, network: Network, name: str) -> lower.Scale:
    return setup.scales[site_key(*network.place("observe", name))]


def _nearest(given: When, duration: float, period: float, number: NDArray[np.int64], cut: bool) -> Tensor:
    """Which of the samples, made every ``period`` seconds, are nearest to those that were asked for.

    number: (T,), which of all samples they are.  cut: whether the run goes on from, or may be gone on from: then a
    sample is chosen whatever the run's ends are, else the last one stands for those that were not made any more.
    """
    count = len(number)
    if not cut:
        nearest = (times_of(given, duration) / period).round().to(torch.int64)
        return nearest.clamp(max=max(count - 1, 0)).unique()[:count]
    assert isinstance(given, Every)
    if not count:
        return torch.zeros(0, dtype=torch.int64)
    ends = (np.array([number[0] - 1, number[-1] + 1]) * period / given.period).astype(np.int64)
    wanted = np.arange(max(ends[0] - 1, 0), ends[1] + 2) * given.period / period
    return torch.from_numpy(np.flatnonzero(np.isin(number, np.rint(wanted).astype(np.int64))))


ADAPTATION, MEMBRANE = "adaptation", "membrane"
Fast = tuple[tuple[tuple[str, str], tuple[int, ...]], ...]


def watched(observe: Observe, speedup: float) -> tuple[tuple[str, ...], Fast]:
    """What the column ADC looks at, and the neurons of others (trace and name) that the fast one does.

    A chip samples in its own time.
    """
    slow, fast = set(observe.peak), dict[tuple[str, str], tuple[int, ...]]()
    wishes = [(trace, *each) for trace in (MEMBRANE, ADAPTATION) for each in getattr(observe, trace).items()]
    for trace, name, given in wishes:
        if isinstance(given, Tensor):
            raise CannotObserve("a chip's converters sample in their own time", where=f"{trace} of {name!r}")
        often = given.period < CADC_PERIOD_MIN * CYCLE * speedup * (1 - 1e-9)
        if given.neurons and (often or trace == ADAPTATION):
            fast[trace, name] = given.neurons
        else:
            slow.add(name)
    return tuple(sorted(slow)), tuple(sorted(fast.items()))
