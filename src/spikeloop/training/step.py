"""Steps: what they are asked for, what they tell, and their gradients without torch's graph.

Where every term of the loss says its derivatives itself, the numbers are the same as by the graph, which takes longer
than a small network's native engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikeloop._attach import Output, differentiated
from spikeloop.engine.step import Told
from spikeloop.errors import InvalidNetwork
from spikeloop.network import Key
from spikeloop.protocols import Gradients, Rule, Trial
from spikeloop.record import Record
from spikeloop.training.readout import Derivatives, FirstSpike, MaxOverTime
from spikeloop.training.settings import LiftSilent


@dataclass(frozen=True)
class Ahead:
    """What is to be done with samples: a step with each ``size`` of them, with each of ``rates``, by the optimiser."""

    size: int
    rates: Sequence[float]
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Learned:
    """Steps that were taken.

    waits: whether the gradients of the last one wait in ``parameter.grad`` for the optimiser.
    """

    steps: Sequence[Told]
    waits: bool = True


def rightly(decided: Tensor, label: Tensor) -> int:
    """How many of the answers (B,) are right."""
    return int(np.count_nonzero(decided.numpy() == label.numpy()))


@dataclass(frozen=True)
class Terms:
    """A loss whose every term says its derivatives itself."""

    readout: FirstSpike | MaxOverTime
    regulariser: LiftSilent | None

    @classmethod
    def of(cls, readout: object, regulariser: object) -> Terms | None:
        """None where there is another term, or one derived from these: it may have another loss."""
        if type(readout) not in (FirstSpike, MaxOverTime) or type(regulariser) not in (LiftSilent, type(None)):
            return None
        return cls(readout, regulariser)  # type: ignore[arg-type]

    def __call__(self, record: Record, label: Tensor) -> Derivatives:
        return self.regularised(*self.readout.derivatives(record, label), record)

    def regularised(self, loss: float, slopes: Mapping[Output, Tensor], record: Record) -> Derivatives:
        """A loss of the readout, and its derivatives, with those of the regulariser."""
        if self.regulariser is None:
            return loss, slopes
        more, others = self.regulariser.derivatives(record)
        both = {output: slopes[output] + others[output] for output in slopes.keys() & others.keys()}
        return loss + more, {**slopes, **others, **both}


def by_rule(trial: Trial, record: Record, rule: Rule, slopes: Mapping[Output, Tensor]) -> None:
    """Leave in ``parameter.grad`` what ``rule`` makes of the derivatives of a loss by what was observed."""
    sources = trial.network.trainable()
    if not sources:
        raise InvalidNetwork("none of its weights, delays and neurons requires a gradient", where="network",
                             expected="something to train", todo="Use requires_grad_()")  # fmt: skip
    if inputs := [name for _, name in slopes if name in trial.drive]:
        raise InvalidNetwork(f"the loss is of {inputs[0]!r}, an input: no weight changes it", where="readout",
                             expected="a population of neurons")  # fmt: skip
    leave(sources, differentiated(trial, record, rule, slopes, frozenset(sources)))


def leave(sources: Mapping[Key, Tensor], found: Gradients) -> None:
    """Leave gradients in ``parameter.grad``."""
    for key, source in sources.items():
        if key in found:
            gradient = found[key]
            _leave(source, gradient if gradient.dtype == source.dtype else gradient.to(source.dtype))


def is_plain_leaf(source: Tensor) -> bool:
    """Whether its gradient goes nowhere but into ``grad``."""
    return source.is_leaf and not source._backward_hooks and not source._post_accumulate_grad_hooks


def _leave(source: Tensor, gradient: Tensor) -> None:
    """Add to the gradient of a parameter, or of that which a quantity is made of."""
    if not is_plain_leaf(source):
        source.backward(gradient)
        return
    if gradient.stride() != source.stride():  # optimisers may walk through both as they lie in memory
        gradient = torch.empty_like(source).copy_(gradient)
    if source.grad is None:
        source.grad = gradient
    else:
        source.grad = source.grad + gradient
