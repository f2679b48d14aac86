"""What an observation must look like, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from spikeloop.conformance.cases import Case
from spikeloop.errors import SpikeloopError
from spikeloop.events import Events
from spikeloop.protocols import Observe
from spikeloop.record import Peak, Samples

EXACT = 1e-9
"""Of the duration: times this near to each other are the same."""


def event_faults(events: Events, name: str, case: Case) -> Iterator[str]:
    """What is wrong with these events as the spikes of a population."""
    try:
        Events(events.time, events.unit, events.start, events.size)
    except SpikeloopError as error:
        yield f"{name}: {error}"
        return
    size = case.network.populations[name].size
    if (len(events), events.size) != (case.batch, size):
        yield f"{name}: {len(events)} samples of {events.size} units, expected {case.batch} of {size}"
    elif len(events.time) and float(events.time.detach().max()) > case.duration:
        yield f"{name}: a spike at {float(events.time.detach().max()):g} s, the run ends at {case.duration:g} s"


def sample_faults(case: Case, wish: Observe, name: str, samples: Samples, period: float) -> Iterator[str]:
    """What is wrong with samples that ``wish`` asked for, of a membrane that is sampled every ``period`` seconds.

    name: "population", or "population.compartment".
    """
    time, value, slack = samples.time, samples.value, max(period, EXACT * case.duration)
    asked, unit = (
        wish.times(name, case.duration),
        wish.neurons(name, case.network.populations[name.partition(".")[0]].size),
    )
    if samples.unit.dtype != torch.int64 or samples.unit.tolist() != unit.tolist():
        yield f"membrane of {name}: neurons {samples.unit.tolist()}, asked for {unit.tolist()} (int64)"
        return
    if time.dtype != torch.float64 or tuple(time.shape) not in ((time.shape[-1],), (case.batch, time.shape[-1])):
        yield f"membrane of {name}: times are {time.dtype}, {tuple(time.shape)}, expected float64, (T,) or (B, T)"
        return
    if tuple(value.shape) != (case.batch, time.shape[-1], len(unit)) or not value.is_floating_point():
        yield f"membrane of {name}: {value.dtype}, {tuple(value.shape)}, expected (B, T, M) of times and neurons"
        return
    if not bool(value.isfinite().all()):
        yield f"membrane of {name}: values that are not finite"
    if time.shape[-1] == 0 and len(asked):
        yield f"membrane of {name}: no samples"
    elif bool(((time.unsqueeze(-2) - asked.unsqueeze(-1)).abs() > slack).all(-1).any()):
        yield f"membrane of {name}: no sample at a time that was asked for"


def peak_faults(case: Case, name: str, peak: Peak, samples: Samples | None) -> Iterator[str]:
    """What is wrong with a peak; ``samples`` are those of the same membrane, if there are any."""
    shape = (case.batch, case.network.populations[name].size)
    if tuple(peak.time.shape) != shape or tuple(peak.value.shape) != shape or peak.time.dtype != torch.float64:
        yield f"peak of {name}: times {peak.time.dtype}, {tuple(peak.time.shape)}, values {tuple(peak.value.shape)}"
        return
    if not bool(((peak.time >= 0) & (peak.time <= case.duration)).all()) or not bool(peak.value.isfinite().all()):
        yield f"peak of {name}: a time outside the run, or a value that is not finite"
    elif samples is not None and samples.value.shape[1]:
        highest = samples.value.amax(1)
        if bool((highest > peak.value[:, samples.unit] + 1e-6 * (1 + highest.abs())).any()):
            yield f"peak of {name}: a sample of the same run is higher"
