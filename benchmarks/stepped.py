"""The stepped engine beside Brian2 (C++ standalone, OpenMP): AdEx neurons, and neurons of five compartments.

    python benchmarks/stepped.py [--repeats 5]

512 neurons x batch 32, in Brian2 one group of 32 x 512, driven by the same Poisson events; the same step, two threads
each, in turn, in one run of this program; medians of the run loops alone (Brian2's own clock, without building and
compiling). Needs .venv-brian2 (`make .venv-brian2/ready`, or SPIKELOOP_BRIAN2_PYTHON). Writes results/stepped.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import RESULTS, commit, machine

from spikeloop.engine.arrays import Delays, Trains
from spikeloop.engine.stepped import CELL_FIELDS, Cells, SteppedLink, SteppedRun, SteppedStage, forward

BATCH, SIZE, INPUTS, STEP, DURATION, THREADS = 32, 512, 64, 1e-4, 0.1, 2
COUPLINGS = np.array([[0, 1], [1, 2], [1, 3], [0, 4]], np.int32)
SETTINGS = (("AdEx", "rk4", 10.0), ("five compartments", "rk4", 4.0), ("AdEx", "euler", None))
"""Kind, Brian2's integrator, and by how much we are to be faster."""
Problem = dict[str, Any]


def problem(kind: str) -> Problem:
    """Parameters in Brian2's names, events (time, unit) in order and weights (C, inputs, N)."""
    rng = np.random.default_rng(0)
    count = 1 if kind == "AdEx" else 5
    steps = round(DURATION / STEP)
    events = np.sort(rng.choice(BATCH * INPUTS * steps, rng.poisson(10.0 * INPUTS * DURATION * BATCH), replace=False))
    made: Problem = {
        "step": STEP, "batch": BATCH, "size": SIZE, "inputs": INPUTS, "threads": THREADS, "duration": DURATION,
        "compartments": count, "unit": events % (BATCH * INPUTS), "time": events // (BATCH * INPUTS) * STEP,
        "weight": rng.normal(0.2, 0.2, (count, INPUTS, SIZE)), "tau_mem": 10e-3, "tau_syn": 5e-3, "tau_w": 50e-3,
        "refractory": 1e-3, "slope": 0.1, "exponential": 0.7, "threshold": 1.1, "reset": 0.0, "a": 0.2, "b": 0.2,
    }  # fmt: skip
    if count > 1:
        made |= {"couplings": COUPLINGS} | {f"coupling{k}": (8 + k) * 1e-3 for k in range(len(COUPLINGS))}
    return made


def stage(given: Problem, dtype: Any) -> tuple[SteppedStage, Trains]:
    """The same for our engine."""
    count = given["compartments"]
    values = np.zeros((len(CELL_FIELDS), count, SIZE))
    fields = {name: given[name] for name in ("tau_mem", "threshold", "reset", "refractory")} | {"capacitance": 1.0}
    if count == 1:
        fields |= {"slope_factor": given["slope"], "exponential_threshold": given["exponential"]}
        fields |= {"tau_adaptation": given["tau_w"], "a": given["a"], "b": given["b"]}
    for name, value in fields.items():
        values[CELL_FIELDS.index(name)] = value
    values[CELL_FIELDS.index("threshold"), 1:] = np.inf
    couplings = COUPLINGS if count > 1 else COUPLINGS[:0]
    coupling = np.array([[given[f"coupling{k}"]] * SIZE for k in range(len(couplings))]).reshape(-1, SIZE)
    shape = (1, count, SIZE)
    syn, reversal = np.full(shape, given["tau_syn"]), np.full(shape, np.nan)
    cells = Cells("hidden", values, np.ones(count, bool), syn, reversal, couplings, coupling)
    weights = given["weight"].astype(dtype)
    links = tuple(
        SteppedLink(f"{c}", "input", "hidden", weights[c], np.zeros(1), Delays.COMMON, compartment=c)
        for c in range(count)
    )
    sample = given["unit"] // INPUTS
    order = np.lexsort((given["time"], sample))
    start = np.concatenate([[0], np.cumsum(np.bincount(sample, minlength=BATCH))])
    trains = (given["time"][order] + 0.0, (given["unit"][order] % INPUTS).astype(np.int32), start)
    return SteppedStage((cells,), links, np.dtype(dtype)), trains


class Brian2:
    """A compiled program of Brian2, which can be run again."""

    def __init__(self, given: Problem, method: str, folder: Path) -> None:
        python = os.environ.get("SPIKELOOP_BRIAN2_PYTHON", str(Path(__file__).parents[1] / ".venv-brian2/bin/python"))
        np.savez(folder / "problem.npz", **given)
        script = Path(__file__).parent / "suite" / "brian2_stepped.py"
        self.folder = folder / "program"
        command = [python, str(script), str(folder / "problem.npz"), str(self.folder), method]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        self.said = done.stdout.splitlines()[-1]

    def seconds(self) -> float:
        """Of the run loop."""
        subprocess.run(["./main"], cwd=self.folder, check=True, capture_output=True)
        return float((self.folder / "results" / "last_run_info.txt").read_text().split()[0])


def ours(given: Problem, dtype: Any) -> tuple[Any, Any]:
    """A call that says how long a run took, and the number of spikes."""
    made, trains = stage(given, dtype)
    run = SteppedRun(BATCH, STEP, round(DURATION / STEP), threads=THREADS)
    spikes = len(forward(made, {"input": trains}, run, {})["hidden"][0])

    def seconds() -> float:
        began = time.perf_counter()
        forward(made, {"input": trains}, run, {})
        return time.perf_counter() - began

    return seconds, spikes


def measured(kind: str, method: str, repeats: int) -> dict[str, Any]:
    """Medians of both, in turn, and of their ratio."""
    given = problem(kind)
    with tempfile.TemporaryDirectory() as folder:
        peer = Brian2(given, method, Path(folder))
        calls = {"float32": ours(given, np.float32), "float64": ours(given, np.float64)}
        rows: dict[str, list[float]] = {"Brian2": []} | {name: [] for name in calls}
        for _ in range(repeats):
            rows["Brian2"].append(peer.seconds())
            for name, (call, _) in calls.items():
                rows[name].append(call())
    ratio = {n: statistics.median(b / o for b, o in zip(rows["Brian2"], rows[n], strict=True)) for n in calls}
    medians = {name: statistics.median(each) for name, each in rows.items()}
    return {"seconds": medians, "ratio": ratio, "said": peer.said, "spikes": calls["float32"][1]}


def line(kind: str, method: str, floor: float | None, found: dict[str, Any]) -> str:
    """A row of the table."""
    steps = BATCH * SIZE * DURATION / STEP
    each = {name: f"{1e9 * seconds / steps:.2f}" for name, seconds in found["seconds"].items()}
    ratio = found["ratio"]
    wanted = "" if floor is None else f"{floor:g}"
    theirs = json.loads(found["said"])["spikes"]
    spikes = f"{found['spikes']} / {theirs}"
    return (
        f"| {kind} | {method} | {each['Brian2']} | {each['float32']} | {each['float64']} |"
        f" {ratio['float32']:.1f} | {ratio['float64']:.1f} | {wanted} | {spikes} |"
    )


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    rows = []
    for kind, method, floor in SETTINGS:
        rows.append(line(kind, method, floor, measured(kind, method, given.repeats)))
        print(rows[-1], flush=True)
        write(rows, given.repeats)


def write(rows: list[str], repeats: int) -> None:
    """The page, as far as it is measured."""
    load = os.getloadavg()[0]
    text = f"""# The stepped engine beside Brian2

Written by `python benchmarks/stepped.py {" ".join(sys.argv[1:])}` on {datetime.now(UTC):%Y-%m-%d} at {commit()},
{machine()}; load of the machine at the end {load:.1f}. {BATCH} x {SIZE} neurons, {DURATION * 1e3:g} ms in steps of
{STEP * 1e3:g} ms, {THREADS} threads each, nanoseconds per neuron and step, medians of {repeats} runs in turn.
Brian2: C++ standalone, OpenMP, float64. Its Euler rule is of first order, ours of third at least: at the same step they
are not as accurate. Spikes: ours / theirs.

| neurons | Brian2's rule | Brian2 | float32 | float64 | times as fast, float32 | float64 | floor | spikes |
|---|---|---|---|---|---|---|---|---|
"""
    (RESULTS / "stepped.md").write_text(text + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
