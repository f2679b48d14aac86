"""Ctrl-C ends one long native call on a single sample, forwards or backwards, instead of waiting for its end; another
signal's handler may run networks meanwhile."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.alone

BEFORE = 0.5
"""Seconds the call is left alone; uninterrupted it would take twenty or more."""

BEGIN = """
import time
import torch
from spikeloop import LIF, AdEx, Events, EventProp, Ideal, Network, Population, Projection, Record, SuperSpike
from spikeloop import Trial, attach, run

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
neuron = AdEx(10e-3, 5e-3, leak=1.2, b=0.1, tau_adaptation=50e-3)
populations = {{"input": Population(1), "hidden": Population({n}, neuron)}}
net = Network(populations, [Projection("input", "hidden", torch.zeros(1, {n}))])
measure(lambda: run(net, drive({batch}), 1e3, substrate=Ideal(10**9)))
"""
STEPPED_ADJOINT = """
net = Network(
    {{"input": Population(1), "hidden": Population({n}, AdEx(10e-3, 5e-3))}},
    [
        Projection("input", "hidden", torch.zeros(1, {n})),
        Projection("hidden", "hidden", torch.nn.Parameter(torch.zeros({n}, {n})), 1e-3),
    ],
)
none = [[] for _ in range({batch})]
spikes = Events.from_lists(none, none, {n})
record = Record({{"hidden": spikes}}, 2.5, {{"hidden": torch.zeros({batch}, {n})}})
record = attach(Trial(net, {{"input": drive({batch})}}, 2.5), record, SuperSpike(0.5e-3))
loss = record.count["hidden"].sum()
measure(loss.backward)
"""
CALLS = {"queue": (LOOP + FORWARD, 300), "queue adjoint": (LOOP + ADJOINT, 2000), "dense": (DENSE, 20_000)}
CALLS |= {"stepped": (STEPPED, 20_000), "stepped adjoint": (STEPPED_ADJOINT, 4000)}


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


def test_a_signal_handler_may_run_networks_during_a_call() -> None:
    """It is called by the thread that is in the engine: what the outer call keeps there is not touched."""
    code = """
import signal, torch
from spikeloop import LI, LIF, EventProp, Events, Network, Observe, Population, Projection, run
from spikeloop.loss import max_over_time_cross_entropy

torch.manual_seed(0)
hidden, output = Population(300, LIF(20e-3, 5e-3)), Population(3, LI(20e-3, 5e-3))
populations = {"input": Population(20), "hidden": hidden, "output": output}
weights = 0.8 * torch.rand(20, 300), 0.1 * torch.rand(300, 3)
net = Network(populations, [Projection("input", "hidden", weights[0]), Projection("hidden", "output", weights[1])])
drive = Events.from_padded(torch.rand(3000, 60) * 30e-3, torch.randint(0, 20, (3000, 60)), 20)
label, inner = torch.randint(0, 3, (3000,)), []

def gradient(some):
    net.zero_grad()
    record = run(net, drive[:some], 0.06, rule=EventProp(), observe=Observe(peak="output"))
    max_over_time_cross_entropy(record.peak["output"], label[:some]).backward()
    return [parameter.grad.clone() for parameter in net.parameters()]

def handler(*_):
    inner.append(run(net, drive[:200], 0.06).spikes["hidden"].time)

expected, alone = gradient(3000), run(net, drive[:200], 0.06).spikes["hidden"].time
signal.signal(signal.SIGALRM, handler)
while len(inner) < 3:
    signal.setitimer(signal.ITIMER_REAL, 0.06)
    found = gradient(3000)
    assert all(torch.equal(one, other) for one, other in zip(found, expected))
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(torch.equal(one, alone) for one in inner)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
