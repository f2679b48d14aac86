"""torch's Adam without what is around its one call: bookkeeping, threads where there is little to do, a compiler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_WORTH_THREADS = 1 << 17  # numbers: for fewer, waking torch's threads takes longer than the step


class FusedAdam(torch.optim.Adam):
    """`torch.optim.Adam(fused=True)`: the same numbers and the same state, for plain tensors on the CPU.

    Steps are neither profiled nor hooked. What is out of the ordinary is left to torch.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups."""
        if closure is not None or any(
            group["amsgrad"] or group["decoupled_weight_decay"] for group in self.param_groups
        ):
            return super().step(closure)
        numbers = sum(weight.numel() for group in self.param_groups for weight in group["params"])
        threads = torch.get_num_threads()
        if numbers < _WORTH_THREADS:  # idle ones of OpenMP spin for a while, too, and keep a core from the engine
            torch.set_num_threads(1)
        try:
            with torch.no_grad():
                for group in self.param_groups:
                    self._together(group)
        finally:
            torch.set_num_threads(threads)
        return None

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it into a profiler's record

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

    def _together(self, group: dict[str, Any]) -> None:
        """One step of one group: of its weights that have a gradient."""
        weights: list[Tensor] = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        states = [self.state[weight] or self._begun(weight) for weight in weights]
        steps = [state["step"] for state in states]
        for count in steps:
            number = count.numpy()
            number[()] = float(number) + 1  # a sum of torch's takes ten times as long between calls of the engine
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            weights,
            [weight.grad for weight in weights if weight.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )

    def _begun(self, weight: Tensor) -> dict[str, Tensor]:
        """The state of a weight before its first step."""
        self.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        return self.state[weight]
