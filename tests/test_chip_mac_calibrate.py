"""The columns' calibration: through ``multiply`` alone, to the spreads that were published of chips."""

import numpy as np
import pytest

from spikeloop.chip.mac import ArrayPass, Columns
from spikeloop.chip.mac_calibrate import ColumnCalibration, calibrate_columns, curves, measured
from spikeloop.chip.mismatch import Mismatch, Spread
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.errors import DataError

CHIPS = range(100, 106)


class OnlyTheProtocol:
    """A chip of which nothing can be used but ``multiply``."""

    def __init__(self, chip):
        object.__setattr__(self, "_chip", chip)

    def __getattribute__(self, name):
        if name != "multiply":
            raise AttributeError(f"{name} is not needed to calibrate columns")
        return object.__getattribute__(self, "_chip").multiply

    def __repr__(self):
        return "a chip"


@pytest.fixture(scope="module")
def calibrations() -> dict[int, ColumnCalibration]:
    return {seed: calibrate_columns(OnlyTheProtocol(Twin(seed))) for seed in CHIPS}


def test_gains_and_offsets_are_made_alike(calibrations):
    """Down to what each writing leaves; what was measured is what the next measurement says."""
    for seed, made in calibrations.items():
        gain, offset = measured(Twin(seed))
        assert made.success.mean() > 0.98
        assert gain.std() / gain.mean() == pytest.approx(np.hypot(0.1, 0.03), rel=0.15)
        assert made.gain.std() / made.gain.mean() == pytest.approx(0.03, rel=0.15)
        assert offset.std() == pytest.approx(np.hypot(8, 1), rel=0.15)
        assert made.offset.std() == pytest.approx(np.hypot(1, 1 / np.sqrt(12)), rel=0.15)
        assert made.offset.mean() == pytest.approx(0, abs=0.2)
        again = measured(Twin(seed), made.columns, trial=77)
        assert np.std(again[0] / made.gain) < 0.01
        assert np.std(again[1] - made.offset) < 0.3


def test_an_ideal_chip_keeps_its_nominal_codes():
    made = calibrate_columns(Twin(7, ideal=EVERYTHING))
    np.testing.assert_array_equal(made.columns.gain, 500)
    assert np.ptp(made.columns.offset) == 0
    assert made.gain == pytest.approx(0.002, rel=0.5 / 23)  # nothing dithers the floor: half a step
    assert made.success.all()


def test_a_column_that_cannot_be_mended_has_failed():
    twin = Twin(101, mismatch=Mismatch(mac_column=Spread(0.5, 0.03)))
    made = calibrate_columns(twin)
    wrong = np.abs(made.gain / np.median(made.gain) - 1) > 0.2
    assert 3 < wrong.sum() < 100
    assert not made.success[wrong].any()
    assert made.columns.gain.max() <= 1022


def spread(seed: int, columns: Columns, rows: int, activation: int, sends: int) -> float:
    """Standard deviation over the 256 columns of one result, over their mean; of trials and halves the mean."""
    weights, activations = np.full((rows, 256), 21, np.int8), np.full((1, rows), activation, np.uint8)
    passes = [ArrayPass(half=h, sends=sends, trial=k, columns=columns) for h in range(2) for k in range(4)]
    out = np.stack([Twin(seed).multiply(weights, activations, how)[0] for how in passes]).astype(float)
    return float((out.std(1) / out.mean(1)).mean())


@pytest.mark.parametrize("seed", CHIPS)
def test_spreads_over_columns_are_the_published_ones(calibrations, seed):
    """4.6 and 5.5 %, one percent either way (hardware.md 5.2)."""
    columns = calibrations[seed].columns
    assert 0.036 < spread(seed, columns, 100, 15, 1) < 0.056
    assert 0.045 < spread(seed, columns, 1, 12, 100) < 0.065


@pytest.mark.parametrize("seed", CHIPS)
def test_the_published_recipe_finds_the_published_gain_and_noise(calibrations, seed):
    """Of 128 inputs of 15.5 a random part, 0.85 of them less in each of 20 steps, 50 samples, weight 21: the median
    gain, and the median over columns of the standard deviation over samples (hardware.md 5.2)."""
    random, gains, noises = np.random.default_rng(seed), list[float](), list[float]()
    weights = np.full((128, 256), 21, np.int8)
    for step in range(20):
        sent = np.rint(15.5 * (random.random(128) < 0.85**step)).astype(np.uint8)
        how = ArrayPass(columns=calibrations[seed].columns, trial=step)
        found = Twin(seed).multiply(weights, np.tile(sent, (50, 1)), how).astype(float)
        gains.append(float(np.median(found / max(int(sent.sum()) * 21, 1))))
        noises.append(float(np.median(found.std(0))))
    assert 0.0018 <= np.median(gains) <= 0.0020
    assert 1.6 <= np.median(noises) <= 2.0


def test_curves_are_straight_in_the_middle_and_bent_at_the_ends(calibrations):
    twin, weights = Twin(100), (-63, -40, -20, -10, 0, 10, 20, 25, 63)
    found = curves(twin, weights, calibrations[100].columns)
    line = 128 * 15 * np.outer(weights, calibrations[100].gain) + calibrations[100].offset
    assert found.shape == (9, 512)
    assert np.abs(found - line)[2:8].mean() < 0.6
    assert (found[0] > line[0] + 100).all()
    assert -115 < found[0].mean() < -95
    assert found[-1].mean() > 126


def test_a_calibration_can_be_kept(calibrations, tmp_path):
    made = calibrations[100]
    made.save(tmp_path / "columns.npz")
    found = ColumnCalibration.load(tmp_path / "columns.npz")
    assert (found.chip, found.version) == ("a chip", 1)
    for one, other in zip(
        (made.columns.gain, made.columns.offset, made.gain, made.offset, made.success),
        (found.columns.gain, found.columns.offset, found.gain, found.offset, found.success),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    damaged = bytearray((tmp_path / "columns.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "columns.npz").write_bytes(damaged)
    with pytest.raises(DataError):
        ColumnCalibration.load(tmp_path / "columns.npz")


def test_it_says_what_it_does():
    told: list[str] = []
    calibrate_columns(Twin(7, ideal={Imperfection.MAC_NOISE}), told.append)
    assert told == ["columns, roughly", "columns, finely", "columns, as they are now"]
