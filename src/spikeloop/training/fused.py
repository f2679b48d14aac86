"""Adam in the engine, with the state and the settings of torch's, but without what is around torch's one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spikeloop.engine.adam import Adam, Moments
from spikeloop.engine.arrays import Weights

_PRECISIONS = (torch.float32, torch.float64)


class FusedAdam(torch.optim.Adam):
    """`torch.optim.Adam(fused=True)` for plain tensors on the CPU: the same numbers to rounding, and the same state.

    Steps are neither profiled nor hooked. What is out of the ordinary is left to torch.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups."""
        if closure is not None or not all(_ordinary(group) for group in self.param_groups):
            return super().step(closure)
        for group in self.param_groups:
            gradients = {weight: _flat(weight.grad) for weight in group["params"] if weight.grad is not None}
            if gradients:
                self._adam(group, gradients, [group["lr"]]).step(torch.get_num_threads())
                self.count(gradients, 1)
        return None

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it into a profiler's record

    def native(self, gradients: Mapping[Tensor, Weights], rates: Sequence[float]) -> Adam | None:
        """Steps of weights, by where their gradients will be, for the engine to take; None: they are left to `step`."""
        group = self.param_groups[0]
        known = set(map(id, group["params"]))
        possible = all(id(weight) in known and weight.is_contiguous() for weight in gradients)
        if len(self.param_groups) > 1 or not possible or not _ordinary(group):
            return None
        return self._adam(group, {weight: gradient.reshape(-1) for weight, gradient in gradients.items()}, rates)

    def count(self, weights: Collection[Tensor], steps: int) -> None:
        """Note that the engine has taken them."""
        for weight in weights:
            number = self.state[weight]["step"].numpy()  # a sum of torch's takes ten times as long between its calls
            number[()] = float(number) + steps

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
        """Go on from what `state_dict` returned."""
        inspect.unwrap(torch.optim.Adam.load_state_dict)(self, state_dict)

    def _adam(self, group: Mapping[str, Any], gradients: Mapping[Tensor, Weights], rates: Sequence[float]) -> Adam:
        moments = [self._moments(weight, gradient) for weight, gradient in gradients.items()]
        beta1, beta2 = group["betas"]
        return Adam(beta1, beta2, group["eps"], group["weight_decay"], group["maximize"], rates, moments)

    def _moments(self, weight: Tensor, gradient: Weights) -> Moments:
        state = self.state[weight] or self._begun(weight)
        mean, square = _flat(state["exp_avg"]), _flat(state["exp_avg_sq"])
        return Moments(_flat(weight), mean, square, gradient, float(state["step"].numpy()))

    def _begun(self, weight: Tensor) -> dict[str, Tensor]:
        """The state of a weight before its first step."""
        self.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        return self.state[weight]


def _ordinary(group: Mapping[str, Any]) -> bool:
    """Whether its weights are whole arrays of one precision, and nothing is asked for but the method as published."""
    if group["amsgrad"] or group["decoupled_weight_decay"] or isinstance(group["lr"], Tensor):
        return False
    weights: list[Tensor] = group["params"]
    dtypes = {weight.dtype for weight in weights}
    return len(dtypes) <= 1 and dtypes.issubset(_PRECISIONS) and all(map(_plain, weights))


def _plain(weight: Tensor) -> bool:
    """Whether it lies in memory without holes, and its gradient likewise."""
    whole = weight.is_contiguous() or (weight.ndim == 2 and weight.t().is_contiguous())
    alike = weight.grad is None or (weight.grad.layout == torch.strided and weight.grad.stride() == weight.stride())
    return weight.is_cpu and whole and alike


def _flat(tensor: Tensor) -> Weights:
    """As it lies in memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,)).numpy()
