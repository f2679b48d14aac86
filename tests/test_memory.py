"""Memory of forward plus backward grows with the spikes, not with the duration."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spikeloop import LIF, NOTHING, EventProp, Events, Observe, Record, feedforward, run

OBSERVED = {
    "spikes": NOTHING,
    "peaks": Observe(peak={"hidden", "output"}),
    "membranes": Observe(membrane={"output": 0.2e-3}),
}
BATCH, INPUTS, HIDDEN = 200, 100, 1000
SHORT, LONG = 0.1, 0.2


def peak() -> int:
    """The most memory that this process has held so far, in bytes. (Linux hands ru_maxrss of the parent on to it.)"""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(held.split()[1]) * 1024


def loss(record: Record) -> torch.Tensor:
    total = record.spikes["output"].time.sum()
    for seen in (*record.peak.values(), *record.membrane.values()):
        total = total + seen.value.sum()
    return total


def measure(what: str, duration: float) -> tuple[int, int]:
    """Spikes, and the bytes that a forward and a backward need beyond all that was there before."""
    torch.manual_seed(0)
    network = feedforward([INPUTS, HIDDEN, 10], LIF(10e-3, 5e-3))
    time = 0.03 * torch.rand(BATCH, INPUTS, dtype=torch.float64)
    drive = Events.from_padded(time, torch.randint(INPUTS, (BATCH, INPUTS)), INPUTS)
    before = peak()
    record = run(network, drive, duration, rule=EventProp(), observe=OBSERVED[what])
    loss(record).backward()
    return record.cost.spikes, peak() - before


def measured(what: str, duration: float) -> tuple[int, int]:
    """`measure` in a process of its own: the peak of a process never falls."""
    command = [sys.executable, str(Path(__file__)), what, str(duration)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=threads)
    spikes, held = done.stdout.split()
    return int(spikes), int(held)


@pytest.mark.parametrize("what", ["spikes", "peaks"])
def test_twice_the_duration_at_equal_spikes_needs_no_more(what: str) -> None:
    (spikes, short), (as_many, long) = measured(what, SHORT), measured(what, LONG)
    assert spikes == as_many
    assert short > 12 * spikes  # a time and a unit each: the run is what was measured
    assert abs(long - short) < 0.05 * short, (short, long)


def test_the_measurement_sees_memory_that_does_grow() -> None:
    (_, short), (_, long) = measured("membranes", SHORT), measured("membranes", LONG)
    grid = BATCH * 10 * (LONG - SHORT) / 0.2e-3 * 8
    assert long - short > grid


if __name__ == "__main__":
    print(*measure(sys.argv[1], float(sys.argv[2])))
