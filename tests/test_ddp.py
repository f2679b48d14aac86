"""Two processes train one experiment: gradients are averaged, parameters stay equal. Also run as the worker itself."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from spikeloop import LIF, EventProp, Events, Experiment, feedforward
from spikeloop.loss import first_spike_cross_entropy

WORLD, BATCH, DURATION = 2, 4, 60e-3


def experiment() -> Experiment:
    torch.manual_seed(0)
    return Experiment(feedforward([5, 20, 3], LIF(20e-3, 5e-3)), DURATION, rule=EventProp())


def batch() -> tuple[Events, Tensor]:
    random = torch.Generator().manual_seed(1)
    times = 30e-3 * torch.rand(WORLD * BATCH, 5, generator=random, dtype=torch.float64)
    label = torch.randint(3, (WORLD * BATCH,), generator=random)
    return Events.from_padded(times, torch.arange(5).expand(WORLD * BATCH, 5), 5), label


def work(rank: int, folder: Path) -> None:
    """One of the processes: two steps on its own half of the batch."""
    torch.set_num_threads(1)
    address = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=WORLD)
    lab = DistributedDataParallel(experiment())
    optimizer = torch.optim.SGD(lab.parameters(), 0.01)
    events, label = batch()
    mine = slice(rank * BATCH, (rank + 1) * BATCH)
    gradients: list[Tensor] = []
    for _ in range(2):
        optimizer.zero_grad()
        record = lab(events[mine])
        first_spike_cross_entropy(record.spikes["output"], label[mine]).backward()
        gradients += [p.grad.clone() for p in lab.parameters() if p.grad is not None]
        optimizer.step()
    torch.save({"gradients": gradients, "parameters": list(lab.parameters())}, folder / f"{rank}.pt")
    distributed.barrier()  # or one takes down a connection that the other still waits on, and that one aborts
    distributed.destroy_process_group()


def test_gradients_are_averaged_over_processes(tmp_path):
    command = [sys.executable, __file__, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(WORLD)]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * WORLD
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]

    lab = experiment()
    optimizer = torch.optim.SGD(lab.parameters(), 0.01)
    events, label = batch()
    expected: list[Tensor] = []
    for _ in range(2):
        optimizer.zero_grad()
        halves = [slice(rank * BATCH, (rank + 1) * BATCH) for rank in range(WORLD)]
        losses = [first_spike_cross_entropy(lab(events[half]).spikes["output"], label[half]) for half in halves]
        torch.stack(losses).mean().backward()
        expected += [p.grad.clone() for p in lab.parameters() if p.grad is not None]
        optimizer.step()

    assert len(expected) == 4
    assert all(bool(gradient.any()) for gradient in expected)
    for process in found:
        for gradient, wanted in zip(process["gradients"], expected, strict=True):
            assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
        for parameter, wanted in zip(process["parameters"], found[0]["parameters"], strict=True):
            assert torch.equal(parameter, wanted)


if __name__ == "__main__":
    work(int(sys.argv[2]), Path(sys.argv[1]))
