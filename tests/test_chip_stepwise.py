"""A twin in steps of a cycle: any cut changes nothing, and in law it is the exact path."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from chips import IDEAL, by_the_laws
from scipy import stats

from spikeloop import LI, LIF, Network, Population, Projection, feedforward, recurrent
from spikeloop.chip.configuration import AddressedEvents, Configuration, Instruments, Readout
from spikeloop.chip.lower_weights import lower_weights
from spikeloop.chip.mismatch import Noise
from spikeloop.chip.setup import Setup, Wish, setup_of
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.errors import OutOfRange, WrongType

CYCLES = 6000


def hidden_and_readout() -> Network:
    return feedforward([20, 40, 5], LIF(10e-3, 5e-3), readout=LI(10e-3, 5e-3))


NETWORKS = {
    "feedforward": lambda: feedforward([20, 40, 5], LIF(10e-3, 5e-3)),
    "readout": hidden_and_readout,
    "two circuits a neuron": lambda: feedforward([150, 30, 5], LIF(20e-3, 5e-3)),
    "recurrent": lambda: recurrent([20, 30, 5], LIF(10e-3, 10e-3)),
}


def setup(network: Network, twin: Twin) -> Setup:
    return setup_of(network, Wish(twin, 1000.0, 1, by_the_laws(twin, network), False, False))


def configured(network: Network, made: Setup) -> Configuration:
    heads = np.concatenate([circuit[:, 0] for circuit in made.placement.circuit.values()]).astype(np.int16)
    instruments = Instruments(np.array([213]), heads, madc_circuit=heads[:2])
    weight = lower_weights(network, made.placement, made.scales).weight
    return Configuration(weight, made.placement.routing, made.analog, instruments)


def case(network: Network, twin: Twin, batch: int = 3, count: int = 150) -> tuple[Configuration, AddressedEvents]:
    made = setup(network, twin)
    random = np.random.default_rng(0)
    address = made.placement.address["input"]
    cycle = np.sort(random.integers(0, CYCLES, (batch, count)), 1).ravel()
    sent = address[random.integers(0, len(address), batch * count)]
    return configured(network, made), AddressedEvents(cycle, sent, np.arange(batch + 1) * count, trial=5)


def part(drive: AddressedEvents, low: int, high: int) -> AddressedEvents:
    keep = (drive.cycle >= low) & (drive.cycle < high)
    start = np.append(0, np.cumsum(keep))[drive.start]
    return replace(drive, cycle=drive.cycle[keep], address=drive.address[keep], start=start)


def in_parts(twin: Twin, configuration: Configuration, drive: AddressedEvents, edges: list[int]) -> list[Readout]:
    outs, state = list[Readout](), None
    for low, high in zip([0, *edges], [*edges, CYCLES], strict=True):
        outs.append(twin.emulate(configuration, part(drive, low, high), high - low, start=state, keep=True))
        state = outs[-1].state
    return outs


def assert_the_same(whole: Readout, parts: list[Readout]) -> None:
    for b in range(len(whole.start) - 1):
        for name in ("cycle", "address"):
            found = [getattr(out, name)[out.start[b] : out.start[b + 1]] for out in parts]
            np.testing.assert_array_equal(
                getattr(whole, name)[whole.start[b] : whole.start[b + 1]], np.concatenate(found)
            )
    for name in ("cadc", "cadc_cycle", "madc"):
        found = np.concatenate([getattr(out, name) for out in parts], 1)
        np.testing.assert_array_equal(getattr(whole, name), found)
    np.testing.assert_array_equal(whole.lost, sum(out.lost for out in parts))


@pytest.mark.parametrize("name", NETWORKS)
def test_any_cut_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    twin = Twin(7)
    configuration, drive = case(NETWORKS[name](), twin)
    whole = twin.emulate(configuration, drive, CYCLES, keep=True)
    assert len(whole.cycle) > 100
    random = np.random.default_rng(1)
    for cuts in (1, 2, 5):
        edges = np.unique(random.integers(1, CYCLES, cuts)).tolist()
        assert_the_same(whole, in_parts(twin, configuration, drive, edges))


def test_cuts_where_links_and_outputs_are_busy() -> None:
    """All events at once: what waits and what is lost is the same, cut in the middle of the queue."""
    torch.manual_seed(0)
    twin = Twin(7)
    network = feedforward([20, 40, 5], LIF(10e-3, 5e-3))
    configuration, drive = case(network, twin, count=300)
    busy = np.sort(np.where(drive.cycle < 3000, 1000 + drive.cycle % 7, drive.cycle).reshape(3, -1), 1).ravel()
    drive = replace(drive, cycle=busy)
    whole = twin.emulate(configuration, drive, CYCLES, keep=True)
    assert whole.lost.sum() > 0
    for edges in ([1001], [1003, 1004, 1010], [1006, 1030]):
        assert_the_same(whole, in_parts(twin, configuration, drive, edges))


def test_results_do_not_depend_on_threads() -> None:
    torch.manual_seed(0)
    configuration, drive = case(NETWORKS["recurrent"](), Twin(7))
    before, outs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            outs.append(Twin(7).emulate(configuration, drive, CYCLES, keep=True))
    finally:
        torch.set_num_threads(before)
    assert_the_same(outs[0], [outs[1]])


@pytest.mark.parametrize("name", NETWORKS)
def test_without_imperfections_it_is_the_exact_path(name: str) -> None:
    torch.manual_seed(0)
    configuration, drive = case(NETWORKS[name](), IDEAL)
    exact, steps = IDEAL.emulate(configuration, drive, CYCLES), IDEAL.emulate(configuration, drive, CYCLES, keep=True)
    assert abs(len(exact.cycle) - len(steps.cycle)) <= 0.005 * len(exact.cycle)
    first = slice(0, 40)
    assert np.abs(exact.cycle[first] - steps.cycle[first]).max() <= 1
    away = np.abs(exact.cadc.astype(int) - steps.cadc.astype(int)) > 1
    assert away.mean() < 0.01


def noisy(twin: Twin, keep: bool, batch: int = 400) -> list[np.ndarray]:
    """First spikes, in cycles, of ten neurons in many runs with the same input; -1: none."""
    torch.manual_seed(0)
    network = Network(
        {"input": Population(10), "hidden": Population(10, LIF(10e-3, 5e-3))},
        [Projection("input", "hidden", torch.rand(10, 10) * 0.55)],
    )
    made = setup(network, twin)
    cycle = np.tile(np.arange(0, 4000, 100), batch)
    address = np.tile(np.resize(made.placement.address["input"], 40), batch)
    drive = AddressedEvents(cycle, address, np.arange(batch + 1) * 40, trial=3)
    out = twin.emulate(configured(network, made), drive, 4500, keep=keep)
    sample = np.repeat(np.arange(batch), np.diff(out.start))
    found = []
    for label in np.unique(out.address):
        first = np.full(batch, -1)
        mine = np.flatnonzero(out.address == label)[::-1]
        first[sample[mine]] = out.cycle[mine]
        found.append(first)
    return found


def test_in_law_it_is_the_exact_path() -> None:
    twin = Twin(7, noise=Noise(jitter=0.0, threshold_spike=0.01))
    pairs = list(zip(noisy(twin, False), noisy(twin, True), strict=True))
    assert len(pairs) >= 6
    assert max(one[one >= 0].std() for one, _ in pairs) > 30  # the noise matters
    assert min(stats.ks_2samp(one, other, method="asymp").pvalue for one, other in pairs) > 1e-3


def test_jitter_is_as_stated_and_nothing_leaves_before_it_was_caused() -> None:
    torch.manual_seed(0)
    network = Network(
        {"input": Population(20), "hidden": Population(100, LIF(10e-3, 5e-3))},
        [Projection("input", "hidden", torch.rand(20, 100))],
    )
    still, moving = IDEAL, Twin(7, ideal=EVERYTHING - {Imperfection.JITTER})
    configuration, drive = case(network, still, count=80)
    one, other = (twin.emulate(configuration, drive, CYCLES, keep=True) for twin in (still, moving))
    late = []
    for b in range(3):
        times = [
            {
                int(a): out.cycle[k]
                for k, a in reversed([*enumerate(out.address)])
                if out.start[b] <= k < out.start[b + 1]
            }
            for out in (one, other)
        ]
        late += [int(times[1][a] - times[0][a]) for a in times[0].keys() & times[1].keys()]
    assert len(late) > 250
    assert min(late) >= -1
    assert abs(np.mean(late) * 8e-9 - 90e-9) < 8e-9
    assert 26e-9 < np.std(late) * 8e-9 < 34e-9


def test_a_state_is_refused_where_it_does_not_belong() -> None:
    torch.manual_seed(0)
    configuration, drive = case(NETWORKS["feedforward"](), IDEAL)
    state = IDEAL.emulate(configuration, drive, 100, keep=True).state
    later = part(drive, 100, 200)
    with pytest.raises(OutOfRange, match="of another chip"):
        Twin(8).emulate(configuration, later, 100, start=state)
    other = replace(configuration, analog=replace(configuration.analog, leak=configuration.analog.leak + 1))
    with pytest.raises(OutOfRange, match="another configuration"):
        IDEAL.emulate(other, later, 100, start=state)
    with pytest.raises(OutOfRange, match="start is of 3 runs"):
        IDEAL.emulate(configuration, replace(later, start=later.start[:2], cycle=later.cycle[: later.start[1]],
                                             address=later.address[: later.start[1]]), 100, start=state)  # fmt: skip
    with pytest.raises(WrongType, match="start is a str"):
        IDEAL.emulate(configuration, later, 100, start="state")
