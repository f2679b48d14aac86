"""How fast the twin multiplies, beside the same product of float32 matrices in torch: results/multiply.md.

python benchmarks/multiply.py                # seconds

Both in one process and in turns, so that others on the machine slow down both; whole calls from Python, 128 rows times
256 columns, which fill one half of a chip's array. Rates are those of the median round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import torch
from accuracy import RESULTS, commit, machine

from spikeloop import Twin
from spikeloop.chip.mac import HEIGHT, WIDTH, ArrayPass

PAGE = RESULTS / "multiply.md"
BATCHES, THREADS, ROUNDS, SECONDS = (100, 1000, 10_000), (1, 2), 41, 5e-3


def rates(batch: int, threads: int) -> dict[str, float]:
    """Products of activations and weights a second, in 1e9."""
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    weights = random.integers(-63, 64, (HEIGHT, WIDTH), np.int8)
    activations = random.integers(0, 32, (batch, HEIGHT), np.uint8)
    floats = torch.from_numpy(activations).float(), torch.from_numpy(weights).float()
    twin, silent, how = Twin(7), Twin(7, noise=0.0), ArrayPass()
    ways: dict[str, Callable[[], object]] = {
        "torch": lambda: torch.mm(*floats),
        "twin": lambda: twin.multiply(weights, activations, how),
        "without noise": lambda: silent.multiply(weights, activations, how),
    }
    calls = {name: max(1, round(SECONDS / _seconds(call, 1))) for name, call in ways.items() if call() is not None}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            found[name].append(_seconds(call, calls[name]) / calls[name])
    return {name: batch * HEIGHT * WIDTH / statistics.median(each) / 1e9 for name, each in found.items()}


def _seconds(call: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - began


def page(rows: list[list[str]]) -> str:
    """The table, with where and when."""
    head = ["threads", "batch", "torch", "twin", "over torch", "twin without noise", "over torch"]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    said = f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}, {machine()}"
    return "\n".join([
        "# How fast the twin multiplies", "",
        "1e9 products of an activation and a weight a second, of the twin and of torch (float32, the same shapes) in "
        "one process and in turns; 128 rows, 256 columns, whole calls from Python. At least 0.33 of torch's rate is "
        "asked for, with noise, on two threads.", "", *lines, "", f"`python benchmarks/multiply.py`, {said}", "",
    ])  # fmt: skip


if __name__ == "__main__":
    table = list[list[str]]()
    for threads in THREADS:
        for batch in BATCHES:
            rate = rates(batch, threads)
            cells = [f"{rate['torch']:.1f}"]
            for name in ("twin", "without noise"):
                cells += [f"{rate[name]:.1f}", f"{rate[name] / rate['torch']:.2f}"]
            table.append([str(threads), str(batch), *cells])
            print(*table[-1])
    PAGE.write_text(page(table))
