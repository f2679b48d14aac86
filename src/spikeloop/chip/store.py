"""Calibrations that were made before: in memory, and in the user's cache for chips that say which one they are.

A file is found by the chip's identity, the target, the version of calibrations and a checksum of the code that measures
and, for a twin, is measured: what was written by another one is never looked at. The environment variable
SPIKELOOP_CALIBRATIONS names another folder, or is ``off``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from spikeloop._files import user_cache
from spikeloop.chip.by_value import ByValue, digest
from spikeloop.chip.calibrate import VERSION, Calibration, Target, calibrate
from spikeloop.chip.calibrate_drivers import calibrate_drivers, load_offsets, save_offsets
from spikeloop.chip.calibrate_terms import TermsCalibration, calibrate_terms
from spikeloop.chip.configuration import Chip, Integers
from spikeloop.chip.terms import Kinds
from spikeloop.errors import DataError

VARIABLE = "SPIKELOOP_CALIBRATIONS"
Found = TypeVar("Found")


@runtime_checkable
class Identified(Protocol):
    """A chip that says which one it is; without that nothing is kept on disk, a repr may be anybody's."""

    @property
    def identity(self) -> str:
        """A text that no other chip has, and that is the same in another process."""
        ...


def calibrated(chip: Chip, target: Target, cache: bool = True) -> Calibration:
    """The calibration of ``chip`` for ``target``: one that was kept, or made now; ``cache``: whether disk is used."""
    return _known(chip, ByValue(target), cache)


@lru_cache(maxsize=32)
def _known(chip: Chip, wanted: ByValue[Target], cache: bool) -> Calibration:
    return _kept(
        path_of(chip, digest(wanted.value)) if cache else None,
        lambda path: _read(path, chip, wanted),
        lambda: calibrate(chip, wanted.value, lambda doing: _show(f"calibrating {chip!r}: {doing}")),
        lambda found, path: found.save(path),
    )


def calibrated_terms(chip: Chip, calibration: Calibration, kinds: Kinds, cache: bool = True) -> TermsCalibration:
    """How the chip's terms, couplings and inputs are off; measured once for a calibration and these kinds of them."""
    return _known_terms(chip, calibration, kinds, cache)


@lru_cache(maxsize=8)
def _known_terms(chip: Chip, calibration: Calibration, kinds: Kinds, cache: bool) -> TermsCalibration:
    return _kept(
        path_of(chip, digest(calibration) + repr(kinds).encode()) if cache else None,
        TermsCalibration.load,
        lambda: calibrate_terms(chip, calibration, kinds, lambda doing: _show(f"calibrating {chip!r}: {doing}")),
        lambda found, path: found.save(path),
    )


def calibrated_offsets(chip: Chip, cache: bool = True) -> Integers:
    """Codes of its drivers' ramps, (2, 128): of the chip alone, whatever else it is calibrated for."""
    return _known_offsets(chip, cache)


@lru_cache(maxsize=32)
def _known_offsets(chip: Chip, cache: bool) -> Integers:
    def measured() -> Integers:
        _show(f"calibrating {chip!r}: ramps of drivers")
        return calibrate_drivers(chip)

    path = path_of(chip, b"ramps of drivers") if cache else None
    return _kept(path, load_offsets, measured, lambda found, path: save_offsets(path, found))


def path_of(chip: Chip, of: bytes) -> Path | None:
    """Where the calibration for what has the hash ``of`` is kept; None if it is not."""
    given = os.environ.get(VARIABLE)
    folder = Path(given) if given else user_cache()
    if given == "off" or folder is None or not isinstance(chip, Identified):
        return None
    words = (chip.identity, repr(chip), str(VERSION), _code(), of.hex())
    name = sha256("\n".join(words).encode()).hexdigest()[:32]
    return folder / f"{name}.npz" if given else folder / "calibrations" / f"{name}.npz"


def _kept(
    path: Path | None,
    read: Callable[[Path], Found | None],
    make: Callable[[], Found],
    save: Callable[[Found, Path], None],
) -> Found:
    """What stands at ``path``, or is made now and written there."""
    try:
        found = None if path is None else read(path)
    except DataError:
        found = None
    if found is None:
        found = make()
        if path is not None:
            _write(path, lambda path: save(found, path))
    return found


def _read(path: Path, chip: Chip, wanted: ByValue[Target]) -> Calibration | None:
    """What stands there, if it is what its name says."""
    found = Calibration.load(path)
    right = (found.chip, found.version, ByValue(found.target)) == (repr(chip), VERSION, wanted)
    return found if right else None


def _write(path: Path, save: Callable[[Path], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    except OSError:  # no room, no permission: it is made anew the next time
        return


@lru_cache(maxsize=1)
def _code() -> str:
    """A checksum of what calibrations depend on."""
    here, found = Path(__file__).parent, sha256()
    engine = here.parent / "engine"
    laws = [engine / "disturbed.py", engine / "short_term.py", *engine.glob("_core*")]
    for path in sorted([*here.glob("*.py"), *laws]):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def _show(text: str) -> None:
    """A line of progress, where somebody looks: at a terminal, or in a notebook, which is none but interactive."""
    if sys.stderr.isatty() or hasattr(sys, "ps1"):
        print(text, file=sys.stderr)
