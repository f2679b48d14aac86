"""The array as a multiplier: exact where nothing is imperfect, else as stated; what does not fit is refused."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from bad_input import check_error
from scipy import stats

from spikeloop import errors as wrong
from spikeloop.chip.circuits import Pattern
from spikeloop.chip.configuration import CYCLE
from spikeloop.chip.mac import ArrayPass, Columns
from spikeloop.chip.mismatch import Mismatch, Noise, Quantity, Spread, normals
from spikeloop.chip.multiplier import LEAK_TIME, array_of
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin

IDEAL = Twin(7, ideal=EVERYTHING)


def factors(rows: int, columns: int, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights and activations that use their whole range."""
    random = np.random.default_rng(seed)
    weights = random.integers(-63, 64, (rows, columns), np.int8)
    return weights, random.integers(0, 32, (batch, rows), np.uint8)


SHAPES = [(1, 1, 1), (128, 256, 5), (3, 33, 7), (100, 17, 1), (128, 31, 13), (5, 64, 0), (2, 0, 3), (0, 5, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_without_imperfections_it_is_integer_arithmetic(shape):
    weights, activations = factors(*shape)
    for how in (ArrayPass(), ArrayPass(sends=3, gain=45), ArrayPass(gain=15, half=1), ArrayPass(sends=256, wait=1)):
        out = IDEAL.multiply(weights, activations, how)
        assert out.dtype == np.int8
        np.testing.assert_array_equal(out, reference.multiply(weights, activations, how))


def test_whole_steps_stay_whole_and_negative_ones_are_floored():
    """Every product near a multiple of one step, where a sum of floats would fall short."""
    weights = np.array([[63] * 7, [1, 2, 5, 10, 20, 25, 50]], np.int8)
    for sign in (1, -1):
        for gain in (16, 20, 25, 40):
            for sends in (1, 2, 4, 5, 8, 25, 50, 125):
                how = ArrayPass(gain=gain, sends=sends)
                activations = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(-1, 2).astype(np.uint8)
                exact = np.clip(
                    sends * gain * (activations.astype(int) @ (sign * weights).astype(int)) // 10_000, -128, 127
                )
                np.testing.assert_array_equal(IDEAL.multiply(sign * weights, activations, how), exact)


def only(*imperfections: Imperfection, seed: int = 7, **strengths: object) -> Twin:
    """A twin with these alone; ``strengths`` of its mismatch or noise instead of the usual ones."""
    noise = {name: strengths.pop(name) for name in ["mac"] if name in strengths}
    return Twin(
        seed,
        mismatch=Mismatch(**strengths),
        noise=Noise(**noise),
        ideal=EVERYTHING - set(imperfections),  # type: ignore[arg-type]
    )


def slopes(twin: Twin, rows: int = 128, **how: int) -> np.ndarray:
    """(256,) of half 0, over what they are without imperfections: lines through the middles of the steps."""
    weights, random = np.full((rows, 256), 7, np.int8), np.random.default_rng(0)
    activations = random.integers(0, np.arange(600)[:, None] % 32 + 1, (600, rows)).astype(np.uint8)
    exact = activations.sum(1) * 7 * how.get("sends", 1) * 20 * 1e-4
    return exact @ (twin.multiply(weights, activations, ArrayPass(**how)) + 0.5) / (exact @ exact)


def test_rows_and_synapses_distort_the_sum_at_their_place():
    """What is read is the floor of the naive sum with the gains and pulses of that place."""
    twin = only(Imperfection.MAC_ROW, Imperfection.MAC_SYNAPSE)
    array, weights, activations = array_of(twin.pattern()), *factors(40, 90, 60)
    for how in (ArrayPass(sends=3), ArrayPass(half=1, row=80, column=160, gain=30)):
        rows, columns = how.row + np.arange(40), how.column + np.arange(90)
        gain = array.synapse[how.half][2 * rows[:, None] + (weights < 0), columns].astype(np.float64)
        pulse = np.where(
            activations > 0, np.maximum(activations + array.pulse[how.half, rows].astype(np.float64), 0), 0
        )
        steps = pulse @ (weights * gain) * how.sends * how.gain * 1e-4
        clear = np.abs(steps - np.rint(steps)) > 1e-3
        expected = np.clip(np.floor(steps), -128, 127)
        np.testing.assert_array_equal(twin.multiply(weights, activations, how)[clear], expected[clear])
        assert clear.mean() > 0.99


def test_columns_and_synapses_vary_as_stated():
    column = slopes(only(Imperfection.MAC_COLUMN, mac_column=Spread(0.1, 0.0)))
    assert column.std() == pytest.approx(0.1, rel=0.12)
    assert stats.kstest((column - 1) / 0.1, "norm").pvalue > 1e-3
    synapse = slopes(only(Imperfection.MAC_SYNAPSE, mac_synapse=0.1), rows=1, sends=200)
    assert synapse.std() == pytest.approx(0.1, rel=0.12)
    left = slopes(only(Imperfection.MAC_COLUMN, mac_column=Spread(0.0, 0.03)))
    assert left.std() == pytest.approx(0.03, rel=0.12)


def test_rows_vary_as_stated():
    pattern = Pattern(7, replace(Mismatch().scaled(0), mac_row=0.04, mac_pulse=0.5))
    array = array_of(pattern)
    gain = array.synapse[:, ::2, 0]
    np.testing.assert_array_equal(array.synapse[:, ::2], array.synapse[:, 1::2])  # a row's two signs have one driver
    assert gain.std() == pytest.approx(0.04, rel=0.12)
    assert array.pulse.std() == pytest.approx(0.5, rel=0.12)
    assert array.pulse.shape == (2, 128)


def test_a_pulse_has_an_offset_but_only_where_one_is_sent():
    twin = only(Imperfection.MAC_ROW, mac_row=0.0, mac_pulse=2.0)
    pulse = array_of(twin.pattern()).pulse[0]
    weights = np.diag(np.full(128, 63, np.int8))
    how = ArrayPass(sends=40, gain=20)
    assert not twin.multiply(weights, np.zeros((1, 128), np.uint8), how).any()
    found = twin.multiply(weights, np.full((1, 128), 4, np.uint8), how)[0]
    expected = np.maximum(4 + pulse.astype(np.float64), 0) * 63 * 0.08
    np.testing.assert_array_equal(found, np.clip(np.floor(expected), -128, 127))
    assert (expected == 0).any()


def test_offsets_vary_as_stated_and_codes_shift_them():
    twin = only(Imperfection.MAC_OFFSET, mac_offset=Spread(8.0, 0.0))
    nothing = np.zeros((1, 256), np.int8), np.zeros((1, 1), np.uint8)
    found = np.concatenate([twin.multiply(*nothing, ArrayPass(half=half))[0] for half in range(2)])
    assert found.std() == pytest.approx(8, rel=0.1)
    codes = np.arange(512) % 9 - 4
    moved = twin.multiply(*nothing, ArrayPass(columns=Columns(offset=codes)))[0]
    np.testing.assert_array_equal(moved, found[:256] + codes[:256])


def test_gains_go_with_their_codes():
    weights, activations = factors(20, 9, 30)
    halved = ArrayPass(gain=40, columns=Columns(gain=np.full(512, 250)))
    np.testing.assert_array_equal(
        IDEAL.multiply(weights, activations, halved), IDEAL.multiply(weights, activations, ArrayPass(gain=20))
    )


def swept(twin: Twin) -> np.ndarray:
    """(401, 256): results of half 0 for -200 to 200 steps in all columns."""
    out = []
    for sign in (-1, 1):
        weights = np.full((10, 256), 50 * sign, np.int8)
        activations = np.zeros((201, 10), np.uint8)
        activations[:, :] = np.diff(np.arange(201)[:, None] * np.arange(11) // 10, axis=1)
        out.append(twin.multiply(weights, activations, ArrayPass(sends=10, gain=20)))  # one step for each
    return np.concatenate([out[0][:0:-1], out[1]]).astype(int)


def test_saturation_is_soft_below_and_for_some_columns_above():
    found, steps = swept(only(Imperfection.MAC_SATURATION)), np.arange(-200, 201)
    free = swept(IDEAL)
    np.testing.assert_array_equal(free, np.broadcast_to(np.clip(steps, -128, 127)[:, None], free.shape))
    linear = (steps >= -85) & (steps <= 110)
    np.testing.assert_array_equal(found[linear], free[linear])
    assert (np.diff(found, axis=0) >= 0).all()  # and nothing turns back
    end = found[0]  # at -200 steps 1 / (1 + (l - b) / d) of the way from -85 to the end has gone
    room = 27 * 115 / (27 + 115)
    assert end.mean() == pytest.approx(-85 - room, abs=1.5)
    assert 3 < end.std() < 6
    bent = found[steps == 127][0] < 127
    assert bent.mean() == pytest.approx(0.25, abs=0.08)
    np.testing.assert_array_equal(found[steps == 127][0, bent], 110 + int(17 / (1 + 17 / 27)))
    assert swept(Twin(7, ideal=EVERYTHING - {Imperfection.MAC_COLUMN})).max() == 127  # eight bits without it, too


def test_fast_events_and_the_leak_take_signal_away():
    for wait, lost in ((1, 0.05), (4, 0.05 * np.exp(-1)), (50, 0.0)):
        assert slopes(only(Imperfection.MAC_WAIT), wait=wait).mean() == pytest.approx(1 - lost, abs=3e-3)
    for wait in (5, 50):
        passed = 128 * wait * CYCLE / LEAK_TIME
        assert slopes(only(Imperfection.MAC_DROOP), wait=wait).mean() == pytest.approx(
            (1 - np.exp(-passed)) / passed, abs=3e-3
        )


NOTHING = np.zeros((1, 256), np.int8), np.zeros((400, 1), np.uint8)


def test_noise_is_normal_and_independent():
    twin = only(Imperfection.MAC_NOISE, mac=20.0)
    trials = [
        twin.multiply(*NOTHING, how).astype(float) + 0.5 for how in (ArrayPass(), ArrayPass(trial=1), ArrayPass(half=1))
    ]
    noise = trials[0]
    assert noise.mean() == pytest.approx(0, abs=4 * 20 / np.sqrt(noise.size))
    assert noise.std() == pytest.approx(20, rel=0.01)
    jittered = noise + np.random.default_rng(0).uniform(-0.5, 0.5, noise.shape)
    assert stats.kstest(jittered.ravel() / np.hypot(20, 1 / np.sqrt(6)), "norm").pvalue > 1e-3
    for one, other in (
        (trials[0], trials[1]),
        (trials[0], trials[2]),
        (noise[1:], noise[:-1]),
        (noise[:, 1:], noise[:, :-1]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)
    for values in (noise, np.abs(noise)):  # of all pairs of columns
        apart = np.corrcoef(values.T)[np.triu_indices(256, 1)]
        assert np.abs(apart).max() < 5.5 / np.sqrt(len(noise))
        assert apart.std() == pytest.approx(1 / np.sqrt(len(noise)), rel=0.05)


def test_noise_is_as_strong_as_stated_whatever_is_sent():
    weights, activations = np.full((100, 256), 5, np.int8), np.full((200, 100), 9, np.uint8)
    for sends in (1, 7):
        found = only(Imperfection.MAC_NOISE).multiply(weights, activations, ArrayPass(sends=sends)).astype(float)
        assert found.std(0).mean() == pytest.approx(np.hypot(1.8, 1 / np.sqrt(12)), rel=0.02)


def test_the_same_trial_of_the_same_chip_repeats_with_any_number_of_threads():
    weights, activations = factors(128, 250, 333)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(Twin(7).multiply(weights, activations, ArrayPass(trial=3)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    for changed in (Twin(8).multiply(weights, activations, ArrayPass(trial=3)), Twin(7).multiply(weights, activations)):
        assert (found[0] != changed).mean() > 0.1
    np.testing.assert_array_equal(Twin(7).multiply(weights, activations[:5], ArrayPass(trial=3)), found[0][:5])
    np.testing.assert_array_equal(Twin(7).multiply(weights[:, :33], activations, ArrayPass(trial=3)), found[0][:, :33])


def test_what_is_given_stays_as_it_is_in_any_layout():
    weights, activations = factors(64, 40, 9)
    kept = weights.copy(), activations.copy()
    plain = Twin(7).multiply(weights, activations)
    np.testing.assert_array_equal(plain, Twin(7).multiply(np.asfortranarray(weights), activations.astype(np.int64)))
    for one, other in zip(kept, (weights, activations), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_multiplier_of_chip_7_is_the_same_for_ever():
    """Its streams to ten digits, its array to five, and noise as it is read."""
    quantities = [q for q in Quantity if q.name.startswith("MAC_")]
    digest = hashlib.sha256(
        "".join(f"{q.name}{np.round(normals(7, q, (9,)), 10).tolist()}" for q in quantities).encode()
    )
    array = array_of(Twin(7).pattern())
    for part in (array.synapse, array.pulse, array.below, array.above):
        digest.update(np.array([f"{x:.5e}" for x in part.ravel()[:: max(1, part.size // 2048)]]).tobytes())
    digest.update(only(Imperfection.MAC_NOISE).multiply(*NOTHING)[:8].tobytes())
    assert digest.hexdigest()[:16] == "d8754b92455cd376"


def multiplied(weights=((1, 2), (3, 4)), activations=((1, 2),), **how) -> Callable[[], object]:
    return lambda: Twin(7).multiply(np.asarray(weights), np.asarray(activations), ArrayPass(**how))


def codes(**values: int) -> Callable[[], object]:
    return lambda: Columns(**{name: np.full(512, value) for name, value in values.items()})


TOO_MANY = np.zeros((129, 1), np.int8), np.zeros((1, 129), np.uint8)
BAD = {
    "a large activation": (multiplied(activations=[[0, 32]]), wrong.OutOfRange, r"activations\[0, 1\] is 32", "0 to"),
    "a negative one": (multiplied(activations=[[-1, 0]]), wrong.OutOfRange, r"activations\[0, 0\] is -1", "0 to 31"),
    "a large weight": (multiplied([[0, 64], [0, 0]]), wrong.OutOfRange, r"weights\[0, 1\] is 64", "-63 to 63"),
    "a weight of -64": (multiplied([[0, 0], [0, -64]]), wrong.OutOfRange, r"weights\[1, 1\] is -64", "-63 to 63"),
    "weights in floats": (multiplied([[0.5, 1], [1, 1]]), wrong.WrongType, "weights is an array of float64", "int"),
    "activations in floats": (multiplied(activations=[[1.0, 2]]), wrong.WrongType, "an array of float64", "integers"),
    "lists": (
        lambda: Twin(7).multiply([[1]], np.ones((1, 1), int)),  # type: ignore[arg-type]
        wrong.WrongType, "weights is a list", "an array",
    ),
    "a vector": (multiplied(activations=[1, 2]), wrong.ShapeMismatch, r"activations is \(2,\)", "two dimensions"),
    "other inputs": (
        multiplied(activations=[[1, 2, 3]]), wrong.ShapeMismatch, r"\(B, 3\) times weights \(2, 2\)", r"\(B, 2\)",
    ),
    "too many rows": (
        multiplied(*TOO_MANY), wrong.OutOfRange, "129 rows from row 0 on end at 128", "rows 0 to 127.*another pass",
    ),
    "beyond the last row": (multiplied(row=127), wrong.OutOfRange, "2 rows from row 127 on end at 128", "0 to 127"),
    "beyond the last column": (
        multiplied(column=255), wrong.OutOfRange, "2 columns from column 255 on end at 256", "0 to 255",
    ),
    "no such half": (multiplied(half=2), wrong.OutOfRange, "array pass: half is 2", "0 to 1"),
    "no such row": (multiplied(row=-1), wrong.OutOfRange, "row is -1", "0 to 127"),
    "never sent": (multiplied(sends=0), wrong.OutOfRange, "sends is 0", "1 to 256"),
    "half a send": (multiplied(sends=1.5), wrong.WrongType, "sends is 1.5", "a whole number"),
    "no wait": (multiplied(wait=0), wrong.OutOfRange, "wait is 0", "1 to 50"),
    "a small gain": (multiplied(gain=14), wrong.OutOfRange, "gain is 14", "15 to 45"),
    "a trial in words": (multiplied(trial="first"), wrong.WrongType, "trial is a str", "a whole number"),
    "codes that are none": (multiplied(columns=3), wrong.WrongType, "columns is an int", "Columns"),
    "a large code": (codes(gain=1023), wrong.OutOfRange, r"gain\[0\] is 1023", "0 to 1022"),
    "a large offset": (codes(offset=-129), wrong.OutOfRange, r"offset\[0\] is -129", "-128 to 127"),
    "codes of one half": (
        lambda: Columns(offset=np.zeros(256, int)), wrong.ShapeMismatch, r"offset is \(256,\)", r"\(512,\)",
    ),
    "a dictionary": (
        lambda: Twin(7).multiply(*factors(2, 2, 2), {"sends": 2}),  # type: ignore[arg-type]
        wrong.WrongType, "the pass is a dict", "an ArrayPass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("item", BAD)
def test_what_does_not_fit_is_refused(item):
    check_error(*BAD[item])
