"""docs/images/speed_laws.png: how cost and memory grow, from the lines that `benchmarks/speed.py --laws` wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laws import LAWS, Law
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from spikeloop import plot
from spikeloop.plot.style import COLOURS, INK, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "speed_laws.png"
SHOWN = ("W1", "W2", "W3", "W4", "W5", "W6")  # in the plot of threads
PHASES = {"inference": "forward", "train": "training step"}

Line = dict[str, Any]


def draw(lines: Sequence[Line]) -> None:
    """All laws that were measured."""
    found = {line["workload"]: line for line in lines if line["kind"] == "law"}
    events, neurons, duration, batch, spikes = LAWS
    figure, axes = plot.canvas(2, 3, size=(10.5, 6.2))
    panels = axes.flat
    cost(panels[0], found, events, microseconds, "Time per sample (µs)")
    cost(panels[1], found, neurons, per_event, "Time per synaptic event (ns)")
    cost(panels[2], found, duration, microseconds, "Time per sample (µs)")
    cost(panels[3], found, batch, microseconds, "Time per sample (µs)")
    memory(panels[4], found, spikes)
    threads(panels[5], [line for line in lines if line["kind"] == "ours" and line["dtype"] == "float32"])
    plot.save(figure, PICTURE)


def microseconds(line: Line, phase: str) -> float:
    """Of a sample."""
    return 1e6 / line["rates"][phase]["median"]


def per_event(line: Line, phase: str) -> float:
    """Nanoseconds of a synaptic event."""
    return 1e9 / line["rates"][phase]["median"] / line["synaptic_events"]


def cost(ax: Axes, found: dict[str, Line], law: Law, of: Callable[[Line, str], float], name: str) -> None:
    """Forward and training step, each line named at its end."""
    lines = {x: found[key] for x, key in zip(law.values, law.workloads(), strict=True) if key in found}
    for (phase, said), colour in zip(PHASES.items(), COLOURS, strict=False):
        # one at a time is what the batch is about; elsewhere many samples at once
        what = "forward" if law.name == "batch" and phase == "inference" else phase
        values = [of(line, what) for line in lines.values()]
        ax.plot(list(lines), values, "o-", color=colour, linewidth=1.6, markersize=4, label=said)
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(list(lines), labels=[f"{x:g}" for x in lines], minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    _room(ax)
    ax.legend(frameon=False, fontsize=9, labelcolor=INK)
    tidy(ax, law.axis, name)


def memory(ax: Axes, found: dict[str, Line], law: Law) -> None:
    """Bytes of a training step."""
    lines = {x: found[key] for x, key in zip(law.values, law.workloads(), strict=True) if key in found}
    spikes = [sum(line["spikes"]) for line in lines.values()]  # thousands in a batch of a thousand
    ax.plot(spikes, [line["memory"]["step"] / 1e6 for line in lines.values()], "o-", color=COLOURS[1], markersize=4)
    ax.set_ylim(bottom=0.0)
    tidy(ax, "Thousand hidden spikes in a batch of 1000", "Memory of a training step (MB)")


def threads(ax: Axes, ours: Sequence[Line]) -> None:
    """Rates over those of one thread, a line for each workload on the ideal substrate."""
    ideal = [line for line in ours if line["substrate"] == "ideal" and line["workload"] in SHOWN]
    most = max((line["threads"] for line in ideal), default=1)
    ax.plot([1, most], [1, most], color="#C8C8C8", linewidth=1.0)
    for name, colour in zip(SHOWN, COLOURS, strict=True):
        mine = {line["threads"]: line["rates"]["train"]["median"] for line in ideal if line["workload"] == name}
        if 1 in mine:
            x = sorted(mine)
            ax.plot(x, [mine[n] / mine[1] for n in x], "o-", color=colour, markersize=4, label=name)
    ax.set_xticks(range(1, most + 1))
    ax.legend(frameon=False, fontsize=8, labelcolor=INK)
    tidy(ax, "Threads", "Training rate over one thread's")


def _room(ax: Axes) -> None:
    """At least a decade up and down: what is constant shall look constant."""
    low, high = ax.get_ylim()
    if high < 10 * low:
        middle = (low * high) ** 0.5
        ax.set_ylim(middle / 10**0.5, middle * 10**0.5)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    ax.set_axisbelow(True)
