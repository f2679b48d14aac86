"""A chip as a substrate: lower, emulate, lift."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeloop.chip import lower
from spikeloop.chip.calibrate import Calibration
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CYCLE, Chip
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Record
from spikeloop.substrate.one_chip import emulated


@dataclass(frozen=True)
class OnChip:
    """Runs networks on ``chip``, at ``speedup`` model seconds per chip second.

    rows_per_input: how many row pairs each input line takes; one event can then add that many times the largest weight.
    calibration: the codes to use; without one the chip is calibrated on first use for the time constants asked for,
    and that is kept, with ``cache`` on disk, too (`spikeloop.chip.store`).  strict: weights beyond the range and failed
    circuits in use are errors, where they are clipped and warned of otherwise; ``record.lowering`` counts them.

    Neurons are placed on circuits that could be calibrated, as far as there are enough. Membranes are sampled by the
    column ADC, every 1.7 us of chip time at best; peaks are those of the samples. ``trial.number`` chooses the draw of
    a twin's noise; without one every run is another.
    """

    chip: Chip
    speedup: float = 1000.0
    rows_per_input: int = 1
    calibration: Calibration | None = None
    strict: bool = False
    cache: bool = True
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
        if trial.start is not None:
            raise Unsupported("a chip cannot continue from a state", where=repr(self), todo="Leave out start=")
        number = next(self._numbers) if trial.number is None else trial.number
        return emulated(trial, setup_of(trial.network, self._wish), number)

    def weight_codes(self, network: Network) -> dict[str, Tensor]:
        """By projection, (S, T) int32: the signed codes of its weights, of a synapse's rows together."""
        setup = setup_of(network, self._wish)
        codes = lower.lower_weights(network, setup.placement, setup.scales, self.strict).codes
        return {name: torch.from_numpy(code) for name, code in codes.items()}

    @property
    def _wish(self) -> Wish:
        return Wish(self.chip, self.speedup, self.rows_per_input, self.calibration, self.strict, self.cache)
