"""Train a network on labelled events, stop and go on as if nothing had happened, and count how often it is right."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from spikeloop._run import IDEAL
from spikeloop.data.dataset import Batches
from spikeloop.events import Events
from spikeloop.gradient.eventprop import EventProp
from spikeloop.network import Network
from spikeloop.protocols import Rule, Substrate
from spikeloop.training.course import Course, Metrics, Progress, accuracy
from spikeloop.training.folder import RunFolder
from spikeloop.training.place import SpikingPlace
from spikeloop.training.settings import Settings

WATCH_PERIOD = 0.1

Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Training:
    """What `fit` returns: the metrics of every epoch, the last one being `history[-1]`, and the run folder, if any."""

    history: list[Metrics]
    folder: Path | None


def fit(  # noqa: PLR0913  (the first three say what; the rest, each with a default, where and how long)
    network: Network,
    data: Batches[Events],
    settings: Settings | None = None,
    *,
    epochs: int = 1,
    substrate: Substrate = IDEAL,
    rule: Rule | None = None,
    validation: Batches[Events] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Training:
    """Train `network`, in place, for `epochs` epochs; the rule is `EventProp()` unless another is given.

    With a `folder`, the configuration, the metrics of every epoch and a checkpoint are kept there. `resume=True` goes
    on from the checkpoint, or begins where there is none, and ends bit for bit where a training that was never stopped
    would have. Ctrl-C finishes the step, or what is gone through with it at once (a twentieth of a second of steps),
    writes a checkpoint and says how to go on. torch's global random generator is seeded within and left as it was.
    `watch` is told how far the training is, ten times a second at most.

    Raises CheckpointError for a folder with a run that is not to be resumed, or was made with other settings.
    """
    settings = settings or Settings()
    place = SpikingPlace.of(network, data, settings, substrate, rule or EventProp())
    return follow(Course(network, data, settings, epochs, place), validation, folder, resume, watch)


def evaluate(
    network: Network, data: Batches[Events], substrate: Substrate = IDEAL, *, settings: Settings | None = None
) -> float:
    """The share of `data` that `network` answers rightly on `substrate`; a silent answer is wrong.

    Only `duration` and `readout` of the settings matter.
    """
    return accuracy(network, data, SpikingPlace.of(network, data, settings or Settings(), substrate, None))


def follow(
    course: Course, validation: Batches[Any] | None, folder: str | Path | None, resume: bool, watch: Watch | None
) -> Training:
    """Take a course to its end; the rest is as in `fit`."""
    store = None if folder is None else RunFolder(folder)
    with torch.random.fork_rng(devices=[]), _interruption() as interruption:
        torch.manual_seed(course.settings.seed)
        if store is not None:
            store.open(course, resume)
        while course.epoch < course.epochs:
            _run_epoch(course, store, interruption, watch)
            course.close_epoch(validation)
            if store is not None:
                store.save(course)
        if interruption.asked:
            _stop(course, store)
    return Training(course.history, None if store is None else store.path)


class _Interruption:
    """Whether somebody pressed Ctrl-C; the second time it is a KeyboardInterrupt at once."""

    asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def _interruption() -> Iterator[_Interruption]:
    interruption = _Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGINT, interruption)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


def _run_epoch(course: Course, store: RunFolder | None, interruption: _Interruption, watch: Watch | None) -> None:
    saved = watched = time.monotonic()
    for piece in course.pieces():
        course.step(*piece)
        now = time.monotonic()
        if interruption.asked:
            _stop(course, store)
        if store is not None and now - saved >= course.settings.checkpoint_period:
            store.save(course)
            saved = now
        if watch is not None and (now - watched >= WATCH_PERIOD or course.taken == course.steps):
            watch(course.progress())
            watched = now


def _stop(course: Course, store: RunFolder | None) -> None:
    where = f"stopped after step {course.taken} of epoch {course.epoch}"
    if store is None:
        raise KeyboardInterrupt(f"{where}; there is no run folder, so the training cannot be resumed")
    store.save(course)
    raise KeyboardInterrupt(f"{where}; {store.path} holds a checkpoint: call fit again with resume=True to go on")
