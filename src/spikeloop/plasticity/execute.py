"""A call of a rule's kernel, wherever it runs: what may go wrong with it, said in one voice."""

from __future__ import annotations

from spikeloop.errors import RuleFailed, SpikeloopError, WrongType, kind_of
from spikeloop.plasticity.view import Kernel
from spikeloop.plasticity.watchdog import Overdue, Watchdog

_ASSIGN = "Assign what shall change as a whole (view.sources = ...); of what cannot be assigned, change a copy"


def execute(kernel: Kernel, view: object, budget: float, where: str, watchdog: Watchdog) -> None:
    """Call ``kernel`` on ``view`` (a `View`), for at most ``budget`` seconds of the host's time.

    where: which call it is.
    Raises ``RuleFailed`` where it raises or does not end, ``WrongType`` where it returns something; errors of this
    package stay of their kind, and say which call it is.
    """
    try:
        returned = watchdog.call(kernel, view, budget)
    except Overdue:
        raise RuleFailed(
            f"the rule did not end within {budget:g} s",
            where=where,
            expected="a call within its budget",
            todo="Look for a loop that never ends, or raise budget",
        ) from None
    except SpikeloopError as error:
        if (error.where or "").startswith(where):
            raise
        place = where if error.where is None else f"{where}, {error.where}"
        raise type(error)(error.what, where=place, expected=error.expected, todo=error.todo) from error
    except Exception as error:
        todo = _ASSIGN if "read-only" in str(error) else None
        raise RuleFailed(f"the rule raised {type(error).__name__}: {error}", where=where, todo=todo) from error
    if returned is not None:
        raise WrongType(
            f"the rule returns {kind_of(returned)}",
            where=where,
            expected="nothing",
            todo="Assign what shall change: view.weights = ...",
        )
