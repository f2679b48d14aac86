"""The page about the chip says what the twin does: every strength with its default, every imperfection by name."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from spikeloop import LI, LIF, Population
from spikeloop.chip.mismatch import Mismatch, Noise, Spread
from spikeloop.chip.scales import scale_of
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin

PAGE = (Path(__file__).parent.parent / "docs" / "chip.md").read_text()
HEADER = "| `Imperfection` | field | symbol | unit | default | distribution | importance | hardware.md, section:line |"


def rows() -> list[list[str]]:
    lines = PAGE[PAGE.index(HEADER) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ROWS = rows()
DOCUMENTED = {row[1].strip("`"): row for row in ROWS if row[1] != "-"}
DEFAULTS = {each.name: getattr(kind(), each.name) for kind in (Mismatch, Noise) for each in fields(kind)}


def test_every_strength_has_a_line() -> None:
    assert DOCUMENTED.keys() == DEFAULTS.keys()
    assert len(DOCUMENTED) == len([row for row in ROWS if row[1] != "-"])


@pytest.mark.parametrize("name", DEFAULTS)
def test_its_default_is_the_one_of_the_code(name: str) -> None:
    given = [float(number) for number in DOCUMENTED[name][4].split(";")]
    default = DEFAULTS[name]
    assert given == ([default.uncalibrated, default.calibrated] if isinstance(default, Spread) else [default])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_every_line_says_where_it_comes_from(row: list[str]) -> None:
    """Sections and lines of the facts, and whether it is verified, derived or estimated."""
    assert len(row) == 8
    assert all(row[index] for index in (2, 3, 4, 5, 7))
    places = row[7].partition("[")[0]
    assert re.fullmatch(r"\d\.\d:\d+(, \d\.\d:\d+)* ", places)
    assert re.search(r"\[[^\]]*\b[VDE]\b", row[7])


def test_every_imperfection_is_listed() -> None:
    assert {row[0] for row in ROWS} == {each.name for each in Imperfection}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_imperfection_of_a_line_switches_it_off(name: str) -> None:
    twin = Twin(7, ideal={Imperfection[DOCUMENTED[name][0]]})
    strengths = twin.strengths() if name in {each.name for each in fields(Noise)} else twin.pattern().strengths
    value = getattr(strengths, name)
    assert value == (Spread(0.0, 0.0) if isinstance(value, Spread) else 0.0)


def test_everything_switches_off_everything() -> None:
    twin = Twin(7, ideal=EVERYTHING)
    assert twin.strengths() == Noise().scaled(0)
    assert twin.pattern().strengths == Mismatch().scaled(0)


def test_weights_convert_as_coming_from_says() -> None:
    """68 codes to the unit of potential that is leak to threshold, in model time and in the chip's own numbers."""
    model = scale_of(Population(1, LIF(6e-3, 6e-3)), 1000.0)
    hardware = scale_of(Population(1, LIF(6e-6, 6e-6, leak=80.0, reset=80.0, threshold=150.0)), 1.0)
    readout = scale_of(Population(1, LI(6e-6, 6e-6)), 1.0)
    assert 1 / model.weight == pytest.approx(68, abs=0.5)
    assert 70 / hardware.weight == pytest.approx(1 / model.weight)
    assert readout.weight == pytest.approx(model.weight)
    assert (model.steps, hardware.steps, readout.steps) == (70, 1, 70)
