"""How much of a step is spent outside the native engine: in Python, in torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spikeloop.engine import _core

STEPS, MOST = 30, 2.0  # steps, or fewer where they take more than so many seconds together


class Clock:
    """Seconds spent in native calls."""

    seconds = 0.0

    def watching(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def watched(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return watched


@contextmanager
def watched() -> Iterator[Clock]:
    """Every function of the native module timed."""
    clock = Clock()
    calls = {name: call for name, call in vars(_core).items() if callable(call) and not isinstance(call, type)}
    for name, call in calls.items():
        setattr(_core, name, clock.watching(call))
    try:
        yield clock
    finally:
        for name, call in calls.items():
            setattr(_core, name, call)


def overhead(step: Callable[[], object]) -> float:
    """Seconds of a step outside native calls, the median."""
    outside, end = list[float](), time.perf_counter() + MOST
    with watched() as clock:
        while len(outside) < STEPS and (len(outside) < 3 or time.perf_counter() < end):
            native, began = clock.seconds, time.perf_counter()
            step()
            outside.append(time.perf_counter() - began - (clock.seconds - native))
    return statistics.median(outside)
