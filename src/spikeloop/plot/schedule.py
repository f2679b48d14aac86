"""When and where the parts of a model's layers are multiplied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from spikeloop.chip.configuration import HALVES
from spikeloop.chip.mac import HEIGHT, WIDTH
from spikeloop.chip.schedule import Schedule
from spikeloop.plot.style import COLOURS, FAINT, INK, paler, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHARE = 0.9  # of a step and of a row of the picture is a half's array


def schedule(schedule: Schedule, *, ax: Axes) -> Axes:
    """Steps to the right, halves of chips downwards: every entry as it lies in the 128 x 256 array, coloured by layer.

    Pale: the weights are still there from the run before; full: they are written in every run.
    """
    colour = {matrix.name: COLOURS[k % len(COLOURS)] for k, matrix in enumerate(schedule.matrices)}
    halves = [(chip, half) for chip in range(schedule.chips) for half in range(HALVES)]
    for step in range(schedule.steps):
        for row in range(len(halves)):
            corner = (step - _SHARE / 2, row - _SHARE / 2)
            ax.add_patch(Rectangle(corner, _SHARE, _SHARE, facecolor="none", edgecolor=FAINT, linewidth=0.4))
    for entry in schedule.entries:
        row = halves.index((entry.chip, entry.half))
        wide, tall = _SHARE / WIDTH, _SHARE / HEIGHT
        corner = (entry.step - _SHARE / 2 + wide * entry.column, row - _SHARE / 2 + tall * entry.row)
        own = colour[entry.layer]
        face = own if entry.write else paler(own)
        shape = (wide * entry.shape[1], tall * entry.shape[0])
        ax.add_patch(Rectangle(corner, *shape, facecolor=face, edgecolor=own, linewidth=0.8))
    ax.set_xlim(-0.5, max(schedule.steps, 1) - 0.5)
    ax.set_ylim(len(halves) - 0.5, -0.5)
    ax.set_yticks(range(len(halves)), [f"chip {chip}, {('top', 'bottom')[half]}" for chip, half in halves])
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    shown = [Patch(facecolor=paler(own), edgecolor=own, label=name or "the layer") for name, own in colour.items()]
    ax.legend(handles=shown, title="layer", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8,
              title_fontsize=8, labelcolor=INK)  # fmt: skip
    tidy(ax, "Step", "")
    ax.spines[:].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax
