"""What of a configuration is made ready once, for all runs of a twin with the same codes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spikeloop.chip import transfer
from spikeloop.chip.by_value import ByValue
from spikeloop.chip.circuits import Neurons, neurons_of
from spikeloop.chip.configuration import Analog, Instruments, Routing
from spikeloop.chip.imperfection import Imperfection
from spikeloop.chip.inputs import Inputs
from spikeloop.engine.disturbed import Population

if TYPE_CHECKING:
    from spikeloop.chip.twin import Twin


@lru_cache(maxsize=16)
def check_again(*parts: ByValue[Routing] | ByValue[Analog] | ByValue[Instruments]) -> None:
    """Raises ``OutOfRange`` where an array was changed in place after it was checked; looks once at the same values."""
    for part in parts:
        part.value.__post_init__()


@lru_cache(maxsize=16)
def neurons_on(
    analog: ByValue[Analog], routing: ByValue[Routing], twin: Twin, inputs: ByValue[Inputs] | None = None
) -> Neurons:
    leak_off = None if inputs is None else inputs.value.leak_off
    made = neurons_of(analog.value, routing.value.head, routing.value.row_sign, twin.pattern(), leak_off)
    floor, most, noise, threshold, name = made.population.disturbance
    if Imperfection.FLOOR in twin.ideal:
        floor = np.full_like(floor, -np.inf)
    if Imperfection.SATURATION in twin.ideal:
        most = np.full_like(most, np.inf)
    strengths = twin.strengths()
    noise = noise + strengths.membrane * transfer.STEP
    threshold = threshold + strengths.threshold_spike * made.distance
    return replace(made, population=Population(made.population.values, np.stack([floor, most, noise, threshold, name])))
