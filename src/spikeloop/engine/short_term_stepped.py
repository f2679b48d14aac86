"""Short-term plasticity of links onto neurons in steps: sizes of what comes from outside, and loops piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Recovered, Run, Trains
from spikeloop.engine.arriving import joined, only
from spikeloop.engine.short_term import (
    Course,
    arriving_sizes,
    own_sizes,
    recent_sizes,
    recovered,
    resources,
    rested,
)
from spikeloop.engine.stepped import SteppedLink, SteppedRun, SteppedStage

Mask = NDArray[np.bool_]


def sized(stage: SteppedStage, trains: Mapping[str, Trains], run: Course) -> SteppedStage:
    """``stage``, with the sizes of the events that its short-term links bring from outside.

    trains: of the run alone; those on their way from before are ``run``'s.
    """
    if all(link.short_term is None for link in stage.links):
        return stage
    inside = {cells.name for cells in stage.populations}
    links = [
        link
        if link.short_term is None or link.source in inside
        else replace(link, amplitude=arriving_sizes(link, trains[link.source], run))
        for link in stage.links
    ]
    return replace(stage, links=tuple(links))


class Inside:
    """The short-term links within a stage, from piece to piece of a run on its grid.

    now: by link, where they are, with the sizes of all spikes on their way; what a piece begins with.
    """

    links: list[SteppedLink]
    now: dict[str, Recovered]

    def __init__(self, stage: SteppedStage, run: Run, start: float) -> None:
        """``start``: where the grid begins; spikes of before that are given, those after it are made anew."""
        self.links = drawing(stage)
        self.now = {link.name: before(link, run, start) for link in self.links}
        self._paused = self.now
        self._sizes: dict[str, Trains] = {}

    def go_on(self, made: Mapping[str, Trains], piece: SteppedRun) -> None:
        """Pass the spikes that a piece has made."""
        for link in self.links:
            train = made[link.source]
            own: Trains = (own_sizes(link, train, piece), *train[1:])
            self._sizes[link.name] = joined(self._sizes[link.name], own) if link.name in self._sizes else own
        self.now = {
            link.name: recovered(link, made[link.source], piece, np.ones(_coming(link, made, piece), bool))
            for link in self.links
        }

    def pause(self) -> None:
        """Remember where they are: the next run goes on from here."""
        self._paused = self.now

    def ended(self, run: Run, kept: Mapping[str, Mask]) -> dict[str, Recovered]:
        """Where the next run begins, with the sizes of all spikes of before and of those that are ``kept`` (by source)
        of this run's own.
        """
        found: dict[str, Recovered] = {}
        for link in self.links:
            size, unit, begin = self._sizes[link.name]
            mask = kept[link.source]
            own: Trains = (size[mask], unit[mask], np.append(0, np.cumsum(mask))[begin])
            recent = run.recent.get(link.source)
            if recent is not None:
                own = joined((recent_sizes(link, run), recent[1], recent[2]), own)
            found[link.name] = replace(self._paused[link.name], size=own[0])
        return found


def drawing(stage: SteppedStage) -> list[SteppedLink]:
    """The short-term links within a stage."""
    names = {cells.name for cells in stage.populations}
    return [link for link in stage.links if link.short_term is not None and link.source in names]


def before(link: SteppedLink, run: Course, start: float) -> Recovered:
    """Where a link within a stage is at ``start``, as the state says that ``run`` goes on from, with the sizes of the
    spikes of before that.
    """
    assert link.short_term is not None
    x, last = rested(run.batch, link.short_term, run.recovered.get(link.name))
    size, recent = recent_sizes(link, run), run.recent.get(link.source)
    return Recovered(x, last, size if recent is None else size[recent[0] < start])


def since(link: SteppedLink, run: Course, start: float) -> Recovered:
    """Where it is when ``run`` begins, past its spikes from ``start`` on, with the sizes of all those on their way."""
    assert link.short_term is not None
    paused, size, recent = before(link, run, start), recent_sizes(link, run), run.recent.get(link.source)
    if recent is None:
        return paused
    found = resources(only(recent, recent[0] >= start), link.short_term, paused)
    return Recovered(found.end, found.last, size)


def _coming(link: SteppedLink, made: Mapping[str, Trains], piece: SteppedRun) -> int:
    recent = piece.recent.get(link.source)
    return len(made[link.source][0]) + (0 if recent is None else len(recent[0]))
