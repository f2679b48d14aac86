"""What a kernel sees on `Ideal`: NumPy vectors in double precision."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.errors import InvalidNetwork, OutOfRange, ShapeMismatch, UnknownPopulation, WrongType, kind_of
from spikeloop.plasticity.memory import Memory

Numbers = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]
"""Of what a program records, by name."""


class FloatSynapses:
    """The synapses of one projection in one sample (`SynapsesView`)."""

    reset: bool
    moved: bool

    def __init__(
        self,
        where: str,
        weights: Numbers,
        ends: tuple[Numbers, Numbers] | None,
        seen: Mapping[str, Numbers],
        source_size: int,
    ) -> None:
        self._where, self._weights, self._sources = where, weights, source_size
        self._ends = None if ends is None else (fixed(ends[0]), fixed(ends[1]))
        self._seen = {name: fixed(value) for name, value in seen.items()}
        self.reset = self.moved = False

    @property
    def weights(self) -> Numbers:
        """Fractions of the largest."""
        return self._weights

    @weights.setter
    def weights(self, value: object) -> None:
        self._weights = self._checked("weights", value, self._weights.shape, "iuf").astype(np.float64)

    @property
    def sources(self) -> Numbers:
        """(K,), of a sparse projection."""
        return self._list()[0]

    @sources.setter
    def sources(self, value: object) -> None:
        sources = self._checked("sources", value, self._list()[0].shape, "iu")
        if len(sources) and not 0 <= int(sources.min()) <= int(sources.max()) < self._sources:
            raise OutOfRange("a synapse is given a source that does not exist", where=self._where,
                             expected=f"units from 0 to {self._sources - 1}")  # fmt: skip
        self._ends, self.moved = (fixed(sources.astype(np.int64)), self._list()[1]), True

    @property
    def targets(self) -> Numbers:
        """(K,), of a sparse projection."""
        return self._list()[1]

    @property
    def causal(self) -> Numbers:
        """Fractions of the sensors' full range."""
        return self._sensed("causal")

    @property
    def anticausal(self) -> Numbers:
        """Fractions of the sensors' full range."""
        return self._sensed("anticausal")

    @property
    def counts(self) -> Numbers:
        """(T,)"""
        return self._seen["counts"]

    @property
    def source_counts(self) -> Numbers:
        """(S,)"""
        return self._seen["source_counts"]

    @property
    def membrane(self) -> Numbers:
        """(T,)"""
        return self._seen["membrane"]

    def reset_correlation(self) -> None:
        """Empty both sensors; what was read before the call stays what it was."""
        self._sensed("causal")
        self.reset = True
        for name in ("causal", "anticausal"):
            self._seen[name] = fixed(np.zeros_like(self._seen[name]))

    def learned(self, lowest: float) -> Numbers:
        """The weights that the kernel left, saturated at ``lowest`` and 1. Raises ``OutOfRange`` if some are NaN or
        infinite.
        """
        if not np.isfinite(self._weights).all():
            raise OutOfRange("the rule made weights that are NaN or infinite", where=self._where,
                             expected="finite numbers")  # fmt: skip
        return np.clip(self._weights, lowest, 1.0)

    def _list(self) -> tuple[Numbers, Numbers]:
        if self._ends is None:
            raise InvalidNetwork("the projection is dense: its synapses have no sources to choose", where=self._where,
                                 expected="a sparse projection")  # fmt: skip
        return self._ends

    def _sensed(self, name: str) -> Numbers:
        if name not in self._seen:
            raise InvalidNetwork("the synapses have no sensors", where=self._where,
                                 expected="Plastic(sensor=Correlation(...))")  # fmt: skip
        return self._seen[name]

    def _checked(self, what: str, value: object, shape: tuple[int, ...], kinds: str) -> Numbers:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else kind_of(value)
            number = "real numbers" if "f" in kinds else "integers"
            raise WrongType(f"the rule assigns {found} to {what}", where=self._where,
                            expected=f"a vector {shape} of {number}")  # fmt: skip
        if value.shape != shape:
            raise ShapeMismatch(f"the rule assigns {value.shape} to {what}", where=self._where, expected=str(shape))
        return value


@dataclass(frozen=True)
class Moment:
    """Which call of a program it is: time in seconds, calls before it, sample, and the seed of its random numbers.

    shapes: of what the program recorded before in the run, by name; what it records is added.
    """

    time: float
    call: int
    sample: int
    seed: int
    shapes: Shapes = field(default_factory=dict)

    def where(self, program: str) -> str:
        """Which call it is, for a message."""
        return f"program {program!r}, call {self.call} at {self.time:g} s, sample {self.sample}"


def _of_the_only(name: str) -> Any:
    """An attribute of the program's only projection."""

    def get(view: FloatView) -> Any:
        return getattr(view._only, name)

    def put(view: FloatView, value: object) -> None:
        setattr(view._only, name, value)

    return property(get, put, doc=f"``{name}`` of the program's only projection.")


class FloatView:
    """What a kernel is called with, for one sample (`View`). Seed, program, sample and call choose random numbers."""

    state: Memory
    recorded: dict[str, Numbers]

    def __init__(self, name: str, synapses: Mapping[str, FloatSynapses], state: Memory, moment: Moment) -> None:
        self._name, self._synapses, self._moment = name, synapses, moment
        self.state = state
        self.recorded: dict[str, Numbers] = {}
        key = np.array([moment.seed, zlib.crc32(name.encode()) << 32 | moment.sample], np.uint64)
        self._generator = np.random.Philox(counter=np.array([0, 0, 0, moment.call], np.uint64), key=key)

    weights: Any = _of_the_only("weights")
    sources: Any = _of_the_only("sources")
    targets: Any = _of_the_only("targets")
    causal: Any = _of_the_only("causal")
    anticausal: Any = _of_the_only("anticausal")
    counts: Any = _of_the_only("counts")
    source_counts: Any = _of_the_only("source_counts")
    membrane: Any = _of_the_only("membrane")

    @property
    def time(self) -> float:
        """Seconds, on the clock of the run."""
        return self._moment.time

    @property
    def call(self) -> int:
        """How many calls were before this one."""
        return self._moment.call

    @property
    def projections(self) -> tuple[str, ...]:
        """The names of the program's projections."""
        return tuple(self._synapses)

    @property
    def _only(self) -> FloatSynapses:
        if len(self._synapses) != 1:
            raise UnknownPopulation("the program has several projections", where=self._where,
                                    expected=f"view[name], one of {', '.join(self._synapses)}")  # fmt: skip
        return next(iter(self._synapses.values()))

    def __getitem__(self, projection: str) -> FloatSynapses:
        if projection not in self._synapses:
            raise UnknownPopulation(f"the rule asks for {projection!r}", where=self._where,
                                    expected=f"one of {', '.join(self._synapses)}")  # fmt: skip
        return self._synapses[projection]

    def reset_correlation(self) -> None:
        """Both sensors of every synapse of the only projection are empty from now on."""
        self._only.reset_correlation()

    def random(self, *shape: int) -> Numbers:
        """Fractions from 0 to below 1, 53 bits each."""
        shape = shape or self._only.weights.shape
        words = self._generator.random_raw(math.prod(shape)).reshape(shape)
        return (words >> np.uint64(11)) * 2.0**-53

    def integers(self, below: int, *shape: int) -> Numbers:
        """Integers from 0 to ``below - 1``."""
        return np.floor(self.random(*shape) * below).astype(np.int64)

    def where(self, condition: Numbers, chosen: Numbers, otherwise: Numbers) -> Numbers:
        """``numpy.where``"""
        return np.where(condition, chosen, otherwise)

    def sign(self, vector: Numbers) -> Numbers:
        """``numpy.sign``, as real numbers."""
        return np.sign(vector).astype(np.float64)

    def total(self, vector: Numbers) -> Numbers:
        """The sum over the synapses of each target."""
        return np.asarray(vector).sum(axis=0)

    def record(self, name: str, value: Numbers) -> None:
        """Keep a copy of ``value``, of the same shape in every call. Raises ``WrongType``, ``ShapeMismatch``."""
        if not isinstance(name, str):
            raise WrongType(f"the rule records under {kind_of(name)}", where=self._where, expected="a name")
        given: Any = value
        array = np.array(given.detach().numpy() if hasattr(given, "detach") else given)
        if array.dtype.kind not in "biuf":
            raise WrongType(f"the rule records {kind_of(value)}", where=f"{self._where}, {name!r}", expected="numbers")
        shape = self._moment.shapes.setdefault(name, array.shape)
        if array.shape != shape:
            raise ShapeMismatch(
                f"the rule records {array.shape}", where=f"{self._where}, {name!r}",
                expected=f"{shape}, as in the calls before", todo="Record what differs under names of its own",
            )  # fmt: skip
        self.recorded[name] = array

    @property
    def _where(self) -> str:
        return self._moment.where(self._name)


def fixed(value: Numbers) -> Numbers:
    """A copy that a kernel cannot change."""
    array = np.array(value)
    array.flags.writeable = False
    return array
