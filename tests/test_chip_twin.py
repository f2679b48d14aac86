"""The twin: it is the ideal simulator where it has no imperfections, and each imperfection does what it says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from chips import (
    ALL_CIRCUITS,
    EXCITATORY,
    IDEAL,
    INHIBITORY,
    as_the_codes_say,
    by_the_laws,
    configuration,
    events,
    same,
    steps_of,
)

from spikeloop import LI, LIF, Events, Observe, OnChip, feedforward, recurrent, run
from spikeloop.chip import plan, transfer
from spikeloop.chip.array_codes import Place
from spikeloop.chip.calibrate import default_target
from spikeloop.chip.configuration import CYCLE, AddressedEvents
from spikeloop.chip.drivers import Drivers
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.mac import ArrayPass
from spikeloop.chip.mapping import place
from spikeloop.chip.mismatch import Mismatch, Noise
from spikeloop.chip.ppu import Task
from spikeloop.chip.terms import Switches, Terms
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.engine.bus import arrived
from spikeloop.errors import OutOfRange

TICK = CYCLE * 1000  # model seconds of a time stamp


def drive(size: int, batch: int = 6, count: int = 25, seed: int = 1) -> Events:
    """Random events on the chip's grid of time."""
    random = torch.Generator().manual_seed(seed)
    time = [
        (torch.rand(count, generator=random, dtype=torch.float64) * 30e-3 / TICK).round() * TICK for _ in range(batch)
    ]
    return Events.from_lists(time, [torch.randint(0, size, (count,), generator=random) for _ in range(batch)], size)


def codes_of(onchip, placement):
    """The circuits of a neuron of each population, and what is written into them."""
    return {name: (circuit[0], onchip.calibration.analog) for name, circuit in placement.circuit.items()}


NETWORKS = {
    "feedforward": lambda: feedforward([20, 40, 5], LIF(10e-3, 5e-3)),
    "two circuits a neuron": lambda: feedforward([150, 30, 5], LIF(20e-3, 5e-3)),
    "recurrent": lambda: recurrent([20, 30, 5], LIF(10e-3, 10e-3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_imperfections_it_is_ideal_up_to_quantisation(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    placement = place(network)
    onchip = OnChip(IDEAL, calibration=by_the_laws(IDEAL, network))
    given = drive(network.populations["input"].size, count=80 if "two" in name else 25)
    exact = as_the_codes_say(steps_of(network), codes_of(onchip, placement))
    with torch.no_grad():
        there, here = run(network, given, 50e-3, substrate=onchip), run(exact, given, 50e-3)
    for population in ("hidden", "output"):
        one, other = there.spikes[population], here.spikes[population]
        assert len(one.time) > 50
        assert one.start.tolist() == other.start.tolist()
        first, second = one.first(), other.first()
        assert (torch.isfinite(first) == torch.isfinite(second)).all()
        late = (first - second)[torch.isfinite(first)]
        assert late.abs().max() < 0.51 * TICK  # stamped in the middle of its cycle, hidden times enter unrounded
        assert late.mean().abs() < 0.1 * TICK


def test_membranes_of_a_chip_without_imperfections_are_ideal_up_to_quantisation():
    torch.manual_seed(0)
    network = feedforward([20, 40, 5], LIF(10e-3, 5e-3), readout=LI(10e-3, 5e-3))
    network.projections["hidden_to_output"].weight.data *= 0.3  # within the converter's range
    placement = place(network)
    onchip = OnChip(IDEAL, calibration=by_the_laws(IDEAL, network))
    with torch.no_grad():
        there = run(
            network, drive(20), 50e-3, substrate=onchip, observe=Observe(membrane={"output": 2e-3}, peak="output")
        )
        exact = as_the_codes_say(steps_of(network), codes_of(onchip, placement))
        samples = there.membrane["output"]
        here = run(exact, drive(20), 50e-3, observe=Observe(membrane={"output": samples.time[0]}))
    assert (samples.value - here.membrane["output"].value).abs().max() < 0.51 / 70 + 0.002


def test_readouts_depend_on_seed_and_trial_and_on_nothing_else():
    wanted, sent = configuration(20, 10, watch=[3, 4]), [(300, EXCITATORY), (700, EXCITATORY)]
    first = Twin(7).emulate(wanted, events(sent, sent), 3000)
    assert same(first, Twin(7).emulate(configuration(20, 10, watch=[3, 4]), events(sent, sent), 3000))
    assert not same(first, Twin(7).emulate(wanted, events(sent, sent, trial=1), 3000))
    assert not same(first, Twin(8).emulate(wanted, events(sent, sent), 3000))
    assert not np.array_equal(np.diff(first.start)[:1], np.zeros(1))


def test_readouts_do_not_depend_on_the_number_of_threads():
    wanted, sent = configuration(20, 10, watch=ALL_CIRCUITS), [[(300 + 7 * k, EXCITATORY)] for k in range(40)]
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(Twin(7).emulate(wanted, events(*sent), 2000))
    torch.set_num_threads(1)
    assert same(*found)


def test_observing_changes_no_spike():
    sent = [(300, EXCITATORY), (500, EXCITATORY), (900, INHIBITORY)]
    plain, watched = (Twin(7).emulate(configuration(63, 3, watch=w), events(sent), 3000) for w in ((), ALL_CIRCUITS))
    assert len(plain.cycle) > 100
    np.testing.assert_array_equal(plain.cycle, watched.cycle)
    np.testing.assert_array_equal(plain.address, watched.address)


# ---- imperfections, one by one ------------------------------------------------------------------------------------


def exposed(twin: Twin):
    """Spikes and membranes of one run in which every imperfection would show."""
    target = default_target(threshold=np.where(np.arange(512) % 2, 100.0, 140.0), refractory=2e-6)
    wanted = configuration(63, 6, target, watch=ALL_CIRCUITS)
    sent = [(100 + 3 * k, EXCITATORY) for k in range(3)] + [(3000 + 40 * k, INHIBITORY) for k in range(6)]
    burst = [(5000, EXCITATORY)] * 30
    return twin.emulate(wanted, events(sent, [], burst, sent), 8000)


def multiplied(twin: Twin):
    """Products in which every imperfection of the array as a multiplier would show."""
    weights = np.full((128, 256), 40, np.int8)
    weights[:, ::2] = -40
    activations = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 128, 1)
    return twin.multiply(weights, activations, ArrayPass(sends=2, wait=1))


def extended(twin: Twin):
    """Membranes and learned weights of a run in which every imperfection of what neurons have beside would show."""
    every, half = np.ones(512, bool), np.arange(512) % 2 == 0
    terms = Terms(
        exponential=every, slope=np.full(512, 300), exponential_threshold=np.full(512, 300), adaptation=every,
        a=np.full(512, 200), b=np.full(512, 200),
    )  # fmt: skip
    switches = Switches(
        connect_soma=half, connect_conductance=~half, connect_soma_right=half, conductance=np.full(512, 300)
    )
    plain = configuration(40, 6, watch=ALL_CIRCUITS, leak=np.where(half, 214, 240))
    inputs = Inputs(
        separate=np.ones((2, 512), bool), conductance=np.ones((2, 512), bool),
        reversal=np.stack([np.full(512, 700), np.full(512, 100)]), offset=np.full(512, 100),
        offset_switch=np.ones(512, np.int8), leak_off=np.arange(512) % 8 == 0,
    )  # fmt: skip
    drivers = Drivers(plastic=np.ones((2, 128), bool))
    wanted = replace(plain, terms=terms, switches=switches, inputs=inputs, drivers=drivers)
    place = Place(np.arange(8).reshape(1, 1, 8), np.array([EXCITATORY]), False, np.arange(8), np.full(8, 63.0))

    def kernel(view) -> None:
        view.weights = 4 * view.causal

    task = Task(kernel, {"all": place}, np.array([6000]), 8e-6, ({},))
    sent = [(100 + 600 * k, EXCITATORY) for k in range(9)]
    out = twin.emulate(wanted, events(sent), 8000, program={"rule": task})
    return out, out.program[0].learning.code["rule", "all"]


EXTENDED = {
    Imperfection.EXPONENTIAL, Imperfection.ADAPTATION, Imperfection.CONDUCTANCE, Imperfection.CORRELATION,
    Imperfection.LINE, Imperfection.REVERSAL, Imperfection.OFFSET, Imperfection.LEAKAGE,
    Imperfection.SHORT_TERM,
}  # fmt: skip
IN_FORCE = {Imperfection.THRESHOLD_SPIKE: Noise(threshold_spike=0.05)}  # its default strength is zero
STRONG = {Imperfection.DEAD: replace(Mismatch(), dead=0.1)}  # half a per cent of 512 may be nobody


@pytest.mark.parametrize("imperfection", Imperfection, ids=lambda each: each.value)
def test_every_imperfection_can_be_switched_off_alone(imperfection):
    noise = IN_FORCE.get(imperfection, Noise())
    mismatch = STRONG.get(imperfection, Mismatch())
    alone = Twin(7, mismatch, noise, EVERYTHING - {imperfection})
    ideal = Twin(7, mismatch, noise, EVERYTHING)
    if imperfection.value.startswith("mac_"):
        assert same(exposed(alone), exposed(ideal))  # neurons know nothing of it
        assert not np.array_equal(multiplied(alone), multiplied(ideal))
    elif imperfection in EXTENDED:
        assert same(exposed(alone), exposed(ideal))  # plain neurons know nothing of it
        (one, learned), (other, meant) = extended(alone), extended(ideal)
        sensors = imperfection is Imperfection.CORRELATION
        assert np.array_equal(one.cadc, other.cadc) == sensors
        assert not (sensors and np.array_equal(learned, meant))
    else:
        assert not same(exposed(alone), exposed(ideal))


def test_a_full_link_drops_events_and_counts_them():
    burst = [(100, EXCITATORY)] * 30
    out = Twin(7, ideal=EVERYTHING - {Imperfection.CAPACITY}).emulate(
        configuration(1, 1), events(burst, burst[:5]), 1000
    )
    assert out.lost.tolist() == [30 - 17, 0]  # one goes at once, 16 wait
    assert IDEAL.emulate(configuration(1, 1), events(burst), 1000).lost.tolist() == [0]


@pytest.mark.parametrize("twin", [IDEAL, Twin(7)], ids=repr)
def test_events_that_come_when_the_run_is_over_are_lost(twin):
    """In the second run they come in time, but the last three are still waiting for the link when it ends."""
    late = events([(10, EXCITATORY), (999, EXCITATORY), (1000, EXCITATORY), (70_000, EXCITATORY)],
                  [(996, EXCITATORY)] * 7)  # fmt: skip
    waiting = 0 if twin is IDEAL else 3
    out = twin.emulate(configuration(1), late, 1000)
    assert out.lost.tolist() == [2, waiting]
    in_time = events([(10, EXCITATORY), (999, EXCITATORY)], [(996, EXCITATORY)] * (7 - waiting))
    np.testing.assert_array_equal(out.cycle, twin.emulate(configuration(1), in_time, 1000).cycle)


@pytest.mark.parametrize("senders", [40, 512])
def test_a_full_output_drops_events_and_counts_them(senders):
    """All circuits spike together, an output passes one a cycle and keeps 16 waiting: what is lost was not sent."""
    wanted = configuration(63, 20)
    heard = np.zeros((1, 512), bool)
    heard[0, :senders] = True
    sent = events([(100, EXCITATORY)])
    sent = AddressedEvents(sent.cycle, sent.address, sent.start, ~heard)
    limited = Twin(7, ideal=EVERYTHING - {Imperfection.CAPACITY}).emulate(wanted, sent, 200)
    free = IDEAL.emulate(wanted, sent, 200)
    assert len(free.cycle) == senders
    assert free.lost.tolist() == [0]
    assert len(limited.cycle) + limited.lost[0] == senders
    by_output = np.bincount(limited.address >> 8, minlength=8)
    assert by_output.tolist() == np.minimum(np.bincount(free.address >> 8, minlength=8), 17).tolist()
    for output in range(8):
        assert (np.diff(limited.cycle[limited.address >> 8 == output]) == 1).all()


def test_inhibition_ends_at_the_floor():
    held = Twin(7, ideal=EVERYTHING - {Imperfection.FLOOR})
    sent = [(100 + 20 * k, INHIBITORY) for k in range(60)]
    wanted = configuration(63, 2, watch=[5])
    lowest = [t.emulate(wanted, events(sent), 2500).cadc.min() for t in (held, IDEAL)]
    assert lowest[1] == 0
    assert 80 - 48 - 40 < lowest[0] < 80 - 30  # clamped at arrivals, it may fall between the last ones


def test_the_current_after_an_arrival_is_limited():
    limited = Twin(7, ideal=EVERYTHING - {Imperfection.SATURATION})
    silent = np.zeros(512, bool)
    wanted = configuration(63, 6, watch=[5], fires=silent)
    highest = [int(t.emulate(wanted, events([(100, EXCITATORY)]), 2500).cadc.max()) - 80 for t in (limited, IDEAL)]
    three = 3 * 63 * transfer.REFERENCE_PSP
    assert highest[0] == pytest.approx(three, rel=0.25)  # 10 % a neuron, and samples miss the peak
    assert highest[1] == pytest.approx(min(2 * three, 255 - 80), rel=0.1)


def test_threshold_noise_of_a_run_is_the_same_for_its_whole_batch():
    twin = Twin(7, ideal=EVERYTHING - {Imperfection.THRESHOLD_RUN})
    sent = [(100, EXCITATORY)]
    out = twin.emulate(configuration(63, 4), events(sent, sent), 2000)
    assert len(out.cycle)
    np.testing.assert_array_equal(out.cycle[: out.start[1]], out.cycle[out.start[1] :])


def test_jitter_has_its_stated_width():
    twin = Twin(7, ideal=EVERYTHING - {Imperfection.JITTER})
    wanted, sent = configuration(63, 4), [[(100, EXCITATORY)]] * 8
    late = (
        twin.emulate(wanted, events(*sent), 1000).cycle.mean() - IDEAL.emulate(wanted, events(*sent), 1000).cycle.mean()
    ) * CYCLE
    spread = np.std(twin.emulate(wanted, events(*sent), 1000).cycle) * CYCLE
    assert abs(late) < 5e-9
    assert spread == pytest.approx(np.hypot(30e-9, CYCLE / math.sqrt(12)), rel=0.05)


def test_muted_circuits_send_nothing():
    wanted, sent = configuration(63, 4), events([(100, EXCITATORY)], [(100, EXCITATORY)])
    muted = np.zeros((2, 512), bool)
    muted[1, :300] = True
    out = IDEAL.emulate(wanted, AddressedEvents(sent.cycle, sent.address, sent.start, muted), 2000)
    assert np.diff(out.start).tolist()[1] / np.diff(out.start).tolist()[0] == pytest.approx(212 / 512)


def test_nonsense_is_refused():
    with pytest.raises(OutOfRange, match="mismatch is -1"):
        Twin(7, mismatch=-1)
    with pytest.raises(OutOfRange, match="cycles is 0"):
        IDEAL.emulate(configuration(1), events([]), 0)


def test_it_shows_what_it_is():
    assert repr(Twin(7)) == "Twin(7)"
    assert repr(Twin(7, 0.5, ideal={Imperfection.JITTER})) == "Twin(7, mismatch=0.5, ideal={JITTER})"
    assert repr(IDEAL) == "Twin(7, ideal=EVERYTHING)"


@pytest.mark.parametrize("part", ["analog", "routing", "instruments"])
def test_a_configuration_that_is_changed_in_place_is_another(part):
    """What is made of a configuration is kept by its values, not by who it is."""
    sent = events([(100, EXCITATORY), (200, EXCITATORY)])
    twin = Twin(7)

    def made(change):
        changed = configuration(40, 3, watch=[1, 2])
        if change == "after a run":
            twin.emulate(changed, sent, 4000)
        if part == "analog":
            changed.analog.threshold[:] -= 60
        elif part == "routing":
            changed.routing.label[:, :100] = 5
        else:
            changed.instruments.cadc_circuit[:] = [7, 8]
        return twin.emulate(changed, sent, 4000)

    assert same(made("after a run"), made("before any"))
    assert not same(made("before any"), twin.emulate(configuration(40, 3, watch=[1, 2]), sent, 4000))


def test_weights_that_are_written_to_during_a_run_are_those_it_began_with(monkeypatch):
    """Otherwise what is made of them would be kept as that of others."""
    sent, twin = events([(100, EXCITATORY), (200, EXCITATORY)]), Twin(7)
    usual = twin.emulate(configuration(40, 3), sent, 4000)
    plan.plan_of.cache_clear()
    wanted = configuration(40, 3)

    def write_to_them(*given):
        wanted.weight[:] = 0
        return arrived(*given)

    monkeypatch.setattr("spikeloop.chip.twin.arrived", write_to_them)
    assert len(usual.cycle) > 0
    assert same(twin.emulate(wanted, sent, 4000), usual)
    monkeypatch.undo()
    assert same(twin.emulate(configuration(40, 3), sent, 4000), usual)


def test_inputs_that_come_up_later_are_wired_like_the_first():
    """Wires from outside are found as addresses first come up, and stay what they are."""
    few = Events.from_lists([[1e-3, 2e-3]], [[7, 3]], 20)

    def spikes(before):
        torch.manual_seed(4)
        network = feedforward([20, 40, 5], LIF(10e-3, 5e-3))
        plan.plan_of.cache_clear()
        chip = OnChip(Twin(7), calibration=by_the_laws(Twin(7), network))
        for each in before:
            run(network, each, 40e-3, substrate=chip, number=0)
        return run(network, drive(20), 40e-3, substrate=chip, number=1).spikes

    late, at_once = spikes([few]), spikes([])
    assert len(late["output"].time) > 20
    for name in ("hidden", "output"):
        assert torch.equal(late[name].time, at_once[name].time)
        assert torch.equal(late[name].unit, at_once[name].unit)
