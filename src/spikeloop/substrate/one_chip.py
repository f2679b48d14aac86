"""One run of a network that fits on one chip: down to codes, through the chip, and up again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip import lower_inputs, scales, tasks
from spikeloop.chip.configuration import CIRCUITS, CYCLE, Configuration, Readout
from spikeloop.chip.host import Backlog, Continued, addressed, send
from spikeloop.chip.inputs import Switching
from spikeloop.chip.learning import Processed
from spikeloop.chip.lower_events import lift_events, lower_events
from spikeloop.chip.lower_weights import Lowered
from spikeloop.chip.ppu import Executed
from spikeloop.chip.sensing import sensors_of
from spikeloop.chip.setup import Setup, strength_of_currents
from spikeloop.events import Events
from spikeloop.plasticity.memory import PART as LEARNED
from spikeloop.plasticity.memory import Learned, learned_of
from spikeloop.protocols import Trial
from spikeloop.record import Calls, Cost, Lowering, Record, Recorded, State
from spikeloop.substrate.chip_state import PART, continued
from spikeloop.substrate.converters import instruments_of, membranes_of
from spikeloop.substrate.recordings import Seen, side_by_side


def emulated(trial: Trial, setup: Setup, draw: int) -> Record:
    """Carry out ``trial`` on the setup's chip; ``draw``: which of the trial-to-trial noise."""
    began, wish, network = time.perf_counter(), setup.wish, trial.network
    before = continued(trial)
    draw = draw if before is None else before.number
    lowered = setup.latest.lowered(network, setup.placement, setup.scales, wish.strict)
    instruments = instruments_of(setup, network, trial.observe)
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
    membrane, peak, adaptation = membranes_of(setup, trial, out)
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
    return record._with(
        state=State(time=trial.end, parts=parts) if trial.observe.state else None,
        **({} if learned is None else learned[1]),
    )


def _run(
    trial: Trial, setup: Setup, configuration: Configuration, before: Continued | None,
    given: tuple[int, Switching | None],
) -> tuple[Readout, Continued | None]:  # fmt: skip
    """What the chip read, and where it was left; given: the draw of its noise, and how currents are switched."""
    draw, currents = given
    wish, network = setup.wish, trial.network
    keep = trial.observe.state or before is not None
    first = 0 if before is None else before.cycle
    last = max(first + 1, scales.cycle_at(trial.end, wish.speedup * CYCLE))
    muted = _muted(setup, trial)
    if not keep and not network.programs and currents is None:
        events = lower_events(trial.drive, setup.placement, wish.speedup, muted, draw)
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
            seen = [_seen(setup, log, [codes[name] * unit for codes in log.history]) for log in logs]
            found[name] = side_by_side(seen, done[0].learning.code[program, name].shape)
    return found


def _recorded(setup: Setup, logs: Sequence[Executed]) -> dict[str, Recorded]:
    """By name, (U, B, ...): the calls in which some run recorded it."""
    names = {name for log in logs for call in log.recorded for name in call}
    return {
        name: side_by_side([_seen(setup, log, [call.get(name) for call in log.recorded]) for log in logs])
        for name in sorted(names)
    }


def _seen(setup: Setup, log: Executed, values: Sequence[NDArray[Any] | None]) -> Seen:
    """By the cycle at which a call was due; None: nothing was seen in it."""
    cycle = CYCLE * setup.wish.speedup
    calls = zip(log.due, log.time, values, strict=True)
    return {due: (time * cycle, value) for due, time, value in calls if value is not None}


def _calls(logs: Sequence[Executed]) -> Calls:
    cycles = [took for log in logs for took in log.cycles]
    late, skipped, saturated = (sum(getattr(log, what) for log in logs) for what in ("late", "skipped", "saturations"))
    return Calls(len(cycles), late, skipped, max(cycles, default=0) * CYCLE, saturated)


def _lowering(setup: Setup, lowered: Lowered, dropped: int) -> Lowering:
    circuit = setup.placement.circuit.items()
    return Lowering(
        clipped=lowered.clipped,
        rounded=lowered.rounded,
        rounding=lowered.rounding,
        placed=setup.placed,
        failed=setup.failed,
        masked=setup.masked,
        dropped=dropped,
        placement={name: torch.from_numpy(of) for name, of in circuit},
        run={name: torch.from_numpy(np.zeros(len(of), np.int64)) for name, of in circuit},
        calibration=f"{setup.calibration.chip}, version {setup.calibration.version}",
    )


def _muted(setup: Setup, trial: Trial) -> NDArray[np.bool_]:
    """(B, 512) circuits without events, or (0, 512)."""
    batch = trial.batch
    muted = np.zeros((batch if trial.silent else 0, CIRCUITS), bool)
    for name, silent in trial.silent.items():
        muted[:, setup.placement.circuit[name][:, 0]] = silent.numpy()
    return muted


def _spikes(setup: Setup, trial: Trial, out: Readout) -> dict[str, Events]:
    """Events of every spiking population."""
    populations = trial.network.populations
    spiking = {name: of for name, of in setup.placement.circuit.items() if populations[name].spiking}
    return lift_events(out.cycle, out.address, out.start, spiking, setup.wish.speedup, setup.placement.sender)
