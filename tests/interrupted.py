"""Ctrl-C at a known place."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol


class Course(Protocol):
    """Of which it is known how many steps are taken."""

    taken: int


def interrupted_after(steps: int, original: Callable[..., None]) -> Callable[..., None]:
    """`Course.step`, with Ctrl-C in the course of step number ``steps`` of all courses."""
    left = steps

    def step(course: Course, *batch: object) -> None:
        nonlocal left
        before = course.taken
        original(course, *batch)
        if left > 0 and (left := left - (course.taken - before)) <= 0:
            signal.raise_signal(signal.SIGINT)

    return step
