"""Smoke test of an installed wheel: no compiler in reach, a network runs and learns, typing information is there."""

import shutil
from importlib import metadata, resources

import torch

import spikeloop
from spikeloop import LIF, EventProp, Events, feedforward, run

COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang")

assert not [name for name in COMPILERS if shutil.which(name)], "a compiler is in reach"
assert spikeloop.__version__ == metadata.version("spikeloop")
assert resources.files("spikeloop").joinpath("py.typed").is_file()

torch.manual_seed(0)
net = feedforward([2, 8, 3], LIF(tau_mem=10e-3, tau_syn=5e-3))
drive = Events.from_lists([[1e-3, 2e-3, 3e-3], [4e-3]], [[0, 1, 0], [1]], size=2)
record = run(net, drive, 60e-3, rule=EventProp())
record.count["output"].sum().backward()
assert len(record.spikes["output"]) == 2
assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())
print(f"spikeloop {spikeloop.__version__}: the wheel works without a compiler")
