"""Numbers as descriptions of plasticity are given them: one, or several in a sequence, an array or a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikeloop.errors import WrongType, kind_of


def plain(what: str, value: Any, where: str) -> Any:
    """``value``, where a sequence, an array or a tensor of one axis is a tuple, which nobody can change any more, and
    one without axes a number. Raises ``WrongType`` for one of more axes.
    """
    if hasattr(value, "ndim") and hasattr(value, "tolist"):
        if value.ndim > 1:
            raise WrongType(f"{what} is {kind_of(value)} of {value.ndim} axes", where=where,
                            expected="a number, or several in a row")  # fmt: skip
        return tuple(value.tolist()) if value.ndim else value.item()
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value  # pyright: ignore
