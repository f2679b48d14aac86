"""Seconds and bytes: pinning, medians of rounds, peaks of memory. Only torch's warming up knows of torch."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from problem import Problem

ROUND, ROUNDS, MOST = 0.03, 15, 6.0  # seconds of a round, number of rounds, seconds in all at the most


def pin(threads: int) -> None:
    """This process to the last `threads` cores; torch to as many threads."""
    import torch

    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-threads:])
    torch.set_num_threads(threads)


def problem(path: Path) -> Problem:
    """Without what makes it: a peer, or a process whose memory is looked at, only reads."""
    return Problem.load(path)


def rate(step: Callable[[], object], samples: int) -> dict[str, float]:
    """Samples a second: the median of rounds of the same number of steps, and the quartiles."""
    seconds = _seconds(step, 1)
    steps = max(1, round(ROUND / max(min(seconds, _seconds(step, 1)), 1e-6)))
    rounds, began = list[float](), time.perf_counter()
    while len(rounds) < ROUNDS and (len(rounds) < 3 or time.perf_counter() - began < MOST):
        rounds.append(steps * samples / _seconds(step, steps))
    low, middle, high = statistics.quantiles(rounds, n=4)
    return {"median": middle, "low": low, "high": high, "best": max(rounds), "rounds": len(rounds), "steps": steps}


def _seconds(step: Callable[[], object], steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - began


def base() -> int:
    """Bytes held by a process that has imported torch and taken one step of Adam on a tiny network.

    That step loads code which every training needs, and which would hide what the training itself needs.
    """
    import torch

    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    for _ in range(2):
        torch.nn.functional.cross_entropy(layer(torch.ones(4, 2)), torch.zeros(4, dtype=torch.int64)).backward()
        optimizer.step()
    return held("VmRSS")


def memory(step: Callable[[], object], before: int) -> int:
    """The most bytes held during three steps, beyond `before`."""
    _forget_peak()
    for _ in range(3):
        step()
    return held("VmHWM") - before


def held(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def _forget_peak() -> None:
    """Let VmHWM begin anew (Linux; where that is not allowed the peak so far stays)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
