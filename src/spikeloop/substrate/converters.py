"""What a chip's converters look at for a trial, and its samples and peaks from what they read."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.chip import lower_events, transfer
from spikeloop.chip.by_value import locked
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CYCLE, MADC_NEURONS, Instruments, Readout
from spikeloop.chip.mapping import site_key
from spikeloop.chip.scales import Scale
from spikeloop.chip.setup import Setup
from spikeloop.engine.codes import highest
from spikeloop.errors import CannotObserve
from spikeloop.network import Network
from spikeloop.observe import When, times_of
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Peak, Samples
from spikeloop.substrate.chip_state import continued

ADAPTATION, MEMBRANE = "adaptation", "membrane"
Fast = tuple[tuple[tuple[str, str], tuple[int, ...]], ...]
Traces = dict[str, Samples]


def _heads(setup: Setup, network: Network, name: str) -> NDArray[np.int64]:
    """(N,): the circuits whose membranes are those of "population" or "population.compartment"."""
    return setup.placement.site[site_key(*network.place("observe", name))][:, 0]


def instruments_of(setup: Setup, network: Network, observe: Observe) -> Instruments:
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


def membranes_of(setup: Setup, trial: Trial, out: Readout) -> tuple[Traces, dict[str, Peak], Traces]:
    """Samples, of those that were made the nearest to what was asked for, and highest samples, in model units."""
    membrane, peak = Traces(), dict[str, Peak]()
    cycle, network = CYCLE * setup.wish.speedup, trial.network
    cut = trial.observe.state or trial.start is not None
    number = _numbers(trial, out)
    slow, fast = watched(trial.observe, setup.wish.speedup)
    first = 0
    for name in slow:
        head, scale = _heads(setup, network, name), _scale(setup, network, name)
        reading, gain = out.cadc[:, :, first : first + len(head)], setup.calibration.cadc_gain[head]
        first += len(head)
        lifted = partial(lower_events.lift_slow, gain=gain, scale=scale, neuron=np.arange(len(head)))
        if name in trial.observe.membrane and (MEMBRANE, name) not in dict(fast):
            unit = trial.observe.neurons(name, len(head))
            at = _nearest(trial.observe.membrane[name], trial.duration, CADC_PERIOD_MIN * cycle, number, cut)
            value = torch.from_numpy(lifted(reading))[:, at][:, :, unit]
            membrane[name] = Samples(torch.from_numpy(out.cadc_cycle * cycle)[:, at], unit, value)
        if name in trial.observe.peak and reading.shape[1]:
            most, which = highest(reading, torch.get_num_threads())
            which += reading.shape[1] * np.arange(len(which))[:, None]
            time = out.cadc_cycle.take(which) * cycle
            peak[name] = Peak(torch.from_numpy(time), torch.from_numpy(lifted(most)))
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
    lifts = {MEMBRANE: lower_events.lift_fast, ADAPTATION: lower_events.lift_adaptation}
    for (trace, name), neurons in fast:
        reading = out.madc[:, :, first : first + len(neurons)]
        first += len(neurons)
        value = torch.from_numpy(lifts[trace](reading, _scale(setup, trial.network, name), np.array(neurons)))
        at = _nearest(getattr(trial.observe, trace)[name], trial.duration, period, number, cut)
        time = torch.from_numpy(number)[at].to(torch.float64) * period
        found[trace][name] = Samples(time, torch.tensor(neurons), value[:, at])
    return found


def _scale(setup: Setup, network: Network, name: str) -> Scale:
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
