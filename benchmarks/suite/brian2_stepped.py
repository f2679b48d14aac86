"""Brian2's side of benchmarks/stepped.py, in an environment of its own: C++ standalone, OpenMP.

    python brian2_stepped.py PROBLEM.npz FOLDER METHOD

PROBLEM.npz: see benchmarks/stepped.py. A batch is one group of batch x size neurons; each sample has inputs of its own.
Prints a line of JSON: seconds of the compiled program's run loop, and spikes.
"""

import json
import sys

import brian2
import numpy as np
from brian2 import second

brian2.set_device("cpp_standalone", build_on_run=False)

ADEX = """
dv/dt = (-v + slope * exp((v - exponential) / slope) - w + current) / tau_mem : 1 (unless refractory)
dw/dt = (a * v - w) / tau_w : 1
dcurrent/dt = -current / tau_syn : 1
"""


def tree(problem):
    """Equations of the compartments: current-based, coupled, an AdEx-less soma that spikes."""
    count, lines = int(problem["compartments"]), []
    pulls = {c: [] for c in range(count)}
    for number, (c, d) in enumerate(problem["couplings"]):
        pulls[c].append(f"(v{d} - v{c}) / coupling{number}")
        pulls[d].append(f"(v{c} - v{d}) / coupling{number}")
    for c in range(count):
        flow = " + ".join([f"(-v{c} + current{c}) / tau_mem", *pulls[c]])
        lines.append(f"dv{c}/dt = {flow} : 1" + (" (unless refractory)" if c == 0 else ""))
        lines.append(f"dcurrent{c}/dt = -current{c} / tau_syn : 1")
    return "\n".join(lines)


def main(path, folder, method):
    problem = np.load(path)
    step, batch, size, inputs = (problem[name].item() for name in ("step", "batch", "size", "inputs"))
    brian2.defaultclock.dt = step * second
    brian2.prefs.devices.cpp_standalone.openmp_threads = int(problem["threads"])
    names = {name: problem[name].item() for name in problem.files if problem[name].ndim == 0}
    for name in (
        "tau_mem",
        "tau_syn",
        "tau_w",
        "refractory",
        *(n for n in names if n.startswith("coupling") and n != "couplings"),
    ):
        names[name] = names[name] * second
    adex = int(problem["compartments"]) == 1
    v = "v" if adex else "v0"
    group = brian2.NeuronGroup(
        batch * size,
        ADEX if adex else tree(problem),
        threshold=f"{v} > threshold",
        reset=f"{v} = reset" + ("; w += b" if adex else ""),
        refractory=names["refractory"],
        method=method,
        namespace=names,
    )
    source = brian2.SpikeGeneratorGroup(batch * inputs, problem["unit"], problem["time"] * second)
    objects = [group, source]
    for c in range(int(problem["compartments"])):
        current = "current" if adex else f"current{c}"
        synapses = brian2.Synapses(source, group, "weight : 1", on_pre=f"{current}_post += weight")
        sample = np.arange(batch)[:, None, None]
        pre = np.broadcast_to(sample * inputs + np.arange(inputs)[:, None], (batch, inputs, size)).ravel()
        post = np.broadcast_to(sample * size + np.arange(size), (batch, inputs, size)).ravel()
        synapses.connect(i=pre, j=post)
        synapses.weight = np.broadcast_to(problem["weight"][c], (batch, inputs, size)).ravel()
        objects.append(synapses)
    spikes = brian2.SpikeMonitor(group, record=False)
    network = brian2.Network(*objects, spikes)
    network.run(problem["duration"].item() * second, namespace=names)
    brian2.device.build(directory=folder, compile=True, run=True, debug=False)
    print(json.dumps({"seconds": brian2.device._last_run_time, "spikes": int(spikes.num_spikes)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
