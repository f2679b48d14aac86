"""Steps straight through the engine, in one native call: `Ideal` and `EventProp` without a trial and a record.

The numbers are the same as by `run`. What is made anew and looked at once more for every trial, though it does not
change from batch to batch, takes as long as the native engine takes for a small network. Several batches may be gone
through at once, where nothing but the engine and Adam has a part in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
from spikeloop.engine.step import Descent, in_one_call
from spikeloop.engine.trial import events_of, trains_of
from spikeloop.events import Events
from spikeloop.gradient.count import add_count_gradients
from spikeloop.gradient.eventprop import EventProp
from spikeloop.loss import is_plain, silent_slopes
from spikeloop.network import Key, Network
from spikeloop.protocols import NOTHING, Rule, Substrate
from spikeloop.record import Record
from spikeloop.substrate.ideal import Ideal
from spikeloop.training.fused import FusedAdam, is_native
from spikeloop.training.readout import FirstSpike
from spikeloop.training.step import Ahead, Learned, Terms, is_plain_leaf, leave


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

    def several(self, network: Network, optimizer: torch.optim.Optimizer) -> bool:
        """Whether nothing but the engine and Adam has a part in a step, no chance, and no spikes that are counted."""
        dropout = any(population.dropout for population in network.populations.values())
        return (
            is_native(optimizer) and self.terms.regulariser is None and not dropout and self._way(network) is not None
        )

    def learn(self, network: Network, drive: Drive, label: Tensor, ahead: Ahead) -> Learned | None:
        """Answer batches in training, as `Place.learn` does.

        None, and nothing is done, where something about them is out of the ordinary: it is to be done by `run`.
        """
        way, sources = self._way(network), network.trainable()
        if way is None or not (sources and sources.keys() <= way.weights.keys()):
            return None
        drives, currents = drives_of(network, drive, self.duration, 0.0)
        if currents or not drives or not is_plain(label, len(next(iter(drives.values())))):
            return None
        drives, silent = drop(network, drives, len(label))
        gradients = {key: np.zeros(way.weights[key].shape, way.weights[key].dtype) for key in sources}
        optimizer = self._native(sources, ahead.optimizer)
        updated = {source: gradients[key] for key, source in sources.items()}
        adam = None if optimizer is None else optimizer.native(updated, ahead.rates)
        try:
            taken = self._descent(way, ahead.size)(
                {name: trains_of(events) for name, events in drives.items()},
                label.numpy(),
                {name: dropped.numpy().view(np.uint8) for name, dropped in silent.items()},
                gradients,
                adam,
            )
        except Explosion as error:
            raise self.substrate.beyond(error) from None
        if taken is None:
            return None
        self.rule.tally.add(taken.slopes)
        if optimizer is not None and adam is not None:
            optimizer.count(updated, len(taken.steps) - taken.waits)
        if not taken.waits:
            return Learned(taken.steps, waits=False)
        by_weight = {key: torch.from_numpy(gradient) for key, gradient in gradients.items()}
        *steps, told = taken.steps
        if taken.trains is not None:
            last = slice(len(steps) * ahead.size, (len(steps) + 1) * ahead.size)
            spikes = {name: events[last] for name, events in drives.items()}
            spikes |= {name: events_of(taken.trains[name], way.sizes[name]) for name in way.spiking}
            with torch.no_grad():
                loss, count = self._with_counts(told.loss, spikes, label[last], taken.silent)
                add_count_gradients(by_weight, way.stages, network, spikes, count, sources)
            told = replace(told, loss=loss)
        leave(sources, by_weight)
        return Learned([*steps, told])

    def _descent(self, way: Way, size: int) -> Descent:
        """The steps, but for their batches."""
        return Descent(
            way.stages,
            self.terms.readout.population,
            self.terms.readout.native,
            self.duration,
            self.substrate.spike_limit,
            self.rule.slope_floor,
            size,
            self.terms.regulariser is not None,
            torch.get_num_threads(),
        )

    def _way(self, network: Network) -> Way | None:
        """Through the network and to all that the loss is of; None where there is none."""
        way = Way.through(network, self.duration, self.substrate, self.rule)
        return way if way is not None and self._is_loss_of(way) else None

    def _native(self, sources: Mapping[Key, Tensor], optimizer: torch.optim.Optimizer) -> FusedAdam | None:
        """The optimiser, if it may be the engine's: nobody else has a part in the gradients, or wants to see them."""
        apart = len({source.data_ptr() for source in sources.values()}) == len(sources)
        alone = self.terms.regulariser is None and apart and all(map(is_plain_leaf, sources.values()))
        return optimizer if is_native(optimizer) and alone else None

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
