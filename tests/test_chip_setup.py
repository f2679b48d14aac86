"""A network made ready for a chip: on circuits that calibrate, and anew where a neuron changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from chips import IDEAL

from spikeloop import (
    LI,
    LIF,
    Events,
    Network,
    Observe,
    OnChip,
    Population,
    Projection,
    Twin,
    feedforward,
    recurrent,
    run,
)
from spikeloop.chip import store
from spikeloop.chip.calibrate import default_target, nominal
from spikeloop.chip.configuration import CIRCUITS
from spikeloop.chip.mapping import place
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.errors import DoesNotFit, OutOfRange, SpikeloopWarning

NEURON = LIF(10e-3, 5e-3)


def failing(*circuits: int) -> np.ndarray:
    bad = np.zeros(CIRCUITS, bool)
    bad[list(circuits)] = True
    return bad


def bad_neurons(placement, bad) -> dict[str, int]:
    return {name: int(bad[circuit].any(1).sum()) for name, circuit in placement.circuit.items()}


@pytest.fixture
def flawed(monkeypatch):
    """Calibrations by the laws in which these circuits fail, whatever they are calibrated for; how many were made."""
    made = []

    def install(bad):
        def calibrated(chip, target, cache=True):
            made.append(target)
            return replace(nominal(chip, target), success=~bad)

        monkeypatch.setattr("spikeloop.chip.setup.calibrated", calibrated)
        return made

    return install


LIKE_NEURON = {"tau_mem": 10e-6, "tau_syn": 5e-6, "refractory": 40e-9}
"""The target of a calibration for `NEURON`."""


def wish(chip=IDEAL, **options) -> Wish:
    defaults = {"speedup": 1000.0, "rows_per_input": 1, "calibration": None, "strict": False, "cache": False}
    return Wish(chip, **(defaults | options))


@pytest.mark.parametrize("sizes", [[12, 20, 4], [200, 100, 10], [100, 500]])
def test_failed_circuits_are_avoided_where_others_are_left(sizes):
    network = feedforward(sizes, NEURON)
    bad = failing(0, 32, 33, 64, 300)
    plain = place(network)
    assert any(bad_neurons(plain, bad).values())
    placement = place(network, bad=bad)
    assert not any(bad_neurons(placement, bad).values())
    for name, circuit in placement.circuit.items():
        assert circuit.shape == plain.circuit[name].shape
        np.testing.assert_array_equal(circuit, place(network, bad=bad).circuit[name])
    np.testing.assert_array_equal(place(network, bad=failing()).circuit["output"], plain.circuit["output"])


def test_where_all_circuits_are_needed_the_bad_ones_go_to_the_large_population():
    network = feedforward([256, 246, 10], NEURON)
    output = place(network).circuit["output"]
    placement = place(network, bad=failing(*output[:, 0].tolist()))
    assert bad_neurons(placement, failing(*output[:, 0].tolist())) == {"hidden": 10, "output": 0}
    assert placement.used.all()


def test_a_network_is_placed_anew_after_its_calibration(flawed):
    network = feedforward([12, 20, 4], NEURON)
    bad = failing(*place(network).circuit["hidden"][:3, 0].tolist())
    made = flawed(bad)
    setup = setup_of(network, wish())
    assert setup.failed == 0
    assert not setup.calibration.success[bad].any()
    assert len(made) == 2  # neurons on other circuits ask for another calibration
    assert setup_of(network, wish()) is setup
    drive = Events.from_lists([[1e-3]], [[0]], 12)
    with torch.no_grad():
        lowering = run(network, drive, 20e-3, substrate=OnChip(IDEAL)).lowering
    assert lowering is not None
    assert (lowering.placed, lowering.failed, lowering.masked) == (24, 0, 3)


def test_too_few_good_circuits_are_warned_of_or_refused(flawed):
    network = feedforward([256, 246, 10], NEURON)
    flawed(failing(5, 6, 400))
    said = r"3 of 512 circuits in use failed their calibration: 512 are needed, 509 are good, 3 are short"
    with pytest.warns(SpikeloopWarning, match=said):
        assert setup_of(network, wish()).failed == 3
    with pytest.raises(DoesNotFit, match=said):
        setup_of(network, wish(strict=True))


def test_where_the_buses_need_failed_circuits_that_is_said(flawed):
    """136 neurons on one circuit each that reach each other: 17 an output is one more than a bus has drivers for."""
    network = recurrent([1, 128, 1], NEURON)
    bad = failing(*range(0, 32, 2), *range(256, 288, 2), *range(1, 32, 2), *range(257, 288, 2))
    flawed(bad)
    with pytest.warns(SpikeloopWarning, match="no arrangement on good ones was found"):
        setup_of(network, wish())


def test_a_given_calibration_moves_neurons_only_if_it_is_the_same_for_all_circuits(flawed):
    network = feedforward([12, 20, 4], NEURON)
    bad = failing(*place(network).circuit["hidden"][:3, 0].tolist())
    uniform = replace(nominal(IDEAL, default_target(**LIKE_NEURON)), success=~bad)
    assert setup_of(network, wish(calibration=uniform)).failed == 0
    scattered = default_target(threshold=np.linspace(150, 152, CIRCUITS), **LIKE_NEURON)
    with pytest.warns(SpikeloopWarning, match="3 of 24"):
        setup_of(network, wish(calibration=replace(nominal(IDEAL, scattered), success=~bad)))


def test_a_real_calibration_leaves_no_dead_circuit_in_use():
    dead = Twin(7).pattern().dead()
    network = feedforward([12, 300], NEURON)
    assert dead[place(network).used].any()
    setup = setup_of(network, wish(Twin(7), cache=True))
    assert not dead[setup.placement.used].any()
    again = store.calibrated(Twin(7), setup.calibration.target)
    assert again is setup.calibration


@pytest.mark.parametrize(
    "changes", [{"psp": 0.2}, {"leak": 100.0, "reset": 100.0, "threshold": 170.0}, {"threshold": 190.0}]
)
def test_a_calibration_of_ones_own_sets_the_scales(changes):
    """One synapse on a chip without imperfections: its potential is the ideal one, whatever a unit is in CADC steps."""
    kind = LI(10e-3, 5e-3)
    parts = {"input": Population(1), "output": Population(1, kind)}
    network = Network(parts, [Projection("input", "output", torch.tensor([[0.5]]))])
    calibration = nominal(IDEAL, default_target(**{**LIKE_NEURON, **changes}))
    drive, observe = Events.from_trains([[[2e-3]]]), Observe(peak={"output"})
    highest = run(network, drive, 30e-3, substrate=OnChip(IDEAL, calibration=calibration), observe=observe).peak[
        "output"
    ]
    ideal = run(network, drive, 30e-3, observe=observe).peak["output"]
    assert highest.value.item() == pytest.approx(ideal.value.item(), abs=0.01)  # a CADC step is 1/70


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau_mem": 12e-6}, r"'hidden'.*a tau_mem of 1\.2e-05 s, not 1e-05 s"),
        ({"tau_syn": 4e-6}, r"'hidden'.*a tau_syn of 4e-06 s, not 5e-06 s"),
        ({"reset": 60.0}, r"a reset of -0\.28.* of the way to the threshold, not 0"),
        ({"refractory": 3e-6}, r"a refractory of 3e-06 s, not 4e-08 s"),
    ],
)
def test_a_calibration_for_other_neurons_is_refused(changes, message):
    calibration = nominal(IDEAL, default_target(**{**LIKE_NEURON, **changes}))
    with pytest.raises(OutOfRange, match=message):
        setup_of(feedforward([12, 20, 4], NEURON), wish(calibration=calibration))


@pytest.mark.parametrize(("field", "value"), [("threshold", 2.0), ("tau_mem", 20e-3), ("reset", -0.4)])
def test_a_neuron_that_is_changed_in_place_is_another_on_the_chip(field, value):
    torch.manual_seed(0)
    network = feedforward([12, 20, 4], NEURON)
    drive = Events.from_lists([torch.rand(60) * 30e-3], [torch.arange(60) % 12], 12)
    substrate = OnChip(IDEAL)

    def spikes(net):
        with torch.no_grad():
            return run(net, drive, 50e-3, substrate=substrate, number=0).spikes["hidden"].time

    before = spikes(network)
    getattr(network.populations["hidden"], field).fill_(value)
    changed = feedforward([12, 20, 4], NEURON)
    changed.load_state_dict(network.state_dict())
    assert not torch.equal(spikes(network), before)
    assert torch.equal(spikes(network), spikes(changed))
