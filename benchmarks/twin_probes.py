"""What benchmarks/twin.py does: trainings and measurements on a twin, each of which returns what its line says."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloop import Events, Network, Record, run
from spikeloop.chip import transfer
from spikeloop.chip.calibrate import calibrate
from spikeloop.chip.calibration import RANGES, Target, nominal_gain
from spikeloop.chip.lower_neurons import target_of
from spikeloop.chip.mapping import place
from spikeloop.chip.twin import Twin
from spikeloop.data import loader
from spikeloop.gradient.eventprop import EventProp
from spikeloop.gradient.surrogate import SuperSpike
from spikeloop.loss import spike_budget
from spikeloop.protocols import Rule, Substrate
from spikeloop.substrate.ideal import Ideal
from spikeloop.substrate.onchip import OnChip
from spikeloop.tasks import LOOPED_BETA, SPEEDUP, Task, rule_of, substrate_of
from spikeloop.training import SpikePenalty, evaluate, fit
from spikeloop.training.course import EVALUATION_BATCH, EVALUATION_NUMBER

Line = dict[str, Any]

STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5)
PARAMETERS = ("tau_mem", "tau_syn", "threshold")
DECALIBRATIONS = {
    f"{what} {strength:.0%}": (what, strength)
    for what, strength in [("none", 0.0), *((what, s) for what in (*PARAMETERS, "jointly") for s in STRENGTHS)]
}
"""What each is called, what is scattered, and how much."""
LEAST, MOST = 0.2, 2.5  # of what was wanted: no parameter is put outside
BEGIN, FALL = 8.0, 0.3  # of a budget: how many times as much is allowed at first, for which share of the training
DEATH, DEATHS = 0.15, 20
SAMPLES = 500  # that a gradient is measured with
TRIALS, STEP = 32, 0.3  # of central differences: trials, and how far the weights of a layer go together, as a norm


# ---- trainings -----------------------------------------------------------------------------------------------------


def looped(task: Task, chip: int, folder: Path) -> Line:
    """Trained and tested on the chip."""
    network, there = task.network(chip), on(task, chip)
    return trained(there, network, substrate_of(there), chip, folder)


def software(task: Task, chip: int, folder: Path) -> Line:
    """Trained on `Ideal`; tested there, and on the chip as it is."""
    network, there = task.network(chip), on(task, chip)
    line = trained(task, network, Ideal(), chip, folder)
    return line | {"transferred": tested(task, network, substrate_of(there))}


def sampled(task: Task, period: float, chip: int, folder: Path) -> Line:
    """In the loop, with surrogate gradients of membranes that are seen every ``period`` seconds of the chip."""
    network, there = task.network(chip), on(task, chip)
    return trained(there, network, substrate_of(there), chip, folder, SuperSpike(period * SPEEDUP, beta=LOOPED_BETA))


def trained(
    task: Task, network: Network, where: Substrate, seed: int, folder: Path, rule: Rule | None = None, **changes: Any
) -> Line:
    """Train ``network`` in place, or go on where it was stopped: accuracies, spikes, speed and settings."""
    line = fitted(task, network, where, seed, folder, rule, **changes)
    return {"test": tested(task, network, where), **line}


def fitted(
    task: Task, network: Network, where: Substrate, seed: int, folder: Path, rule: Rule | None = None, **changes: Any
) -> Line:
    """`trained` without a look at the test set."""
    settings = dataclasses.replace(task.settings(seed), **changes)
    data = task.data("train")
    kept = {"folder": folder, "resume": True}
    rule = rule or rule_of(task)
    history = fit(network, data, settings, epochs=task.epochs, rule=rule, substrate=where, **kept).history
    last = history[-1]
    return {
        "train": last["accuracy"],
        "spikes_per_sample": last["spikes_per_sample"],
        "samples_per_second": last["samples_per_second"],
        "seconds": sum(epoch["seconds"] for epoch in history),
        "epochs": task.epochs,
        "settings": dataclasses.asdict(task),
    }


def tested(task: Task, network: Network, substrate: Substrate) -> float:
    """The accuracy on the test set."""
    return evaluate(network, task.data("test"), substrate, settings=task.settings(0))


def on(task: Task, chip: int) -> Task:
    """The task in the loop with ``chip``."""
    return dataclasses.replace(task, substrate="twin", chip=chip)


# ---- decalibration -------------------------------------------------------------------------------------------------


def decalibrated(task: Task, what: str, strength: float, chip: int, folder: Path) -> Line:
    """In the loop and transferred, on circuits calibrated to scattered targets, of which training knows nothing."""
    network, there = task.network(chip), on(task, chip)
    substrate, spread = scattered(there, network, what, strength)
    line = trained(there, network, substrate, chip, folder) | {"spread": spread}
    plain = task.network(chip)
    trained(task, plain, Ideal(), chip, folder.with_name(f"{task.name}-software-chip-{chip}"))
    return line | {"transferred": tested(task, plain, substrate)}


def scattered(task: Task, network: Network, what: str, strength: float) -> tuple[OnChip, dict[str, float]]:
    """The chip, calibrated to targets that differ from what the network asks for, as N(1, ``strength``) times.

    Its calibration says that it is for what was asked. Also the relative spread that the chip's ranges left, over the
    circuits in use.
    """
    rows = task.rows_per_input or task.inputs_take
    placement, draw = place(network, rows), np.random.default_rng(1000 + task.chip)
    wanted = target = target_of(network, placement, SPEEDUP)
    for name in PARAMETERS:
        factor = np.clip(1 + strength * draw.standard_normal(len(target.leak)), LEAST, MOST)
        if what in (name, "jointly"):
            target = _with(target, name, factor)
    calibration = dataclasses.replace(calibrate(Twin(task.chip), target), target=wanted)
    parts = {name: [_part(of, name)[placement.used] for of in (target, wanted)] for name in PARAMETERS}
    spread = {name: float(np.std(is_ / asked)) for name, (is_, asked) in parts.items()}
    return OnChip(Twin(task.chip), SPEEDUP, rows, calibration), spread


def _part(target: Target, name: str) -> np.ndarray:
    """What is scattered: of a threshold the distance from the leak."""
    return target.threshold - target.leak if name == "threshold" else getattr(target, name)


def _with(target: Target, name: str, factor: np.ndarray) -> Target:
    """A time constant leaves the gain alone."""
    base = target.leak if name == "threshold" else 0.0
    value = np.clip(base + _part(target, name) * factor, *RANGES[name][:2])
    times = {each: value if each == name else getattr(target, each) for each in ("tau_mem", "tau_syn")}
    gain = nominal_gain(target)  # of the circuits as they were: the potential of a weight step follows from it
    return dataclasses.replace(target, **{name: value}, psp=transfer.psp(gain, **times, capacitance=target.capacitance))


# ---- death ---------------------------------------------------------------------------------------------------------


def dying(task: Task, dropout: float, chip: int, folder: Path) -> Line:
    """In the loop with ``dropout`` of the hidden events; then a part of the hidden neurons falls silent for good.

    In tests all send, and what leaves them is scaled by the share that sent in training.
    """
    network, there = task.network(chip), on(task, chip)
    network.populations["hidden"].dropout = dropout
    substrate = substrate_of(there)
    line = fitted(there, network, substrate, chip, folder)
    network.projection("hidden", "output").weight.data *= 1 - dropout
    line = {"test": tested(there, network, substrate), **line}
    return line | {"dead": float(np.mean([_without_some(task, network, substrate, k) for k in range(DEATHS)]))}


def _without_some(task: Task, network: Network, substrate: Substrate, draw: int) -> float:
    """A neuron without events is one whose synapses are cut."""
    weight = network.projection("hidden", "output").weight
    kept = weight.detach().clone()
    number = round(DEATH * len(kept))
    dead = torch.randperm(len(kept), generator=torch.Generator().manual_seed(draw))[:number]
    with torch.no_grad():
        weight[dead] = 0.0
        right = tested(task, network, substrate)
        weight.copy_(kept)
    return right


# ---- gradient ------------------------------------------------------------------------------------------------------


def estimated(task: Task, epochs: int, chip: int, folder: Path) -> Line:
    """Cosines, layer by layer, of the gradient from the chip's spikes with the exact one, on `Ideal`."""
    there = dataclasses.replace(on(task, chip), epochs=max(epochs, 1))
    network = task.network(chip)
    substrate = substrate_of(there)
    if epochs:
        trained(there, network, substrate, chip, folder)
    drive, label = task.data("train").batch(torch.arange(SAMPLES))
    exact = _gradient(task, network, drive, label, Ideal(), EventProp())
    result: Line = {"samples": SAMPLES, "epochs": epochs, "settings": dataclasses.asdict(there)}
    for floor in (0.0, 0.1, 0.3, 1.0):
        here = _gradient(task, network, drive, label, substrate, EventProp(slope_floor=floor))
        result[f"cosine, floor {floor:g}"] = {name: _cosine(here[name], exact[name]) for name in exact}
    same = _gradient(task, network, drive, label, Ideal(), EventProp(slope_floor=0.3))
    result["cosine, ideal, floor 0.3"] = {name: _cosine(same[name], exact[name]) for name in exact}
    return result | {"slopes": _slopes(there, network, drive, label, substrate)}


def _slopes(
    task: Task, network: Network, drive: Events, label: Tensor, substrate: Substrate
) -> dict[str, dict[str, float]]:
    """By layer: how the mean loss changes along the mean gradient, as that says and as central differences say.

    The gradient is the mean over `TRIALS` trials; the loss is that of as many others, the same on both sides. halves:
    cosine between the mean gradients of every other trial.
    """
    rule = EventProp(slope_floor=task.floor)
    each = [_gradient(task, network, drive, label, substrate, rule, number) for number in range(TRIALS)]
    found: dict[str, dict[str, float]] = {}
    for name, projection in network.projections.items():
        grads = torch.stack([gradient[name] for gradient in each])
        mean, before = grads.mean(0), projection.weight.detach().clone()
        direction = mean / mean.norm()
        sides: list[Tensor] = []
        with torch.no_grad():
            for step in (STEP, -STEP):
                projection.weight.copy_(before + step * direction)
                sides.append(_losses(task, network, drive, label, substrate))
            projection.weight.copy_(before)
        measured = (sides[0] - sides[1]) / (2 * STEP)
        found[name] = {
            "estimated": float(mean.norm()),
            "measured": float(measured.mean()),
            "error": float(measured.std()) / TRIALS**0.5,
            "halves": _cosine(grads[::2].mean(0), grads[1::2].mean(0)),
        }
    return found


def _losses(task: Task, network: Network, drive: Events, label: Tensor, substrate: Substrate) -> Tensor:
    """(TRIALS,): of trials that no gradient was taken from."""
    readout = task.settings(0).readout
    assert readout is not None
    look: dict[str, Any] = {"substrate": substrate, "rule": rule_of(task), "observe": readout.observe}
    numbers = range(TRIALS, 2 * TRIALS)
    records = (run(network, drive, task.duration, number=number, **look) for number in numbers)
    return torch.stack([readout.loss(record, label) for record in records]).double()


def _gradient(
    task: Task, network: Network, drive: Events, label: Tensor, substrate: Substrate, rule: EventProp, number: int = 0
) -> dict[str, Tensor]:
    readout = task.settings(0).readout
    assert readout is not None
    record = run(network, drive, task.duration, substrate=substrate, rule=rule, observe=readout.observe, number=number)
    network.zero_grad()
    readout.loss(record, label).backward()
    grads = {name: projection.weight.grad for name, projection in network.projections.items()}
    return {name: grad.detach().clone() for name, grad in grads.items() if grad is not None}


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))


# ---- sparsity ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Budget:
    """A regulariser: hidden spikes per sample beyond a budget cost ``strength`` each.

    The budget comes down to ``budget`` within ``steps`` steps, from ``BEGIN`` times that: neurons whose spikes are all
    taken at once never learn to spike anew. Nor is the price put on neurons that are silent in a sample: they can give
    no spike, and would only be moved further away from the threshold for the samples that need them.
    """

    budget: float
    steps: int
    strength: float = 0.01

    def __call__(self, record: Record) -> Tensor:
        assert record.number is not None  # a training's step
        allowed = self.budget * max(1.0, BEGIN ** (1 - record.number / self.steps))
        count = record.count["hidden"]
        return self.strength * spike_budget(count * (count.detach() > 0), allowed)


def sparse(task: Task, budget: float, chip: int, folder: Path) -> Line:
    """In the loop, with a price on hidden spikes beyond a budget; and how many there are in a test sample."""
    steps = math.ceil(len(task.data("train")) / task.batch_size) * task.epochs
    return _sparse(on(task, chip), task.network(chip), chip, folder, Budget(budget, round(FALL * steps)))


def penalised(task: Task, strength: float, chip: int, folder: Path) -> Line:
    """In the loop, with a price on the squared count of each hidden neuron, which surrogate gradients see."""
    return _sparse(on(task, chip), task.network(chip), chip, folder, SpikePenalty(strength=strength))


def _sparse(task: Task, network: Network, chip: int, folder: Path, price: Budget | SpikePenalty) -> Line:
    substrate = substrate_of(task)
    line = trained(task, network, substrate, chip, folder, regulariser=price)
    return line | {"hidden_spikes": hidden_spikes(task, network, substrate)}


@torch.no_grad()
def hidden_spikes(task: Task, network: Network, substrate: Substrate) -> float:
    """Per sample of the test set, where no input is dropped as in the training."""
    data = task.data("test")
    batches = enumerate(loader(data, EVALUATION_BATCH), EVALUATION_NUMBER)
    records = (run(network, drive, task.duration, substrate=substrate, number=number) for number, (drive, _) in batches)
    return sum(record.spikes["hidden"].time.shape[0] for record in records) / len(data)
