"""One run of a network that fits on one chip: down to codes, through the chip, and up again."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.chip import lower, transfer
from spikeloop.chip.by_value import locked
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CIRCUITS, CYCLE, Configuration, Instruments, Readout
from spikeloop.chip.setup import Setup
from spikeloop.chip.wiring import circuits_of
from spikeloop.errors import CannotObserve
from spikeloop.events import Events
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Cost, Lowering, Peak, Record, Samples


def emulated(trial: Trial, setup: Setup, draw: int) -> Record:
    """Carry out ``trial`` on the setup's chip; ``draw``: which of the trial-to-trial noise."""
    began, wish = time.perf_counter(), setup.wish
    lowered = lower.lower_weights(trial.network, setup.placement, setup.scales, wish.strict)
    events = lower.lower_events(trial.drive, setup.placement, wish.speedup, _muted(setup, trial), draw)
    instruments = _instruments(setup, trial.observe)
    configuration = Configuration(lowered.weight, setup.placement.routing, setup.analog, instruments)
    cycles = max(1, int(np.floor(trial.duration / (wish.speedup * CYCLE) + 1e-6)))
    out = wish.chip.emulate(configuration, events, cycles)
    spikes = _spikes(setup, trial, out)
    membrane, peak = _membranes(setup, trial, out)
    cost = Cost(
        wall_time=time.perf_counter() - began,
        chip_time=trial.duration / wish.speedup,
        spikes=len(out.cycle),
        events_lost=int(out.lost.sum()),
    )
    return Record(
        {**trial.drive, **spikes}, trial.duration, membrane=membrane, peak=peak, executed=lowered.executed,
        number=draw, lowering=_lowering(setup, lowered, cost.events_lost), cost=cost,
    )  # fmt: skip


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


def _instruments(setup: Setup, observe: Observe) -> Instruments:
    """The column ADC as fast as it goes for the populations that are asked for, the fast one for single neurons."""
    slow, fast = watched(observe, setup.wish.speedup)
    if (slow, fast) not in setup.watch:
        heads = {name: circuit[:, 0] for name, circuit in setup.placement.circuit.items()}
        circuit = np.concatenate([np.zeros(0, np.int64), *(heads[name] for name in slow)]).astype(np.int16)
        single = np.array([heads[name][neuron] for name, neurons in fast for neuron in neurons], np.int16)
        period = np.array([CADC_PERIOD_MIN if slow else 0], np.int32)
        made = Instruments(period, circuit, setup.calibration.cadc_offset, madc_circuit=single)
        setup.watch[slow, fast] = locked(made)
    return setup.watch[slow, fast]


def _spikes(setup: Setup, trial: Trial, out: Readout) -> dict[str, Events]:
    """Events of every spiking population."""
    circuit = circuits_of(setup.placement.routing, out.address)
    populations = trial.network.populations
    spiking = {name: of for name, of in setup.placement.circuit.items() if populations[name].spiking}
    return lower.lift_events(out.cycle, circuit, out.start, spiking, setup.wish.speedup)


def _membranes(setup: Setup, trial: Trial, out: Readout) -> tuple[dict[str, Samples], dict[str, Peak]]:
    """Samples, of those that were made the nearest to what was asked for, and highest samples, in model units."""
    membrane, peak = dict[str, Samples](), dict[str, Peak]()
    cycle = CYCLE * setup.wish.speedup
    seconds = torch.from_numpy(out.cadc_cycle * cycle)
    slow, fast = watched(trial.observe, setup.wish.speedup)
    first = 0
    for name in slow:
        head = setup.placement.circuit[name][:, 0]
        reading, gain = out.cadc[:, :, first : first + len(head)], setup.calibration.cadc_gain[head]
        first += len(head)
        lifted = partial(lower.lift_slow, gain=gain, scale=setup.scales[name], neuron=np.arange(len(head)))
        if name in trial.observe.membrane and name not in dict(fast):
            unit = trial.observe.neurons(name, len(head))
            at = _nearest(trial, name, CADC_PERIOD_MIN * cycle, seconds.shape[1])
            membrane[name] = Samples(seconds[:, at], unit, torch.from_numpy(lifted(reading))[:, at][:, :, unit])
        if name in trial.observe.peak:
            highest, when = torch.from_numpy(reading).max(1)
            peak[name] = Peak(torch.gather(seconds, 1, when), torch.from_numpy(lifted(highest.numpy())))
    first = 0
    for name, neurons in fast:
        reading = out.madc[:, :, first : first + len(neurons)]
        first += len(neurons)
        value = torch.from_numpy(lower.lift_fast(reading, setup.scales[name], np.array(neurons)))
        period = transfer.MADC_PERIOD * setup.wish.speedup
        at = _nearest(trial, name, period, value.shape[1])
        membrane[name] = Samples(at.to(torch.float64) * period, torch.tensor(neurons), value[:, at])
    return membrane, peak


def _nearest(trial: Trial, name: str, period: float, count: int) -> Tensor:
    """Which of ``count`` samples, made every ``period`` seconds, are nearest to those that were asked for."""
    nearest = (trial.observe.times(name, trial.duration) / period).round().to(torch.int64)
    return nearest.clamp(max=max(count - 1, 0)).unique()[:count]


Fast = tuple[tuple[str, tuple[int, ...]], ...]


def watched(observe: Observe, speedup: float) -> tuple[tuple[str, ...], Fast]:
    """The populations that the column ADC looks at, and the neurons of others that the fast one does.

    A chip samples in its own time.
    """
    slow, fast = set(observe.peak), dict[str, tuple[int, ...]]()
    for name, given in observe.membrane.items():
        if isinstance(given, Tensor):
            raise CannotObserve("the column ADC samples in its own time", where=f"membrane of {name!r}")
        if isinstance(given, Every) and given.neurons and given.period < CADC_PERIOD_MIN * CYCLE * speedup * (1 - 1e-9):
            fast[name] = given.neurons
        else:
            slow.add(name)
    return tuple(sorted(slow)), tuple(sorted(fast.items()))
