"""Runs in which weights change: cut at the calls of plasticity programs, each sample of a batch learning for itself."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from spikeloop.errors import UnknownPopulation, Unsupported
from spikeloop.plasticity.floating import Shapes
from spikeloop.plasticity.memory import PART, Learned, learned_of
from spikeloop.plasticity.rule import Program
from spikeloop.plasticity.watchdog import Watchdog
from spikeloop.protocols import Trial
from spikeloop.record import Calls, Record, State
from spikeloop.substrate.learner import Learner
from spikeloop.substrate.pieces import joined
from spikeloop.substrate.recordings import side_by_side
from spikeloop.substrate.samples import batch_of, samples_of

Recording = dict[tuple[str, str], list[dict[float, tuple[float, Any]]]]
"""By program and name, of each sample: what it recorded, as `recordings.Seen`."""


def learning(run: Callable[[Trial], Record], trial: Trial) -> Record:
    """Carry out ``trial`` of a network with programs, by ``run``, which knows nothing of programs but returns states.

    Between calls each sample runs a network of its own, without programs. A call at t sees the spikes before t.
    Raises ``RuleFailed``, ``WrongType``, ``ShapeMismatch`` or ``OutOfRange`` where a rule is to blame.
    """
    began = time.perf_counter()
    course = _Course(trial)
    with Watchdog() as watchdog, ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        course.call(course.begin, watchdog)
        for begin, end in course.segments:
            pieces = list(pool.map(lambda learner: learner.advance(run, trial, begin, end), course.learners))  # noqa: B023
            course.pieces.append(pieces)
            course.call(end, watchdog)
    return course.record(time.perf_counter() - began)


class _Course:
    """A trial on its way."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.begin = trial.begin
        end = trial.end
        before = learned_of(trial.start)
        self.programs = trial.network.programs
        _check_before(before, self.programs)
        self.count = {name: before.calls[name] if before else 0 for name in self.programs}
        self.due: defaultdict[float, list[str]] = defaultdict(list)
        for name, program in self.programs.items():
            if before is not None and name in before.requested:
                self.due[self.begin].append(name)
            for at in program.calls(self.begin, end):
                if name not in self.due[at]:
                    self.due[at].append(name)
        cuts = sorted({self.begin, end, *self.due})
        self.segments = list(pairwise(cuts))
        starts = samples_of(trial.start, trial.network, trial.batch)
        self.learners = [Learner(trial.network, sample, start, before) for sample, start in enumerate(starts)]
        self.pieces: list[list[Record]] = []
        self.recorded: Recording = {}
        self.history: dict[str, list[dict[float, tuple[float, Any]]]] = {
            name: [{} for _ in self.learners] for name in trial.observe.history
        }
        self.before = dict(self.count)
        self.shapes: dict[str, Shapes] = {name: {} for name in self.programs}

    def call(self, at: float, watchdog: Watchdog) -> None:
        """Call the programs that are due."""
        for name in self.due.get(at, ()):
            calls = (at, self.count[name], watchdog, self.shapes[name])
            made = [learner.call(name, *calls) for learner in self.learners]
            self.count[name] += 1
            for sample, (learner, found) in enumerate(zip(self.learners, made, strict=True)):
                for key, value in found.items():
                    seen = self.recorded.setdefault((name, key), [{} for _ in self.learners])
                    seen[sample][at] = at, value
                for projection in self.programs[name].projections.keys() & self.history.keys():
                    self.history[projection][sample][at] = at, learner.synapses[projection].weight.copy()

    def record(self, wall_time: float) -> Record:
        """What was observed."""
        made = joined(self.trial, self.pieces, wall_time)
        fields = made.__dict__ | {
            "weights": {name: torch.from_numpy(value) for name, value in self._of_all("weight").items()},
            "sources": {name: torch.from_numpy(value) for name, value in self._of_all("source").items()},
            "history": {
                name: side_by_side(seen, self.learners[0].synapses[name].weight.shape)
                for name, seen in self.history.items()
            },
            "recorded": {
                program: {key: side_by_side(seen) for (owner, key), seen in self.recorded.items() if owner == program}
                for program in self.programs
            },
            "calls": {name: Calls((self.count[name] - self.before[name]) * self.trial.batch) for name in self.programs},
            "state": self._state() if self.trial.observe.state else None,
        }
        return Record(**fields)

    def _of_all(self, what: str) -> dict[str, Any]:
        first = self.learners[0].synapses
        names = [name for name, synapses in first.items() if getattr(synapses, what) is not None]
        return {name: np.stack([getattr(each.synapses[name], what) for each in self.learners]) for name in names}

    def _state(self) -> State:
        states = [learner.state for learner in self.learners]
        learned = Learned(
            weight=self._of_all("weight"),
            source=self._of_all("source"),
            memory={name: tuple(each.memory[name] for each in self.learners) for name in self.programs},
            calls=dict(self.count),
            own={"learners": tuple(learner.snapshot() for learner in self.learners)},
        )
        return batch_of([state for state in states if state is not None], {PART: learned})


def _check_before(before: Learned | None, programs: Mapping[str, Program]) -> None:
    """Raise where what was learned before is not of these programs, or not of this place."""
    if before is None:
        return
    if set(before.memory) != set(programs):
        raise UnknownPopulation(
            f"the state is of programs {', '.join(map(repr, before.memory))}",
            where="start",
            expected=f"exactly {', '.join(map(repr, programs))}",
        )
    if "learners" not in before.own:
        raise Unsupported("the state was not made here", where="start", expected="a state of a run on Ideal")
