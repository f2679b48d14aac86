"""Offsets of plastic drivers' ramps: measured through ``Chip.emulate`` alone, and the codes that undo them.

A rested driver with the smallest U that depresses makes a pulse of length 1 - U + o, one without plasticity of 1: the
ratio of the potentials, over all columns of a half, is free of gains, synapses and the driver's own strength.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from spikeloop._files import read_checked, write_checked
from spikeloop.chip.allocation import ONE_BUS, PER_BUS
from spikeloop.chip.calibration import VERSION, default_target, uncalibrated
from spikeloop.chip.configuration import (
    BUSES,
    CADC_PERIOD_MIN,
    CIRCUITS,
    COLUMNS,
    DRIVERS,
    HALVES,
    LINKS,
    ROWS,
    AddressedEvents,
    Chip,
    Configuration,
    Instruments,
    Integers,
    Routing,
)
from spikeloop.chip.drivers import OFFSET_NEUTRAL, OFFSET_STEP, STP_CODE_MAX, Drivers, utilisation

Float = NDArray[np.float64]

_LABEL, _WEIGHT, _TRIAL = 1, 40, 1 << 22
_FORMAT, _KEPT = "spikeloop.chip.drivers", "offset"
_BEFORE, _SAMPLES = 3, 14  # samples of the column ADC before the event, and in all


def calibrate_drivers(chip: Chip) -> Integers:
    """(2, 128) codes of the ramps' offsets."""
    low = Drivers(
        plastic=np.ones((HALVES, DRIVERS), bool), utilisation=np.zeros((HALVES, DRIVERS), np.uint8),
        recovery_clock=np.array([STP_CODE_MAX], np.uint8),
    )  # fmt: skip
    plastic, plain = (_heights(chip, drivers) for drivers in (low, Drivers()))
    off = plastic / plain - (1 - utilisation(np.zeros(1, np.uint8)))
    return np.clip(np.rint(OFFSET_NEUTRAL + off / OFFSET_STEP), 0, STP_CODE_MAX).astype(np.uint8)


def save_offsets(path: str | os.PathLike[str], offset: Integers) -> None:
    """Write a .npz that `load_offsets` reads."""
    write_checked(path, _FORMAT, VERSION, {_KEPT: offset})


def load_offsets(path: str | os.PathLike[str]) -> Integers:
    """From a file of `save_offsets`. Raises ``DataError`` where it is missing, damaged, foreign or newer."""
    return read_checked(path, _FORMAT, VERSION, (_KEPT,), "calibrate anew")[_KEPT]


def _heights(chip: Chip, drivers: Drivers) -> Float:
    """(2, 128) steps: the mean potential of a half's circuits after one event of each driver, one driver a run."""
    watch = Instruments(np.array([CADC_PERIOD_MIN], np.int32), np.arange(CIRCUITS, dtype=np.int16))
    weight = np.tile(np.array([_WEIGHT, 0], np.uint8)[:, None], (HALVES, ROWS // 2, COLUMNS))
    configuration = Configuration(weight, _routing(), uncalibrated(default_target()), watch, drivers=drivers)
    driver = np.arange(DRIVERS)
    address = ONE_BUS << 14 | driver // PER_BUS << 11 | driver % PER_BUS << 6 | _LABEL
    events = AddressedEvents(np.full(DRIVERS, _BEFORE * CADC_PERIOD_MIN), address, np.arange(DRIVERS + 1), trial=_TRIAL)
    reading = chip.emulate(configuration, events, _SAMPLES * CADC_PERIOD_MIN).cadc.astype(np.float64)
    before, after = reading[:, :_BEFORE].mean(1), reading[:, _BEFORE + 1 :].mean(1)
    return (after - before).reshape(DRIVERS, HALVES, COLUMNS).mean(2).T


def _routing() -> Routing:
    """Every driver has an address of its own, in both halves; excitatory rows alone answer."""
    link_mask, link_target = np.zeros((LINKS, 2 * BUSES), np.uint16), np.full((LINKS, 2 * BUSES), 0x3FFF, np.uint16)
    link_mask[ONE_BUS], link_target[ONE_BUS] = 3 << 11, np.tile(np.arange(BUSES), 2) << 11
    return Routing(
        label=np.full((HALVES, ROWS, COLUMNS), _LABEL, np.uint8),
        row_sign=np.tile(np.array([1, -1], np.int8), (HALVES, DRIVERS)),
        link_mask=link_mask,
        link_target=link_target,
    )
