"""Configurations of a chip for tests: every circuit a neuron of its own, all driven by the same rows."""

from dataclasses import replace

import numpy as np

from spikeloop.chip import bench
from spikeloop.chip.calibrate import Target, default_target, uncalibrated
from spikeloop.chip.configuration import CADC_PERIOD_MIN, AddressedEvents, Configuration, Instruments

EXCITATORY, INHIBITORY = bench.SOME, bench.INHIBITORY
ALL_CIRCUITS = np.arange(512, dtype=np.int16)


def configuration(weight: int, rows: int = 1, target: Target | None = None, watch=(), **analog) -> Configuration:
    """Circuits with the laws' codes for ``target``; ``rows`` rows of ``weight`` answer to each of the two labels."""
    codes = replace(uncalibrated(target or default_target()), fires=np.ones(512, bool))
    some = np.full(512, rows)
    instruments = Instruments(np.array([CADC_PERIOD_MIN if len(watch) else 0]), np.array(watch, np.int16))
    return Configuration(
        np.full((2, 256, 256), weight, np.uint8), bench.routing(some, some), replace(codes, **analog), instruments
    )


def events(*runs, trial: int = 0) -> AddressedEvents:
    """One list of (cycle, label) per run."""
    flat = np.array([event for run in runs for event in run], np.int64).reshape(-1, 2)
    return AddressedEvents(flat[:, 0], flat[:, 1], np.cumsum([0, *map(len, runs)]), trial=trial)


def same(one, other) -> bool:
    """Whether two readouts are the same, bit for bit."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
