"""AdEx and compartments on the twin: what the ideal substrate does, read by instruments, continued anywhere."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from chips import IDEAL, ready

from spikeloop import AdEx, Events, Every, Ideal, Network, Observe, OnChip, Population, Projection, run
from spikeloop.chip import transfer
from spikeloop.chip.calibrate import default_target, nominal
from spikeloop.chip.calibrate_terms import COUPLING, SLOPE, TAU, THRESHOLD, A, B, TermsCalibration, calibrate_terms
from spikeloop.chip.mismatch import Quantity
from spikeloop.chip.terms import Kinds, Switches, Terms
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.errors import CannotObserve, OutOfRange, ShapeMismatch, Unsupported
from spikeloop.neuron import Compartment, Compartments, Plateau, Sodium

TICK = 8e-6


def drive(size: int = 10, batch: int = 3, count: int = 60, until: float = 50e-3) -> Events:
    random = torch.Generator().manual_seed(1)
    time = [
        (torch.rand(count, generator=random, dtype=torch.float64) * until / TICK).round() * TICK for _ in range(batch)
    ]
    return Events.from_lists(time, [torch.randint(0, size, (count,), generator=random) for _ in range(batch)], size)


def adaptive(**changes) -> Network:
    values = {
        "threshold": 1.0, "exponential_threshold": 0.8, "slope_factor": 0.1, "tau_adaptation": 50e-3, "a": 0.5,
        "b": 0.1, "refractory": 2e-3,
    }  # fmt: skip
    torch.manual_seed(0)
    neuron = AdEx(10e-3, 5e-3, **{**values, **changes})
    weight = torch.rand(10, 8) * 0.8
    return Network({"input": Population(10), "cells": Population(8, neuron)}, [Projection("input", "cells", weight)])


def branched() -> Network:
    torch.manual_seed(0)
    neuron = Compartments(
        {
            "soma": Compartment(10e-3, 5e-3, spike=Sodium(refractory=2e-3)),
            "trunk": Compartment(10e-3, 5e-3, spike=Plateau(threshold=0.8, potential=0.9, duration=10e-3)),
            "tip": Compartment(8e-3, 5e-3, capacitance=0.5),
        },
        {("soma", "trunk"): 3e-3, ("trunk", "tip"): 2e-3},
    )
    return Network(
        {"input": Population(10), "cells": Population(8, neuron)},
        {
            "near": Projection("input", "cells", torch.rand(10, 8) * 0.5),
            "far": Projection("input", "cells", torch.rand(10, 8), compartment="tip"),
        },
    )


NETWORKS = {"adaptive": (adaptive, ["cells"]), "branched": (branched, ["cells", "cells.trunk", "cells.tip"])}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_imperfections_it_is_ideal_up_to_codes(name: str) -> None:
    make, places = NETWORKS[name]
    net = make()
    chip = ready(net)
    wish = Observe(membrane=dict.fromkeys(places, chip.period))
    one, other = (run(net, drive(), 60e-3, substrate=substrate, observe=wish) for substrate in (chip, Ideal()))
    counts = [len(record.spikes["cells"].time) for record in (one, other)]
    assert counts[0] > 40
    assert abs(counts[0] / counts[1] - 1) < 0.05
    for place in places:
        seen = one.membrane[place].value
        apart = (seen - other.membrane[place].value[:, : seen.shape[1]]).abs()
        assert apart.median() < 0.01
        assert apart.quantile(0.9) < 0.05


@pytest.mark.parametrize("chip", [IDEAL, Twin(7)], ids=["ideal", "7"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_at_any_time_changes_nothing(name: str, chip: Twin) -> None:
    make, places = NETWORKS[name]
    net, sent = make(), drive(until=60e-3)
    substrate, wish = ready(net, chip), Observe(membrane=dict.fromkeys(places, 2e-3), state=True)
    whole = run(net, sent, 60e-3, substrate=substrate, observe=wish, number=3)
    random = np.random.default_rng(0)
    for cuts in (1, 4):
        state, parts = None, []
        for low, high in pairwise([0.0, *np.sort(random.uniform(1e-3, 59e-3, cuts)).tolist(), 60e-3]):
            kept = [(s.time >= low) & ((s.time <= high) if high == 60e-3 else (s.time < high)) for s in sent]
            some = [(s.time[keep], s.unit[keep]) for s, keep in zip(sent, kept, strict=True)]
            part = Events.from_lists([time for time, _ in some], [unit for _, unit in some], 10)
            parts.append(run(net, part, high - low, substrate=substrate, observe=wish, start=state, number=3))
            state = parts[-1].state
        for b in range(3):
            times = torch.cat([each.spikes["cells"][b].time for each in parts])
            assert torch.equal(whole.spikes["cells"][b].time, times)
        for place in places:
            found = torch.cat([each.membrane[place].value for each in parts], 1)
            assert torch.equal(whole.membrane[place].value, found)


def test_adaptation_is_read_by_the_fast_converter() -> None:
    net = adaptive()
    chip = ready(net)
    wish = Observe(adaptation={"cells": Every(0.5e-3, neurons=[0, 3])})
    one = run(net, drive(), 60e-3, substrate=chip, observe=wish).adaptation["cells"]
    other = run(net, drive(), 60e-3, substrate=Ideal(), observe=wish).adaptation["cells"]
    assert one.unit.tolist() == [0, 3]
    apart = (one.value - other.value[:, : one.value.shape[1]]).abs()
    assert other.value.abs().max() > 0.1
    assert apart.median() < 0.01
    with pytest.raises(CannotObserve, match="adaptation of 'cells' cannot be sampled every"):
        run(net, drive(), 60e-3, substrate=chip, observe=Observe(adaptation={"cells": 1e-3}))


def test_a_state_belongs_to_a_chip_and_a_batch() -> None:
    net = adaptive()
    state = run(net, drive(), 60e-3, substrate=ready(net), observe=Observe(state=True)).state
    with pytest.raises(Unsupported, match="the state is a chip's"):
        run(net, Events.from_lists([[]] * 3, [[]] * 3, 10), 1e-3, start=state)
    with pytest.raises(ShapeMismatch, match="the state is of 3 samples"):
        run(net, Events.from_lists([[]], [[]], 10), 1e-3, substrate=ready(net), start=state)
    ideal = run(net, drive(), 60e-3, observe=Observe(state=True)).state
    with pytest.raises(Unsupported, match="cannot continue from a state of another place"):
        run(net, Events.from_lists([[]] * 3, [[]] * 3, 10), 1e-3, substrate=ready(net), start=ideal)


BAD = {
    "slope": (lambda: adaptive(slope_factor=20.0, refractory=0.0), OutOfRange, "slope needs code"),
    "a": (lambda: adaptive(a=9.0, refractory=0.0), OutOfRange, "a needs code"),
    "coupling": (lambda: branched() and Network(
        {"input": Population(1), "cells": Population(1, Compartments(
            {"one": Compartment(1e-2, 5e-3), "other": Compartment(1e-2, 5e-3)}, {("one", "other"): 1.0}))},
        [Projection("input", "cells", torch.zeros(1, 1))]), OutOfRange, "coupling_one_other is 0.001 s"),
    "plateau": (lambda: Network(
        {"input": Population(1), "cells": Population(1, Compartments(
            {"one": Compartment(1e-2, 5e-3, spike=Sodium(reset=-0.9))}, {}))},
        [Projection("input", "cells", torch.zeros(1, 1))]), OutOfRange, "population 'cells.one'.*reset is -0.9"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_no_circuit_can_be_is_said(name: str) -> None:
    make, error, message = BAD[name]
    net = make()
    with pytest.raises(error, match=message):
        run(net, Events.from_lists([[]], [[]], net.populations["input"].size), 10e-3, substrate=with_some_codes())


def with_some_codes() -> OnChip:
    """The error comes before they matter."""
    return OnChip(IDEAL, calibration=nominal(IDEAL, default_target(tau_mem=10e-6, tau_syn=5e-6, refractory=40e-9)))


def test_terms_are_found_through_the_chips_protocol() -> None:
    """Without noise and other mismatch the fixed pattern of the terms is what is measured."""
    kept = {Imperfection.ADAPTATION, Imperfection.CONDUCTANCE, Imperfection.CADC_NOISE}
    twin = Twin(7, ideal=EVERYTHING - kept)
    made = nominal(twin, default_target(refractory=2e-6))
    found = calibrate_terms(twin, made, Kinds(False, True, True))
    pattern = twin.pattern()
    for name, quantity, spread in (
        (TAU, Quantity.TAU_ADAPTATION, 0.3), (A, Quantity.ADAPTATION_A, 0.25), (B, Quantity.ADAPTATION_B, 0.25),
        (COUPLING, Quantity.CONDUCTANCE, 0.3),
    ):  # fmt: skip
        good = found.success[name]
        assert good.mean() > 0.95
        error = (found.off[name] - spread * pattern.normal(quantity))[good]
        assert error.std() < 0.5 * spread


def test_what_was_found_is_undone() -> None:
    off = {name: np.full(512, np.log(1.25)) for name in (SLOPE, TAU, A, B, COUPLING)} | {THRESHOLD: np.full(512, 5.0)}
    found = TermsCalibration(off, {name: np.arange(512) != 3 for name in off})
    code = np.full(512, 200)
    codes = Terms(slope=code, exponential_threshold=code, a=code, b=code, tau_adaptation=code)
    better = found.terms(codes)
    assert better is not None
    assert better.slope[0] == better.a[0] == better.b[0] == 160
    assert better.tau_adaptation[0] == 250
    assert better.exponential_threshold[0] == round(200 - 5 * transfer.STEP / transfer.CODE_VOLTS)
    assert better.slope[3] == 200  # nothing is known of it
    switches = found.switches(Switches(conductance=np.full(512, 200)))
    assert switches is not None
    assert switches.conductance[0] == 250
