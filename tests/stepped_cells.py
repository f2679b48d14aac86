"""Populations for the stepped engine's tests, in units where rest is 0 and the threshold 1, and drives for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spikeloop.engine.arrays import Delays, Trains
from spikeloop.engine.stepped import (
    CELL_FIELDS,
    Cells,
    Quantity,
    SteppedAsk,
    SteppedLink,
    SteppedRun,
    SteppedSampling,
    SteppedStage,
    forward,
)

MS = 1e-3
DEFAULTS = {
    "tau_mem": 10 * MS,
    "threshold": 1.0,
    "leak": 0.0,
    "reset": 0.0,
    "refractory": 0.0,
    "slope_factor": 0.0,
    "exponential_threshold": 0.0,
    "tau_adaptation": 0.0,
    "a": 0.0,
    "b": 0.0,
    "capacitance": 1.0,
}
KINDS: dict[str, dict[str, Any]] = {
    "leaky": {"threshold": np.inf},
    "firing": {"refractory": 1.3 * MS},
    "firing from leak": {"leak": 1.2, "reset": -0.3, "refractory": 2 * MS},
    "no leak": {"leaky": False, "tau_syn": 3 * MS},
    "exponential": {"slope_factor": 0.1, "exponential_threshold": 0.7, "threshold": 1.6, "refractory": 0.7 * MS},
    "exponential, high cut": {"slope_factor": 0.08, "exponential_threshold": 0.6, "threshold": 3.0},
    "adapting": {"tau_adaptation": 60 * MS, "a": 0.3, "b": 0.15, "refractory": 1 * MS},
    "facilitating": {"tau_adaptation": 40 * MS, "a": -0.2, "b": -0.1, "refractory": 1 * MS},
    "AdEx": {
        "slope_factor": 0.1,
        "exponential_threshold": 0.7,
        "threshold": 1.5,
        "reset": 0.2,
        "tau_adaptation": 50 * MS,
        "a": 0.2,
        "b": 0.2,
        "refractory": 1 * MS,
    },
    "bursting": {
        "slope_factor": 0.1,
        "exponential_threshold": 0.7,
        "threshold": 1.3,
        "reset": 0.75,
        "tau_adaptation": 50 * MS,
        "a": 0.1,
        "b": 0.35,
    },
    "two receptors": {"tau_syn": [5 * MS, 2 * MS], "refractory": 1 * MS},
    "conductances": {"tau_syn": [5 * MS, 8 * MS], "reversal": [3.5, -0.6], "refractory": 1 * MS},
    "AdEx with conductances": {
        "tau_syn": [5 * MS, 8 * MS],
        "reversal": [3.5, -0.6],
        "slope_factor": 0.1,
        "exponential_threshold": 0.7,
        "threshold": 1.5,
        "tau_adaptation": 50 * MS,
        "a": 0.2,
        "b": 0.2,
    },
    "millivolts": {
        "leak": -70.0,
        "reset": -68.0,
        "threshold": -40.0,
        "slope_factor": 2.0,
        "exponential_threshold": -50.0,
        "tau_adaptation": 100 * MS,
        "a": 0.5,
        "b": 7.0,
        "scale": 20.0,
    },
    "three compartments": {
        "compartments": 3,
        "couplings": [(0, 1), (1, 2)],
        "coupling": [8 * MS, 6 * MS],
        "capacitance": [1.0, 0.7, 0.5],
        "tau_mem": [10 * MS, 12 * MS, 8 * MS],
        "threshold": [1.0, np.inf, np.inf],
        "refractory": [2 * MS, 0, 0],
    },
    "plateau": {
        "compartments": 3,
        "couplings": [(0, 1), (0, 2)],
        "coupling": [10 * MS, 9 * MS],
        "threshold": [1.0, 0.8, 0.9],
        "reset": [-0.2, 2.0, 1.8],
        "refractory": [1.5 * MS, 25 * MS, 18 * MS],
    },
    "five of everything": {
        "compartments": 5,
        "couplings": [(0, 1), (1, 2), (1, 3), (0, 4)],
        "coupling": [9 * MS, 7 * MS, 8 * MS, 11 * MS],
        "threshold": [1.4, np.inf, 0.9, 0.9, np.inf],
        "reset": [0.1, 0.0, 0.0, 2.2, 0.0],
        "refractory": [1 * MS, 0, 1 * MS, 12 * MS, 0],
        "slope_factor": [0.1, 0, 0, 0, 0],
        "exponential_threshold": [0.7, 0, 0, 0, 0],
        "tau_adaptation": [60 * MS, 0, 0, 0, 40 * MS],
        "a": [0.2, 0, 0, 0, 0.4],
        "b": [0.2, 0, 0, 0, 0],
        "tau_syn": [5 * MS, 3 * MS],
        "reversal": [None, -0.5],
    },
}


def cells(kind: str, size: int = 6, spread: float = 0.1, seed: int = 0, name: str = "hidden") -> Cells:
    """``size`` neurons of a kind, each parameter but the potentials drawn within ``spread`` of it."""
    given = KINDS[kind]
    rng = np.random.default_rng(seed)
    count = given.get("compartments", 1)
    values = np.zeros((len(CELL_FIELDS), count, size))
    for row, field in enumerate(CELL_FIELDS):
        value = np.asarray(given.get(field, DEFAULTS[field]), float)
        values[row] = np.broadcast_to(value.reshape(-1, 1), (count, size))
        if field in ("tau_mem", "refractory", "tau_adaptation", "a", "b", "capacitance"):
            values[row] *= rng.uniform(1 - spread, 1 + spread, (count, size))
    tau_syn = np.asarray(given.get("tau_syn", 5 * MS), float).reshape(-1, 1, 1)
    shape = (len(tau_syn), count, size)
    reversal = given.get("reversal", [None] * len(tau_syn))
    reversal = np.array([np.nan if e is None else e for e in reversal], float).reshape(-1, 1, 1)
    couplings = np.array(given.get("couplings", []), np.int32).reshape(-1, 2)
    coupling = np.array(given.get("coupling", []), float).reshape(-1, 1)
    return Cells(
        name,
        values,
        np.full(count, given.get("leaky", True)),
        tau_syn * rng.uniform(1 - spread, 1 + spread, shape),
        np.broadcast_to(reversal, shape).copy(),
        couplings,
        coupling * rng.uniform(1 - spread, 1 + spread, (len(coupling), size)),
    )


def drive(batch: int, inputs: int, duration: float, rate: float, seed: int = 0) -> Trains:
    """Poisson trains of ``rate`` Hz."""
    rng = np.random.default_rng(seed)
    times, units, start = [], [], [0]
    for _ in range(batch):
        count = rng.poisson(rate * inputs * duration)
        time = np.sort(rng.uniform(0, duration, count))
        times.append(time)
        units.append(rng.integers(0, inputs, count).astype(np.int32))
        start.append(start[-1] + count)
    return np.concatenate(times), np.concatenate(units), np.array(start, np.int64)


def links(target: Cells, inputs: int, scale: float = 1.0, seed: int = 0, dtype: Any = np.float64) -> list[SteppedLink]:
    """Dense projections from ``input`` to every receptor of every compartment: the first mostly excites."""
    rng = np.random.default_rng(seed)
    made = []
    for receptor in range(target.receptors):
        for compartment in range(target.compartments):
            weight = rng.normal(0.5 if receptor == 0 else 0.2, 0.3, (inputs, target.size)) * scale
            if not np.isnan(target.reversal[receptor, compartment, 0]):
                sign = np.sign(target.reversal[receptor, compartment, 0] - target.field("leak")[compartment, 0])
                weight = np.abs(weight) * (1.5 if sign > 0 else -0.3)
            place = (receptor, compartment)
            made.append(
                SteppedLink(
                    f"{place}",
                    "input",
                    target.name,
                    weight.astype(dtype),
                    np.array([0.3 * MS]),
                    Delays.COMMON,
                    receptor=receptor,
                    compartment=compartment,
                )
            )
    return made


def everything(target: Cells, batch: int, times: Any, compartment: int = 0) -> tuple[SteppedSampling, ...]:
    """Samples of all three quantities of one compartment of all neurons."""
    unit = np.arange(target.size, dtype=np.int32)
    where = np.full(target.size, compartment, np.int32)
    time = np.atleast_2d(times)
    value = (batch, time.shape[1], target.size)
    return tuple(SteppedSampling(time, unit, where, np.full(value, np.nan), quantity) for quantity in Quantity)


def run_one(
    target: Cells,
    projections: Sequence[SteppedLink],
    trains: Mapping[str, Trains],
    run: SteppedRun,
    ask: SteppedAsk,
    dtype: Any = np.float64,
) -> Trains:
    """The spikes of a single population."""
    stage = SteppedStage((target,), tuple(projections), np.dtype(dtype))
    return forward(stage, trains, run, {target.name: ask})[target.name]


def train_of(trains: Trains, sample: int, unit: int) -> Any:
    """Spike times of one neuron."""
    time, who, start = trains
    some = slice(start[sample], start[sample + 1])
    return time[some][who[some] == unit]
