"""What plasticity hands from one run to the next, and how the host speaks to a kernel in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spikeloop.errors import CannotObserve, ShapeMismatch, UnknownPopulation

S = TypeVar("S")
Memory = dict[str, Any]
"""A kernel's state, of one sample."""

PART = "plasticity"
"""Where it lies in ``State.parts``."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned until the end of a run: ``State.parts["plasticity"]``.

    weight: by projection, (B, S, T) or (B, K), model units.  source: by sparse projection, (B, K).
    memory: by program, the state of the kernel in each sample.  calls: by program, how many there were.
    requested: programs that are called first of all when the next run begins.
    own: what else the place that ran it needs: sensors, counters.
    """

    weight: Mapping[str, NDArray[Any]]
    source: Mapping[str, NDArray[np.int64]]
    memory: Mapping[str, tuple[Memory, ...]]
    calls: Mapping[str, int]
    requested: frozenset[str] = frozenset()
    own: Mapping[str, object] = field(default_factory=dict)


def tell(state: S, program: str, **values: object) -> S:
    """The state ``record.state`` with other ``values`` in the state of a program's kernel, such as a reward.

    A number is every sample's; anything else has one entry per sample: (B, ...).
    Raises ``CannotObserve`` for a state of a network without plasticity, ``UnknownPopulation``, ``ShapeMismatch``.
    """
    learned = _learned(state, program)
    memories = tuple(dict(memory) for memory in learned.memory[program])
    for name, value in values.items():
        for memory, each in zip(memories, _of_samples(name, value, len(memories)), strict=True):
            memory[name] = each
    return _with(state, replace(learned, memory={**learned.memory, program: memories}))


def request(state: S, program: str, **values: object) -> S:
    """`tell`, and the next run that continues from the state begins with a call of the program."""
    told = tell(state, program, **values)
    learned = _learned(told, program)
    return _with(told, replace(learned, requested=learned.requested | {program}))


def learned_of(state: object) -> Learned | None:
    """What was learned until ``state``; None where nothing could be."""
    found = getattr(state, "parts", {}).get(PART)
    return found if isinstance(found, Learned) else None


def _learned(state: object, program: str) -> Learned:
    learned = learned_of(state)
    if learned is None:
        raise CannotObserve("the state holds no plasticity", where="state", expected="that of a plastic network's run",
                            todo="Run it with observe=Observe(state=True)")  # fmt: skip
    if program not in learned.memory:
        raise UnknownPopulation(
            f"there is no program {program!r}", where="state", expected=f"one of {', '.join(learned.memory)}"
        )
    return learned


def _with(state: S, learned: Learned) -> S:
    parts: Mapping[str, object] = state.parts  # type: ignore[attr-defined]
    return replace(state, parts={**parts, PART: learned})  # type: ignore[type-var]


def _of_samples(name: str, value: object, batch: int) -> list[Any]:
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)  # type: ignore[attr-defined]
    if array.ndim == 0:
        return [array.item()] * batch
    if len(array) != batch:
        raise ShapeMismatch(
            f"{name} is of {len(array)} samples", where="state", expected=f"one entry for each of {batch}"
        )
    return [each.item() if each.ndim == 0 else each.copy() for each in array]
