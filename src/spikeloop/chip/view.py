"""What a kernel sees on a chip: vectors of the plasticity processor, in its saturating fractions of 16 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.formats import FRACTION16, WHOLE16, Meter
from spikeloop.chip.fractional import Lanes, where
from spikeloop.errors import InvalidNetwork, OutOfRange, ShapeMismatch, WrongType, kind_of
from spikeloop.plasticity.floating import FloatView, Moment, fixed
from spikeloop.plasticity.memory import Memory

READING_BITS = 7
"""Of a sensor: 0 to 127 steps, the full range."""


class IntegerSynapses:
    """The synapses of one projection in one run (`SynapsesView`).

    weights: fractions.  ends: (source, target) of a sparse projection's synapses.  readings: of both sensors, 0..127,
    or None.  counts, source_counts: whole numbers.  membrane: fractions.
    """

    reset: bool
    moved: bool
    sensed: bool

    def __init__(
        self,
        where: str,
        weights: Lanes,
        ends: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        readings: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
        seen: Mapping[str, Lanes],
    ) -> None:
        self._where, self._weights = where, weights
        self._ends = None if ends is None else (fixed(ends[0]), fixed(ends[1]))
        self._seen = {name: _fixed(value) for name, value in seen.items()}
        self.reset = self.moved = self.sensed = False
        if readings is not None:
            shift = FRACTION16.point - READING_BITS
            for name, reading in zip(("causal", "anticausal"), readings, strict=True):
                self._seen[name] = _fixed(Lanes(reading.astype(np.int64) << shift, FRACTION16, weights.meter))

    @property
    def weights(self) -> Lanes:
        """Fractions of the largest."""
        return self._weights

    @weights.setter
    def weights(self, value: object) -> None:
        self._weights = self._checked("weights", value, FRACTION16)

    @property
    def sources(self) -> Lanes:
        """(K,), of a sparse projection."""
        return Lanes(self._list()[0], WHOLE16, self._weights.meter)

    @sources.setter
    def sources(self, value: object) -> None:
        sources = self._checked("sources", value, WHOLE16).raw
        count = len(self._seen["source_counts"])
        if len(sources) and not 0 <= int(sources.min()) <= int(sources.max()) < count:
            raise OutOfRange("a synapse is given a source that does not exist", where=self._where,
                             expected=f"units from 0 to {count - 1}")  # fmt: skip
        self._ends, self.moved = (fixed(sources), self._list()[1]), True

    @property
    def targets(self) -> Lanes:
        """(K,), of a sparse projection."""
        return Lanes(self._list()[1], WHOLE16, self._weights.meter)

    @property
    def causal(self) -> Lanes:
        """Fractions of the sensors' full range."""
        return self._of_sensor("causal")

    @property
    def anticausal(self) -> Lanes:
        """Fractions of the sensors' full range."""
        return self._of_sensor("anticausal")

    @property
    def counts(self) -> Lanes:
        """(T,)"""
        return self._seen["counts"]

    @property
    def source_counts(self) -> Lanes:
        """(S,)"""
        return self._seen["source_counts"]

    @property
    def membrane(self) -> Lanes:
        """(T,)"""
        return self._seen["membrane"]

    def reset_correlation(self) -> None:
        """Empty both sensors; what was read before the call stays what it was."""
        self._of_sensor("causal")
        self.reset = True
        for name in ("causal", "anticausal"):
            self._seen[name] = _fixed(self._seen[name] * 0)

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """(source, target) of a sparse projection's synapses."""
        return self._ends

    def _list(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._ends is None:
            raise InvalidNetwork("the projection is dense: its synapses have no sources to choose", where=self._where,
                                 expected="a sparse projection")  # fmt: skip
        return self._ends

    def _of_sensor(self, name: str) -> Lanes:
        if name not in self._seen:
            raise InvalidNetwork("the synapses have no sensors", where=self._where,
                                 expected="Plastic(sensor=Correlation(...))")  # fmt: skip
        self.sensed = True
        return self._seen[name]

    def _checked(self, what: str, value: object, form: Any) -> Lanes:
        if isinstance(value, np.ndarray) and value.dtype.kind in ("iuf" if form.point else "iu"):
            value = Lanes.counted(value, form, self._weights.meter)
        if not isinstance(value, Lanes) or bool(value.format.point) != bool(form.point):
            raise WrongType(f"the rule assigns {_kind(value)} to {what}", where=self._where,
                            expected=f"a vector {self._weights.shape} of {form}")  # fmt: skip
        if value.shape != self._weights.shape:
            raise ShapeMismatch(f"the rule assigns {value.shape} to {what}", where=self._where,
                                expected=str(self._weights.shape))  # fmt: skip
        return value.to(form)


class IntegerView(FloatView):
    """What a kernel is called with, for one run. Random numbers are those of the float view, 15 bits of each."""

    def __init__(
        self, name: str, synapses: Mapping[str, IntegerSynapses], state: Memory, moment: Moment, meter: Meter
    ) -> None:
        super().__init__(name, synapses, state, moment)  # type: ignore[arg-type]
        self._meter = meter

    def random(self, *shape: int) -> Lanes:  # type: ignore[override]
        """Fractions from 0 to below 1, 15 bits each."""
        return Lanes(self._words(shape), FRACTION16, self._meter)

    def integers(self, below: int, *shape: int) -> Lanes:  # type: ignore[override]
        """Integers from 0 to ``below - 1``. Raises ``OutOfRange`` where 15 random bits are too few for them."""
        if not 1 <= below <= WHOLE16.high + 1:
            raise OutOfRange(f"integers below {below} are asked for", where=self._where,
                             expected=f"1 to {WHOLE16.high + 1}: they have 15 bits")  # fmt: skip
        return Lanes(self._words(shape) * below >> FRACTION16.point, WHOLE16, self._meter)

    def words(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """15 random bits for each lane."""
        return self._words(shape)

    def _words(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        shape = shape or self._only.weights.shape
        raw = self._generator.random_raw(math.prod(shape)).reshape(shape)
        self._meter.spend(math.prod(shape), FRACTION16, 3)
        return (raw >> np.uint64(64 - FRACTION16.point)).astype(np.int64)

    def where(self, condition: Any, chosen: Any, otherwise: Any) -> Any:
        """`fractional.where`"""
        return where(condition, chosen, otherwise)

    def sign(self, vector: Any) -> Any:
        """-1, 0 or 1, whole numbers."""
        return np.sign(vector)

    def total(self, vector: Any) -> Any:
        """The sum over the synapses of each target."""
        return np.sum(vector, axis=0)


def _fixed(lanes: Lanes) -> Lanes:
    """A copy that a kernel cannot change."""
    return Lanes(fixed(lanes.raw), lanes.format, lanes.meter)


def _kind(value: object) -> str:
    """What was assigned, in words."""
    if isinstance(value, Lanes):
        return str(value.format)
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else kind_of(value)
