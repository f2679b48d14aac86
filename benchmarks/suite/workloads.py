"""The workloads by name, and where their problems are kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

from building import TAU, Workload, made, substrate_of
from inputs import digits, points, poisson, speech
from laws import OF_LAWS
from problem import Shape

CACHE = Path(__file__).parents[2] / "build" / "bench"
VERSION = 2  # of what makes problems, beside what describes them: one made with another is not used


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
        Shape((70, 186, 20), **TAU, duration=1.0, batch=20, many=20, recurrent=True),
        speech(3000.0),
        (600.0,),
        (0.02, 0.1),
        samples=40,
        settling=30,
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

EVERY = WORKLOADS | OF_LAWS


def make(name: str, substrate: str = "ideal") -> Path:
    """Where the problem is kept; it is made if it is not there. Spikes are counted where it runs."""
    workload = EVERY[name]
    said = [VERSION, *(value for value in vars(workload).values() if not callable(value))]
    key = hashlib.sha256(repr(said).encode()).hexdigest()[:8]
    path = CACHE / f"{name}-{substrate}-{key}.npz".replace(", ", "-").replace(" ", "-")
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made(workload, substrate_of(substrate, workload)).save(path)
    return path
