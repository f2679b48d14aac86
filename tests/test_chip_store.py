"""Calibrations that are kept on disk: found again by what they are of, never mistaken for another."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from chips import IDEAL

from spikeloop.chip import calibrate_drivers, store
from spikeloop.chip.by_value import digest
from spikeloop.chip.calibrate import Calibration, default_target, nominal
from spikeloop.chip.calibrate_terms import TermsCalibration
from spikeloop.chip.configuration import CIRCUITS, DRIVERS
from spikeloop.chip.mismatch import Mismatch
from spikeloop.chip.terms import Kinds
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.errors import DataError

TARGET = default_target()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Calibrations that were made, instead of read."""
    done = []

    def calibrate(chip, target, tell):
        done.append(repr(chip))
        return nominal(chip, target)

    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "kept"))
    monkeypatch.setattr(store, "calibrate", calibrate)
    store._known.cache_clear()
    yield done
    store._known.cache_clear()


def in_another_process(chip=IDEAL, target=TARGET, **options) -> Calibration:
    store._known.cache_clear()
    return store.calibrated(chip, target, **options)


def test_it_is_measured_once(made, tmp_path):
    first, second = in_another_process(), in_another_process()
    assert made == [repr(IDEAL)]
    np.testing.assert_array_equal(first.analog.gain, second.analog.gain)
    assert second.success.all()
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".npz"]


def test_progress_is_shown_where_somebody_looks(monkeypatch, capsys):
    """Not in a script whose output goes to a file; in a notebook, though its output is no terminal."""

    def calibrate(chip, target, tell):
        tell("leak")
        return nominal(chip, target)

    monkeypatch.setenv(store.VARIABLE, "off")
    monkeypatch.setattr(store, "calibrate", calibrate)
    in_another_process()
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)  # as IPython sets it
    in_another_process()
    assert capsys.readouterr().err == f"calibrating {IDEAL!r}: leak\n"
    store._known.cache_clear()


def test_another_chip_target_or_version_has_another_file(made, monkeypatch):
    chips = [
        IDEAL,
        Twin(8, ideal=EVERYTHING),
        Twin(7, ideal=EVERYTHING - {Imperfection.DEAD}),
        Twin(7, mismatch=Mismatch(dead=0.1), ideal=EVERYTHING - {Imperfection.DEAD}),
    ]
    paths = [store.path_of(chip, digest(TARGET)) for chip in chips]
    paths.append(store.path_of(IDEAL, digest(default_target(tau_mem=7e-6))))
    monkeypatch.setattr(store, "VERSION", store.VERSION + 1)
    paths.append(store.path_of(IDEAL, digest(TARGET)))
    monkeypatch.setattr(store, "_code", lambda: "another law")
    paths.append(store.path_of(IDEAL, digest(TARGET)))
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("harm", ["flip", "cut", "foreign", "other chip", "other target", "older"])
def test_a_file_that_is_not_what_its_name_says_is_measured_anew(made, harm):
    kept = in_another_process()
    path = store.path_of(IDEAL, digest(TARGET))
    assert path is not None
    whole = path.read_bytes()
    if harm == "flip":
        place = whole.index(b"measured.npy") + 80
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
    elif harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif harm == "foreign":
        np.savez(path, something=np.zeros(3))
    elif harm == "other chip":
        replace(kept, chip="Twin(9)").save(path)
    elif harm == "other target":
        replace(kept, target=default_target(tau_syn=7e-6)).save(path)
    else:
        replace(kept, version=0).save(path)
    assert in_another_process().chip == repr(IDEAL)
    assert len(made) == 2
    in_another_process()
    assert len(made) == 2


def test_a_changed_number_in_a_file_is_seen(tmp_path):
    """By the file's own checksum, though the archive around it is whole."""
    path = tmp_path / "chip.npz"
    nominal(IDEAL, TARGET).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["analog.gain"] = arrays["analog.gain"] + 1
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="checksum is wrong.*calibrate anew"):
        Calibration.load(path)


def test_an_older_version_is_loaded_as_what_it_is(tmp_path):
    replace(nominal(IDEAL, TARGET), version=0).save(tmp_path / "old.npz")
    assert Calibration.load(tmp_path / "old.npz").version == 0
    newer = store.VERSION + 1
    replace(nominal(IDEAL, TARGET), version=newer).save(tmp_path / "new.npz")
    with pytest.raises(DataError, match=f"version {newer}"):
        Calibration.load(tmp_path / "new.npz")


def test_it_can_be_switched_off(made, monkeypatch, tmp_path):
    in_another_process(cache=False)
    monkeypatch.setenv(store.VARIABLE, "off")
    in_another_process()
    in_another_process()
    assert len(made) == 3
    assert not (tmp_path / "kept").exists()


def test_a_chip_that_does_not_say_which_one_it_is_is_not_kept(made):
    class Somebody:
        emulate = multiply = None

        def __repr__(self):
            return repr(IDEAL)

    assert store.path_of(Somebody(), digest(TARGET)) is None  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_no_error(made, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "file"))
    assert in_another_process().success.all()


def test_without_a_folder_of_its_own_it_lies_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(store.VARIABLE)
    monkeypatch.setattr(store, "user_cache", lambda: tmp_path)
    path = store.path_of(IDEAL, digest(TARGET))
    assert path is not None
    assert path.parent == tmp_path / "calibrations"
    monkeypatch.setattr(store, "user_cache", lambda: None)
    assert store.path_of(IDEAL, digest(TARGET)) is None


@pytest.mark.parametrize("harm", [None, "flip", "foreign"])
def test_that_of_adex_terms_is_kept_too(made, monkeypatch, harm):
    """One file for the calibration and the kinds of terms; what is no such file is measured anew."""
    calls, calibration = [], nominal(IDEAL, TARGET)
    off = {"a": np.linspace(-0.1, 0.1, CIRCUITS), "b": np.zeros(CIRCUITS)}
    found = TermsCalibration(off, {"a": np.arange(CIRCUITS) % 3 > 0, "b": np.ones(CIRCUITS, bool)})
    monkeypatch.setattr(store, "calibrate_terms", lambda *given: calls.append(given[2]) or found)

    def kept(adaptation=True):
        store._known_terms.cache_clear()
        kinds = Kinds(exponential=False, adaptation=adaptation, coupling=False)
        return store._known_terms(IDEAL, calibration, kinds, True)

    kept()
    (path,) = store.path_of(IDEAL, b"").parent.iterdir()
    if harm == "flip":
        with np.load(path) as file:
            np.savez(path, **{**dict(file), "off": 1 + file["off"]})
    elif harm == "foreign":
        calibration.save(path)
    again = kept()
    assert len(calls) == (1 if harm is None else 2)
    for name, value in off.items():
        np.testing.assert_array_equal(again.off[name], value)
        np.testing.assert_array_equal(again.success[name], found.success[name])
        assert again.success[name].dtype == bool
    kept(adaptation=False)
    assert len(calls) == (2 if harm is None else 3)
    store._known_terms.cache_clear()


@pytest.mark.parametrize("harm", [None, "flip", "cut", "foreign", "newer"])
def test_codes_of_drivers_ramps_are_kept_too(made, monkeypatch, harm):
    """One file for a chip; what is no such file is measured anew, and another chip is another file."""
    calls, code = [], (np.arange(2 * DRIVERS) % 16).astype(np.uint8).reshape(2, DRIVERS)
    monkeypatch.setattr(store, "calibrate_drivers", lambda chip: calls.append(chip) or code)

    def kept(chip=IDEAL, **options):
        store._known_offsets.cache_clear()
        return store.calibrated_offsets(chip, **options)

    kept()
    (path,) = store.path_of(IDEAL, b"").parent.iterdir()
    if harm == "flip":
        with np.load(path) as file:
            np.savez(path, **{**dict(file), "offset": file["offset"][:, ::-1]})
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif harm == "foreign":
        nominal(IDEAL, TARGET).save(path)
    elif harm == "newer":
        with monkeypatch.context() as later:
            later.setattr(calibrate_drivers, "VERSION", store.VERSION + 1)
            calibrate_drivers.save_offsets(path, code)
        with pytest.raises(DataError, match=f"version {store.VERSION + 1}"):
            calibrate_drivers.load_offsets(path)
    again = kept()
    assert len(calls) == (1 if harm is None else 2)
    np.testing.assert_array_equal(again, code)
    assert again.dtype == np.uint8
    kept()
    assert len(calls) == (1 if harm is None else 2)
    kept(Twin(8, ideal=EVERYTHING))
    assert [repr(chip) for chip in calls][-1] == repr(Twin(8, ideal=EVERYTHING))
    assert len(list(path.parent.iterdir())) == 2
    kept(cache=False)
    monkeypatch.setenv(store.VARIABLE, "off")
    kept()
    assert len(calls) == (4 if harm is None else 5)
    store._known_offsets.cache_clear()
