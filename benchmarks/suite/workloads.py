"""The workloads: networks and events, with as many hidden spikes per sample as is asked for. Kept in build/bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from inputs import digits, points, poisson, speech
from problem import Array, Batch, Problem, Shape

from spikeloop import LI, LIF, Events, Ideal, Network, OnChip, Substrate, Twin, feedforward, psp_peak, recurrent, run

CACHE = Path(__file__).parents[2] / "build" / "bench"
VERSION = 2  # of what is below and in inputs.py: problems made with another one are not used
SETTLING = 1000  # samples that weights are scaled on
CLOSE = 0.01  # of the hidden spikes asked for
TAU = {"tau_mem": 20e-3, "tau_syn": 5e-3}


@dataclass(frozen=True)
class Workload:
    """What is run, and on how many samples.

    spikes: of each hidden layer, per sample.  amplitude: mean and spread of the weights into hidden layers before they
    are scaled.  rows_per_input: on the twin of a chip.
    """

    what: str
    shape: Shape
    events: Callable[[Shape, int], Batch]
    spikes: tuple[float, ...]
    amplitude: tuple[float, float] = (0.08, 0.15)
    samples: int = 2000
    rows_per_input: int = 1


def _chip(spikes: float) -> Workload:
    shape = Shape((256, 246, 10), **TAU, duration=30e-3, batch=100, many=1000)
    return Workload(f"MNIST 16x16, 256-246-10 LI, {spikes:g} hidden spikes", shape, digits, (spikes,))


def _yin_yang(readout: bool) -> Workload:
    shape = Shape((5, 120, 3), **TAU, duration=50e-3, batch=100, many=1000, readout=readout)
    what = "Yin-Yang 5-120-3" + (" LI" if readout else "")
    return Workload(what, shape, points, (100.0,), (1.5, 0.78), rows_per_input=5)


WORKLOADS = {
    "W1": _yin_yang(readout=False),
    "W1-LI": _yin_yang(readout=True),
    "W2": _chip(20.0),
    "W2-140": _chip(140.0),
    "W2-inputs": Workload(
        "ten times the inputs, 2560-246-10 LI",
        Shape((2560, 246, 10), **TAU, duration=30e-3, batch=100, many=500),
        poisson(800.0, until=25e-3),
        (140.0,),
        (0.01, 0.05),
        samples=1000,
    ),
    "W3": Workload(
        "speech-like, 70-186 recurrent-20 LI, 1 s",
        Shape((70, 186, 20), **TAU, duration=1.0, batch=100, many=200, recurrent=True),
        speech(3000.0),
        (600.0,),
        (0.02, 0.1),
        samples=200,
    ),
    "W4": Workload(
        "wide, MNIST 784-2048-2048-10 LI",
        Shape((784, 2048, 2048, 10), **TAU, duration=30e-3, batch=100, many=200),
        digits,
        (200.0, 200.0),
        (0.03, 0.1),
        samples=400,
    ),
    "W5": Workload(
        "sparse, 1024-1024-10 LI, 20 events",
        Shape((1024, 1024, 10), **TAU, duration=30e-3, batch=100, many=1000),
        poisson(20.0, until=20e-3),
        (10.0,),
        (0.3, 0.5),
    ),
    "W6": Workload(
        "long, 64-128-10 LI, 10 s",
        Shape((64, 128, 10), **TAU, duration=10.0, batch=20, many=100),
        poisson(3200.0, until=10.0),
        (500.0,),
        (0.1, 0.3),
        samples=100,
    ),
}


def substrate_of(name: str, workload: Workload) -> Substrate:
    """Where it runs: "ideal", "twin" (of chip 7) or "twin, no noise"."""
    if name == "ideal":
        return Ideal()
    return OnChip(Twin(7, noise=0.0 if "no noise" in name else 1.0), rows_per_input=workload.rows_per_input)


def make(name: str, substrate: str = "ideal") -> Path:
    """Where the problem is kept; it is made if it is not there. Spikes are counted where it runs."""
    path = CACHE / f"{name}-{substrate.replace(', ', '-').replace(' ', '-')}-{VERSION}.npz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        workload = WORKLOADS[name]
        made(workload, substrate_of(substrate, workload)).save(path)
    return path


def made(workload: Workload, substrate: Substrate) -> Problem:
    """A problem of as many hidden spikes as is asked for."""
    problem = Problem(workload.shape, *_weights(workload), workload.events(workload.shape, workload.samples), [])
    for layer in range(len(workload.spikes)):
        problem.spikes.append(_settle(problem, workload, layer, substrate))
    return problem


def _weights(workload: Workload) -> tuple[list[Array], list[Array]]:
    """Weights from layer to layer and loops of hidden layers, in units of what brings the membrane to the threshold."""
    shape, rng = workload.shape, np.random.default_rng(1)
    peak, hidden = psp_peak(shape.tau_mem, shape.tau_syn), len(shape.sizes) - 2
    last = (0.0, 0.2) if shape.readout else (0.93 * 200 / shape.sizes[-2], 0.1)
    weights = [
        _normal(rng, workload.amplitude, sizes, peak) for sizes in zip(shape.sizes, shape.sizes[1:-1], strict=False)
    ]
    weights.append(_normal(rng, last, shape.sizes[-2:], peak))
    sides = shape.sizes[1 : hidden + 1] if shape.recurrent else ()
    return weights, [_normal(rng, (0.0, 0.3 / side**0.5), (side, side), peak) for side in sides]


def _normal(rng: np.random.Generator, amplitude: tuple[float, float], size: tuple[int, ...], unit: float) -> Array:
    return (unit * rng.normal(*amplitude, size)).astype(np.float32)


def _settle(problem: Problem, workload: Workload, layer: int, substrate: Substrate) -> float:
    """Scale, in place, the weights into a hidden layer until it spikes as often as is asked for: how often that is."""
    shape, wanted = problem.shape, workload.spikes[layer]
    batch = next(problem.batches(min(SETTLING, len(problem.events.label))))
    drive, unscaled, low, high = events_of(batch, shape.sizes[0]), problem.weights[layer].copy(), 2.0**-6, 2.0**6
    for _ in range(30):
        problem.weights[layer][:] = unscaled * np.float32((low * high) ** 0.5)
        with torch.no_grad():
            record = run(network_of(problem), drive, shape.duration, substrate=substrate, number=0)
        found = record.spikes[hidden(shape)[layer]].time.shape[0] / len(drive)
        if abs(found - wanted) < CLOSE * wanted:
            return found
        low, high = ((low * high) ** 0.5, high) if found < wanted else (low, (low * high) ** 0.5)
    raise RuntimeError(f"{workload.what}: {found} spikes in hidden layer {layer}, not {wanted}")


def hidden(shape: Shape) -> list[str]:
    """What `feedforward` calls the hidden layers."""
    layers = len(shape.sizes) - 2
    return ["hidden"] if layers == 1 else [f"hidden{k + 1}" for k in range(layers)]


def network_of(problem: Problem, dtype: torch.dtype = torch.float32) -> Network:
    """As a network of spikeloop."""
    shape = problem.shape
    times = {"tau_mem": shape.tau_mem, "tau_syn": shape.tau_syn}
    readout = LI(**times) if shape.readout else None
    weights, loops = ([torch.tensor(w, dtype=dtype) for w in some] for some in (problem.weights, problem.loops))
    if shape.recurrent:
        return recurrent(shape.sizes, LIF(**times), readout=readout, weight=weights, recurrent_weight=loops)
    return feedforward(shape.sizes, LIF(**times), readout=readout, weight=weights)


def events_of(batch: Batch, size: int) -> Events:
    """As events of spikeloop."""
    return Events(*(torch.from_numpy(part) for part in (batch.time, batch.unit, batch.start)), size)
