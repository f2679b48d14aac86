"""A chip as a substrate: lower, emulate, lift."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.chip import lower
from spikeloop.chip.calibrate import VERSION, Calibration, calibrate
from spikeloop.chip.configuration import (
    CADC_PERIOD_MIN,
    CIRCUITS,
    CYCLE,
    Analog,
    Chip,
    Configuration,
    Instruments,
    Readout,
)
from spikeloop.chip.mapping import Placement, place
from spikeloop.chip.wiring import circuits_of
from spikeloop.errors import CannotObserve, OutOfRange, Unsupported
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.neuron import LIF
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Cost, Lowering, Peak, Record, Samples


@dataclass(frozen=True)
class OnChip:
    """Runs networks on ``chip``, at ``speedup`` model seconds per chip second.

    rows_per_input: how many row pairs each input line takes; one event can then add that many times the largest weight.
    calibration: the codes to use; without one the chip is calibrated on first use for the time constants asked for,
    and that is kept. Membranes are sampled by the column ADC, every 1.7 us of chip time at best; peaks are those of the
    samples. ``trial.number`` chooses the draw of a twin's noise; without one every run is another.
    """

    chip: Chip
    speedup: float = 1000.0
    rows_per_input: int = 1
    calibration: Calibration | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.speedup < float("inf"):
            raise OutOfRange(f"speedup is {self.speedup}", where="OnChip", expected="model seconds per chip second")

    def __repr__(self) -> str:
        given = "" if self.calibration is None else ", calibrated"
        return f"OnChip({self.chip!r}, speedup={self.speedup:g}, rows_per_input={self.rows_per_input}{given})"

    @property
    def period(self) -> float:
        """Model seconds between samples of the column ADC, at best."""
        return CADC_PERIOD_MIN * CYCLE * self.speedup

    def offers(self, network: Network) -> Observe:
        """Every membrane and its highest sample, every 1.7 us of chip time at best; no state."""
        names = [name for name, population in network.populations.items() if population.kind is not None]
        return Observe({name: Every(self.period) for name in names}, frozenset(names))

    def run(self, trial: Trial) -> Record:
        """Carry out ``trial``."""
        began = time.perf_counter()
        if trial.start is not None:
            raise Unsupported("a chip cannot continue from a state", where=repr(self), todo="Leave out start=")
        number = next(self._numbers) if trial.number is None else trial.number
        setup = _setup(self, trial.network)
        lowered = lower.lower_weights(trial.network, setup.placement, setup.scales)
        events = lower.lower_events(trial.drive, setup.placement, self.speedup, setup.muted(trial), number)
        instruments = setup.instruments(trial.observe)
        configuration = Configuration(lowered.weight, setup.placement.routing, setup.analog, instruments)
        cycles = max(1, int(np.floor(trial.duration / (self.speedup * CYCLE) + 1e-6)))
        out = self.chip.emulate(configuration, events, cycles)
        spikes = setup.spikes(trial, out, self.speedup)
        membrane, peak = setup.membranes(trial, out, self.speedup)
        lost = int(out.lost.sum())
        cost = Cost(
            wall_time=time.perf_counter() - began,
            chip_time=trial.duration / self.speedup,
            spikes=len(out.cycle),
            events_lost=lost,
        )
        lowering = Lowering(lowered.clipped, setup.masked, lost, setup.places, setup.name)
        record_number = trial.number if trial.number is not None else number
        return Record(
            {**trial.drive, **spikes}, trial.duration, membrane=membrane, peak=peak, executed=lowered.executed,
            number=record_number, lowering=lowering, cost=cost,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Setup:
    """What stays the same from run to run of a network."""

    placement: Placement
    calibration: Calibration
    analog: Analog
    scales: dict[str, lower.Scale]
    masked: int
    places: dict[str, Tensor]
    name: str
    watch: dict[tuple[str, ...], Instruments] = field(default_factory=dict)

    def muted(self, trial: Trial) -> NDArray[np.bool_]:
        """(B, 512) circuits without events, or (0, 512)."""
        batch = len(next(iter(trial.drive.values())))
        muted = np.zeros((batch if trial.silent else 0, CIRCUITS), bool)
        for name, silent in trial.silent.items():
            muted[:, self.placement.circuit[name][:, 0]] = silent.numpy()
        return muted

    def instruments(self, observe: Observe) -> Instruments:
        """The column ADC as fast as it goes, for the populations that are asked for."""
        names = watched(observe)
        if names not in self.watch:
            heads = [self.placement.circuit[name][:, 0] for name in names]
            circuit = np.concatenate([np.zeros(0, np.int64), *heads]).astype(np.int16)
            period = np.array([CADC_PERIOD_MIN if names else 0], np.int32)
            self.watch[names] = Instruments(period, circuit, self.calibration.cadc_offset)
        return self.watch[names]

    def spikes(self, trial: Trial, out: Readout, speedup: float) -> dict[str, Events]:
        """Events of every spiking population."""
        circuit = circuits_of(self.placement.routing, out.address)
        found = lower.lift_events(out.cycle, circuit, out.start, self.placement, speedup)
        return {name: events for name, events in found.items() if trial.network.populations[name].spiking}

    def membranes(self, trial: Trial, out: Readout, speedup: float) -> tuple[dict[str, Samples], dict[str, Peak]]:
        """Samples, of those that were made the nearest to what was asked for, and highest samples, in model units."""
        membrane, peak = dict[str, Samples](), dict[str, Peak]()
        seconds = torch.from_numpy(out.cadc_cycle * (CYCLE * speedup))
        first = 0
        for name in watched(trial.observe):
            head = self.placement.circuit[name][:, 0]
            reading = out.cadc[:, :, first : first + len(head)].astype(np.float64)
            first += len(head)
            steps = 128 + (reading - 128) / self.calibration.cadc_gain[head]
            value = torch.from_numpy(lower.lift_potential(steps, self.scales[name], np.arange(len(head))))
            if name in trial.observe.membrane:
                unit = trial.observe.neurons(name, len(head))
                nearest = (trial.observe.times(name, trial.duration) / (CADC_PERIOD_MIN * CYCLE * speedup)).round()
                at = nearest.to(torch.int64).clamp(max=max(seconds.shape[1] - 1, 0)).unique()[: seconds.shape[1]]
                membrane[name] = Samples(seconds[:, at], unit, value[:, at][:, :, unit])
            if name in trial.observe.peak:
                highest, when = value.max(1)
                peak[name] = Peak(torch.gather(seconds, 1, when), highest)
        return membrane, peak


def watched(observe: Observe) -> tuple[str, ...]:
    """The populations whose membranes are looked at; a chip samples in its own time."""
    for name, given in observe.membrane.items():
        if isinstance(given, Tensor):
            raise CannotObserve("the column ADC samples in its own time", where=f"membrane of {name!r}")
    return tuple(sorted({*observe.membrane, *observe.peak}))


_setups: WeakKeyDictionary[Network, dict[object, _Setup]] = WeakKeyDictionary()


def _setup(onchip: OnChip, network: Network) -> _Setup:
    """Placement, calibration and scales; made anew when a neuron's parameter changed."""
    placement = _placement(network, onchip.rows_per_input)
    target = lower.target_of(network, placement, onchip.speedup)
    key = (
        repr(onchip.chip),
        id(onchip.chip),
        id(onchip.calibration),
        onchip.rows_per_input,
        onchip.speedup,
        target.key(),
    )
    known = _setups.setdefault(network, {})
    if key not in known:
        calibration = onchip.calibration or _calibrated(onchip.chip, _Wanted(target))
        _check(calibration, onchip.chip)
        known[key] = _made(network, placement, calibration, onchip.speedup)
    return known[key]


def _placement(network: Network, rows_per_input: int) -> Placement:
    known = _placements.setdefault(network, {})
    if rows_per_input not in known:
        known[rows_per_input] = place(network, rows_per_input)
    return known[rows_per_input]


_placements: WeakKeyDictionary[Network, dict[int, Placement]] = WeakKeyDictionary()


def _check(calibration: Calibration, chip: Chip) -> None:
    if calibration.chip != repr(chip) or calibration.version != VERSION:
        raise OutOfRange(
            f"the calibration is of {calibration.chip}, version {calibration.version}",
            where="OnChip",
            expected=f"one of {chip!r}, version {VERSION}",
            todo="Calibrate this chip: calibrate(chip, target), or leave calibration out",
        )


def _made(network: Network, placement: Placement, calibration: Calibration, speedup: float) -> _Setup:
    spiking = np.zeros(CIRCUITS, bool)
    used = np.concatenate([circuit.ravel() for circuit in placement.circuit.values()])
    for name, circuit in placement.circuit.items():
        spiking[circuit[:, 0]] = network.populations[name].kind is LIF
    scales = {name: lower.scale_of(network.populations[name], speedup) for name in placement.circuit}
    places = {name: torch.from_numpy(circuit) for name, circuit in placement.circuit.items()}
    analog = replace(calibration.analog, fires=spiking)
    masked = int((~calibration.success[used]).sum())
    name = f"{calibration.chip}, version {calibration.version}"
    return _Setup(placement, calibration, analog, scales, masked, places, name)


class _Wanted:
    """A target that hashes by its values."""

    def __init__(self, target: lower.Target) -> None:
        self.target, self.key = target, target.key()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Wanted) and self.key == other.key


@lru_cache(maxsize=32)
def _calibrated(chip: Chip, wanted: _Wanted) -> Calibration:
    return calibrate(chip, wanted.target, lambda doing: _show(f"calibrating {chip!r}: {doing}"))


def _show(text: str) -> None:
    """A line of progress, where somebody looks."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
