"""Batches of events for the tests of everything that takes Events."""

from itertools import pairwise

import torch
from hypothesis import strategies as st

from spikeloop.events import Events

SIZE = 4


def small() -> Events:
    """Three samples: two events, none, three events; two units."""
    return Events.from_lists([[3.0, 1.0], [], [2.0, 5.0, 1.0]], [[0, 1], [], [1, 1, 0]], size=2, scale=1e-3)


def lists_of(events: Events) -> list[list[tuple[float, int]]]:
    bounds = events.start.tolist()
    rows = list(zip(events.time.tolist(), events.unit.tolist(), strict=True))
    return [rows[a:b] for a, b in pairwise(bounds)]


def equal(a: Events, b: Events) -> bool:
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("time", "unit", "start"))
    return same and a.size == b.size


def triple(time, unit, start, size=2) -> Events:
    return Events(
        torch.tensor(time, dtype=torch.float64), torch.tensor(unit, dtype=torch.int32), torch.tensor(start), size
    )


batches = st.lists(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, SIZE - 1)), max_size=8), max_size=6
).map(lambda b: Events.from_lists([[t for t, _ in s] for s in b], [[u for _, u in s] for s in b], SIZE))
