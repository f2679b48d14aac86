"""Time-stepped peers in torch, each in its own loop over cells: plain torch, snnTorch, norse, spikingjelly.

    .venv-peers/bin/python benchmarks/suite/peer_torch.py snntorch problem.npz 0.0003 2

Events are put into frames beforehand. All frames' currents are one matrix product, and so are all currents of the next
layer: nothing recurs, so a package's cell is asked step by step for the spikes alone. That is the fastest form we know
of (sequence modules, which index a tensor step by step, take up to 2.4 times longer). Prints a line of JSON.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure
import torch
from frames import Bisection, framed
from problem import Problem, Shape
from torch import Tensor, nn

LEARNING_RATE = 1e-7

State = Any
Cell = Callable[[Tensor, State], tuple[Tensor, State]]


class SuperSpike(torch.autograd.Function):
    """A spike where the membrane is above the threshold; its derivative by a fast sigmoid's."""

    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        return gradient / (10.0 * above.abs() + 1.0).square()


def plain(shape: Shape, dt: float) -> tuple[Cell, Cell]:
    """As few operations as there can be."""
    keep, decay, gain = math.exp(-dt / shape.tau_mem), math.exp(-dt / shape.tau_syn), dt / shape.tau_mem

    def lif(current: Tensor, state: State) -> tuple[Tensor, State]:
        v, i = state if state else (torch.zeros_like(current), torch.zeros_like(current))
        i = torch.add(current, i, alpha=decay)
        v = torch.add(v * keep, i, alpha=gain)
        spike = SuperSpike.apply(v - 1.0)
        return spike, (v * (1.0 - spike.detach()), i)

    def li(current: Tensor, state: State) -> tuple[Tensor, State]:
        v, i = state if state else (torch.zeros_like(current), torch.zeros_like(current))
        i = torch.add(current, i, alpha=decay)
        v = torch.add(v * keep, i, alpha=gain)
        return v, (v, i)

    return lif, li


def snntorch(shape: Shape, dt: float) -> tuple[Cell, Cell]:
    import snntorch as snn

    decays = {"alpha": math.exp(-dt / shape.tau_syn), "beta": math.exp(-dt / shape.tau_mem)}
    gradient = snn.surrogate.fast_sigmoid(slope=10)
    fires = snn.Synaptic(**decays, spike_grad=gradient, reset_mechanism="zero")
    reads = snn.Synaptic(**decays, spike_grad=gradient, reset_mechanism="none")

    def lif(current: Tensor, state: State) -> tuple[Tensor, State]:
        spike, *state = fires(current, *(state or (torch.zeros_like(current), torch.zeros_like(current))))
        return spike, state

    def li(current: Tensor, state: State) -> tuple[Tensor, State]:
        _, *state = reads(current, *(state or (torch.zeros_like(current), torch.zeros_like(current))))
        return state[1], state

    return lif, li


def norse(shape: Shape, dt: float) -> tuple[Cell, Cell]:
    import norse.torch as norse

    times = {"tau_mem_inv": torch.tensor(1 / shape.tau_mem), "tau_syn_inv": torch.tensor(1 / shape.tau_syn)}
    lif = norse.LIFCell(norse.LIFParameters(**times, method="super", alpha=torch.tensor(10.0)), dt=dt)
    return lif, norse.LICell(norse.LIParameters(**times), dt=dt)


def spikingjelly(shape: Shape, dt: float) -> tuple[Cell, Cell]:
    """The readout integrates without a synaptic current: none is offered."""
    from spikingjelly.activation_based import neuron, surrogate

    decays = {"c_decay": math.exp(-dt / shape.tau_syn), "v_decay": math.exp(-dt / shape.tau_mem)}
    node = neuron.CUBALIFNode(**decays, v_threshold=1.0, surrogate_function=surrogate.ATan())
    reads = math.exp(-dt / shape.tau_mem)

    def lif(current: Tensor, state: State) -> tuple[Tensor, State]:
        if state is None:
            node.reset()
        return node(current), True

    def li(current: Tensor, state: State) -> tuple[Tensor, State]:
        v = current if state is None else torch.add(current, state, alpha=reads)
        return v, v

    return lif, li


MODULES = {
    "snntorch": ("snntorch",),
    "norse": ("norse.torch",),
    "spikingjelly": ("spikingjelly.activation_based.neuron", "spikingjelly.activation_based.surrogate"),
}
CELLS = {"plain torch": plain, "snntorch": snntorch, "norse": norse, "spikingjelly": spikingjelly}


class Net(nn.Module):
    """Layers of cells, one after the other through all of time."""

    def __init__(self, problem: Problem, cells: tuple[Cell, Cell]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.tensor(w)) for w in problem.weights])
        self.lif, self.li = cells
        self.counts: list[float] = []

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (T, B, N) to the highest membranes of the readout (B, M)."""
        now, self.counts = frames, []
        for weight in self.weights[:-1]:
            now = self._layer(self.lif, now, weight)
            self.counts.append(now.detach())
        return self._layer(self.li, now, self.weights[-1]).amax(0)

    def _layer(self, cell: Cell, before: Tensor, weight: Tensor) -> Tensor:
        state, seen = None, []
        for current in torch.matmul(before, weight).unbind(0):
            out, state = cell(current, state)
            seen.append(out)
        return torch.stack(seen)

    def spikes(self) -> list[float]:
        """Of each hidden layer, per sample, in the last run."""
        return [float(each.sum()) / each.shape[1] for each in self.counts]


def settle(net: Net, frames: Tensor, wanted: list[float]) -> None:
    """Scale the weights into each hidden layer until it spikes as often as it does in continuous time."""
    for layer, spikes in enumerate(wanted):
        weight, search = net.weights[layer], Bisection(spikes)
        unscaled = weight.detach().clone()
        while True:
            weight.data = unscaled * search.factor
            with torch.no_grad():
                net(frames)
            if search.met(net.spikes()[layer]):
                break


def main(name: str, path: str, dt: float, threads: int) -> dict[str, Any]:
    """Samples a second and bytes."""
    measure.pin(threads)
    memory = measure.Memory.with_torch()
    for module in MODULES.get(name, ()):
        import_module(module)
    memory.package_imported()
    problem = Problem.load(Path(path), batches=1)
    shape, batch = problem.shape, problem.events
    net = Net(problem, CELLS[name](shape, dt))
    frames, label = torch.from_numpy(framed(batch, shape, dt)), torch.from_numpy(batch.label)
    settle(net, frames, problem.spikes)
    optimizer = torch.optim.Adam(net.weights, LEARNING_RATE, fused=True)

    def train() -> None:
        loss = nn.functional.cross_entropy(10.0 * net(frames), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def forward() -> None:
        net(frames)

    found = {"memory": memory.of(train), "frames": frames.nbytes, "spikes": net.spikes()}
    found["rates"] = {"forward": measure.rate(forward, shape.batch), "train": measure.rate(train, shape.batch)}
    return found | {"version": version("torch" if name == "plain torch" else name)}


if __name__ == "__main__":
    name, path, dt, threads = sys.argv[1:]
    print(json.dumps(main(name, path, float(dt), int(threads))))
