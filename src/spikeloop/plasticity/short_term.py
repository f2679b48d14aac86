"""Short-term plasticity: synapses whose events are larger or smaller for a while after others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikeloop.errors import OutOfRange, WrongType, kind_of
from spikeloop.plasticity.given import plain

Numbers = float | Sequence[float]


@dataclass(frozen=True)
class ShortTerm:
    r"""Depression or facilitation of all synapses of a source unit, as a chip's synapse drivers have it
    (Tsodyks & Markram 1997).

    Each event takes a fraction :math:`U` of the unit's resources :math:`x`, which recover to 1 with ``tau``:

    .. math:: x_k = 1 - (1 - (1 - U) x_{k-1}) \, e^{-(t_k - t_{k-1}) / \tau}, \qquad x_1 = 1

    Event k adds :math:`w \, U x_k` to the current, or, where ``facilitating``, :math:`w \, (1 - (1 - U) x_k)`. Either
    way the first adds :math:`w U`.

    utilisation: :math:`U`, above 0, at most 1.  tau: seconds.  Both one number, or one per source unit.
    """

    utilisation: Numbers
    tau: Numbers
    facilitating: bool = False

    def __post_init__(self) -> None:
        for name, most in (("utilisation", 1.0), ("tau", math.inf)):
            object.__setattr__(self, name, plain(name, getattr(self, name), "ShortTerm"))
            for value in self.each(name):
                if isinstance(value, bool) or not hasattr(value, "__float__"):
                    raise WrongType(f"{name} is {kind_of(value)}", where="ShortTerm", expected="a number")
                if not (0 < value <= most and math.isfinite(value)):
                    raise OutOfRange(f"{name} is {value}", where="ShortTerm",
                                     expected="above 0, at most 1" if most == 1 else "seconds, above zero")  # fmt: skip

    def each(self, name: str) -> tuple[float, ...]:
        """The numbers of a field: one, or one per source unit."""
        given: Any = getattr(self, name)
        return given if isinstance(given, tuple) else (given,)
