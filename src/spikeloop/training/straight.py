"""A step straight through the engine, in one native call: `Ideal` and `EventProp` without a trial and a record.

The numbers are the same as by `run`. What is made anew and looked at once more for every trial, though it does not
change from batch to batch, takes as long as the native engine takes for a small network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop._attach import Output
from spikeloop._given import drives_of
from spikeloop._run import Drive, checked, drop
from spikeloop.engine.arrays import Stage, Weights
from spikeloop.engine.failures import Explosion
from spikeloop.engine.plan import plan
from spikeloop.engine.step import Step, in_one_call
from spikeloop.engine.trial import events_of, trains_of
from spikeloop.events import Events
from spikeloop.gradient.count import add_count_gradients
from spikeloop.gradient.eventprop import EventProp
from spikeloop.loss import is_plain, silent_slopes
from spikeloop.network import Key, Network
from spikeloop.protocols import NOTHING, Rule, Substrate
from spikeloop.record import Record
from spikeloop.substrate.ideal import Ideal
from spikeloop.training.readout import FirstSpike
from spikeloop.training.step import Learned, Terms, leave


@dataclass(frozen=True, eq=False)
class Way:
    """Through a network of dense layers, for as long as its tensors stand.

    sizes: of its populations of neurons.  weights: those of its links.
    """

    stages: list[Stage]
    sizes: Mapping[str, int]
    spiking: frozenset[str]
    weights: Mapping[Key, Weights]

    @classmethod
    def through(cls, network: Network, duration: float, substrate: Substrate, rule: Rule) -> Way | None:
        """None where there is none; raises where what is given is not what it should be."""
        standing = checked(network, duration, substrate, rule, NOTHING)
        if cls not in standing.made:
            stages = plan(network, standing=standing)
            exact = [stage for stage in stages if isinstance(stage, Stage)]
            seen = plan in standing.made  # weights as they are at every step, not copies
            possible = seen and len(exact) == len(stages) > 0 and in_one_call(exact)
            standing.made[cls] = cls._of(exact) if possible else None
        return standing.made[cls]

    @classmethod
    def _of(cls, stages: list[Stage]) -> Way:
        neurons = [stage.populations[0] for stage in stages]
        weights = {(link.name, "weight"): link.weight for stage in stages for link in stage.links}
        spiking = frozenset(each.name for each in neurons if each.spiking)
        return cls(stages, {each.name: each.size for each in neurons}, spiking, weights)


@dataclass(frozen=True, eq=False)
class Straight:
    """Steps with one loss."""

    duration: float
    substrate: Ideal
    rule: EventProp
    terms: Terms

    @classmethod
    def of(cls, duration: float, substrate: Substrate, rule: Rule | None, terms: Terms | None) -> Straight | None:
        """None where the loss, the substrate or the rule takes a trial and a record, or may do so."""
        if terms is None or type(substrate) is not Ideal or type(rule) is not EventProp or not rule.count_gradient:
            return None
        return cls(duration, substrate, rule, terms)

    def learn(self, network: Network, drive: Drive, label: Tensor) -> Learned | None:
        """Answer a batch in training, and leave the gradients of the loss in ``parameter.grad``.

        None, and nothing is done, where something about them is out of the ordinary: it is to be done by `run`.
        """
        way, sources = Way.through(network, self.duration, self.substrate, self.rule), network.trainable()
        if way is None or not self._is_loss_of(way) or not (sources and sources.keys() <= way.weights.keys()):
            return None
        drives, steps = drives_of(network, drive, self.duration, 0.0)
        if steps or not drives or not is_plain(label, len(next(iter(drives.values())))):
            return None
        drives, silent = drop(network, drives, len(label))
        gradients = {key: np.zeros(way.weights[key].shape, way.weights[key].dtype) for key in sources}
        readout, limit, floor = self.terms.readout, self.substrate.spike_limit, self.rule.slope_floor
        step = Step(way.stages, readout.population, readout.native, self.duration, limit, floor)
        try:
            found = step(
                {name: trains_of(events) for name, events in drives.items()},
                label.numpy(),
                {name: dropped.numpy().view(np.uint8) for name, dropped in silent.items()},
                gradients,
                self.terms.regulariser is not None,
                torch.get_num_threads(),
            )
        except Explosion as error:
            raise self.substrate.beyond(error) from None
        if found is None:
            return None
        self.rule.tally.add(found.slopes)
        loss, by_weight = found.loss, {key: torch.from_numpy(gradient) for key, gradient in gradients.items()}
        if found.trains is not None:
            spikes = {**drives, **{name: events_of(found.trains[name], way.sizes[name]) for name in way.spiking}}
            with torch.no_grad():
                loss, count = self._with_counts(loss, spikes, label, found.silent)
                add_count_gradients(by_weight, way.stages, network, spikes, count, sources)
        leave(sources, by_weight)
        return Learned(loss, found.right, found.spikes)

    def _with_counts(
        self, loss: float, spikes: Mapping[str, Events], label: Tensor, silent: NDArray[np.uint8] | None
    ) -> tuple[float, dict[str, Tensor]]:
        """``loss`` and its terms of counts, and their derivatives by them."""
        slopes, name = dict[Output, Tensor](), self.terms.readout.population
        if silent is not None:
            more, slope = silent_slopes(spikes[name], label, silent)
            loss, slopes["count", name] = loss + more, torch.from_numpy(slope)
        counted = () if self.terms.regulariser is None else self.terms.regulariser.populations
        record = Record(spikes, self.duration, {name: spikes[name].count for name in counted})
        loss, found = self.terms.regularised(loss, slopes, record)
        return loss, {name: slope for (_, name), slope in found.items()}

    def _is_loss_of(self, way: Way) -> bool:
        """Whether all that the loss is of is there."""
        readout, regulariser = self.terms.readout, self.terms.regulariser
        answers = way.spiking if isinstance(readout, FirstSpike) else way.sizes
        return readout.population in answers and (
            regulariser is None or way.spiking.issuperset(regulariser.populations)
        )
