"""A limit of time for calls of Python functions: one that never ends is interrupted where it is."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_AGAIN = 0.05  # seconds until a function that caught the interruption is interrupted once more


class Overdue(Exception):
    """A function did not end in time."""


class OutOfTime(BaseException):
    """What is raised in a function whose time is up. No ``Exception``: a rule shall not catch it by accident."""


class Watchdog:
    """Calls functions on this thread, each for at most ``budget`` seconds: ``with Watchdog() as watchdog``.

    A thread of its own raises `OutOfTime` in the calling one, which happens between two steps of Python code: a single
    long step, such as an operation on a large array or a sleep, is interrupted when it is over.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._deadline: float | None = None
        self._closed = self._raised = False
        self._caller = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="spikeloop watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def call(self, function: Callable[..., Any], argument: object, budget: float) -> Any:
        """``function(argument)``. Raises `Overdue` where it takes longer than ``budget`` seconds."""
        self._raised = False
        try:
            with self._change:
                self._deadline = time.monotonic() + budget
                self._change.notify()
            try:
                returned = function(argument)
            finally:
                with self._change:
                    self._deadline = None
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._caller), None)
        except OutOfTime:
            with self._change:  # raised after the function, but before its deadline was taken away
                self._deadline = None
            raise Overdue from None
        if self._raised:  # it caught what should have ended it
            raise Overdue
        return returned

    def _watch(self) -> None:
        with self._change:
            while not self._closed:
                left = None if self._deadline is None else self._deadline - time.monotonic()
                if left is not None and left <= 0:
                    error = ctypes.py_object(OutOfTime)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._caller), error)
                    self._deadline, self._raised = time.monotonic() + _AGAIN, True
                self._change.wait(left if left is None or left > 0 else _AGAIN)
