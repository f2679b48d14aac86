"""Records and what can be asked for: repr, sampling grids, unions, offers and their limits."""

import pytest
import torch

from spikeloop import LI, LIF, NOTHING, Cost, Events, Every, Lowering, Observe, Peak, Record, Samples, feedforward
from spikeloop.errors import CannotObserve, OutOfRange, UnknownPopulation

NET = feedforward([2, 4, 3], LIF(10e-3, 5e-3), readout=LI(10e-3, 5e-3))


def record(**more):
    drive = Events.from_lists([[1e-3, 2e-3], [3e-3]], [[0, 1], [1]], size=2)
    hidden = Events.from_lists([[4e-3, 5e-3, 6e-3], []], [[0, 3, 3], []], size=4)
    return Record({"input": drive, "hidden": hidden}, 60e-3, **more)


def test_repr_says_what_happened():
    assert repr(record()) == "60 ms, 2 samples: input 1.5, hidden 1.5 spikes/sample"
    chip = record(cost=Cost(chip_time=60e-6), lowering=Lowering(clipped=3))
    assert repr(chip) == (
        "60 ms (chip 60 us), 2 samples: input 1.5, hidden 1.5 spikes/sample, 3 weights clipped, 0 events dropped"
    )
    observed = record(
        membrane={"output": Samples(torch.zeros(2), torch.arange(3), torch.zeros(2, 2, 3))},
        peak={"output": Peak(torch.zeros(2, 3), torch.zeros(2, 3))},
    )
    assert repr(observed).endswith("membrane of output, peak of output")
    assert len(observed) == 2


def test_sampling_starts_at_zero_and_includes_the_end():
    observe = Observe(membrane={"hidden": 0.5e-3, "output": Every(0.1, neurons=[2, 0])})
    times = observe.times("hidden", 60e-3)
    assert times.dtype == torch.float64
    assert len(times) == 121
    assert times[0] == 0
    assert float(times[-1]) == pytest.approx(60e-3)
    assert len(observe.times("output", 60e-3)) == 1
    assert observe.neurons("hidden", 4).tolist() == [0, 1, 2, 3]
    assert observe.neurons("output", 3).tolist() == [2, 0]


def test_a_tensor_of_times_is_taken_as_it_is():
    times = torch.tensor([1e-3, 2.5e-3], dtype=torch.float64)
    assert Observe(membrane={"hidden": times}).times("hidden", 60e-3).tolist() == times.tolist()


def test_one_population_may_be_named_without_a_set():
    assert Observe(peak="output").peak == {"output"}


def test_union_wants_both():
    one = Observe(membrane={"hidden": 1e-3}, peak={"output"})
    other = Observe(membrane={"hidden": Every(0.5e-3, [1]), "output": 2e-3}, state=True)
    both = one.union(other)
    assert both.membrane == {"hidden": Every(0.5e-3), "output": Every(2e-3)}
    assert both.peak == {"output"}
    assert both.state
    assert one.union(NOTHING) is one
    chosen = Observe(membrane={"hidden": Every(1e-3, [2])}).union(Observe(membrane={"hidden": Every(1e-3, [0, 2])}))
    assert chosen.membrane == {"hidden": Every(1e-3, [0, 2])}
    times = Observe(membrane={"hidden": torch.tensor([3e-3, 1e-3])})
    assert times.union(Observe(membrane={"hidden": torch.tensor([2e-3])})).times(
        "hidden", 1.0
    ).tolist() == pytest.approx([1e-3, 2e-3, 3e-3])


def test_samplings_without_a_common_grid_are_refused():
    with pytest.raises(CannotObserve, match=r"'hidden'.*without a common grid"):
        Observe(membrane={"hidden": 1e-3}).union(Observe(membrane={"hidden": 0.7e-3}))
    with pytest.raises(CannotObserve, match="common grid"):
        Observe(membrane={"hidden": 1e-3}).union(Observe(membrane={"hidden": torch.tensor([1e-3])}))


def test_an_offer_covers_what_it_can_do():
    anything = Observe(membrane={"hidden": 0.0}, peak={"hidden"}, state=True)
    assert anything.covers(Observe(membrane={"hidden": 1e-9}))
    assert anything.covers(Observe(membrane={"hidden": torch.tensor([1e-3])}, peak={"hidden"}, state=True))
    assert anything.missing(Observe(membrane={"output": 1e-3})) == "the membrane of 'output' cannot be sampled"
    assert anything.missing(Observe(peak={"output"})) == "the peak of 'output' cannot be observed"
    slow = Observe(membrane={"hidden": Every(1.7e-6, [0, 1])})
    assert slow.covers(Observe(membrane={"hidden": Every(2e-6, [1])}))
    for wish, limit in (
        (Observe(membrane={"hidden": Every(1e-6, [1])}), "at best every 1.7e-06 s"),
        (Observe(membrane={"hidden": 2e-6}), "for 2 neurons only"),
        (Observe(state=True), "state"),
    ):
        assert limit in (slow.missing(wish) or "")
    every = Observe(membrane={"hidden": 1e-3})
    assert "at chosen times" in (every.missing(Observe(membrane={"hidden": torch.tensor([1e-3])})) or "")
    fixed = Observe(membrane={"hidden": torch.tensor([1e-3, 2e-3])})
    assert fixed.covers(Observe(membrane={"hidden": torch.tensor([2e-3])}))
    assert not fixed.covers(every)


@pytest.mark.parametrize(
    ("observe", "error", "what"),
    [
        (Observe(membrane={"nowhere": 1e-3}), UnknownPopulation, "nowhere"),
        (Observe(peak={"input"}), UnknownPopulation, "'input' is an input"),
        (Observe(membrane={"hidden": 0.0}), OutOfRange, "period is 0"),
        (Observe(membrane={"hidden": Every(1e-3, [4])}), OutOfRange, "neurons from 0 to 3"),
        (Observe(membrane={"hidden": torch.tensor([2e-3, 1e-3])}), OutOfRange, "ascending"),
        (Observe(membrane={"hidden": torch.tensor([61e-3])}), OutOfRange, "0 to duration"),
        (Observe(membrane={"hidden": torch.tensor([float("nan")])}), OutOfRange, "times"),
    ],
)
def test_impossible_wishes(observe, error, what):
    with pytest.raises(error, match=what):
        observe.check(NET, 60e-3)


@pytest.mark.parametrize("period", [-1e-3, float("nan"), float("inf")])
def test_impossible_periods(period):
    with pytest.raises(OutOfRange, match="period"):
        Every(period)
