"""Adam in the engine, with the state and the settings of torch's, but without what is around torch's one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.engine.adam import Adam, Moments
from spikeloop.engine.arrays import Weights


def is_native(optimizer: torch.optim.Optimizer) -> TypeGuard[FusedAdam]:
    """Whether its steps are those of `FusedAdam`, and nobody's own."""
    return type(optimizer) is FusedAdam and "step" not in vars(optimizer)


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a weight and its state lie, and the arrays that see them, for as long as they lie there."""

    tensors: tuple[Tensor, Tensor, Tensor, Tensor]
    addresses: list[int]
    stride: tuple[int, ...]
    dtype: torch.dtype
    contiguous: bool
    number: NDArray[np.float32]
    flat: tuple[Weights, Weights, Weights]

    @classmethod
    def of(cls, weight: Tensor, state: Mapping[str, Tensor]) -> _Place | None:
        """None where it is no whole array of floating-point numbers on the CPU."""
        whole = weight.is_contiguous() or (weight.ndim == 2 and weight.t().is_contiguous())
        if not weight.is_cpu or weight.dtype not in (torch.float32, torch.float64) or not whole:
            return None
        step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
        tensors, flat = (weight, step, mean, square), (_flat(weight), _flat(mean), _flat(square))
        addresses = [x.data_ptr() for x in tensors]
        return cls(tensors, addresses, weight.stride(), weight.dtype, weight.is_contiguous(), step.numpy(), flat)

    def stands(self, state: Mapping[str, Tensor]) -> bool:
        """Whether all of it is still there."""
        weight, step, mean, square = self.tensors
        same = state["step"] is step and state["exp_avg"] is mean and state["exp_avg_sq"] is square
        return same and self.addresses == [*map(Tensor.data_ptr, self.tensors)] and self.stride == weight.stride()

    def moments(self, gradient: Weights) -> Moments:
        return Moments(*self.flat, gradient, float(self.number))

    def count(self, steps: int) -> None:
        self.number[()] = float(self.number) + steps  # a sum of torch's takes ten times as long between its calls


class FusedAdam(torch.optim.Adam):
    """`torch.optim.Adam(fused=True)` for plain tensors on the CPU: the same numbers to rounding, and the same state.

    Steps are neither profiled nor hooked. What is out of the ordinary is left to torch.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups."""
        steps: list[tuple[Adam, list[_Place]]] = []
        scaled = hasattr(self, "found_inf")  # by torch.amp.GradScaler
        for group in self.param_groups:
            weights: list[Tensor] = []
            gradients: dict[int, Tensor] = {}
            for weight in group["params"]:
                gradient = weight.grad
                if gradient is not None and id(weight) not in gradients:
                    weights.append(weight)
                    gradients[id(weight)] = gradient
            places = self._places(group, weights)
            if scaled or closure is not None or places is None or not all(map(_alike, gradients.values(), places)):
                return super().step(closure)
            steps.append((_adam(group, places, [*map(_flat, gradients.values())], (group["lr"],)), places))
        for adam, places in steps:
            adam.step(torch.get_num_threads())
            for place in places:
                place.count(1)
        return None

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it into a profiler's record

    def native(self, gradients: Mapping[Tensor, Weights], rates: Sequence[float]) -> Adam | None:
        """Steps of weights, by where their gradients will be, for the engine to take; None: they are left to `step`."""
        group = self.param_groups[0]
        known = set(map(id, group["params"]))
        if len(self.param_groups) > 1 or not all(id(weight) in known for weight in gradients):
            return None
        places = self._places(group, gradients)
        if places is None or not all(place.contiguous for place in places):
            return None
        return _adam(group, places, [gradient.reshape(-1) for gradient in gradients.values()], rates)

    def count(self, weights: Collection[Tensor], steps: int) -> None:
        """Note that the engine has taken them."""
        for weight in weights:
            self._known[id(weight)].count(steps)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or make them zeros."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    # As torch's, these would load torch's compiler, which takes a second, only to be left alone by it.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train further weights."""
        inspect.unwrap(torch.optim.Adam.add_param_group)(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on but the weights."""
        return inspect.unwrap(torch.optim.Adam.state_dict)(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises ValueError where it is of other weights."""
        inspect.unwrap(torch.optim.Adam.load_state_dict)(self, state_dict)
        for weight, state in self.state.items():
            _lay_alike(weight, state)

    def _places(self, group: Mapping[str, Any], weights: Collection[Tensor]) -> list[_Place] | None:
        """Of the weights; None where they, or what is asked for, are out of the ordinary."""
        if group["amsgrad"] or group["decoupled_weight_decay"] or isinstance(group["lr"], Tensor):
            return None
        found: list[_Place] = []
        for weight in weights:
            place = self._place(weight)
            if place is not None:
                found.append(place)
        return found if len(found) == len(weights) and len({place.dtype for place in found}) <= 1 else None

    def _place(self, weight: Tensor) -> _Place | None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        place = self._known.get(id(weight))
        if place is None or not place.stands(state):
            _lay_alike(weight, state)
            place = self._known[id(weight)] = _Place.of(weight, state)
        return place

    @property
    def _known(self) -> dict[int, Any]:
        """What `_place` has found, by the id of a weight that it keeps alive; no part of the state."""
        return self.__dict__.setdefault("_found", {})


def _adam(group: Mapping[str, Any], places: Sequence[_Place], flat: Sequence[Weights], rates: Sequence[float]) -> Adam:
    moments = [*map(_Place.moments, places, flat)]
    beta1, beta2 = group["betas"]
    return Adam(beta1, beta2, group["eps"], group["weight_decay"], group["maximize"], rates, moments)


def _alike(gradient: Tensor, place: _Place) -> bool:
    """Whether a gradient lies in memory as its weight does."""
    return gradient.layout == torch.strided and gradient.stride() == place.stride and gradient.dtype == place.dtype


def _lay_alike(weight: Tensor, state: dict[str, Tensor]) -> None:
    """Let the means lie in memory as their weight does; a file knows nothing of that."""
    for name in ("exp_avg", "exp_avg_sq"):
        mean = state.get(name)
        if mean is None:
            continue
        if mean.shape != weight.shape:
            raise ValueError(f"the optimiser's state is {tuple(mean.shape)}, its weight {tuple(weight.shape)}")
        if mean.stride() != weight.stride() or mean.dtype != weight.dtype:
            state[name] = torch.empty_like(weight).copy_(mean)


def _flat(tensor: Tensor) -> Weights:
    """As it lies in memory."""
    plain = tensor.detach() if tensor.requires_grad else tensor  # each step costs, between two calls of the engine
    return (plain if plain.is_contiguous() else plain.as_strided((plain.numel(),), (1,))).numpy().reshape(-1)
