"""Ctrl-C ends one long native call on a single sample, forwards or backwards, instead of waiting for its end."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.alone

BEFORE = 0.5
"""Seconds the call is left alone; uninterrupted it would take twenty or more (steps' adjoint: four)."""

BEGIN = """
import time
import torch
from spikeloop import LIF, Events, EventProp, Ideal, Network, Population, Projection, Record, Trial, attach, run

torch.set_num_threads({threads})
NEURON = LIF(10e-3, 5e-3, leak=1.2)  # fires about 50 times a second by itself


def drive(batch):
    return Events.from_lists([[1e-3]] * batch, [[0]] * batch, size=1)


def measure(call):
    print("running", flush=True)
    began = time.process_time()
    try:
        call()
    except KeyboardInterrupt:
        print(time.process_time() - began, flush=True)
"""
LOOP = """
inward = Projection("input", "hidden", torch.zeros(1, {n}))
around = Projection("hidden", "hidden", torch.zeros({n}, {n}))
net = Network({{"input": Population(1), "hidden": Population({n}, NEURON)}}, [inward, around])
"""
FORWARD = """
measure(lambda: run(net, drive({batch}), 1e3, substrate=Ideal(10**9)))
"""
ADJOINT = """
count = 300_000
times = torch.linspace(0, 1e3, count + 2, dtype=torch.float64)[1:-1].repeat({batch})
units = (torch.arange(count * {batch}) % {n}).to(torch.int32)
spikes = Events(times, units, count * torch.arange({batch} + 1), {n})
record = attach(Trial(net, {{"input": drive({batch})}}, 1e3), Record({{"hidden": spikes}}, 1e3), EventProp())
loss = record.spikes["hidden"].time.sum()
measure(loss.backward)
"""
DENSE = """
net = Network(
    {{"input": Population(1), "hidden": Population({n}, NEURON)}}, [Projection("input", "hidden", torch.zeros(1, {n}))]
)
measure(lambda: run(net, drive({batch}), 100.0, substrate=Ideal(10**9)))
"""
STEPPED = """
from spikeloop import AdEx
SILENT = AdEx(10e-3, 5e-3, 1e9, tau_adaptation=50e-3, a=0.1)
weight = torch.nn.Parameter(torch.zeros(1, {n}))
links = [Projection("input", "hidden", weight)]
"""
STEPPED_FORWARD = """
net = Network({{"input": Population(1), "hidden": Population({n}, SILENT)}}, links)
measure(lambda: run(net, drive({batch}), 20.0, substrate=Ideal(10**9, step=1e-4)))
"""
STEPPED_LOOP = """
links.append(Projection("hidden", "hidden", torch.zeros({n}, {n})))
net = Network({{"input": Population(1), "hidden": Population({n}, SILENT)}}, links)
measure(lambda: run(net, drive({batch}), 200.0, substrate=Ideal(10**9, step=1e-4)))
"""
STEPPED_ADJOINT = """
from spikeloop import SuperSpike
count = 1_000_000  # 100 a step
times = torch.linspace(0, 1.0, count + 2, dtype=torch.float64)[1:-1].repeat({batch})
events = Events(times, torch.zeros(count * {batch}, dtype=torch.int32), count * torch.arange({batch} + 1), 1)
net = Network({{"input": Population(1), "hidden": Population({n}, SILENT)}}, links)
none = Events.from_lists([[]] * {batch}, [[]] * {batch}, {n})
record = attach(Trial(net, {{"input": events}}, 1.0), Record({{"hidden": none}}, 1.0), SuperSpike(1e-4))
loss = record.count["hidden"].sum()
measure(loss.backward)
"""
CALLS = {"queue": (LOOP + FORWARD, 300), "queue adjoint": (LOOP + ADJOINT, 2000), "dense": (DENSE, 20_000)}
CALLS |= {
    "steps": (STEPPED + STEPPED_FORWARD, 20_000),
    "steps of a loop": (STEPPED + STEPPED_LOOP, 2000),
    "steps' adjoint": (STEPPED + STEPPED_ADJOINT, 4000),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", CALLS)
def test_a_long_call_on_one_sample_ends_within_a_second(kernel: str, threads: int) -> None:
    """In seconds of the processor, so that a busy machine is no failure; every thread has a sample."""
    call, size = CALLS[kernel]
    script = (BEGIN + call).format(threads=threads, batch=threads, n=size)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "running\n"
            time.sleep(BEFORE)
            process.send_signal(signal.SIGINT)
            answer = process.communicate(timeout=120)[0]
            assert process.returncode == 0
        finally:
            process.kill()
    assert float(answer) < threads * (BEFORE + 1)
