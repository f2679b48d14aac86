"""Ctrl-C at a known place."""

from __future__ import annotations

import signal
from collections.abc import Callable


def interrupted_after(steps: int, original: Callable[..., None]) -> Callable[..., None]:
    """``original``, with Ctrl-C in the course of its call number ``steps``."""
    left = iter(range(steps))

    def step(*batch: object) -> None:
        original(*batch)
        if next(left) == steps - 1:
            signal.raise_signal(signal.SIGINT)

    return step
