"""What the machine can do at most: roofline.cpp and solves.cpp, compiled for it and timed."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "bench"
REPEATS = 9
VECTOR = 64  # bytes
IN_L1 = (16, 8, 500)  # rows, vectors of a row, events of a sample: 8 kB of weights


@dataclass(frozen=True)
class Layer:
    """What arrives at one population: times, units, starts and weights (source, target) of each source."""

    sources: list[tuple[Any, Any, Any, Any]]
    size: int


@cache
def library(name: str) -> ctypes.CDLL:
    """`name`.cpp as a shared library, for this very machine."""
    source = HERE / f"{name}.cpp"
    command = [
        "g++",
        "-std=c++20",
        "-O3",
        "-march=native",
        "-shared",
        "-fPIC",
        "-DSPIKELOOP_TARGETS=1",
        f"-I{ROOT / 'cpp'}",
    ]
    texts = [source, *sorted((ROOT / "cpp").glob("*.[hi][pn]*"))]
    key = hashlib.sha256(b"".join(text.read_bytes() for text in texts)).hexdigest()[:16]
    path = BUILD / f"{name}-{key}.so"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        subprocess.run([*command, str(source), "-o", str(part)], check=True, capture_output=True)
        part.rename(path)
    return ctypes.CDLL(str(path))


class Roofline:
    """Multiply-adds, sweeps and solves of numbers of `dtype` on `threads` threads."""

    def __init__(self, dtype: str, threads: int) -> None:
        self.dtype, self.threads = np.dtype(dtype), threads
        self._peak = _function(library("roofline"), f"peak_{dtype}")
        self._sweep = _function(library("roofline"), f"sweep_{dtype}")

    def peak(self) -> float:
        """Multiply-adds a second of one core, in registers."""
        return max(self._peak(ctypes.c_int64(1_000_000)) for _ in range(REPEATS))

    def share(self) -> float:
        """Of that peak, what the sweep uses with its weights in L1."""
        rows, vectors, events = IN_L1
        columns = vectors * VECTOR // self.dtype.itemsize
        unit, weight = _random_units(rows, 200 * events), np.ones((rows, columns), self.dtype)
        start = np.arange(201, dtype=np.int64) * events
        seconds = self.seconds(weight, unit, start, threads=1)
        return 3 * 200 * events * columns / seconds / self.peak()

    def seconds(self, weight: NDArray[Any], unit: NDArray[Any], start: NDArray[Any], threads: int) -> float:
        """Of the sweep of all samples, the fastest of several; rows of `weight` are whole vectors."""
        samples = len(start) - 1
        flow = np.tile(np.array([0.99, 0.98, 0.01], self.dtype), int(np.diff(start).max(initial=1)))
        sums, pieces = np.zeros(samples), np.linspace(0, samples, threads + 1).astype(int)
        views = [array.ctypes.data_as(ctypes.c_void_p) for array in (unit, start, flow)]

        def part(k: int) -> float:
            ends = (ctypes.c_int64(pieces[k]), ctypes.c_int64(pieces[k + 1]))
            begin = weight.ctypes.data_as(ctypes.c_void_p)
            return self._sweep(
                begin, ctypes.c_int64(weight.shape[1]), *views, *ends, sums.ctypes.data_as(ctypes.c_void_p)
            )

        with ThreadPoolExecutor(threads) as pool:
            return min(max(pool.map(part, range(threads))) for _ in range(REPEATS))

    def of(self, layers: Iterable[Layer], samples: int) -> dict[str, float]:
        """Samples a second of the bare sweeps of a whole network."""
        return {"sweep": samples / sum(self.seconds(*self._arrivals(layer), self.threads) for layer in layers)}

    def _arrivals(self, layer: Layer) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """All weights below each other, rows padded to whole vectors; the events of all sources in order of time."""
        lanes = VECTOR // self.dtype.itemsize
        weights = np.concatenate([np.asarray(weight, self.dtype) for *_, weight in layer.sources])
        weights = np.pad(weights, ((0, 0), (0, -layer.size % lanes)))
        parts, first = [], 0
        for time, unit, start, weight in layer.sources:
            sample = np.repeat(np.arange(len(start) - 1), np.diff(start))
            parts.append((np.asarray(time), np.asarray(unit) + first, sample))
            first += len(weight)
        time, unit, sample = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((time, sample))
        start = np.searchsorted(sample[order], np.arange(len(layer.sources[0][2])))
        return weights, unit[order].astype(np.int32), start.astype(np.int64)


def solve_seconds() -> dict[str, float]:
    """Of one exact crossing time by the engine's own solver: in full vectors, and alone in a vector."""
    solve = _function(library("solves"), "solve_seconds")
    return {"full": min(solve(64) for _ in range(REPEATS)), "alone": min(solve(1) for _ in range(REPEATS))}


def _function(of: ctypes.CDLL, name: str) -> Any:
    found = getattr(of, name)
    found.restype = ctypes.c_double
    return found


def _random_units(rows: int, count: int) -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(rows, size=count, dtype=np.int32)
