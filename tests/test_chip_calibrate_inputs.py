"""Synaptic lines, reversals and constant currents are found through the chip's protocol, and their spread is undone."""

import numpy as np
import pytest
import torch

from spikeloop import AdEx, Events, Ideal, Network, Observe, OnChip, Population, Projection, Steps, run
from spikeloop.chip import transfer
from spikeloop.chip.calibrate import default_target, nominal
from spikeloop.chip.calibrate_inputs import LINES, OFFSET, REVERSALS
from spikeloop.chip.calibrate_terms import SLOPE, THRESHOLD, TermsCalibration, calibrate_terms
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.mismatch import Quantity
from spikeloop.chip.store import _known_terms, calibrated_terms
from spikeloop.chip.terms import Kinds
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin

NOISE = {Imperfection.CADC_NOISE, Imperfection.MEMBRANE_NOISE}


@pytest.fixture(autouse=True)
def writings(monkeypatch):
    """Two are enough to see it; they leave 1.7 times what six do."""
    for module in ("calibrate_inputs", "calibrate_terms"):
        monkeypatch.setattr(f"spikeloop.chip.{module}.WRITINGS", 2)


NOTHING = Kinds(False, False, False)


def found(kinds: Kinds, *kept: Imperfection) -> tuple[TermsCalibration, Twin]:
    twin = Twin(7, ideal=EVERYTHING - NOISE - set(kept))
    return calibrate_terms(twin, nominal(twin, default_target(refractory=2e-6)), kinds), twin


@pytest.mark.parametrize(
    ("kinds", "kept", "names", "within"),
    [
        (NOTHING._replace(offset=True), Imperfection.OFFSET, {OFFSET: (Quantity.OFFSET, 0.25)}, 0.07),
        (NOTHING._replace(line=True), Imperfection.LINE,
         {LINES[0]: (Quantity.LINE_EXCITATORY, 0.3), LINES[1]: (Quantity.LINE_INHIBITORY, 0.3)}, 0.1),
        (NOTHING._replace(reversal=True), Imperfection.REVERSAL,
         {REVERSALS[0]: (Quantity.REVERSAL_EXCITATORY, 10.0), REVERSALS[1]: (Quantity.REVERSAL_INHIBITORY, 10.0)}, 5.0),
    ],
    ids=["currents", "lines", "reversals"],
)  # fmt: skip
def test_the_fixed_pattern_is_what_is_measured(kinds, kept, names, within: float) -> None:
    calibration, twin = found(kinds, kept)
    for name, (quantity, spread) in names.items():
        good = calibration.success[name]
        assert good.mean() > 0.93
        error = (calibration.off[name] - spread * twin.pattern().normal(quantity))[good]
        assert error.std() < within
        assert abs(error.mean()) < 0.5 * within


def test_the_exponential_is_found_without_a_bias() -> None:
    """Converters' offsets, written anew with every leak, made slopes 10 % too large."""
    kept = Imperfection.EXPONENTIAL, Imperfection.CADC_CHANNEL
    calibration, twin = found(Kinds(True, False, False), *kept)
    for name, quantity, spread, within, bias in (
        (SLOPE, Quantity.SLOPE, 0.2, 0.11, 0.04),
        (THRESHOLD, Quantity.EXPONENTIAL_THRESHOLD, 8.0, 2.4, 0.8),
    ):
        good = calibration.success[name]
        error = (calibration.off[name] - spread * twin.pattern().normal(quantity))[good]
        assert good.mean() > 0.9
        assert error.std() < within
        assert abs(error.mean()) < bias


def test_what_was_found_is_undone() -> None:
    off = {name: np.full(512, np.log(1.25)) for name in (*LINES, OFFSET)} | {
        name: np.full(512, 5.0) for name in REVERSALS
    }
    calibration = TermsCalibration(off, {name: np.arange(512) != 3 for name in off})
    code = np.full((2, 512), 200)
    better = calibration.inputs(Inputs(synapse_bias=code, reversal=code))
    assert better is not None
    assert (better.synapse_bias[:, 0] == 250).all()
    assert (better.reversal[:, 0] == round(200 - 5 * transfer.STEP / transfer.CODE_VOLTS)).all()
    assert (better.synapse_bias[:, 3] == 200).all()
    np.testing.assert_allclose(calibration.current[[0, 3]], [1.25, 1.0])
    assert calibration.inputs(None) is None


def test_it_is_measured_once_and_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SPIKELOOP_CALIBRATIONS", str(tmp_path))
    asked = []
    made = TermsCalibration({OFFSET: np.full(512, 0.1)}, {OFFSET: np.ones(512, bool)})
    monkeypatch.setattr("spikeloop.chip.store.calibrate_terms", lambda *_: asked.append(1) or made)
    twin = Twin(41)
    base, kinds = nominal(twin, default_target()), NOTHING._replace(offset=True)
    for _ in range(2):
        _known_terms.cache_clear()
        assert (calibrated_terms(twin, base, kinds).current == np.exp(0.1)).all()
    assert len(asked) == 1


def test_a_calibrated_chip_is_within_its_spread() -> None:
    """Rests under a current, and potentials of two receptors, beside Ideal: the calibrations' remains are left."""
    torch.manual_seed(0)
    twin = Twin(7, ideal={Imperfection.THRESHOLD, Imperfection.DEAD})
    neuron = AdEx(6e-3, {"exc": 6e-3, "inh": 12e-3}, threshold=float("inf"))
    net = Network(
        {"input": Population(2), "cells": Population(40, neuron)},
        {"up": Projection("input", "cells", torch.tensor([[0.6], [0.0]]).repeat(1, 40), receptor="exc"),
         "down": Projection("input", "cells", torch.tensor([[0.0], [-0.6]]).repeat(1, 40), receptor="inh")},
    )  # fmt: skip
    sent = {
        "input": Events.from_lists([[5e-3, 150e-3]], [[0, 1]], 2),
        "cells": Steps([350e-3], torch.full((1, 40), 0.6)),
    }
    chip = OnChip(twin)
    wish = Observe(membrane={"cells": chip.period})
    with torch.no_grad():
        one, exact = (
            run(net, sent, 440e-3, substrate=each, observe=wish).membrane["cells"] for each in (chip, Ideal())
        )
    at = (exact.time[: one.value.shape[1]] > 410e-3).nonzero()[:, 0]
    lifted = one.value[0, at].mean(0)
    assert abs(float(lifted.mean()) - 0.6) < 0.03
    assert lifted.std() < 0.1  # of the leaks' conductances 8 %, of potentials 1.5 of 70 steps
    for low, high in ((5e-3, 60e-3), (150e-3, 250e-3)):
        inside = ((exact.time >= low) & (exact.time < high)).nonzero()[:, 0]
        seen, true = (each.value[0, inside].abs().sum(0) for each in (one, exact))
        assert abs(float((seen / true).median()) - 1) < 0.15
