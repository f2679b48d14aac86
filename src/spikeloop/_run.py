"""The one doorway: run a network somewhere, then attach the gradient of a rule to what was observed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from spikeloop._attach import attached
from spikeloop._given import check_kinds, check_start, check_steps, clock_of, drives_of, refuse_plastic
from spikeloop.engine.arriving import only
from spikeloop.engine.trial import events_of, trains_of
from spikeloop.errors import CannotObserve, OutOfRange
from spikeloop.events import Events
from spikeloop.network import Network, Standing
from spikeloop.protocols import NOTHING, Observe, Rule, State, Substrate, Trial, batch_of
from spikeloop.record import Record
from spikeloop.steps import Steps
from spikeloop.substrate.ideal import Ideal

IDEAL = Ideal()
"""The numbers as written; where everything runs unless another substrate is given."""

Drive = Events | Mapping[str, Events | Steps]
"""Events by input population and currents by other populations, or plain Events where there is one input."""


def run(  # noqa: PLR0913 - the one doorway
    network: Network,
    drive: Drive,
    duration: float,
    *,
    substrate: Substrate = IDEAL,
    rule: Rule | None = None,
    observe: Observe = NOTHING,
    start: State | None = None,
    number: int | None = None,
    training: bool = False,
) -> Record:
    """Run ``network`` for ``duration`` seconds on ``drive`` and return what was observed, differentiable by ``rule``.

    ``drive``: `Events` by input population, and `Steps` (currents) by any others; plain `Events` where there is one
    input. A network without inputs is driven by currents alone.

    ``observe`` asks for more than spikes; ``start`` continues from a record's state, on its clock: all times are from
    ``start.time`` to ``start.time + duration``, the drive's, too (``events.later``); ``number`` chooses the draw of the
    trial-to-trial noise; ``training`` turns dropout on (from torch's global generator). Without a rule the record can
    be looked at, but a backward through it raises ``NoRule``.

    Raises ``WrongType``, ``InvalidNetwork``, ``UnknownPopulation``, ``ShapeMismatch``, ``InvalidEvents`` (all events
    after the end), ``OutOfRange``, ``CannotObserve``, ``Unsupported`` (a tensor that is not on the CPU),
    ``ActivityExplosion``.
    """
    trial, record = carried_out(
        network, drive, duration, substrate=substrate, rule=rule, observe=observe, start=start, number=number,
        training=training,
    )  # fmt: skip
    return attached(trial, record, rule)


def carried_out(  # noqa: PLR0913 - as the doorway
    network: Network,
    drive: Drive,
    duration: float,
    *,
    substrate: Substrate,
    rule: Rule | None,
    observe: Observe,
    start: State | None = None,
    number: int | None = None,
    training: bool = False,
) -> tuple[Trial, Record]:
    """`run` before ``rule`` is attached: the trial, and what the substrate observed."""
    standing = checked(network, duration, substrate, rule, observe)
    begin = clock_of(start)
    drives, steps = drives_of(network, drive, duration, begin)
    batch = batch_of(drives, steps, start)
    check_steps(network, steps, batch)
    check_start(network, start, batch)
    wish = observe if rule is None else observe.union(rule.needs(network))
    if wish is not NOTHING:
        _check_wish(network, wish, (duration, begin), substrate, standing)
    silent: dict[str, Tensor] = {}
    if training:
        drives, silent = drop(network, drives, batch)
    trial = Trial(network, drives, float(duration), wish, start, number, training, silent, steps)
    if type(substrate) is Ideal:  # others may change the network before they run it
        trial.__dict__["standing"] = standing
    with_gradients = torch.is_grad_enabled()
    torch.set_grad_enabled(False)  # as no_grad(), which is slow between two calls of the engine
    try:
        return trial, substrate.run(trial)
    finally:
        torch.set_grad_enabled(with_gradients)


def checked(network: Network, duration: float, substrate: Substrate, rule: Rule | None, observe: Observe) -> Standing:
    """How ``network`` stands; raises where it, or what else `run` is given, is not what it should be."""
    check_kinds(network, duration, substrate, rule, observe)
    if not (duration > 0 and math.isfinite(duration)):
        raise OutOfRange(f"the duration is {duration}", where="duration", expected="seconds, above zero")
    if rule is not None:
        refuse_plastic(network)
    return network.check()


class Experiment(nn.Module):
    """A network, where it runs, for how long, with which rule and what to observe, held together as one module.

    ``experiment(drive)`` is ``run(network, drive, duration, ...)``, with dropout on in training mode. Parameters,
    state_dict, ``train()`` and ``eval()`` are those of the network, under the prefix ``network``: what DDP needs.
    """

    def __init__(
        self,
        network: Network,
        duration: float,
        substrate: Substrate = IDEAL,
        rule: Rule | None = None,
        observe: Observe = NOTHING,
    ) -> None:
        super().__init__()
        check_kinds(network, duration, substrate, rule, observe)
        self.network = network
        self.duration = duration
        self.substrate = substrate
        self.rule = rule
        self.observe = observe

    def forward(
        self, drive: Drive, *, start: State | None = None, number: int | None = None, observe: Observe = NOTHING
    ) -> Record:
        """Run the batch ``drive``; ``observe`` is added to what the experiment observes anyway."""
        return run(
            self.network,
            drive,
            self.duration,
            substrate=self.substrate,
            rule=self.rule,
            observe=self.observe if observe is NOTHING else self.observe.union(observe),
            start=start,
            number=number,
            training=self.training,
        )

    def extra_repr(self) -> str:
        """``duration 60 ms, substrate Ideal(), rule EventProp()``"""
        rule = "no rule" if self.rule is None else f"rule {self.rule!r}"
        return f"duration {self.duration * 1e3:g} ms, substrate {self.substrate!r}, {rule}"


def _check_wish(
    network: Network, wish: Observe, span: tuple[float, float], substrate: Substrate, standing: Standing
) -> None:
    if wish.nothing:
        return
    timeless = not (wish.membrane or wish.adaptation or wish.current or wish.history)
    asked = None
    if timeless and getattr(substrate, "steady", False):
        asked = [wish, substrate, *network.populations.items()]
        if standing.made.get(_check_wish) == asked:  # most runs ask what the one before asked
            return
    wish.check(network, *span)
    missing = substrate.offers(network).missing(wish)
    if missing is not None:
        raise CannotObserve(
            missing,
            where=repr(substrate),
            expected="what its offers(network) lists",
            todo="Ask for less, or run elsewhere",
        )
    if asked is not None:
        standing.made[_check_wish] = asked


def drop(network: Network, drives: dict[str, Events], batch: int) -> tuple[dict[str, Events], dict[str, Tensor]]:
    """The drives without the events of dropped input units, and which other neurons are silent, per sample."""
    kept, silent = dict(drives), {}
    for name, population in network.populations.items():
        if not population.dropout:
            continue
        dropped = torch.rand(batch, population.size) < population.dropout
        if population.kind is None:
            kept[name] = _without(drives[name], dropped)
        else:
            silent[name] = dropped
    return kept, silent


def _without(events: Events, dropped: Tensor) -> Events:
    trains = trains_of(events)
    sample = np.repeat(np.arange(len(events)), np.diff(trains[2]))
    keep = ~dropped.numpy()[sample, trains[1]]
    kept = events_of(only(trains, keep), events.size)
    return kept._with(events.time[torch.from_numpy(keep)], None) if events.time.requires_grad else kept
