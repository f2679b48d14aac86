"""The engine and the naive twin against Brian2, an independent simulator, in an environment of its own.

`make test` makes that environment and names its interpreter in SPIKELOOP_BRIAN2_PYTHON.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Draw, settle
from problems import MS, Group, Link, Problem
from reference import Run

import spikeloop

DT = 5e-6
SAMPLE = 1 * MS
LATE = 20 * DT  # each spike is seen up to DT late, and this grows with the number of spikes and where V is nearly flat


def on_grid(values: Any) -> Any:
    return np.round(np.asarray(values) / DT) * DT


def gridded(problem: Problem) -> Problem:
    """All event times, delays and refractory times on the grid."""
    groups = {
        name: replace(group, fields={k: on_grid(v) if k == "refractory" else v for k, v in group.fields.items()})
        for name, group in problem.groups.items()
    }
    links = [replace(link, delay=on_grid(link.delay)) for link in problem.links]
    drives = [{n: (np.maximum(on_grid(t), DT), u) for n, (t, u) in drive.items()} for drive in problem.drives]
    return replace(problem, groups=groups, links=links, drives=drives)


def scaled(problem: Problem, factor: float) -> Problem:
    """The same with other thresholds."""
    groups = {
        name: replace(g, fields=g.fields | {"threshold": g.fields["threshold"] * factor}) if g.kind == "lif" else g
        for name, g in problem.groups.items()
    }
    return replace(problem, groups=groups)


def counts(problem: Problem) -> list[list[int]]:
    run = problem.reference()
    return [[len(cell.spikes) for cell in cells] for cells in run.cells.values()]


def robust(problem: Problem) -> bool:
    """Whether a slightly late spike changes no number of spikes, and there are enough of them."""
    same = counts(problem) == counts(scaled(problem, 1.003)) == counts(scaled(problem, 0.997))
    return same and sum(map(sum, counts(problem))) >= 30


def draw(family: str, ratio: float | None = None, **options: Any) -> Problem:
    """The first robust network of a family; with a `ratio` of tau_mem to tau_syn, that of its hidden layer."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        problem = FAMILIES[family](Draw(rng, batch=1, duration=50 * MS, **options))
        if ratio is not None:
            hidden = problem.groups["hidden"]
            fields = hidden.fields | {"tau_syn": hidden.fields["tau_mem"] / ratio}
            problem = replace(problem, groups=problem.groups | {"hidden": Group(hidden.size, "lif", fields)})
            problem = settle(problem, 6.0)
        if robust(problem := gridded(problem)):
            return problem
    raise AssertionError(f"no robust {family}")


PROBLEMS = {
    "tau_mem below tau_syn": lambda: draw("readout", 0.4, tonic=0.2),
    "tau_mem equal to tau_syn": lambda: draw("readout", 1.0, tonic=0.2),
    "tau_mem above tau_syn": lambda: draw("readout", 3.0, tonic=0.2),
    "recurrent": lambda: draw("recurrent"),
    "everything at once": lambda: draw("everything", size=8, tonic=0.2),
}


@functools.cache
def problem_named(name: str) -> Problem:
    return PROBLEMS[name]()


def exported(problem: Problem) -> dict[str, Any]:
    """What brian2_twin.py reads."""
    layout = problem.layout()
    groups: dict[str, Any] = {}
    for name, group in problem.groups.items():
        fields = {key: np.broadcast_to(value, (group.size,)).tolist() for key, value in group.fields.items()}
        groups[name] = {"kind": group.kind, "size": group.size, "fields": fields}
        if group.kind == "input":
            times, units = problem.drives[0][name]
            groups[name] |= {"times": times.tolist(), "units": units.tolist()}
    links = [synapses(link, layout.wiring[name]) for name, link in zip(problem.names, problem.links, strict=True)]
    return {"groups": groups, "links": links, "duration": problem.duration, "dt": DT, "sample": SAMPLE}


def synapses(link: Link, wiring: Any) -> dict[str, Any]:
    return {
        "source": link.source,
        "target": link.target,
        "pre": wiring.pre.tolist(),
        "post": wiring.post.tolist(),
        "weight": link.weight.ravel()[wiring.weight_index].tolist(),
        "delay": link.delay.ravel()[wiring.delay_index].tolist(),
    }


@pytest.fixture(scope="session")
def brian2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What Brian2 makes of every problem, all in one process."""
    interpreter = os.environ.get("SPIKELOOP_BRIAN2_PYTHON", "")
    if not Path(interpreter).is_file():
        reason = "SPIKELOOP_BRIAN2_PYTHON names no interpreter with Brian2; `make test` makes one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("brian2")
    for name in PROBLEMS:
        (folder / f"{name}.json").write_text(json.dumps(exported(problem_named(name))))
    script = Path(__file__).with_name("brian2_twin.py")
    done = subprocess.run([interpreter, str(script), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: dict(np.load(folder / f"{name}.npz")) for name in PROBLEMS}


def compare(problem: Problem, trains: dict[str, list[Any]], membrane: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal numbers of spikes, spikes not early and hardly late, membranes equal but around spikes."""
    total = 0
    for name, group in problem.groups.items():
        if group.kind == "lif":
            for unit in range(group.size):
                late = theirs[f"{name}.time"][theirs[f"{name}.unit"] == unit]
                assert len(late) == len(trains[name][unit]), (name, unit)
                difference = late - np.asarray(trains[name][unit])
                total += len(late)
                assert np.all(np.abs(difference) < LATE), (name, unit, difference / DT)
        if group.kind != "input":
            difference = np.abs(theirs[f"{name}.membrane"] - membrane[name])
            times = theirs[f"{name}.sample"][:, None]
            for unit in range(group.size):
                spikes = np.asarray(trains[name][unit] if group.kind == "lif" else [])
                near = np.any(np.abs(times - spikes) < 2 * LATE, axis=1)
                assert np.all(difference[~near, unit] < 0.05), (name, unit, difference[~near, unit].max())
                assert np.median(difference[:, unit]) < 2e-3, (name, unit, np.median(difference[:, unit]))
    assert total >= 20


def sampled(problem: Problem) -> spikeloop.Observe:
    steps = torch.arange(round(problem.duration / SAMPLE), dtype=torch.float64)
    return spikeloop.Observe(membrane={name: steps * SAMPLE for name, g in problem.groups.items() if g.kind != "input"})


def lif(problem: Problem) -> list[str]:
    return [name for name, group in problem.groups.items() if group.kind == "lif"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_naive_twin_agrees_with_brian2(name: str, brian2: dict[str, dict[str, Any]]) -> None:
    problem, theirs = problem_named(name), brian2[name]
    run: Run = problem.reference()
    membrane = {key: run.membrane(key, theirs[f"{key}.sample"]) for key in run.cells}
    compare(problem, {key: run.trains(key) for key in lif(problem)}, membrane, theirs)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_engine_agrees_with_brian2(name: str, brian2: dict[str, dict[str, Any]]) -> None:
    problem = problem_named(name)
    network = problem.network(trainable=False)
    record = spikeloop.run(network, problem.events(), problem.duration, observe=sampled(problem))
    trains = {}
    for key in lif(problem):
        events = record.spikes[key].detach()
        trains[key] = [events.time[events.unit == unit].tolist() for unit in range(events.size)]
    membrane = {key: samples.value[0].detach().numpy() for key, samples in record.membrane.items()}
    compare(problem, trains, membrane, brian2[name])
