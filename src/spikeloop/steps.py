"""Currents as a drive: piecewise constant in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.errors import OutOfRange, ShapeMismatch, Unsupported, WrongType, kind_of


@dataclass(frozen=True, eq=False)
class Steps:
    """A current into every neuron of a population, constant between given times.

    It is the ``J`` of ``tau_mem V' = (leak - V) + I + J``, in the unit of ``V``: a steady ``J`` lifts the membrane of a
    leaky neuron by ``J``. time: (T,) seconds, ascending; from ``time[k]`` to ``time[k + 1]`` (the last one: for ever)
    the current is ``value[..., k, :]``, and 0 before ``time[0]``. value: (T, size), the same for all samples, or (B, T,
    size). Given in the drive under the population's name, or as "population.compartment"::

        run(net, {"input": events, "hidden": Steps([0.0, 20e-3], torch.tensor([[1.5], [0.0]]))}, 50e-3)

    Raises ``WrongType``, ``ShapeMismatch``, ``OutOfRange`` (times that do not ascend, numbers that are not finite) and
    ``Unsupported`` (tensors that are not on the CPU).
    """

    time: Tensor
    value: Tensor

    def __init__(self, time: Any, value: Any) -> None:
        object.__setattr__(self, "time", _numbers("time", time).detach())
        object.__setattr__(self, "value", _numbers("value", value))
        if self.time.ndim != 1 or not len(self.time):
            raise ShapeMismatch(f"the times are {tuple(self.time.shape)}", where="Steps", expected="(T,), at least one")
        if self.value.ndim not in (2, 3) or self.value.shape[-2] != len(self.time):
            raise ShapeMismatch(
                f"the values are {tuple(self.value.shape)}",
                where="Steps",
                expected=f"({len(self.time)}, size) or (B, {len(self.time)}, size): one per time and neuron",
            )
        if not bool((self.time >= 0).all() and (self.time.diff() > 0).all()):
            raise OutOfRange("the times do not ascend", where="Steps", expected="ascending seconds, from 0 on")

    @property
    def size(self) -> int:
        """The number of neurons it is for."""
        return self.value.shape[-1]

    @property
    def batch(self) -> int | None:
        """The number of samples; None: it is the same for all."""
        return self.value.shape[0] if self.value.ndim == 3 else None

    @property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As the engine takes them: time (T,), value (1 or B, T, size)."""
        value = np.ascontiguousarray(self.value.detach().numpy())
        return self.time.numpy(), value if value.ndim == 3 else value[None]

    def of(self, some: slice) -> Steps:
        """Those of the samples ``some``."""
        return self if self.batch is None else Steps(self.time, self.value[some])

    def __repr__(self) -> str:
        whose = "" if self.batch is None else f"{self.batch} samples, "
        return f"Steps({whose}{len(self.time)} times, {self.size} neurons)"


def _numbers(what: str, given: Any) -> Tensor:
    try:
        numbers = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongType(f"the {what} is {kind_of(given)}", where="Steps", expected="a tensor of numbers") from error
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise WrongType(f"the {what} is of {numbers.dtype}", where="Steps", expected="real numbers")
    if numbers.device.type != "cpu":
        raise Unsupported(f"the {what} is on {numbers.device}", where="Steps", todo='Use .to("cpu")')
    if not bool(numbers.isfinite().all()):
        raise OutOfRange(f"the {what} has NaN or infinite values", where="Steps", expected="finite numbers")
    return numbers.to(torch.float64)
