"""The pseudo-gradient of spike counts: charge brought over charge spent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from spikeloop.engine.arrays import Link, Neurons, Stage
from spikeloop.events import Events
from spikeloop.network import Key, Network

_ROOM = 1 << 22  # values held at a time where every synapse needs one per sample


def add_count_gradients(
    gradients: dict[Key, Tensor],
    stages: Sequence[Stage],
    network: Network,
    spikes: Mapping[str, Events],
    count: Mapping[str, Tensor],
    wants: Collection[Key],
) -> None:
    """Add to ``gradients`` what cotangents of the ``count``, by population (B, N), say of weights, see `EventProp`."""
    pulls = {name: pull for name, pull in count.items() if bool(pull.any())}
    if not pulls:
        return
    heard = {link.target for stage in stages for link in stage.links}
    for stage in reversed(stages):
        inside = {neurons.name: neurons for neurons in stage.populations}
        for link in stage.links:
            pull = pulls.get(link.target)
            if pull is None:
                continue
            charge = pull * _per_charge(inside[link.target], pull.dtype)
            sent = spikes[link.source].detach().count.to(charge.dtype)
            onwards = link.source in heard and link.source not in inside
            by_weight, by_count = (
                _dense(link, charge, sent, onwards) if link.rows is None else _sparse(link, charge, sent)
            )
            if (link.name, "weight") in wants:
                extra, key = by_weight.reshape(network.projections[link.name].weight.shape), (link.name, "weight")
                gradients[key] = gradients[key] + extra if key in gradients else extra
            if onwards:
                pulls[link.source] = pulls[link.source] + by_count if link.source in pulls else by_count


def _per_charge(neurons: Neurons, dtype: torch.dtype) -> Tensor:
    tau_mem, tau_syn, threshold, _, reset, _ = neurons.values
    return torch.from_numpy(tau_syn / (tau_mem * (threshold - reset))).to(dtype)


def _dense(link: Link, charge: Tensor, count: Tensor, onwards: bool) -> tuple[Tensor, Tensor]:
    """By weight and, if it goes ``onwards``, by count."""
    weight = torch.from_numpy(link.weight).to(charge.dtype)
    return count.t() @ charge, charge @ weight.t() if onwards else torch.zeros(())


def _sparse(link: Link, charge: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    rows = link.rows
    assert rows is not None
    target = torch.from_numpy(rows.target).to(torch.int64)
    source = torch.repeat_interleave(torch.arange(len(rows.begin) - 1), torch.from_numpy(rows.begin).diff())
    which = torch.arange(len(target)) if rows.weight is None else torch.from_numpy(rows.weight)
    weight = torch.from_numpy(link.weight).to(charge.dtype)
    by_weight, by_count = torch.zeros_like(weight), torch.zeros_like(count)
    step = max(_ROOM // max(len(target), 1), 1)
    for first in range(0, len(charge), step):
        some = slice(first, first + step)
        pulled = charge[some][:, target]
        by_weight.index_add_(0, which, (pulled * count[some][:, source]).sum(0))
        by_count[some] = by_count[some].index_add(1, source, pulled * weight[which])
    return by_weight, by_count
