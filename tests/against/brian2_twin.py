"""Runs networks in Brian2, in an environment of its own: `python brian2_twin.py FOLDER` reads every FOLDER/*.json.

All event times, delays and refractory times lie on the grid, where Brian2's clock-driven simulation treats them
exactly: an event that it emits in the step from t to t + dt acts on the state at t + dt. Between events it integrates
with Runge and Kutta's fourth-order rule, at steps of about a thousandth of a time constant. What remains is that a
crossing is seen at the next point of the grid. Results go to FOLDER/*.npz: spike times (the crossing lies in the dt
before them) and units of every population, and the membranes of all neurons every `sample` seconds from 0 on.
"""

import json
import pathlib
import sys

import brian2
import numpy as np
from brian2 import second

brian2.prefs.codegen.target = "numpy"
brian2.prefs.core.default_float_dtype = np.float64

EQUATIONS = """
dv/dt = (leak - v + current) / tau_mem : 1 {free}
dcurrent/dt = -current / tau_syn : 1
tau_mem : second
tau_syn : second
leak : 1
threshold_ : 1
reset_ : 1
hold : second
"""


def neurons(group, dt):
    """A NeuronGroup of LIF or LI neurons at rest."""
    fields = {name: np.asarray(value) for name, value in group["fields"].items()}
    if group["kind"] == "li":
        made = brian2.NeuronGroup(group["size"], EQUATIONS.format(free=""), method="rk4")
        made.v = fields["leak"]
    else:
        made = brian2.NeuronGroup(
            group["size"],
            EQUATIONS.format(free="(unless refractory)"),
            threshold="v > threshold_",
            reset="v = reset_",
            refractory="hold",
            method="rk4",
        )
        made.threshold_, made.reset_ = fields["threshold"], fields["reset"]
        made.hold = (fields["refractory"] + dt) * second  # the step of the spike itself counts as one
        made.v = np.where(fields["leak"] >= fields["threshold"], fields["reset"], fields["leak"])
    made.tau_mem, made.tau_syn = fields["tau_mem"] * second, fields["tau_syn"] * second
    made.leak = fields["leak"]
    return made


def drive(group, dt):
    """The events of an input; the step before the one that they arrive in emits them."""
    times = np.round(np.asarray(group["times"]) / dt) * dt - dt
    return brian2.SpikeGeneratorGroup(group["size"], np.asarray(group["units"], dtype=int), times * second)


def synapses(link, groups):
    made = brian2.Synapses(groups[link["source"]], groups[link["target"]], "w : 1", on_pre="current_post += w")
    made.connect(i=np.asarray(link["pre"], dtype=int), j=np.asarray(link["post"], dtype=int))
    made.w = np.asarray(link["weight"])
    made.delay = np.asarray(link["delay"]) * second
    return made


def simulate(problem, dt):
    brian2.start_scope()
    brian2.defaultclock.dt = dt * second
    groups = {}
    for name, group in problem["groups"].items():
        groups[name] = drive(group, dt) if group["kind"] == "input" else neurons(group, dt)
    network = brian2.Network(*groups.values())
    network.add([synapses(link, groups) for link in problem["links"]])
    monitors = {}
    for name, group in problem["groups"].items():
        if group["kind"] != "input":
            state = brian2.StateMonitor(groups[name], "v", record=True, dt=problem["sample"] * second)
            spikes = brian2.SpikeMonitor(groups[name]) if group["kind"] == "lif" else None
            monitors[name] = (state, spikes)
            network.add(*(monitor for monitor in (state, spikes) if monitor is not None))
    network.run(problem["duration"] * second, namespace={})
    results = {}
    for name, (state, spikes) in monitors.items():
        results[f"{name}.membrane"] = np.asarray(state.v).T
        results[f"{name}.sample"] = np.asarray(state.t / second)
        if spikes is not None:
            results[f"{name}.time"] = np.asarray(spikes.t / second) + dt
            results[f"{name}.unit"] = np.asarray(spikes.i)
    return results


def main(folder):
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        problem = json.loads(path.read_text())
        np.savez(path.with_suffix(".npz"), **simulate(problem, problem["dt"]))


if __name__ == "__main__":
    main(sys.argv[1])
