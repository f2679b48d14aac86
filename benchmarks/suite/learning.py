"""How long it takes to learn, from the first line after the imports to an accuracy: prints a line of JSON.

    python benchmarks/suite/learning.py yin-yang 0 1     # task, seed, threads

Loading and encoding, the network's making and every look at the validation set are part of the time. The recipes were
chosen with seeds from 100 on; what is reported are others.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import measure
from torch import Tensor

from spikeloop import EventProp, Experiment, Record
from spikeloop.data import loader
from spikeloop.tasks import MNISTTask, Task, YinYangTask
from spikeloop.training import Cosine, Settings, SpikePenalty, evaluate


@dataclass(frozen=True)
class Recipe:
    """A task with settings that learn it soon.

    stops: on reaching the target on the validation set, after any epoch; otherwise after all of them, without looking.
    floor: seconds that issue 4 allows.  sparse: strength of a penalty on hidden spikes, which cost time.
    """

    what: str
    task: Task
    target: float
    stops: bool
    floor: float
    sparse: float = 0.0

    def settings(self, seed: int) -> Settings:
        """Of the task, but for what is chosen here."""
        settings = self.task.settings(seed)
        lift, penalty = settings.regulariser, SpikePenalty(strength=self.sparse)

        def regulariser(record: Record) -> Tensor:
            return penalty(record) if lift is None else lift(record) + penalty(record)

        return replace(settings, schedule=Cosine(floor=0.05), regulariser=regulariser if self.sparse else lift)


RECIPES = {
    "yin-yang": Recipe(
        "Yin-Yang 5-120-3 to 97 % on the validation set",
        YinYangTask(hidden=(120,), epochs=12, batch_size=100, learning_rate=3e-2),
        0.97,
        stops=True,
        floor=2.0,
    ),
    "mnist": Recipe(
        "MNIST 16x16, 256-246-10 LI, to 97.0 % on the test set",
        MNISTTask(size=16, hidden=(246,), epochs=4, batch_size=100, learning_rate=1.5e-2, dropout=0.05),
        0.97,
        stops=False,
        floor=30.0,
        sparse=1e-4,
    ),
}


def learn(recipe: Recipe, seed: int) -> dict[str, Any]:
    """A training, written out as anybody would."""
    began, task, settings = time.perf_counter(), recipe.task, recipe.settings(seed)
    data, unseen = task.data("train"), task.data("validation") if recipe.stops else None
    network, readout = task.network(seed), settings.readout
    assert readout is not None
    lab = Experiment(network, task.duration, rule=EventProp(), observe=readout.observe)
    optimizer = settings.optimizer(list(network.parameters()), settings.learning_rate)
    batches, reached, epoch = loader(data, settings.batch_size, shuffle=True, seed=seed), 0.0, 0
    while epoch < task.epochs and not (unseen and reached >= recipe.target):
        for step, (drive, label) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * settings.schedule(epoch + step / len(batches), task.epochs)
            record = lab(drive)
            loss = readout.loss(record, label)
            if settings.regulariser is not None:
                loss = loss + settings.regulariser(record)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch += 1
        if unseen:
            reached = evaluate(network, unseen, settings=settings)
    seconds = time.perf_counter() - began
    test = evaluate(network, task.data("test"), settings=settings)
    found = {"seconds": seconds, "epochs": epoch, "last_spikes": record.cost.spikes / len(label), "validation": reached}
    told = {"what": recipe.what, "floor": recipe.floor, "recipe": asdict(task)}
    return found | told | {"test": test, "reached": (reached if recipe.stops else test) >= recipe.target}


if __name__ == "__main__":
    name, seed, threads = sys.argv[1:]
    measure.pin(int(threads))
    print(json.dumps(learn(RECIPES[name], int(seed))))
