"""A limit of time for calls of Python functions: one that never ends is interrupted where it is."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_LOOK = 0.02  # seconds between looks at the clock


class Overdue(Exception):
    """A function did not end in time."""


class OutOfTime(BaseException):
    """What is raised in a function whose time is up. No ``Exception``: a rule shall not catch it by accident."""


class Watchdog:
    """Calls functions on this thread, each for at most ``budget`` seconds: ``with Watchdog() as watchdog``.

    A thread of its own raises `OutOfTime` in the calling one, again and again, which happens between two steps of
    Python code: a single long step, such as a sleep, is interrupted when it is over.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()  # a Condition's own code could be interrupted while it holds the lock
        self._deadline: float | None = None
        self._raised = False
        self._closed = threading.Event()
        self._caller = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="spikeloop watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    def call(self, function: Callable[..., Any], argument: object, budget: float) -> Any:
        """``function(argument)``. Raises `Overdue` where it takes longer than ``budget`` seconds."""
        self._raised = False
        try:
            with self._guard:
                self._deadline = time.monotonic() + budget
            return function(argument)
        except OutOfTime:
            raise Overdue from None
        finally:
            self._end()

    def _end(self) -> None:
        """From here on nothing is raised; what is still to be raised is met here."""
        try:
            with self._guard:
                self._deadline = None
            for _ in range(1000 * self._raised):
                pass
        except OutOfTime:
            self._end()
        if self._raised:
            raise Overdue from None  # also where the function caught what should have ended it

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK):
            with self._guard:
                if self._deadline is not None and time.monotonic() > self._deadline:
                    self._raised = True
                    error = ctypes.py_object(OutOfTime)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._caller), error)
