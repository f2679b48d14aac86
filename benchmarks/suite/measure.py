"""Seconds and bytes: pinning, medians of rounds, peaks of memory. Only torch's warming up knows of torch."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROUND, ROUNDS, MOST = 0.03, 15, 3.0  # seconds of a round, number of rounds, seconds in all at the most


def pin(threads: int) -> None:
    """This process to the last `threads` cores; torch to as many threads."""
    import torch

    pin_cores(threads)
    torch.set_num_threads(threads)


def pin_cores(threads: int) -> None:
    """This process to the last `threads` cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


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


@dataclass
class Memory:
    """Bytes of data that this process holds, beyond one that has imported torch. Code, mapped from files, is no data.

    Made after torch has taken a step of Adam on a tiny network: that loads what every training needs, and would hide
    what a training itself needs. Everything that is free is given back to the system before it is looked at, so that
    nothing hides in there.
    """

    before: int = 0
    imported: int = 0

    @classmethod
    def from_here(cls) -> Memory:
        """Beyond what is held now."""
        return cls(_data())

    @classmethod
    def with_torch(cls) -> Memory:
        """Beyond torch."""
        import torch

        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.Adam(layer.parameters(), fused=True)
        for _ in range(2):
            torch.nn.functional.cross_entropy(layer(torch.ones(4, 2)), torch.zeros(4, dtype=torch.int64)).backward()
            optimizer.step()
        return cls.from_here()

    def package_imported(self) -> None:
        """What is held now is what the package needs, with nothing to do."""
        self.imported = _data() - self.before

    def of(self, step: Callable[[], object]) -> dict[str, int]:
        """What the package's import and three steps need at the most."""
        step()
        _data()
        _forget_peak()
        for _ in range(3):
            step()
        most = held("VmHWM") - held("RssFile")
        return {"import": self.imported, "step": most - self.before - self.imported}


def _data() -> int:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc can
        ctypes.CDLL(None).malloc_trim(0)
    return held("RssAnon")


def held(what: str) -> int:
    """Bytes of this process: RssAnon, data now; RssFile, code now; VmHWM, both at the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def _forget_peak() -> None:
    """Let VmHWM begin anew (Linux; where that is not allowed the peak so far stays)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
