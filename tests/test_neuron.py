"""Neurons as values, and populations of them: checks, storage, natural units."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from spikeloop import LI, LIF, Population, psp_peak
from spikeloop.errors import InvalidNetwork, ShapeMismatch


def potential(time, tau_mem, tau_syn):
    """V after one spike of weight 1, by its own small Euler-free formula: two exponentials."""
    k = tau_syn / (tau_mem - tau_syn)
    return k * (torch.exp(-time / tau_mem) - torch.exp(-time / tau_syn))


@pytest.mark.parametrize("ratio", [0.2, 0.5, 2.0, 4.0, 5.0])
def test_psp_peak_is_the_maximum_of_the_potential(ratio):
    time = torch.linspace(0, 50e-3, 2_000_001, dtype=torch.float64)
    assert psp_peak(ratio * 5e-3, 5e-3) == pytest.approx(float(potential(time, ratio * 5e-3, 5e-3).max()), rel=1e-8)


def test_psp_peak_is_smooth_where_the_time_constants_are_equal():
    assert psp_peak(5e-3, 5e-3) == pytest.approx(math.exp(-1), rel=1e-15)
    for excess in (1e-15, 1e-12, 1e-9, -1e-9):
        assert psp_peak(5e-3 * (1 + excess), 5e-3) == pytest.approx(math.exp(-1), abs=1e-9)


def test_psp_peak_of_tensors_is_elementwise():
    tau_mem, tau_syn = torch.tensor([5e-3, 10e-3, 20e-3], dtype=torch.float64), torch.tensor(5e-3, dtype=torch.float64)
    expected = [psp_peak(float(tau), 5e-3) for tau in tau_mem]
    assert psp_peak(tau_mem, tau_syn).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: LIF(0.0, 5e-3), "tau_mem"),
        (lambda: LIF(10e-3, -5e-3), "tau_syn"),
        (lambda: LIF(math.nan, 5e-3), "tau_mem is not finite"),
        (lambda: LIF(10e-3, 5e-3, threshold=math.inf), "threshold is not finite"),
        (lambda: LIF(10e-3, 5e-3, refractory=-1e-3), "refractory"),
        (lambda: LIF(10e-3, 5e-3, reset=1.0), "reset is not below threshold"),
        (lambda: LIF(10e-3, 5e-3, threshold=torch.tensor([1.0, -1.0])), "reset is not below threshold"),
        (lambda: LI(10e-3, torch.tensor([5e-3, 0.0])), "tau_syn"),
        (lambda: Population(3, LIF(10e-3, 5e-3, refractory=nn.Parameter(torch.tensor(0.0)))), "refractory is zero"),
        (lambda: Population(0), "size"),
        (lambda: Population(2.0), "size"),  # type: ignore[arg-type]
        (lambda: Population(3, dropout=1.0), "dropout"),
        (lambda: Population(3, LI(10e-3, 5e-3), dropout=0.5), "dropout"),
        (lambda: Population(3, LIF), "neuron is a type"),  # type: ignore[arg-type]
    ],
)
def test_impossible_values_are_refused(make, what):
    with pytest.raises(InvalidNetwork, match=what):
        make()


def test_a_vector_of_the_wrong_length_is_refused():
    with pytest.raises(ShapeMismatch, match=r"tau_mem has shape \(2,\)"):
        Population(3, LIF(torch.tensor([1e-2, 1e-2]), 5e-3))


def test_fixed_fields_are_float64_buffers_in_natural_units():
    population = Population(3, LIF(10e-3, torch.full((3,), 5e-3), threshold=0.8))
    assert population.tau_mem.dtype == torch.float64
    assert float(population.tau_mem) == 10e-3
    assert population.tau_syn.shape == (3,)
    assert float(population.threshold) == 0.8
    assert not list(population.parameters())
    assert population.kind is LIF
    with pytest.raises(AttributeError):
        _ = Population(3, LI(10e-3, 5e-3)).threshold


def test_trainable_times_are_logarithms_and_carry_a_graph():
    tau = nn.Parameter(torch.full((3,), 20e-3))
    population = Population(3, LIF(tau_mem=tau, tau_syn=5e-3, threshold=nn.Parameter(torch.tensor(1.0))))
    assert {name for name, _ in population.named_parameters()} == {"log_tau_mem", "threshold"}
    assert population.tau_mem.tolist() == pytest.approx([20e-3] * 3, rel=1e-6)
    population.tau_mem.sum().backward()
    assert population.log_tau_mem.grad is not None
    assert population.log_tau_mem.grad.tolist() == pytest.approx([20e-3] * 3, rel=1e-6)
    with torch.no_grad():
        population.log_tau_mem -= 100.0
    assert bool((population.tau_mem > 0).all())


def test_frozen_parameters_stay_frozen_and_populations_do_not_share():
    neuron = LIF(tau_mem=nn.Parameter(torch.tensor(20e-3), requires_grad=False), tau_syn=5e-3)
    one, other = Population(3, neuron), Population(4, neuron)
    assert not one.log_tau_mem.requires_grad
    assert one.log_tau_mem is not other.log_tau_mem


def test_conversion_keeps_the_digits_of_fixed_values():
    population = Population(2, LIF(tau_mem=1 / 3, tau_syn=nn.Parameter(torch.tensor(5e-3))))
    population.half()
    assert population.tau_mem.dtype == torch.float64
    assert float(population.tau_mem) == 1 / 3
    assert population.log_tau_syn.dtype == torch.float16
    population.double()
    assert population.log_tau_syn.dtype == torch.float64


def test_copies_and_pickles_are_equal_and_independent():
    population = Population(3, LIF(nn.Parameter(torch.tensor(20e-3)), 5e-3), dropout=0.1)
    for twin in (copy.deepcopy(population), pickle.loads(pickle.dumps(population))):
        assert repr(twin) == repr(population)
        with torch.no_grad():
            twin.log_tau_mem += 1
        assert float(twin.tau_mem.detach()) != float(population.tau_mem.detach())


def test_repr_shows_milliseconds_and_what_is_trained():
    shown = repr(Population(3, LIF(nn.Parameter(torch.tensor(20e-3)), torch.tensor([4e-3, 5e-3, 6e-3]))))
    assert "3 LIF, tau_mem 20 ms (trained), tau_syn 4..6 ms, threshold 1" in shown
