"""Every example runs, in its quick form, and is short."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

REACHED = {"yin_yang_tutorial": 0.7}
"""Share of the test samples that are right after the quick form; 0.78 was measured, a third is chance."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUICK", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with torch.random.fork_rng(devices=[]):
        names = runpy.run_path(str(path), run_name="__main__")
    if path.stem == "closed_loop":
        assert names["same"]
    if path.stem in REACHED:
        assert names["right"].double().mean() > REACHED[path.stem]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


def test_examples_are_there() -> None:
    expected = {
        "closed_loop", "custom_loss", "five_chips", "freeze_and_tau", "in_the_loop", "membranes", "own_data",
        "recurrent_delays", "resume", "yin_yang", "yin_yang_tutorial",
    }  # fmt: skip
    assert expected <= {path.stem for path in EXAMPLES}
