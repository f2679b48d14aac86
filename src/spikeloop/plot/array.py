"""A chip's array: what differs from circuit to circuit, which weights it holds, what a calibration did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from spikeloop.chip.configuration import CIRCUITS, COLUMNS, HALVES, ROWS, WEIGHT_MAX
from spikeloop.errors import ShapeMismatch
from spikeloop.plot.style import COLOURS, FAINT, INK, paler, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float = NDArray[np.float64]
_GAP = 8  # rows of nothing between the halves


def array_map(values: ArrayLike, *, ax: Axes, name: str) -> Axes:
    """One number per circuit, (512,), or per synapse, (2, 256, 256): half, row, column, as they lie on the chip.

    White is the median, purple is less, orange is more; the colours end at the 1 % that are farthest. What is not
    finite is black. ``name`` stands at the colour bar: say the unit.
    """
    given = np.asarray(values, np.float64)
    if given.shape not in ((CIRCUITS,), (HALVES, ROWS, COLUMNS)):
        raise ShapeMismatch(f"the values are {given.shape}", where="plot", expected="(512,) or (2, 256, 256)")
    known = given[np.isfinite(given)]
    middle = float(np.median(known)) if len(known) else 0.0
    reach = float(np.quantile(np.abs(known - middle), 0.99)) if len(known) else 0.0
    reach = reach or max(abs(middle), 1.0) * 1e-3
    palette = colormaps["PuOr_r"].with_extremes(bad=INK)
    options: dict[str, Any] = {"vmin": middle - reach, "vmax": middle + reach, "cmap": palette, "aspect": "auto"}
    image = ax.imshow(_laid_out(given), interpolation="nearest", **options)
    _name_halves(ax, given.ndim == 3)
    bar = ax.figure.colorbar(image, ax=ax, label=name, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(color=FAINT, labelsize=9)
    tidy(ax, "Column", "")
    ax.spines[:].set_visible(False)
    return ax


def _laid_out(values: Float) -> Float:
    """An image, masked between the halves: (2, 256) or (2 * 256 + gap, 256)."""
    if values.ndim == 1:
        return values.reshape(HALVES, COLUMNS)
    between = np.ma.masked_all((_GAP, COLUMNS))
    return np.ma.concatenate([values[0], between, values[1]])


def _name_halves(ax: Axes, synapses: bool) -> None:
    names = ("top", "bottom")
    if synapses:
        ax.set_yticks([ROWS / 2, ROWS * 1.5 + _GAP], [f"{name}\n256 rows" for name in names])
    else:
        ax.set_yticks([0, 1], names)
        ax.axhline(0.5, color="white", linewidth=2.0)
    ax.set_xticks(range(0, COLUMNS + 1, 64))
    ax.tick_params(axis="y", length=0)


def weight_codes(codes: ArrayLike, *, ax: Axes, most: int = WEIGHT_MAX) -> Axes:
    """How often each weight is used: signed codes from ``-most`` to ``most``, excitatory orange, inhibitory blue.

    ``most`` is larger where several rows serve one input. Weights of 0 are left out and counted in the title, as are
    those at both ends, where clipped ones end up.
    """
    given = np.asarray(codes).ravel().astype(np.int64)
    used = given[given != 0]
    step = max(1, most // WEIGHT_MAX)
    edges = np.arange(0.5, most + step + 0.5, step)
    for sign, colour in ((-1, COLOURS[0]), (1, COLOURS[1])):
        height, _ = np.histogram(sign * used, edges)
        ax.bar(sign * (edges[:-1] + step / 2), height, 0.9 * step, color=colour, linewidth=0)
    share = [100.0 * float(part.mean()) if len(part) else 0.0 for part in (given == 0, np.abs(used) >= most)]
    ax.set_title(f"{share[0]:.1f} % are 0; of the others {share[1]:.1f} % at the ends", loc="left", fontsize=10)
    ax.set_xlim(-most - 2 * step, most + 2 * step)
    ax.set_xticks([-most, 0, most])
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    return tidy(ax, "Weight (codes)", "Synapses")


def before_after(
    before: ArrayLike, after: ArrayLike, *, ax: Axes, name: str, target: float | None = None, bins: int = 40
) -> Axes:
    """Two histograms of a parameter over the circuits, before and after a calibration, with their spreads.

    The axis shows all but the outermost 1 % of either; ``target`` is dashed. ``name`` says the unit.
    """
    sides = [np.asarray(x, np.float64).ravel() for x in (before, after)]
    sides = [side[np.isfinite(side)] for side in sides]
    ends = np.concatenate([np.quantile(side, [0.005, 0.995]) for side in sides if len(side)] or [np.array([0.0, 1.0])])
    edges = np.linspace(ends.min(), max(ends.max(), ends.min() + 1e-12), bins + 1)
    for side, word, colour in zip(sides, ("before", "after"), (FAINT, COLOURS[0]), strict=True):
        label = f"{word}: {np.mean(side):.3g} ± {np.std(side):.2g}" if len(side) else word
        ax.hist(side, edges, color=paler(colour), edgecolor=colour, histtype="stepfilled", linewidth=1.2, label=label)
    if target is not None:
        ax.axvline(target, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderpad=0.0)
    return tidy(ax, name, "Circuits")
