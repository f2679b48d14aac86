import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeloop.data import latency, logarithmic_latency, poisson, population
from spikeloop.errors import InvalidEvents, OutOfRange, ShapeMismatch
from spikeloop.events import Events

tables = st.integers(0, 5).flatmap(
    lambda n: st.lists(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n), min_size=1, max_size=6)
)


def valid(events: Events) -> Events:
    """The same events, checked by the constructor."""
    return Events(events.time, events.unit, events.start, events.size)


class TestLatency:
    def test_the_larger_the_earlier(self):
        events = latency(torch.tensor([[0.25, 1.0, 0.0, 0.5]]), duration=20e-3)
        assert events.unit.tolist() == [1, 3, 0]
        assert events.time.tolist() == pytest.approx([0.0, 10e-3, 15e-3])
        assert events.size == 4

    def test_silent_at_and_below_the_threshold(self):
        pixels = torch.tensor([[0, 1, 2, 255]], dtype=torch.uint8)
        for values in (pixels.float() / 255, pixels.double() / 255):
            assert latency(values, 20e-3, threshold=1 / 255).unit.tolist() == [3, 2]

    @given(tables)
    def test_the_fast_way_for_float32_is_the_same(self, table):
        values = torch.tensor(table, dtype=torch.float32)
        fast, plain = latency(values, 0.02, 0.1), latency(values.double(), 0.02, torch.tensor(0.1).item())
        valid(fast)
        assert torch.equal(fast.time, plain.time)
        assert torch.equal(fast.unit, plain.unit)
        assert torch.equal(fast.start, plain.start)

    def test_differentiable(self):
        values = torch.tensor([[0.2, 0.9], [0.0, 0.4]], requires_grad=True)
        latency(values, 20e-3).time.sum().backward()
        assert values.grad is not None
        assert torch.allclose(values.grad, torch.tensor([[-20e-3, -20e-3], [0.0, -20e-3]]))

    def test_further_axes_become_units(self):
        assert latency(torch.rand(3, 2, 4), 1.0, threshold=-1.0).first().shape == (3, 8)
        assert len(latency(torch.zeros(0, 4), 1.0)) == 0
        assert latency(-torch.zeros(1, 2), 1.0, threshold=-1.0).time.tolist() == [1.0, 1.0]

    def test_bad_values(self):
        for value in (math.nan, -0.1, 1.1, math.inf):
            with pytest.raises(OutOfRange, match="0 to 1"):
                latency(torch.tensor([[0.5, value]]), 1.0)
        with pytest.raises(ShapeMismatch):
            latency(torch.zeros(3), 1.0)
        with pytest.raises(InvalidEvents, match="duration"):
            latency(torch.zeros(1, 3), 0.0)


class TestLogarithmicLatency:
    def test_is_the_threshold_crossing_of_a_leaky_integrator(self):
        values = torch.linspace(0.0, 5.0, 40, dtype=torch.float64)[None]
        events = logarithmic_latency(values, tau=8e-3, threshold=0.2)
        potential = values[0, events.unit.long()] * (1 - torch.exp(-events.time / 8e-3))
        assert torch.allclose(potential, torch.full_like(potential, 0.2))
        assert events.unit.tolist() == list(range(39, 1, -1))

    def test_formula_and_end(self):
        events = logarithmic_latency(torch.tensor([[1.0, 0.21, 0.2]]), 8e-3, 0.2)
        assert events.unit.tolist() == [0, 1]
        assert events.time[0].item() == pytest.approx(8e-3 * math.log(1.0 / 0.8), rel=1e-12)
        assert logarithmic_latency(torch.tensor([[1.0, 0.21, 0.2]]), 8e-3, 0.2, duration=20e-3).unit.tolist() == [0]

    def test_gradient_is_finite_where_silent(self):
        values = torch.tensor([[0.0, 0.2, 0.5]], dtype=torch.float64, requires_grad=True)
        logarithmic_latency(values, 8e-3, 0.2).time.sum().backward()
        assert values.grad is not None
        assert values.grad[0].tolist() == pytest.approx([0.0, 0.0, 8e-3 * (1 / 0.5 - 1 / 0.3)])

    def test_bad_threshold(self):
        with pytest.raises(OutOfRange, match="above 0"):
            logarithmic_latency(torch.ones(1, 1), 1.0, 0.0)


class TestPoisson:
    def test_statistics(self):
        rates = torch.tensor([0.0, 20.0, 400.0]).repeat(2000, 1)
        events = valid(poisson(rates, duration=0.5, generator=torch.Generator().manual_seed(3)))
        mean, variance = events.count.double().mean(0), events.count.double().var(0)
        assert mean.tolist() == pytest.approx([0, 10, 200], rel=0.02)
        assert variance.tolist() == pytest.approx([0, 10, 200], rel=0.1)
        assert events.time.mean().item() == pytest.approx(0.25, rel=0.01)
        assert events.time.max() < 0.5

    def test_intervals_are_exponential(self):
        train = poisson(torch.full((1, 1), 1000.0), 20.0, torch.Generator().manual_seed(5)).time
        interval = train.diff()
        assert interval.mean().item() == pytest.approx(1e-3, rel=0.03)
        assert interval.std().item() == pytest.approx(1e-3, rel=0.03)

    def test_the_generator_decides(self):
        draw = [poisson(torch.full((3, 4), 50.0), 1.0, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
        assert torch.equal(draw[0].time, draw[1].time)
        assert not torch.equal(draw[0].count, draw[2].count)

    def test_bad_rates(self):
        with pytest.raises(OutOfRange):
            poisson(torch.tensor([[-1.0]]), 1.0)


class TestPopulation:
    def test_fields_cover_the_range(self):
        values = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
        events = valid(population(values, units=8, duration=10e-3))
        assert events.size == 8
        assert (events.lengths >= 2).all()
        nearest = (values * 7).round().flatten()
        tied = ((values * 7) % 1 - 0.5).abs().flatten() < 1e-9
        assert torch.equal(events.unit[events.start[:-1]][~tied].double(), nearest[~tied])

    def test_at_a_centre(self):
        events = population(torch.tensor([[0.0, 1.0]]), units=3, duration=10e-3, width=0.25)
        assert events.unit.tolist() == [0, 5, 1, 4]
        assert events.time.tolist() == pytest.approx([0, 0, *[10e-3 * (1 - math.exp(-2.0))] * 2])

    def test_bad_arguments(self):
        with pytest.raises(OutOfRange, match="2 or more"):
            population(torch.zeros(1, 1), 1, 1.0)
        with pytest.raises(OutOfRange, match="0 to 1"):
            population(torch.full((1, 1), 2.0), 3, 1.0)
