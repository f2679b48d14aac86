"""What products in the array cost: a model of chip time and energy, from published figures and stated estimates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from spikeloop.chip.configuration import CYCLE

READ_TIME = 10e-6
"""Seconds to reset the membranes before a vector and to read all columns behind it (hardware.md 5.2, vector time)."""
WORD_TIME, SYNAPSES_PER_WORD = 64e-9, 4
"""Seconds to write a word, and the synapses in it: an estimate, 64 bits of address and data over a link of 1 Gbit/s."""
POWER = 192e-6 / 276e-6
"""Watts of a chip in this mode: published are 192 uJ in 276 us for the chip in an inference of an electrocardiogram
(hardware.md 1.1). The system around it draws eight times as much."""


@dataclass(frozen=True)
class Work:
    """One entry of a schedule, in numbers: where, (rows, columns), how many vectors, whether it is written before."""

    step: int
    chip: int
    half: int
    shape: tuple[int, int]
    vectors: int
    sends: int
    wait: int
    write: bool

    @property
    def pass_time(self) -> float:
        """Seconds for all vectors: events one after the other, then a read."""
        events = self.sends * self.shape[0]
        return self.vectors * (events * self.wait * CYCLE + READ_TIME)

    @property
    def write_time(self) -> float:
        """Seconds to write the weights, two rows of synapses each."""
        return 2 * self.shape[0] * ceil(self.shape[1] / SYNAPSES_PER_WORD) * WORD_TIME if self.write else 0.0


@dataclass(frozen=True)
class Cost:
    """What a run took, or would take.

    samples: of the batch.  passes: vectors that went through a part of the array.  reconfigurations: parts of the
    array that were written.  chip_time: seconds, estimated.  energy: joules of the chips, estimated.
    wall_time: seconds that a run took here, of which ``emulation`` in the chips' ``multiply``, ``transfer`` in turning
    model units into integers and back, and the rest in ``python``; 0 for an estimate.
    """

    samples: int
    passes: int
    reconfigurations: int
    chip_time: float
    energy: float
    wall_time: float = 0.0
    emulation: float = 0.0
    transfer: float = 0.0

    @property
    def python(self) -> float:
        """Seconds neither in a chip nor for it."""
        return self.wall_time - self.emulation - self.transfer

    def __str__(self) -> str:
        """A few lines."""
        each = max(self.samples, 1)
        lines = [
            f"{self.samples} samples: {self.passes} array passes, {self.reconfigurations} reconfigurations",
            f"chip time {1e3 * self.chip_time:.3g} ms, {1e6 * self.chip_time / each:.3g} us a sample (estimate)",
            f"energy {1e3 * self.energy:.3g} mJ, {1e6 * self.energy / each:.3g} uJ a sample (estimate)",
        ]
        if self.wall_time:
            parts = ", ".join(f"{name} {1e3 * getattr(self, name):.3g}" for name in ("emulation", "transfer", "python"))
            lines.append(f"wall time {1e3 * self.wall_time:.3g} ms: {parts}")
        return "\n".join(lines)


def cost_of(work: Iterable[Work], samples: int, chips: int) -> Cost:
    """Of a schedule. The parts of a chip are written one after the other, over its link; its halves then run at once.

    All chips draw power until the last is done.
    """
    writing: dict[tuple[int, int], float] = defaultdict(float)
    running: dict[tuple[int, int], float] = defaultdict(float)
    passes = written = 0
    for each in work:
        key = each.step, each.chip
        writing[key] += each.write_time
        running[key] = max(running[key], each.pass_time)
        passes, written = passes + each.vectors, written + each.write
    step_time: dict[int, float] = defaultdict(float)
    for key, seconds in running.items():
        step_time[key[0]] = max(step_time[key[0]], seconds + writing[key])
    chip_time = sum(step_time.values())
    return Cost(samples, passes, written, chip_time, chips * chip_time * POWER)
