"""The one autograd function: a record becomes differentiable by a rule, whoever made the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spikeloop._function import Function
from spikeloop._given import check_rule, refuse_plastic
from spikeloop.errors import NoRule, Unsupported
from spikeloop.events import Events
from spikeloop.network import Key, Network
from spikeloop.protocols import Cotangent, Gradients, Rule, Trial
from spikeloop.record import Observed, Peak, Record, Samples

Output = tuple[str, str]
"""(kind, population); kind is one of time, count, membrane, peak."""


def attach(trial: Trial, record: Record, rule: Rule | None) -> Record:
    """``record`` with the gradient of ``rule`` attached to its spike times, counts, membranes and peaks.

    It does not matter who made the record: a substrate, a chip, a file. Gradients flow to whatever in
    ``trial.network`` and ``trial.drive`` requires them. The input populations appear in ``spikes`` as the drive itself.
    """
    check_rule(rule)
    if rule is not None:
        refuse_plastic(trial.network)
    return attached(trial, record, rule)


def attached(trial: Trial, record: Record, rule: Rule | None) -> Record:
    """`attach`, of a rule that was looked at."""
    made = _Made(trial, record, rule)
    if torch.is_grad_enabled():
        sources = trial.network.trainable()
        for name, events in trial.drive.items():
            if events.time.requires_grad:
                sources[name, "time"] = events.time
        if sources:
            made.keys = tuple(sources)
            return made.record_of(_Attached.apply(made, *sources.values()))
    return made.record_of(made.values)


class _Made:
    """A trial, its record and the rule; which tensors of the record are differentiable, in a fixed order.

    Of every population its time and count, then membranes, then peaks.
    """

    def __init__(self, trial: Trial, record: Record, rule: Rule | None) -> None:
        self.trial, self.record, self.rule = trial, record, rule
        self.keys: tuple[Key, ...] = ()
        outputs: list[Output] = []
        values: list[Tensor] = []
        for name, events in record.spikes.items():
            if name not in trial.drive:
                count = record.count.get(name)
                outputs += ("time", name), ("count", name)
                values += events.time, events.count if count is None else count
        for name, samples in record.membrane.items():
            outputs.append(("membrane", name))
            values.append(samples.value)
        for name, peak in record.peak.items():
            outputs.append(("peak", name))
            values.append(peak.value)
        self.outputs, self.values = outputs, values

    def record_of(self, values: Sequence[Tensor]) -> Record:
        """The record with ``values`` in the place of its differentiable tensors."""
        record, drive, new = self.record, self.trial.drive, iter(values)  # in the order of `outputs`
        spikes: Observed[Events] = Observed("spike train", {})
        count: Observed[Tensor] = Observed("count", {})
        membrane: Observed[Samples] = Observed("membrane", {}, "membrane={{{0!r}: period}}")
        peak: Observed[Peak] = Observed("peak", {}, "peak={{{0!r}}}")
        for name, events in record.spikes.items():
            if name in drive:
                spikes[name] = drive[name]
            else:
                time, count[name] = next(new), next(new)
                spikes[name] = events._with(time, count[name])
        for name, events in drive.items():
            if name not in spikes:
                spikes[name] = events
        for name, samples in record.membrane.items():
            membrane[name] = Samples(samples.time, samples.unit, next(new))
        for name, highest in record.peak.items():
            peak[name] = Peak(highest.time, next(new))
        return record._with(
            spikes=spikes,
            count=count,
            membrane=membrane,
            peak=peak,
            silent=self.trial.silent,
            adaptation=Observed("adaptation", record.adaptation, "adaptation={{{0!r}: period}}"),
            current=Observed("current", record.current, "current={{{0!r}: period}}"),
        )

    def gradients(self, cotangents: tuple[Tensor | None, ...], wants: frozenset[Key]) -> Mapping[Key, Tensor]:
        """What the rule makes of the cotangents (one per output); raises where it cannot use one."""
        if self.rule is None:
            raise NoRule(
                "this record was made without a rule, so it has no gradient",
                where="backward",
                todo="Pass rule=EventProp() to run or Experiment, or wrap the forward in torch.no_grad()",
            )
        given = {output: c for output, c in zip(self.outputs, cotangents, strict=True) if c is not None}
        return differentiated(self.trial, self.record, self.rule, given, wants)


def differentiated(
    trial: Trial, record: Record, rule: Rule, cotangents: Mapping[Output, Tensor], wants: frozenset[Key]
) -> Gradients:
    """What ``rule`` makes of the cotangents of ``record``; raises where it cannot use one."""
    given: dict[str, dict[str, Tensor]] = {"time": {}, "count": {}, "membrane": {}, "peak": {}}
    accepts = rule.accepts
    for (kind, population), cotangent in cotangents.items():
        if kind in accepts:
            given[kind][population] = cotangent
        elif bool(cotangent.any()):
            raise Unsupported(
                f"{type(rule).__name__} cannot use a gradient of the {kind}",
                where=f"population {population!r}",
                expected=f"a loss of {', '.join(sorted(accepts))}",
            )
    return rule.vjp(trial, record, Cotangent(**given, wants=wants))


class _Attached(Function):
    """The only spiking autograd function: (what is trainable) -> (what was observed), differentiated by the rule."""

    @staticmethod
    def forward(ctx: Any, made: _Made, *sources: Tensor) -> tuple[Tensor, ...]:
        values = tuple([value.detach() for value in made.values])
        ctx.made = made
        ctx.set_materialize_grads(False)
        # Saved for torch to notice when anything the gradient depends on is changed in place before backward.
        known = set(map(id, sources))
        rest = [value for value in _parameters(made.trial.network) if id(value) not in known]
        ctx.save_for_backward(*sources, *values, *rest)
        return values

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise Unsupported(
                "a record cannot be differentiated twice",
                where="backward",
                todo="Leave out create_graph=True: second order is not done",
            )
        made: _Made = ctx.made
        saved = ctx.saved_tensors
        wanted = [key for key, needed in zip(made.keys, ctx.needs_input_grad[1:], strict=True) if needed]
        found = made.gradients(cotangents, frozenset(wanted))
        gradients: list[Tensor | None] = [None]
        for key, source in zip(made.keys, saved, strict=False):
            gradient = found.get(key)
            if gradient is not None and gradient.dtype != source.dtype:
                gradient = gradient.to(source.dtype)
            gradients.append(gradient)
        return tuple(gradients)


def _parameters(network: Network) -> list[Tensor]:
    modules = (*network.projections.values(), *network.populations.values())
    return [value for module in modules for value in module._parameters.values() if value is not None]
