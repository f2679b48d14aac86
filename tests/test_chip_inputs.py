"""Receptors, constant currents and membranes without a leak on the twin: what Ideal does, up to codes, and no more."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from chips import IDEAL, ready

from spikeloop import AdEx, Events, Every, Ideal, Network, Observe, OnChip, Population, Projection, Steps, run
from spikeloop.chip.calibrate import default_target, nominal
from spikeloop.chip.configuration import AddressedEvents, Configuration
from spikeloop.chip.inputs import Inputs, Switching
from spikeloop.chip.scales import scale_of
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.chip.wire import from_bytes, to_bytes
from spikeloop.errors import OutOfRange, ShapeMismatch, Unsupported, WrongType
from spikeloop.neuron import LIF, Compartment, Compartments, Sodium
from spikeloop.plasticity import Correlation, Plasticity

TICK = 8e-6
BOTH = {"exc": 5e-3, "inh": 15e-3}


def drive(size: int = 10, batch: int = 3, count: int = 60, until: float = 50e-3) -> Events:
    random = torch.Generator().manual_seed(1)
    time = [
        (torch.rand(count, generator=random, dtype=torch.float64) * until / TICK).round() * TICK for _ in range(batch)
    ]
    return Events.from_lists(time, [torch.randint(0, size, (count,), generator=random) for _ in range(batch)], size)


def cut(sent: Events, low: float, high: float, last: bool) -> Events:
    kept = [(s.time >= low) & ((s.time <= high) if last else (s.time < high)) for s in sent]
    some = [(s.time[keep], s.unit[keep]) for s, keep in zip(sent, kept, strict=True)]
    return Events.from_lists([time for time, _ in some], [unit for _, unit in some], sent.size)


def receptors(excites: float = 0.8, inhibits: float = -0.2, tau=BOTH, **changes) -> Network:
    torch.manual_seed(0)
    neuron = AdEx(10e-3, tau, **{"refractory": 2e-3, **changes})
    return Network(
        {"input": Population(10), "cells": Population(8, neuron)},
        {
            "up": Projection("input", "cells", torch.rand(10, 8) * excites, receptor="exc"),
            "down": Projection("input", "cells", torch.rand(10, 8) * inhibits, receptor="inh"),
        },
    )


def floating(**changes) -> Network:
    torch.manual_seed(0)
    neuron = AdEx(10e-3, 5e-3, **{"refractory": 2e-3, "leaky": False, **changes})
    weight = torch.rand(10, 8) * 0.2
    return Network({"input": Population(10), "cells": Population(8, neuron)}, [Projection("input", "cells", weight)])


def dendrites() -> Network:
    torch.manual_seed(0)
    neuron = Compartments(
        {"soma": Compartment(10e-3, 5e-3, spike=Sodium(refractory=2e-3)),
         "tip": Compartment(8e-3, BOTH, reversal={"exc": 4.0, "inh": -0.5})},
        {("soma", "tip"): 2e-3},
    )  # fmt: skip
    return Network(
        {"input": Population(10), "cells": Population(8, neuron)},
        {
            "up": Projection("input", "cells", torch.rand(10, 8), compartment="tip", receptor="exc"),
            "down": Projection("input", "cells", -torch.rand(10, 8) * 0.2, compartment="tip", receptor="inh"),
            "near": Projection("input", "cells", torch.rand(10, 8) * 0.4),
        },
    )


NETWORKS = {
    "two lines": receptors,
    "inhibition first": lambda: receptors(tau={"inh": 15e-3, "exc": 5e-3}),
    "conductances": lambda: receptors(excites=1.0, reversal={"exc": 4.0, "inh": -0.5}),
    "one conductance": lambda: receptors(reversal={"inh": -0.5}),
    "adaptive": lambda: receptors(excites=0.9, a=0.3, b=0.1, tau_adaptation=50e-3),
    "dendrites": dendrites,
}


def compared(net: Network, sent, place: str = "cells", other: Network | None = None):
    """Records of the chip and of Ideal, and how far the membranes are apart; weights in whole steps of the chip."""
    chip = ready(net)
    for projection in net.projections.values():
        compartment = projection.place[0] or None
        unit = torch.from_numpy(scale_of(net.populations[projection.target], 1000.0, compartment).weight)
        projection.weight.data = ((projection.weight.detach() / unit).round() * unit).float()
    wish = Observe(membrane={place: chip.period})
    one = run(net, sent, 60e-3, substrate=chip, observe=wish)
    exact = run(other or net, sent, 60e-3, substrate=Ideal(), observe=wish)
    seen = one.membrane[place].value
    return one, exact, (seen - exact.membrane[place].value[:, : seen.shape[1]]).abs()


@pytest.mark.parametrize("name", NETWORKS)
def test_without_imperfections_receptors_are_ideal_up_to_codes(name: str) -> None:
    one, exact, apart = compared(NETWORKS[name](), drive())
    counts = [len(record.spikes["cells"].time) for record in (one, exact)]
    assert abs(counts[0] - counts[1]) <= max(1, 0.05 * counts[1])
    assert apart.median() < 0.01
    assert apart.quantile(0.9) < 0.03
    assert exact.membrane["cells"].value.std() > 0.15


@pytest.mark.parametrize("sign", ["exc", "inh"])
def test_each_line_decays_with_its_own_time_constant(sign: str) -> None:
    """Of one event alone: the whole course, in a unit of its peak."""
    net = receptors(0.6 if sign == "exc" else 0.0, -0.6 if sign == "inh" else 0.0, threshold=float("inf"))
    once = Events.from_lists([[5e-3]], [[0]], 10)
    _, exact, apart = compared(net, once)
    peak = exact.membrane["cells"].value.abs().max()
    assert apart.max() < 0.1 * peak


def test_lines_that_are_alike_share_one_and_have_both_signs() -> None:
    torch.manual_seed(0)
    alike = AdEx(10e-3, {"near": 5e-3, "far": 5e-3}, refractory=2e-3)
    net = Network(
        {"input": Population(10), "cells": Population(8, alike)},
        {"a": Projection("input", "cells", torch.randn(10, 8) * 0.5, receptor="near"),
         "b": Projection("input", "cells", torch.randn(10, 8) * 0.5, receptor="far")},
    )  # fmt: skip
    one, exact, apart = compared(net, drive())
    assert abs(len(one.spikes["cells"].time) / len(exact.spikes["cells"].time) - 1) < 0.05
    assert apart.median() < 0.01


@pytest.mark.parametrize(
    "make",
    [lambda: LIF(10e-3, 5e-3, refractory=2e-3), lambda: AdEx(10e-3, 5e-3, refractory=2e-3, b=0.1, a=0.2)],
    ids=["LIF", "AdEx"],
)
def test_currents_are_those_of_ideal_up_to_codes(make) -> None:
    net = Network({"cells": Population(8, make())}, [])
    strength = torch.linspace(0.7, 1.6, 8)
    signs = torch.tensor([[[1.0], [0.0], [1.0], [-1.0]], [[0.0], [-1.0], [1.0], [1.0]]])
    sent = {"cells": Steps([0.0, 12e-3, 25e-3, 45e-3], signs * strength)}
    one, exact, apart = compared(net, sent)
    assert len(exact.spikes["cells"].time) > 5
    assert (one.spikes["cells"].count - exact.spikes["cells"].count).abs().max() <= 1
    assert apart.median() < 0.01
    assert apart.quantile(0.9) < 0.05


def test_a_current_flows_into_the_compartment_it_is_given_to() -> None:
    net = dendrites()
    current = Steps([5e-3, 40e-3], torch.tensor([[1.5], [0.0]]).expand(2, 8))
    nothing = Events.from_lists([[]], [[]], 10)
    one, exact, apart = compared(net, {"input": nothing, "cells.tip": current}, "cells.tip")
    assert exact.membrane["cells.tip"].value.max() > 0.8
    assert apart.quantile(0.9) < 0.05
    assert (one.spikes["cells"].count - exact.spikes["cells"].count).abs().max() <= 1


def test_a_membrane_without_a_leak_drifts_as_slowly_as_it_is_said() -> None:
    """Up to codes it is one with a leak of 110 us of chip time, whose currents are as much larger."""
    net, factor = floating(), 11.0
    slow = AdEx(110e-3, 5e-3, refractory=2e-3)
    weight = net.projections["input_to_cells"].weight.detach() * factor
    leaking = Network(
        {"input": Population(10), "cells": Population(8, slow)}, [Projection("input", "cells", weight)]
    )  # fmt: skip
    one, exact, apart = compared(net, drive(), other=leaking)
    assert len(exact.spikes["cells"].time) > 20
    assert (one.spikes["cells"].count - exact.spikes["cells"].count).abs().max() <= 1
    assert apart.median() < 0.02
    held = drive(count=3, until=5e-3)
    _, true, drifted = compared(floating(), held)
    level = true.membrane["cells"].value[:, -1]
    assert level.abs().max() > 0.1
    assert drifted[:, -1].max() < 0.5 * level.abs().max()  # 50 of 110 us


def test_where_a_membrane_without_a_leak_drifts_to_is_a_chips_own() -> None:
    twin = Twin(7, ideal=EVERYTHING - {Imperfection.LEAKAGE})
    net = floating()
    nothing = Events.from_lists([[]], [[]], 10)
    chip = ready(net, twin)
    value = run(net, nothing, 400e-3, substrate=chip, observe=Observe(membrane={"cells": chip.period}))
    seen = value.membrane["cells"].value[0]
    assert seen[0].abs().max() < 0.02  # it begins at its reset
    assert 0.05 < seen[-1].std() < 0.8  # 20 of 70 steps
    steady = seen[-1] - seen[-40]
    assert steady.abs().max() < 0.2


@pytest.mark.parametrize("chip", [IDEAL, Twin(7)], ids=["ideal", "7"])
@pytest.mark.parametrize("name", ["conductances", "adaptive", "floating"])
def test_a_cut_at_any_time_changes_nothing(name: str, chip: Twin) -> None:
    net, sent = floating() if name == "floating" else NETWORKS[name](), drive(until=60e-3)
    current = Steps([3e-3, 21e-3, 40e-3], torch.tensor([[0.4], [0.0], [-0.4]]).expand(3, 8))
    substrate, wish = ready(net, chip), Observe(membrane={"cells": 2e-3}, state=True)
    whole = run(net, {"input": sent, "cells": current}, 60e-3, substrate=substrate, observe=wish, number=3)
    random = np.random.default_rng(0)
    for cuts in (1, 4):
        state, parts = None, []
        for low, high in pairwise([0.0, *np.sort(random.uniform(1e-3, 59e-3, cuts)).tolist(), 60e-3]):
            given = {"input": cut(sent, low, high, high == 60e-3), "cells": current}
            parts.append(run(net, given, high - low, substrate=substrate, observe=wish, start=state, number=3))
            state = parts[-1].state
        for b in range(3):
            times = torch.cat([each.spikes["cells"][b].time for each in parts])
            assert torch.equal(whole.spikes["cells"][b].time, times)
        assert torch.equal(whole.membrane["cells"].value, torch.cat([p.membrane["cells"].value for p in parts], 1))


def test_a_run_goes_on_without_its_currents() -> None:
    net = receptors()
    current = Steps([0.0], torch.full((1, 8), 0.5))
    chip = ready(net)
    state = run(net, {"input": drive(), "cells": current}, 60e-3, substrate=chip, observe=Observe(state=True)).state
    nothing = Events.from_lists([[]] * 3, [[]] * 3, 10)
    after = run(net, nothing, 200e-3, substrate=chip, start=state, observe=Observe(membrane={"cells": 2e-3}))
    assert after.membrane["cells"].value[:, 0].abs().max() > 0.1
    assert after.membrane["cells"].value[:, -1].abs().max() < 0.02


def test_rules_change_the_weights_of_a_receptor() -> None:
    def rule(view):
        view.weights += 0.25

    torch.manual_seed(0)
    learns = Plasticity(rule, w_max=0.9, period=20e-3, sensor=None)
    net = Network(
        {"input": Population(10), "cells": Population(8, AdEx(10e-3, BOTH, refractory=2e-3))},
        {"up": Projection("input", "cells", torch.full((10, 8), 0.2), receptor="exc", plasticity=learns),
         "down": Projection("input", "cells", -torch.rand(10, 8) * 0.2, receptor="inh")},
    )  # fmt: skip
    record = run(net, drive(), 60e-3, substrate=ready(net))
    assert record.weights["up"].mean() == pytest.approx(0.2 + 3 * 0.25 * 0.9, rel=0.05)


MISMATCHED = Twin(7, ideal={Imperfection.DEAD})


def test_on_a_mismatched_chip_lines_spread_as_they_should() -> None:
    """With the laws' codes: time constants by 30 %, which the pattern says circuit by circuit."""
    from spikeloop.chip.by_value import ByValue
    from spikeloop.chip.stretch import _chipful, _Made  # what a chip makes of codes

    made = nominal(MISMATCHED, default_target())
    configuration = Configuration(analog=made.analog, inputs=Inputs(separate=np.ones((2, 512), bool)))
    parts = [ByValue(each) for each in (made.analog, configuration.routing, configuration.instruments)]
    chip = _chipful(_Made(parts[0], parts[1], parts[2], None, None, ByValue(configuration.inputs), None), MISMATCHED)
    tau = np.log(chip.dynamics.lines.tau_syn / 6e-6)
    assert tau.shape == (2, 512)
    assert np.abs(tau.std(1) - np.hypot(0.3, 0.05)).max() < 0.03
    assert abs(np.corrcoef(tau)[0, 1]) < 0.15


BAD = {
    "two excite": (lambda: receptors(inhibits=0.2), Unsupported, "receptors 'exc' and 'inh' both have positive"),
    "reversal below": (lambda: receptors(reversal={"exc": -2.0}), Unsupported,
                       r"receptor 'exc' has positive weights, and its reversal \(-2\) lies below"),
    "reversal above": (lambda: receptors(reversal={"inh": 2.0}), Unsupported,
                       r"receptor 'inh' has negative weights, and its reversal \(2\) lies above"),
    "reversal far": (lambda: receptors(reversal={"exc": 7.0}), OutOfRange,
                     r"the reversal of receptor 'exc' is 7 .*Expected: -1\.2\d* to 4\.8"),
    "tau of a line": (lambda: receptors(tau={"exc": 5e-3, "inh": 50e-3}), OutOfRange,
                      "tau_syn of receptor 'inh' is 0.05 s"),
    "begins elsewhere": (lambda: floating(reset=-0.3), Unsupported, "it has no leak, and its reset is -0.3, its leak"),
    "measured by the leak": (lambda: floating(a=0.5), Unsupported, "it has a, but no leak"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_no_circuit_can_be_is_said(name: str) -> None:
    make, error, message = BAD[name]
    codes = nominal(IDEAL, default_target(tau_mem=10e-6, tau_syn=5e-6, refractory=2e-6))
    with pytest.raises(error, match=message):
        run(make(), Events.from_lists([[]], [[]], 10), 10e-3, substrate=OnChip(IDEAL, calibration=codes))


CURRENTS = {
    "two strengths": (Steps([0.0, 5e-3], torch.tensor([[0.5], [0.7]]).expand(2, 8)), Unsupported,
                      "the current of neuron 0 is 0.5 from 0 s on, and 0.7 elsewhere"),
    "too strong": (Steps([0.0], torch.full((1, 8), 9.0)), OutOfRange, r"the current of neuron 0 is 9 .*at most 2\.\d"),
}  # fmt: skip


@pytest.mark.parametrize("name", CURRENTS)
def test_currents_that_no_circuit_has_are_said(name: str) -> None:
    steps, error, message = CURRENTS[name]
    net = Network({"cells": Population(8, LIF(10e-3, 5e-3, refractory=2e-3))}, [])
    with pytest.raises(error, match=message):
        run(net, {"cells": steps}, 10e-3, substrate=ready(net))


def test_codes_are_checked_and_sent() -> None:
    with pytest.raises(OutOfRange, match=r"reversal\[0, 3\] is 2000"):
        Inputs(reversal=np.where(np.arange(512) == 3, 2000, 0)[None].repeat(2, 0))
    with pytest.raises(OutOfRange, match="reversal and reference of circuit 0 have one code"):
        Inputs(conductance=np.ones((2, 512), bool), reversal=np.full((2, 512), 214))
    with pytest.raises(WrongType, match="inputs is"):
        Configuration(inputs=3)  # type: ignore[arg-type]
    state = np.zeros((2, 1, 512), np.int8)
    with pytest.raises(OutOfRange, match="currents are of 2 runs"):
        AddressedEvents(np.zeros(0, int), np.zeros(0, int), np.array([0, 0]), currents=Switching(np.array([3]), state))
    with pytest.raises(OutOfRange, match="cycle does not ascend"):
        Switching(np.array([3, 3]), np.zeros((1, 2, 512), np.int8))
    with pytest.raises(ShapeMismatch):
        Switching(np.array([3]), np.zeros((1, 2, 512), np.int8))
    inputs = Inputs(offset=np.full(512, 9), leak_off=np.ones(512, bool))
    back = from_bytes(Configuration, to_bytes(Configuration(inputs=inputs))).inputs
    assert back is not None
    assert (back.offset == 9).all()
    assert back.leak_off.all()
    sent = AddressedEvents(
        np.zeros(0, int), np.zeros(0, int), np.array([0, 0]), currents=Switching(np.array([3]), state[:1])
    )
    assert from_bytes(AddressedEvents, to_bytes(sent)).currents.cycle.tolist() == [3]
    assert from_bytes(Configuration, to_bytes(Configuration())).inputs is None


def test_sensors_stay_what_they_are_with_lines() -> None:
    """A rule that reads correlations runs beside receptors, adaptation seen by the fast converter."""
    seen = []

    def rule(view):
        seen.append(float(np.asarray(view.causal).max()))

    torch.manual_seed(0)
    learns = Plasticity(rule, w_max=0.9, period=30e-3, sensor=Correlation(tau=5e-3))
    net = Network(
        {"input": Population(10), "cells": Population(8, AdEx(10e-3, BOTH, refractory=2e-3, b=0.1, a=0.1))},
        {"up": Projection("input", "cells", torch.rand(10, 8) * 0.8, receptor="exc", plasticity=learns),
         "down": Projection("input", "cells", -torch.rand(10, 8) * 0.2, receptor="inh")},
    )  # fmt: skip
    wish = Observe(adaptation={"cells": Every(1e-3, neurons=[0])})
    record = run(net, drive(), 60e-3, substrate=ready(net), observe=wish)
    assert max(seen) > 0
    assert record.adaptation["cells"].value.abs().max() > 0
