"""The ends of the plasticity processor's range: what lies beyond becomes the end and is counted, and nothing wraps."""

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from chips import ready

from spikeloop import LIF, Events, Network, Population, Projection, run
from spikeloop.chip.formats import FRACTION8, FRACTION16, MODULO16, WHOLE8, WHOLE16, Format, Meter
from spikeloop.chip.fractional import Lanes, where
from spikeloop.errors import OutOfRange, Unsupported, WrongType
from spikeloop.plasticity import Plasticity

FORMS = [FRACTION8, FRACTION16, WHOLE8, WHOLE16]
LARGE = [1.5, 200.0, 40_000.0, 2.0**40, 1e12, 1e16, 1e19, 1e300]
RAW = [-128, -3, -1, 0, 1, 5, 127]


def lanes(raw: Any, form: Format) -> Lanes:
    return Lanes(np.asarray(raw, np.int64), form, Meter())


def fitted(units: int, form: Format) -> tuple[int, bool]:
    """``units`` of the last bit within the range, and whether they were beyond it."""
    return max(form.low, min(form.high, units)), not form.low <= units <= form.high


def given(value: float, form: Format) -> tuple[int, bool]:
    """A number beside vectors, in units of the last bit, and whether it saturates; 1 is the largest fraction."""
    units = round(Fraction(value) * 2**form.point)
    low, beyond = fitted(units, form)
    return low, beyond and not (form.point and value == 1)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("large", [each for size in LARGE for each in (size, -size)])
@pytest.mark.parametrize("turned", [False, True])
def test_sums_with_large_numbers_saturate_as_integers_of_python_do(form: Format, large: float, turned: bool) -> None:
    if not form.point:
        large = float(round(large))
    constant, beyond = given(large, form)
    for of in (operator.add, operator.sub):
        x = lanes(RAW, form)
        found = of(large, x) if turned else of(x, large)
        expected = [fitted(of(constant, each) if turned else of(each, constant), form) for each in RAW]
        assert found.raw.tolist() == [value for value, _ in expected]
        assert x.meter.saturations == beyond + sum(far for _, far in expected)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("large", [each for size in LARGE for each in (size, -size)])
def test_products_with_large_numbers_saturate(form: Format, large: float) -> None:
    x = lanes(RAW, form)
    found = x * large
    point = found.format.point
    expected = [fitted(each * round(Fraction(large) * 2**point) >> form.point, found.format) for each in RAW]
    assert found.raw.tolist() == [value for value, _ in expected]
    assert x.meter.saturations == sum(far for _, far in expected)


@pytest.mark.parametrize("form", [*FORMS, MODULO16], ids=str)
@pytest.mark.parametrize("by", [7, 8, 15, 16, 17, 31, 49, 62, 63, 64, 65, 1000, np.uint64(2**63)])
def test_shifts_beyond_the_width(form: Format, by: int) -> None:
    x = lanes(RAW, form)
    expected = [each << min(int(by), 70) for each in RAW]
    if form.saturating:
        assert (x << by).raw.tolist() == [fitted(each, form)[0] for each in expected]
        assert x.meter.saturations == sum(fitted(each, form)[1] for each in expected)
    else:
        assert (x << by).raw.tolist() == [(each + 2**15) % 2**16 - 2**15 for each in expected]
    assert (x >> by).raw.tolist() == [each >> min(int(by), 70) for each in RAW]


@pytest.mark.parametrize("large", [65_536.0, 65_537.0, 1e15 + 1, -(2.0**45 + 3), 1e22])
def test_modulo_keeps_the_last_bits_of_large_numbers(large: float) -> None:
    x = lanes(RAW, MODULO16)
    for found, of in ((x + large, operator.add), (x * large, operator.mul)):
        assert found.raw.tolist() == [(of(each, int(large)) + 2**15) % 2**16 - 2**15 for each in RAW]
    assert x.meter.saturations == 0


@pytest.mark.parametrize(
    ("do", "count"),
    [
        (lambda x: x.maximum(3.0), 1),
        (lambda x: np.clip(x, 0, 1), 0),
        (lambda x: where(x > 0, 2.0, x), 1),
        (lambda x: x.__setitem__(0, np.array([5.0])[0]), 1),
        (lambda x: x + np.full(3, 5.0), 6 - 1),  # three numbers, and two sums
        (lambda x: 1.0 - x, 1),  # 1 + 0.5
        (lambda x: x - 1.0, 1),
        (lambda x: -1.0 + x, 1),
    ],
)
def test_every_number_beside_a_vector_is_counted_where_it_saturates(do: Callable[[Lanes], Any], count: int) -> None:
    x = Lanes.of([0.5, 0.1, -0.5], FRACTION16, Meter())
    do(x)
    assert x.meter.saturations == count


@pytest.mark.parametrize(
    ("do", "error", "message"),
    [
        (lambda x: x << -1, OutOfRange, "shifted by -1.*at least 0 bits"),
        (lambda x: x >> np.array([1, -2]), OutOfRange, "at least 0 bits"),
        (lambda x: x << 1.5, WrongType, r"shifted by 1\.5.*whole number of bits"),
        (lambda x: x << x, Unsupported, "cannot shift by a vector"),
        (lambda x: 2 << x, Unsupported, "cannot shift by a vector"),
        (lambda x: np.left_shift(np.array([1, 2]), x), Unsupported, "cannot shift by a vector"),
        (lambda x: x / 0, OutOfRange, "divided by 0"),
        (lambda x: x / 1e-320, OutOfRange, "NaN or infinite"),
        (lambda x: x + np.array([1j, 0]), WrongType, "numbers of complex128 beside a vector"),
    ],
)
def test_what_has_no_result_is_refused(do: Callable[[Lanes], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        do(Lanes.of([0.5, 0.25], FRACTION16, Meter()))


def counted(kernel: Callable[[Any], None]) -> tuple[float, int, int]:
    """The first weight after a run, and numbers of calls and of what saturated in them."""
    rule = Plasticity(kernel, w_max=0.8, period=10e-3, sensor=None)
    net = Network(
        {"input": Population(3), "o": Population(2, LIF(10e-3, 5e-3))},
        [Projection("input", "o", torch.full((3, 2), 0.4), plasticity=rule)],
    )
    record = run(net, Events.from_lists([[1e-3]], [[0]], 3), 30e-3, substrate=ready(net), number=1)
    calls = record.calls["input_to_o"]
    return float(record.weights["input_to_o"].flatten()[0]) / 0.8, calls.made, calls.saturated


def test_what_a_rule_writes_beyond_the_range_is_in_the_record() -> None:
    def assigns(view) -> None:
        view.weights = np.full((3, 2), 5.0)

    def subtracts(view) -> None:
        view.weights = view.weights - 2.0 + 1.0

    def stays(view) -> None:
        view.weights = 1.0 - (1.0 - view.weights)

    weight, made, saturated = counted(assigns)
    assert weight > 0.98
    assert (made, saturated) == (3, 3 * 6)
    assert counted(subtracts)[1:] == (3, 3)
    weight, made, saturated = counted(stays)
    assert weight == pytest.approx(0.5, abs=0.02)
    assert (made, saturated) == (3, 0)


def test_integers_have_fifteen_bits() -> None:
    found: list[Any] = []
    counted(lambda view: found.append(view.integers(2**15, 1000)))
    assert 0 <= found[0].raw.min() < 100
    assert 2**15 - 100 < found[0].raw.max() < 2**15
    for below in (2**15 + 1, 10**12, 0):
        with pytest.raises(OutOfRange, match=f"integers below {below} are asked for"):
            counted(lambda view, below=below: view.integers(below))
