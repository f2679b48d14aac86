"""The plasticity processor's numbers: every pair of 8-bit lanes against integers of Python, and what is refused."""

import numpy as np
import pytest

from spikeloop.chip.formats import FRACTION8, FRACTION16, MODULO8, MODULO16, WHOLE8, WHOLE16, Format, Meter
from spikeloop.chip.fractional import Lanes, where
from spikeloop.errors import OutOfRange, Unsupported, WrongType

BYTES = range(-128, 128)
ONE, OTHER = (each.ravel() for each in np.meshgrid(BYTES, BYTES, indexing="ij"))


def saturated(value: int) -> int:
    return max(-128, min(127, value))


def wrapped(value: int) -> int:
    while value > 127:
        value -= 256
    while value < -128:
        value += 256
    return value


NAIVE = {
    "sum": (lambda x, y: x + y, lambda x, y: x + y),
    "difference": (lambda x, y: x - y, lambda x, y: x - y),
    "smaller": (np.minimum, min),
    "larger": (np.maximum, max),
}
FIT = {FRACTION8: saturated, WHOLE8: saturated, MODULO8: wrapped}


def lanes(raw, form: Format, meter: Meter | None = None) -> Lanes:
    return Lanes(np.asarray(raw, np.int64), form, meter or Meter())


@pytest.mark.parametrize("form", FIT, ids=str)
@pytest.mark.parametrize("name", NAIVE)
def test_every_pair_of_bytes(name: str, form: Format) -> None:
    vector, scalar = NAIVE[name]
    meter = Meter()
    found = vector(lanes(ONE, form, meter), lanes(OTHER, form, meter))
    pairs = list(zip(ONE.tolist(), OTHER.tolist(), strict=True))
    assert found.raw.tolist() == [FIT[form](scalar(x, y)) for x, y in pairs]
    beyond = sum(not -128 <= scalar(x, y) <= 127 for x, y in pairs)
    assert meter.saturations == (beyond if form.saturating else 0)
    assert meter.operations == 65536 / 128


@pytest.mark.parametrize("form", FIT, ids=str)
def test_every_product_of_bytes(form: Format) -> None:
    meter = Meter()
    found = lanes(ONE, form, meter) * lanes(OTHER, form, meter)
    shift = 7 if form is FRACTION8 else 0
    expected = [FIT[form](x * y // 2**shift) for x, y in zip(ONE.tolist(), OTHER.tolist(), strict=True)]
    assert found.raw.tolist() == expected
    if form is FRACTION8:  # -1 times -1 is the only one that does not fit
        assert meter.saturations == 1


@pytest.mark.parametrize("form", FIT, ids=str)
@pytest.mark.parametrize("by", range(8))
def test_every_shift_of_bytes(by: int, form: Format) -> None:
    all_bytes = lanes(BYTES, form)
    assert (all_bytes << by).raw.tolist() == [FIT[form](x * 2**by) for x in BYTES]
    assert (all_bytes >> by).raw.tolist() == [x // 2**by for x in BYTES]


def test_every_byte_alone() -> None:
    x = lanes(BYTES, FRACTION8)
    assert (-x).raw.tolist() == [saturated(-each) for each in BYTES]
    assert abs(x).raw.tolist() == [saturated(abs(each)) for each in BYTES]
    assert np.sign(x).raw.tolist() == [(each > 0) - (each < 0) for each in BYTES]
    assert x.meter.saturations == 2


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"])
def test_every_comparison_of_bytes(name: str) -> None:
    x, y = lanes(ONE, FRACTION8), lanes(OTHER, FRACTION8)
    of = getattr(np, name)
    np.testing.assert_array_equal(of(x, y), of(ONE, OTHER))
    np.testing.assert_array_equal(of(ONE / 128, y), of(ONE, OTHER))


def test_sixteen_bits() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(-(2**15), 2**15, (2, 10_000))
    one, other = lanes(x, FRACTION16), lanes(y, FRACTION16)
    np.testing.assert_array_equal((one * other).raw, np.clip(x * y >> 15, -(2**15), 2**15 - 1))
    np.testing.assert_array_equal((one + other).raw, np.clip(x + y, -(2**15), 2**15 - 1))
    modulo = lanes(x, MODULO16) * lanes(y, MODULO16)
    np.testing.assert_array_equal(modulo.raw.astype(np.int16), (x * y).astype(np.int16))
    assert (one + other).meter.operations == 3 * -(-10_000 // 64)


def test_numbers_become_the_nearest_fraction() -> None:
    x = Lanes.of([0.1, -0.1, 2.0, -2.0], FRACTION16, Meter())
    np.testing.assert_allclose(np.asarray(x), [0.1, -0.1, 1 - 2**-15, -1], atol=2**-16)
    assert x.meter.saturations == 0  # a constant, not a result
    np.testing.assert_allclose(np.asarray(0.5 - x), [0.4, 0.6, -0.5, 1 - 2**-15], atol=2**-14)
    assert x.meter.saturations == 1


def test_a_factor_may_be_larger_than_one() -> None:
    x = Lanes.of([0.1, 0.4, -0.8], FRACTION16, Meter())
    np.testing.assert_allclose(np.asarray(1.5 * x), [0.15, 0.6, -1], atol=2**-14)
    np.testing.assert_allclose(np.asarray(np.array([1.0, -2.0, 0.25]) * x), [0.1, -0.8, -0.2], atol=2**-14)
    np.testing.assert_allclose(np.asarray(x / 4), [0.025, 0.1, -0.2], atol=2**-14)


def test_counts_and_fractions() -> None:
    count = Lanes.of([0, 3, 200], WHOLE16, Meter())
    assert (5 - count).raw.tolist() == [5, 2, -195]
    np.testing.assert_allclose(np.asarray(count * 0.01), [0, 0.03, 1 - 2**-15], atol=1e-3)
    reward = Lanes.of([0.5, -0.25, 0.001], FRACTION16, Meter())
    np.testing.assert_allclose(np.asarray(reward * count), [0, -0.75, 0.2], atol=1e-2)
    with pytest.raises(OutOfRange, match="5.5 beside 16-bit whole numbers"):
        count - 5.5
    assert (count > 2.5).tolist() == [False, True, True]


def test_formats_meet_in_the_wider_one_of_a_kind() -> None:
    meter = Meter()
    found = Lanes.of([0.5, -0.25], FRACTION8, meter) + Lanes.of([0.001, 0.0], FRACTION16, meter)
    assert found.format == FRACTION16
    np.testing.assert_allclose(np.asarray(found), [0.501, -0.25], atol=2**-15)
    with pytest.raises(WrongType, match="Q0.7 and 16-bit whole numbers"):
        Lanes.of([0.5], FRACTION8, meter) + Lanes.of([1], WHOLE16, meter)


def test_rounding_is_to_the_nearest_or_right_on_average() -> None:
    x = lanes(BYTES, FRACTION8)
    assert x.rounded(6).tolist() == [(each + 1) // 2 for each in BYTES]
    assert x.rounded(7).tolist() == list(BYTES)
    fine = Lanes.of(np.full(40_000, 0.3), FRACTION16, Meter())
    word = np.random.default_rng(0).integers(0, 2**63, 40_000)
    code = fine.rounded(6, word)
    assert set(code.tolist()) == {19, 20}
    assert abs(code.mean() - 0.3 * 64) < 4 * 0.5 / 200


def test_where_and_indices() -> None:
    x = Lanes.of([[0.1, 0.2], [0.3, 0.4]], FRACTION16, Meter())
    for choose in (where, np.where):
        np.testing.assert_allclose(np.asarray(choose(x > 0.15, x, 0.0)), [[0, 0.2], [0.3, 0.4]], atol=1e-4)
        np.testing.assert_allclose(np.asarray(choose(x > 0.15, -1.0, x)), [[0.1, -1], [-1, -1]], atol=1e-4)
    x[0] = 0.5
    x[:, 1] += 0.25
    np.testing.assert_allclose(np.asarray(x), [[0.5, 0.75], [0.3, 0.65]], atol=1e-4)
    assert np.sum(x, axis=0).raw.tolist() == [26214, 32767]
    np.testing.assert_allclose(np.asarray(x.mean()), 0.55, atol=1e-4)
    assert where(np.array([True]), 1, 2).tolist() == [1]


def test_what_the_processor_cannot_do_is_said() -> None:
    x = Lanes.of([0.5], FRACTION16, Meter())
    for wrong in (lambda: np.exp(x), lambda: np.sort(x), lambda: 1 / x, lambda: x / x, lambda: np.ones(1) / x):
        with pytest.raises(Unsupported, match="the processor cannot"):
            wrong()
    with pytest.raises(WrongType, match="a str beside a vector"):
        x + "a"
    with pytest.raises(OutOfRange, match="nan"):
        x + float("nan")
