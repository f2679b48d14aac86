"""From a description of a workload to a `Problem`, and from that to a network and events of spikeloop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from problem import Array, Batch, Problem, Shape

import spikeloop
from spikeloop import LI, LIF, Events, Ideal, Network, Substrate, feedforward, psp_peak, recurrent, run

CLOSE = 0.01  # of the hidden spikes asked for
TAU = {"tau_mem": 20e-3, "tau_syn": 5e-3}


@dataclass(frozen=True)
class Workload:
    """What is run, and on how many samples.

    spikes: of each hidden layer, per sample.  amplitude: mean and spread of the weights into hidden layers before they
    are scaled, on `settling` samples.  rows_per_input: on the twin of a chip.
    """

    what: str
    shape: Shape
    events: Callable[[Shape, int], Batch]
    spikes: tuple[float, ...]
    amplitude: tuple[float, float] = (0.08, 0.15)
    samples: int = 2000
    rows_per_input: int = 1
    settling: int = 1000


def substrate_of(name: str, workload: Workload) -> Substrate:
    """Where it runs: "ideal", "twin" (of chip 7) or "twin, no noise"."""
    if name == "ideal":
        return Ideal()
    twin = spikeloop.Twin(7, noise=0.0 if "no noise" in name else 1.0)  # loaded here: others hold no chip in memory
    return spikeloop.OnChip(twin, rows_per_input=workload.rows_per_input)


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
    batch = next(problem.batches(min(workload.settling, len(problem.events.label))))
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
