"""The description of plasticity: which kernel sees which synapses, and when. It does not say where it is executed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from spikeloop.errors import OutOfRange, WrongType, kind_of
from spikeloop.plasticity.given import plain
from spikeloop.plasticity.view import Kernel

_TINY = 1e-9  # relative: a call this little after the end of a run belongs to it


@dataclass(frozen=True)
class Correlation:
    r"""The correlation sensors of a synapse: nearest neighbours, exponential windows (Friedmann et al. 2016).

    At a spike of the target at :math:`t` the causal sensor gains :math:`\eta_+ e^{-(t - t_a) / \tau_+}`, if spikes of
    the source arrived since the target's previous spike; :math:`t_a` is the latest arrival. At an arrival at :math:`t`
    the anticausal sensor gains :math:`\eta_- e^{-(t - t_s) / \tau_-}`, if the target spiked since the synapse's
    previous arrival; :math:`t_s` is its latest spike. An arrival at the very time of a spike comes before it. Both
    start at 0, keep what they have until they are reset, and saturate at 1, the full range.

    tau: seconds.  amplitude: what a pair without delay adds, as a fraction of the full range.  Both either one number,
    or two: (causal, anticausal).
    """

    tau: float | tuple[float, float] = 5e-3
    amplitude: float | tuple[float, float] = 1 / 256

    def __post_init__(self) -> None:
        for name in ("tau", "amplitude"):
            object.__setattr__(self, name, plain(f"the sensor's {name}", getattr(self, name), "Correlation"))
            for value in self._pair(name):
                _check_positive(f"the sensor's {name}", value, "Correlation")

    def _pair(self, name: str) -> tuple[float, float]:
        given = getattr(self, name)
        pair = given if isinstance(given, tuple) else (given, given)
        if len(pair) != 2:
            raise OutOfRange(f"{name} has {len(pair)} numbers", where="Correlation", expected="(causal, anticausal)")
        return pair

    @property
    def taus(self) -> tuple[float, float]:
        """(causal, anticausal) seconds."""
        return self._pair("tau")

    @property
    def amplitudes(self) -> tuple[float, float]:
        """(causal, anticausal) fractions of the full range."""
        return self._pair("amplitude")


@dataclass(frozen=True)
class Plastic:
    """How the synapses of a projection take part: a fraction of 1 is ``w_max``, and they have sensors or none.

    w_max: the largest weight, in model units.  signed: weights may be negative, down to ``-w_max``.
    sensor: None saves the work where a kernel reads no correlations.
    """

    w_max: float
    signed: bool = False
    sensor: Correlation | None = field(default_factory=Correlation)

    def __post_init__(self) -> None:
        _check_positive("w_max", self.w_max, "plasticity")
        if self.sensor is not None and not isinstance(self.sensor, Correlation):
            raise WrongType(f"the sensor is {kind_of(self.sensor)}", where="plasticity", expected="Correlation(...)")

    @property
    def lowest(self) -> float:
        """The smallest fraction: -1 or 0."""
        return -1.0 if self.signed else 0.0


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel that sees several projections, by name: given to `Network` as ``programs={"name": Program(...)}``.

    kernel: called with a `View`; see there.
    period: it is called at ``start + k period``, k = 1, 2, ...; or at these times (ascending); or, where None, only on
    request (`requested`). A call at the end of a run belongs to it.  start: seconds.
    state: what is in ``view.state`` at first.  seed: of ``view.random``.
    budget: seconds of the host's time that one call may take; a call that never ends is interrupted then.
    """

    kernel: Kernel
    projections: Mapping[str, Plastic]
    period: float | Sequence[float] | None = None
    start: float = 0.0
    state: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    budget: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "period", plain("period", self.period, "plasticity"))
        _check_schedule(self)
        if not isinstance(self.projections, Mapping):
            raise WrongType(f"the projections are {kind_of(self.projections)}", where="Program",
                            expected='a mapping: {"input_to_hidden": Plastic(w_max=...)}')  # fmt: skip
        for name, plastic in self.projections.items():
            if not isinstance(plastic, Plastic):
                raise WrongType(f"projection {name!r} is {kind_of(plastic)}", where="Program", expected="Plastic(...)")
        if not self.projections:
            raise OutOfRange("it has no projections", where="Program", expected="at least one")

    def calls(self, begin: float, end: float) -> list[float]:
        """When it is called in a run from ``begin`` to ``end``: after ``begin``, or at 0 in a run that begins there.

        Times that rounding put beyond ``end`` are ``end``. Runs that follow each other share no call and leave none
        out, wherever they are cut.
        """
        if self.period is None:
            return []
        first, last = begin * (1 + _TINY), end * (1 + _TINY)
        if isinstance(self.period, tuple):
            times = [t for t in self.period if t > first or (t == 0 and begin == 0)]
        else:
            assert isinstance(self.period, float | int)
            count = max(0, math.ceil((last - self.start) / self.period) + 1)
            since = max(1, math.floor((first - self.start) / self.period))
            times = [t for t in (self.start + k * self.period for k in range(since, count + 1)) if t > first]
        return [min(t, end) for t in times if t <= last]


@dataclass(frozen=True, eq=False)
class Plasticity:
    """The plasticity of one projection: a `Program` of its own, with the projection's name.

    ``Projection(..., plasticity=Plasticity(kernel, w_max=0.5, period=10e-3))``. Fields as in `Plastic` and `Program`.
    """

    kernel: Kernel
    w_max: float
    period: float | Sequence[float] | None = None
    start: float = 0.0
    signed: bool = False
    sensor: Correlation | None = field(default_factory=Correlation)
    state: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    budget: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "period", self.program("itself").period)

    def program(self, projection: str) -> Program:
        """The same as a program of ``projection``."""
        plastic = Plastic(self.w_max, self.signed, self.sensor)
        return Program(self.kernel, {projection: plastic}, self.period, self.start, self.state, self.seed, self.budget)


def _check_schedule(program: Program) -> None:
    if not callable(program.kernel):
        raise WrongType(f"the kernel is {kind_of(program.kernel)}", where="plasticity",
                        expected="a function of a View: def kernel(view): ...")  # fmt: skip
    if not isinstance(program.state, Mapping):
        raise WrongType(f"the state is {kind_of(program.state)}", where="plasticity", expected="a mapping by name")
    if isinstance(program.seed, bool) or not isinstance(program.seed, int) or program.seed < 0:
        raise OutOfRange(f"seed is {program.seed!r}", where="plasticity", expected="an integer of at least 0")
    _check_positive("budget", program.budget, "plasticity")
    _check_number("start", program.start, "plasticity")
    if isinstance(program.period, Sequence):  # a string, too
        times = [_check_number("a time", time, "plasticity") for time in program.period]
        if any(late <= early for early, late in pairwise(times)) or (times and times[0] < 0):
            raise OutOfRange("the times are not in order", where="plasticity", expected="ascending seconds, >= 0")
    elif program.period is not None:
        _check_positive("period", program.period, "plasticity")


def _check_number(what: str, value: object, where: str) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__") or getattr(value, "ndim", 0):
        raise WrongType(f"{what} is {kind_of(value)}", where=where, expected="a number")
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise OutOfRange(f"{what} is {number}", where=where, expected="a finite number")
    return number


def _check_positive(what: str, value: object, where: str) -> None:
    if _check_number(what, value, where) <= 0:
        raise OutOfRange(f"{what} is {value}", where=where, expected="a number above zero")
