"""Adam in the engine, beside the equations (Kingma and Ba, 1412.6980) and beside torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spikeloop.engine.adam import Adam, Moments
from spikeloop.training.fused import FusedAdam

CONSTANTS = {"beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "decay": 0.0, "maximise": False}


def by_the_book(
    weight: NDArray[Any], gradients: list[NDArray[Any]], rate: float, constants: dict[str, Any]
) -> NDArray[Any]:
    weight, mean, square = weight.astype(np.float64), 0.0, 0.0
    beta1, beta2 = constants["beta1"], constants["beta2"]
    for step, gradient in enumerate(gradients, 1):
        slope = (-1 if constants["maximise"] else 1) * gradient + constants["decay"] * weight
        mean = beta1 * mean + (1 - beta1) * slope
        square = beta2 * square + (1 - beta2) * slope**2
        unbiased = np.sqrt(square / (1 - beta2**step))
        weight = weight - rate * mean / (1 - beta1**step) / (unbiased + constants["epsilon"])
    return weight


def in_the_engine(
    weight: NDArray[Any], gradients: list[NDArray[Any]], rate: float, constants: dict[str, Any], threads: int = 1
) -> NDArray[Any]:
    weight, mean, square = weight.copy(), np.zeros_like(weight), np.zeros_like(weight)
    for step, gradient in enumerate(gradients):
        Adam(**constants, rates=[rate], moments=[Moments(weight, mean, square, gradient, float(step))]).step(threads)
    return weight


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 2e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 16, 37, 10_000])
@pytest.mark.parametrize("other", [{}, {"maximise": True}, {"decay": 0.1}, {"epsilon": 0.5}, {"beta1": 0.3}])
def test_it_is_the_published_one(dtype: type[Any], bound: float, size: int, other: dict[str, Any]) -> None:
    random, constants = np.random.default_rng(size), CONSTANTS | other
    weight = random.normal(size=size).astype(dtype)
    gradients = [random.normal(size=size).astype(dtype) for _ in range(10)]
    found = in_the_engine(weight, gradients, 0.01, constants)
    np.testing.assert_allclose(found, by_the_book(weight, gradients, 0.01, constants), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_depend_neither_on_threads_nor_on_what_lies_beside_them(dtype: type[Any]) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=100_003).astype(dtype)
    gradients = [random.normal(size=len(weight)).astype(dtype) for _ in range(3)]
    one = in_the_engine(weight, gradients, 0.01, CONSTANTS)
    assert np.array_equal(one, in_the_engine(weight, gradients, 0.01, CONSTANTS, threads=2))
    some = slice(3, 3 + 37)
    parts = [gradient[some].copy() for gradient in gradients]
    assert np.array_equal(one[some], in_the_engine(weight[some], parts, 0.01, CONSTANTS))


@pytest.mark.parametrize(
    "odd",
    [
        {"amsgrad": True},
        {"lr": torch.tensor(0.01), "fused": True, "capturable": False},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_torch(odd: dict[str, Any]) -> None:
    ends = []
    for kind in (FusedAdam, torch.optim.Adam):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 10))
        optimizer = kind([weight], **{"lr": 0.01, "fused": True} | odd)
        for step in range(3):
            weight.grad = torch.full((10,), 0.1 * step)
            optimizer.step()
        if isinstance(optimizer, FusedAdam):
            assert optimizer.native({weight: np.zeros(10, np.float32)}, [0.01]) is None
        ends.append(weight.detach())
    assert torch.equal(*ends)


def test_arrays_of_different_sizes_are_refused() -> None:
    weight, other = np.zeros(4, np.float32), np.zeros(3, np.float32)
    for moments in (Moments(weight, other, weight, weight, 0.0), Moments(weight, weight, weight, other, 0.0)):
        with pytest.raises(ValueError, match="different sizes"):
            Adam(**CONSTANTS, rates=[0.1], moments=[moments]).step(1)
    optimizer, larger = FusedAdam([torch.nn.Parameter(torch.ones(4))]), torch.nn.Parameter(torch.ones(5))
    optimizer.param_groups[0]["params"][0].grad = torch.ones(4)
    optimizer.step()
    with pytest.raises(ValueError, match="its weight"):
        FusedAdam([larger]).load_state_dict(optimizer.state_dict())


def test_a_loaded_state_is_laid_as_its_weight_lies() -> None:
    ends = []
    for lay in (torch.Tensor.contiguous, lambda x: x.t().contiguous().t()):
        weight = torch.nn.Parameter(lay(torch.arange(12.0).reshape(4, 3)))
        optimizer = FusedAdam([weight], lr=0.1)
        for step in range(6):
            weight.grad = lay((torch.arange(12.0).reshape(4, 3) - 4) * (step + 1))
            optimizer.step()
            state = optimizer.state_dict()
            for name in ("exp_avg", "exp_avg_sq"):
                state["state"][0][name] = state["state"][0][name].contiguous()
            optimizer = FusedAdam([weight], lr=0.1)
            optimizer.load_state_dict(state)
        ends.append(weight.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("overflow", [0.0, 1.0])
def test_what_a_scaler_says_is_heeded(overflow: float) -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = FusedAdam([weight], lr=0.1, fused=True)
    weight.grad = torch.ones(4)
    optimizer.grad_scale, optimizer.found_inf = torch.ones(()), torch.tensor(overflow)  # type: ignore[attr-defined]
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(4)) is (overflow == 1.0)


def test_the_engine_is_given_only_what_it_can_do() -> None:
    one, other = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    across = torch.nn.Parameter(torch.ones(3, 4).t())
    zeros = np.zeros((4, 3), np.float32)
    assert FusedAdam([one], fused=True).native({one: zeros}, [0.1]) is not None
    assert FusedAdam([one], fused=True).native({other: zeros}, [0.1]) is None
    assert FusedAdam([across], fused=True).native({across: zeros}, [0.1]) is None
    groups = FusedAdam([{"params": [one]}, {"params": [other], "lr": 0.5}])
    assert groups.native({one: zeros, other: zeros}, [0.1]) is None
