"""A model and where its layers compute, held together as one module."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor, nn

from spikeloop.ann.onchips import OnChips, Run, layers_of, matrices_of
from spikeloop.ann.place import QUANTISED, Float, Place, Quantised, computing
from spikeloop.chip.array_cost import Cost
from spikeloop.chip.configuration import whole
from spikeloop.chip.schedule import Schedule
from spikeloop.errors import WrongType, kind_of


class Experiment(nn.Module):
    """``experiment(input)`` is ``model(input)`` with its layers computed at ``place``; differentiable in each.

    On chips, ``schedule`` says which part of which layer is multiplied when and where, and ``cost`` what the last run
    took; both are None elsewhere, and ``cost`` before the first run. Parameters, state_dict, ``train()`` and ``eval()``
    are those of the model, under the prefix ``model``. The same model can be in several experiments.

    ``number`` chooses the draw of the chips' noise; without one every run has another.
    """

    model: nn.Module
    place: Place | OnChips
    cost: Cost | None

    def __init__(self, model: nn.Module, place: Place | OnChips = QUANTISED) -> None:
        super().__init__()
        for what, given, kind in (("model", model, nn.Module), ("place", place, Float | Quantised | OnChips)):
            if not isinstance(given, kind):
                raise WrongType(f"the {what} is {kind_of(given)}", where="Experiment",
                                expected="a torch.nn.Module" if kind is nn.Module else "Float, Quantised or OnChips",
                                todo="Write OnChips(Twin(7))" if hasattr(given, "multiply") else None)  # fmt: skip
        self.model, self.place, self.cost = model, place, None
        self._run: Run | None = None
        self._numbers = 0

    @property
    def schedule(self) -> Schedule | None:
        """Which part of which layer is multiplied when and where."""
        return self._prepared().schedule if isinstance(self.place, OnChips) else None

    def forward(self, *given: Tensor, number: int | None = None) -> Any:
        """Run the model on a batch."""
        if not isinstance(self.place, OnChips):
            with computing(self.place):
                return self.model(*given)
        run = self._prepared()  # what is measured once is no part of what a run takes
        began = time.perf_counter()
        run.begin(self._numbers if number is None else whole(number, "number", "Experiment"))
        self._numbers += number is None
        with computing(run):
            output = self.model(*given)
        self.cost = run.end(time.perf_counter() - began)
        return output

    def _prepared(self) -> Run:
        """The chips with the model's schedule; a new one where the model was calibrated anew, or is larger."""
        assert isinstance(self.place, OnChips)
        layers = layers_of(self.model)
        matrices = tuple(matrices_of(layers))
        if self._run is None or self._run.schedule.matrices != matrices or self._run.layers != list(layers.values()):
            self._run = Run(self.place.each, layers, self.place.calibrated)
        return self._run

    def extra_repr(self) -> str:
        """``place OnChips([Twin(0)])``"""
        return f"place {self.place!r}"
