"""The vectors of the plasticity processor: 128 lanes of 8 bits or 64 lanes of 16, read as `formats` says.

A number beside a vector that lies beyond the range becomes its end and is counted, but 1 stands for the largest
fraction. Products are cut off below the last bit, as an arithmetic shift does it. NumPy's own functions work on these
vectors as far as the processor can do them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.formats import PROCESSOR, Format, Meter, Wide
from spikeloop.errors import OutOfRange, Unsupported, WrongType, kind_of


@dataclass(eq=False)
class Lanes:
    """An array of the processor's numbers, in any shape: ``raw`` in units of the last bit.

    Numbers of Python and arrays of NumPy are taken for the nearest fraction, and have to be whole beside whole numbers.
    A fraction times a whole number is a fraction, a whole number times a number of Python that is not whole, too.
    """

    raw: Wide
    format: Format
    meter: Meter

    # ---- in and out --------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, value: Any, form: Format, meter: Meter) -> Self:
        """The numbers nearest to ``value``; its ends (1 in Q0.15: 1 - 2 ** -15) beyond the range, uncounted."""
        return cls(Meter().fit(form.nearest(np.asarray(value, np.float64)), form), form, meter)

    @classmethod
    def counted(cls, value: Any, form: Format, meter: Meter) -> Self:
        """As `of`, and those beyond the range are counted."""
        return cls(meter.constant(form.nearest(np.asarray(value, np.float64)), form), form, meter)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if not self.format.point:
            return np.array(self.raw, dtype)
        return np.asarray(np.ldexp(self.raw.astype(np.float64), -self.format.point), dtype)

    def __float__(self) -> float:
        return float(self.__array__())

    def __int__(self) -> int:
        return int(self.__array__())

    __index__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Lanes({np.asarray(self)}, {self.format})"

    def to(self, form: Format) -> Lanes:
        """The same numbers in another format, as far as they fit; bits below its last are cut off."""
        shift = form.point - self.format.point
        wide = self.raw << shift if shift >= 0 else self.raw >> -shift
        return self._made(wide, form)

    def rounded(self, bits: int, random: NDArray[np.integer[Any]] | None = None) -> Wide:
        """In units of 2 ** -bits: the nearest ones, or stochastically with ``random`` words for every lane.

        A number is rounded up with the probability of what lies beyond the unit below it.
        """
        below = self.format.point - bits
        if below <= 0:
            return self.raw << -below
        self.meter.spend(self.raw.size, self.format, 2)
        half = 1 << below - 1
        return (self.raw + (half if random is None else np.asarray(random, np.int64) & (1 << below) - 1)) >> below

    # ---- shape ---------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    @property
    def ndim(self) -> int:
        return self.raw.ndim

    @property
    def size(self) -> int:
        return self.raw.size

    @property
    def T(self) -> Lanes:
        return self._like(self.raw.T)

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, key: Any) -> Lanes:
        return self._like(self.raw[_key(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.raw[_key(key)] = self._taken(value).raw

    def reshape(self, *shape: Any) -> Lanes:
        """In another shape."""
        return self._like(self.raw.reshape(*shape))

    def copy(self) -> Lanes:
        """With an array of its own."""
        return self._like(self.raw.copy())

    def sum(self, axis: int | None = None) -> Lanes:
        """The sum, added up in the processor's own registers, then brought into range."""
        return self._made(np.asarray(self.raw.sum(axis)), self.format, self.size)

    def mean(self, axis: int | None = None) -> Lanes:
        """The sum over the number, cut off below the last bit."""
        count = self.size if axis is None else self.raw.shape[axis]
        return self._made(np.asarray(self.raw.sum(axis)) // max(count, 1), self.format, self.size)

    # ---- arithmetic ----------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Lanes:
        return self._sum(other, operator.add)

    def __radd__(self, other: Any) -> Lanes:
        return self._sum(other, operator.add)

    def __sub__(self, other: Any) -> Lanes:
        return self._sum(other, operator.sub)

    def __rsub__(self, other: Any) -> Lanes:
        return self._sum(other, lambda x, y: y - x)

    def __neg__(self) -> Lanes:
        return self._made(-self.raw, self.format)

    def __pos__(self) -> Lanes:
        return self.copy()

    def __abs__(self) -> Lanes:
        return self._made(np.abs(self.raw), self.format)

    def __mul__(self, other: Any) -> Lanes:
        if isinstance(other, Lanes):
            return self._product(other)
        value = np.asarray(other, np.float64)
        if self.format.point == 0 and np.array_equal(value, np.rint(value)):
            return self._made(self.raw * self.format.nearest(value), self.format)
        form = self.format if self.format.point else Format(self.format.bits, self.format.bits - 1)
        factor = form.nearest(value)  # wider than a lane: whole part and fraction
        return self._made(self.raw * factor >> self.format.point, form, times=1 + bool(np.any(np.abs(value) >= 1)))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Lanes:
        if isinstance(other, Lanes):
            return other.__rtruediv__(self)
        value = np.asarray(other, np.float64)
        if not value.all():
            raise OutOfRange("a vector is divided by 0", where=PROCESSOR, expected="numbers other than 0")
        with np.errstate(over="ignore"):  # an infinite factor is refused
            return self * (1 / value)

    def __rtruediv__(self, other: Any) -> Lanes:
        raise _cannot("divide by a vector", "multiply by the inverse of a number that stays the same")

    def __lshift__(self, by: Any) -> Lanes:
        return self._made(self.raw << self._places(by), self.format)

    def __rshift__(self, by: Any) -> Lanes:
        return self._made(self.raw >> self._places(by), self.format)

    def __rlshift__(self, other: Any) -> Lanes:
        raise _cannot("shift by a vector", "shift by a number")

    __rrshift__ = __rlshift__

    def _places(self, by: Any) -> Wide:
        """By how many bits to shift; all that a lane has, where ``by`` is more."""
        if isinstance(by, Lanes):
            return by.__rlshift__(self).raw
        places = np.asarray(by)
        if places.dtype.kind not in "iu":
            raise WrongType(f"a vector is shifted by {by}", where=PROCESSOR, expected="a whole number of bits")
        if (places < 0).any():
            raise OutOfRange(f"a vector is shifted by {by}", where=PROCESSOR, expected="at least 0 bits",
                             todo="Shift the other way")  # fmt: skip
        return np.minimum(places, self.format.bits).astype(np.int64)

    # in place, as NumPy's arrays: other names of the same vector see it, and what is read-only raises

    def __iadd__(self, other: Any) -> Lanes:
        return self._become(self + other)

    def __isub__(self, other: Any) -> Lanes:
        return self._become(self - other)

    def __imul__(self, other: Any) -> Lanes:
        return self._become(self * other)

    def __itruediv__(self, other: Any) -> Lanes:
        return self._become(self / other)

    def __ilshift__(self, by: int) -> Lanes:
        return self._become(self << by)

    def __irshift__(self, by: int) -> Lanes:
        return self._become(self >> by)

    def _become(self, new: Lanes) -> Lanes:
        if not isinstance(self.raw, np.ndarray):  # a single number
            return new
        if bool(new.format.point) != bool(self.format.point):
            raise WrongType(f"{self.format} would become {new.format} in place", where=PROCESSOR,
                            expected="numbers of the same kind", todo="Write x = x * y instead of x *= y")  # fmt: skip
        self.raw[...] = self._taken(new).raw
        return self

    def _product(self, other: Lanes) -> Lanes:
        if self.format.point and other.format.point:
            one, two = self._aligned(other)
            return one._made(one.raw * two.raw >> one.format.point, one.format)
        form = self.format if self.format.point or self.format.bits >= other.format.bits else other.format
        return self._made(self.raw * other.raw, other.format if other.format.point else form)

    def _sum(self, other: Any, of: Callable[[Wide, Wide], Wide]) -> Lanes:
        one, two = self._aligned(other)
        return one._made(of(one.raw, two.raw), one.format)

    # ---- comparison and choice -----------------------------------------------------------------------------------

    def __lt__(self, other: Any) -> NDArray[np.bool_]:
        return self._compared(other, operator.lt)

    def __le__(self, other: Any) -> NDArray[np.bool_]:
        return self._compared(other, operator.le)

    def __gt__(self, other: Any) -> NDArray[np.bool_]:
        return self._compared(other, operator.gt)

    def __ge__(self, other: Any) -> NDArray[np.bool_]:
        return self._compared(other, operator.ge)

    def __eq__(self, other: object) -> Any:
        return self._compared(other, operator.eq)

    def __ne__(self, other: object) -> Any:
        return self._compared(other, operator.ne)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def _compared(self, other: Any, how: Callable[[Any, Any], Any]) -> NDArray[np.bool_]:
        self.meter.spend(self.raw.size, self.format)
        return how(np.asarray(self), np.asarray(other))

    def minimum(self, other: Any) -> Lanes:
        """The smaller one of each pair."""
        return self._sum(other, np.minimum)

    def maximum(self, other: Any) -> Lanes:
        """The larger one of each pair."""
        return self._sum(other, np.maximum)

    def clip(self, low: Any = None, high: Any = None) -> Lanes:
        """Within ``low`` and ``high``."""
        above = self if low is None else self.maximum(low)
        return above if high is None else above.minimum(high)

    def sign(self) -> Lanes:
        """-1, 0 or 1, whole numbers."""
        return self._made(np.sign(self.raw), Format(self.format.bits, 0))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        known = _FUNCTIONS.get(ufunc)
        if known is None or method != "__call__" or options.keys() - {"out"}:
            raise _cannot(f"do {ufunc.__name__}", "use + - *, comparisons, minimum, maximum, sign, abs and where")
        first, *rest = inputs
        found = known(first, *rest) if isinstance(first, Lanes) else _TURNED.get(ufunc, known)(rest[0], first)
        (out,) = options.get("out", (None,))
        return out._become(found) if isinstance(out, Lanes) else found

    def __array_function__(self, function: Any, types: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        known = _ROUTINES.get(function)
        if known is None:
            raise _cannot(f"do {function.__name__}", "use where, clip, sum, mean, zeros_like or np.asarray(x)")
        return known(*given, **options)

    # ---- how -----------------------------------------------------------------------------------------------------

    def _like(self, raw: Wide) -> Lanes:
        return type(self)(raw, self.format, self.meter)

    def _made(self, wide: Wide, form: Format, lanes: int | None = None, times: int = 1) -> Lanes:
        self.meter.spend(wide.size if lanes is None else lanes, form, times)
        return type(self)(self.meter.fit(wide, form), form, self.meter)

    def _taken(self, other: Any) -> Lanes:
        """``other`` as numbers of this format."""
        if isinstance(other, Lanes):
            return other if other.format == self.format else other.to(self.format)
        if not isinstance(other, Real | np.ndarray | np.generic | list | tuple):
            raise WrongType(f"{kind_of(other)} beside a vector", where=PROCESSOR, expected="a number, or an array")
        value = np.asarray(other)
        if value.dtype.kind not in "biufO":  # "O": whole numbers beyond 64 bits
            raise WrongType(f"numbers of {value.dtype} beside a vector", where=PROCESSOR, expected="real numbers")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise OutOfRange(f"{other} beside a vector", where=PROCESSOR, expected="finite numbers")
        if self.format.point == 0 and value.dtype.kind == "f" and not np.array_equal(value, np.rint(value)):
            raise OutOfRange(f"{other} beside {self.format}", where=PROCESSOR, expected="a whole number",
                             todo="Multiply the whole numbers by a fraction first")  # fmt: skip
        return type(self).counted(value, self.format, self.meter)

    def _aligned(self, other: Any) -> tuple[Lanes, Lanes]:
        """Both in the wider of two formats of one kind."""
        if not isinstance(other, Lanes) or other.format == self.format:
            return self, self._taken(other)
        if bool(self.format.point) != bool(other.format.point) or self.format.saturating != other.format.saturating:
            raise WrongType(
                f"{self.format} and {other.format} together", where=PROCESSOR, expected="numbers of one kind",
                todo="Multiply the whole numbers by a fraction first",
            )  # fmt: skip
        wider = max(self.format, other.format, key=lambda form: form.bits)
        return self.to(wider), other.to(wider)


def _key(key: Any) -> Any:
    """An index, where vectors may be parts of it."""
    if isinstance(key, tuple):
        return tuple(map(_key, key))
    return key.raw if isinstance(key, Lanes) and not key.format.point else key


def _cannot(what: str, todo: str) -> Unsupported:
    return Unsupported(f"the processor cannot {what}", where=PROCESSOR, todo=todo[0].upper() + todo[1:])


def where(condition: Any, one: Any, other: Any) -> Any:
    """``one`` where the condition holds, else ``other``; of two that are no vectors, what NumPy makes of it."""
    own = next((each for each in (one, other) if isinstance(each, Lanes)), None)
    if own is None:
        return np.where(np.asarray(condition), one, other)
    first, second = own._aligned(other if own is one else one)
    if own is not one:
        first, second = second, first
    shape = np.broadcast_shapes(np.shape(condition), first.shape, second.shape)
    own.meter.spend(int(np.prod(shape)), first.format)
    return Lanes(np.where(np.asarray(condition), first.raw, second.raw), first.format, own.meter)


_FUNCTIONS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.true_divide: operator.truediv,
    np.negative: operator.neg, np.absolute: abs, np.sign: Lanes.sign,
    np.minimum: Lanes.minimum, np.maximum: Lanes.maximum,
    np.less: operator.lt, np.less_equal: operator.le, np.greater: operator.gt, np.greater_equal: operator.ge,
    np.equal: operator.eq, np.not_equal: operator.ne,
    np.left_shift: operator.lshift, np.right_shift: operator.rshift,
}  # fmt: skip
_TURNED: dict[np.ufunc, Callable[..., Any]] = {  # with the vector behind the other: f(vector, other)
    np.subtract: Lanes.__rsub__, np.true_divide: Lanes.__rtruediv__,
    np.left_shift: Lanes.__rlshift__, np.right_shift: Lanes.__rlshift__,
    np.less: operator.gt, np.less_equal: operator.ge, np.greater: operator.lt, np.greater_equal: operator.le,
}  # fmt: skip
_ROUTINES: dict[Any, Callable[..., Any]] = {
    np.where: where, np.clip: Lanes.clip, np.sum: Lanes.sum, np.mean: Lanes.mean, np.copy: Lanes.copy,
    np.zeros_like: lambda like: like._like(np.zeros_like(like.raw)),
}  # fmt: skip
