"""Chips for tests: one without imperfections, configurations of it, what is sent, what a network is by its laws."""

from dataclasses import replace

import numpy as np
import torch

from spikeloop import LIF, Events, Network, OnChip, Population, Projection, Twin
from spikeloop.chip import bench, transfer
from spikeloop.chip.calibrate import Calibration, Target, default_target, nominal, uncalibrated
from spikeloop.chip.configuration import CADC_PERIOD_MIN, AddressedEvents, Configuration, Instruments
from spikeloop.chip.lower_neurons import target_of
from spikeloop.chip.mapping import place
from spikeloop.chip.scales import scale_of
from spikeloop.chip.twin import EVERYTHING

IDEAL = Twin(7, ideal=EVERYTHING)
EXCITATORY, INHIBITORY = bench.SOME, bench.INHIBITORY
ALL_CIRCUITS = np.arange(512, dtype=np.int16)


def configuration(weight: int, rows: int = 1, target: Target | None = None, watch=(), **analog) -> Configuration:
    """Circuits with the laws' codes for ``target``; ``rows`` rows of ``weight`` answer to each of the two labels."""
    codes = replace(uncalibrated(target or default_target()), fires=np.ones(512, bool))
    some = np.full(512, rows)
    instruments = Instruments(np.array([CADC_PERIOD_MIN if len(watch) else 0]), np.array(watch, np.int16))
    return Configuration(
        np.full((2, 256, 256), weight, np.uint8), bench.routing(some, some), replace(codes, **analog), instruments
    )


def events(*runs, trial: int = 0) -> AddressedEvents:
    """One list of (cycle, label) per run."""
    flat = np.array([event for run in runs for event in run], np.int64).reshape(-1, 2)
    return AddressedEvents(flat[:, 0], flat[:, 1], np.cumsum([0, *map(len, runs)]), trial=trial)


def same(one, other) -> bool:
    """Whether two readouts are the same, bit for bit."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


SPEEDUP = 1000.0


def some_events(size: int, batch: int = 4, count: int = 20, until: float = 30e-3) -> Events:
    """``count`` events a sample at random times in model seconds, the same in every call."""
    random = torch.Generator().manual_seed(1)
    time = [torch.rand(count, generator=random) * until for _ in range(batch)]
    return Events.from_lists(time, [torch.randint(0, size, (count,), generator=random) for _ in range(batch)], size)


def by_the_laws(twin: Twin, network: Network, rows: int = 1) -> Calibration:
    """The laws' codes for ``network``, without a search."""
    return nominal(twin, target_of(network, place(network, rows), SPEEDUP))


def ready(network: Network, twin: Twin = IDEAL, **options) -> OnChip:
    """A substrate with the laws' codes."""
    return OnChip(twin, calibration=by_the_laws(twin, network, options.get("rows_per_input", 1)), **options)


def as_the_codes_say(network, codes):
    """``network`` with the numbers that rounded codes give on a chip that follows its laws; weights in weight steps.

    codes: by population the circuits of one of its neurons, and the `Analog` that is written into them.
    """
    populations, factor = {}, {}
    for name, population in network.populations.items():
        if population.kind is None:
            populations[name] = Population(population.size)
            continue
        circuits, analog = codes[name]
        at = circuits[:1]
        capacitance = float(analog.capacitance[at[0]]) / 63
        leak, synapse = (
            time / float(transfer.conductance(code[at], division[at])[0]) * SPEEDUP
            for time, code, division in (
                (transfer.LEAK_TIME * capacitance, analog.leak_bias, analog.leak_division),
                (transfer.SYNAPSE_TIME, analog.synapse_bias, analog.synapse_division),
            )
        )
        hold = float(transfer.refractory_seconds(analog.refractory[at], analog.refractory_clock)[0]) * SPEEDUP
        jump = transfer.REFERENCE_JUMP / transfer.STEP * leak / SPEEDUP / transfer.REFERENCE_TAU
        factor[name] = (
            jump * float(analog.gain[0, at[0]]) / transfer.REFERENCE_GAIN / 70 / (len(circuits) * capacitance)
        )
        neuron = population.kind(leak, synapse, **({"refractory": hold} if population.kind is LIF else {}))
        populations[name] = Population(population.size, neuron)
    links = [
        Projection(p.source, p.target, p.weight.detach().double() * factor[p.target])
        for p in network.projections.values()
    ]
    return Network(populations, links)


def steps_of(network):
    """Weights of the network in whole weight steps."""
    found = Network(
        dict(network.populations.items()),
        [Projection(p.source, p.target, p.weight.detach()) for p in network.projections.values()],
    )
    for projection in found.projections.values():
        unit = torch.from_numpy(scale_of(network.populations[projection.target], SPEEDUP).weight)
        projection.weight.data = (projection.weight.double() / unit).round().clamp(-63, 63).float()
    return found
