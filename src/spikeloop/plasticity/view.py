"""What a plasticity kernel sees of the synapses: the same in floating point on `Ideal` and in integers on a chip."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

Vector = Any
"""Many numbers at once: a NumPy array on `Ideal`, saturating fractions of its vector unit on a chip. Kernels add,
subtract, multiply and compare them with each other and with numbers; the last axis of all is the targets'."""


class SynapsesView(Protocol):
    """The synapses of one projection: (S, T) vectors, rows are sources; (K,) where the projection is sparse.

    ``weights`` are fractions of `Plastic.w_max`. Assign them as a whole or in place (``view.weights += change``): what
    lies outside 0 to 1 (-1 to 1 where `Plastic.signed`) saturates. All other vectors are read-only.
    """

    weights: Vector
    sources: Vector
    """(K,) integers, of sparse projections: the source of each synapse (on a chip, its label). May be assigned."""

    @property
    def targets(self) -> Vector:
        """(K,) integers, of sparse projections: the target of each synapse."""
        ...

    @property
    def causal(self) -> Vector:
        """What the causal sensors hold, as fractions of their full range. Reading does not change it."""
        ...

    @property
    def anticausal(self) -> Vector:
        """What the anticausal sensors hold, as fractions of their full range. Reading does not change it."""
        ...

    @property
    def counts(self) -> Vector:
        """(T,) numbers: spikes of the targets since the last call."""
        ...

    @property
    def source_counts(self) -> Vector:
        """(S,) numbers: spikes of the sources since the last call."""
        ...

    @property
    def membrane(self) -> Vector:
        """(T,): the targets' membranes now, leak is 0 and threshold 1 (without threshold: potential above leak)."""
        ...

    def reset_correlation(self) -> None:
        """Both sensors of every synapse are empty from now on."""
        ...


class View(SynapsesView, Protocol):
    """What a kernel is called with. What `SynapsesView` lists is that of the program's only projection.

    time: seconds, on the clock of the run.  call: how many calls were before this one.
    state: what the kernel keeps between calls, its own of each sample: numbers and vectors by name.
    projections: the names of the program's projections.
    """

    state: MutableMapping[str, Any]

    @property
    def time(self) -> float:
        """Seconds, on the clock of the run."""
        ...

    @property
    def call(self) -> int:
        """How many calls were before this one."""
        ...

    @property
    def projections(self) -> tuple[str, ...]:
        """The names of the program's projections."""
        ...

    def __getitem__(self, projection: str) -> SynapsesView:
        """The synapses of one of several projections."""
        ...

    def random(self, *shape: int) -> Vector:
        """Fractions, evenly distributed from 0 to below 1; of the shape of the weights unless another is given."""
        ...

    def integers(self, below: int, *shape: int) -> Vector:
        """Integers, evenly distributed from 0 to ``below - 1``; of the shape of the weights unless another is given."""
        ...

    def where(self, condition: Vector, chosen: Vector, otherwise: Vector) -> Vector:
        """``chosen`` where ``condition`` holds, else ``otherwise``."""
        ...

    def sign(self, vector: Vector) -> Vector:
        """-1, 0 or 1."""
        ...

    def total(self, vector: Vector) -> Vector:
        """(T,): the sum over the synapses of each target, of an (S, T) vector."""
        ...

    def record(self, name: str, value: Vector) -> None:
        """Keep ``value`` of this call: ``record.recorded[program][name]``; of one shape in all calls and samples."""
        ...


class Kernel(Protocol):
    """A plasticity rule: a function that changes weights (and its state) by what it sees, and returns nothing."""

    def __call__(self, view: View, /) -> None: ...
