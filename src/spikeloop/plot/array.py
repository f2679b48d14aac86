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
    finite is black. ``name`` stands above: say the unit.
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
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(color=FAINT, labelsize=9)
    ax.set_title(name, loc="left", fontsize=10)
    tidy(ax, "Column", "")
    ax.spines[:].set_visible(False)
    return ax


def _laid_out(values: Float) -> Float:
    """An image with nothing between the halves: (2, 256) or (2 * 256 + gap, 256)."""
    if values.ndim == 1:
        return values.reshape(HALVES, COLUMNS)
    return np.concatenate([values[0], np.full((_GAP, COLUMNS), np.nan), values[1]])


def _name_halves(ax: Axes, synapses: bool) -> None:
    names = ("top", "bottom")
    if synapses:
        ax.set_yticks([ROWS / 2, ROWS * 1.5 + _GAP], [f"{name}\n256 rows" for name in names])
        ax.axhspan(ROWS - 0.5, ROWS + _GAP - 0.5, color="white")
    else:
        ax.set_yticks([0, 1], names)
        ax.axhline(0.5, color="white", linewidth=2.0)
    ax.set_xticks([*range(0, COLUMNS, 64), COLUMNS - 1])
    ax.tick_params(axis="y", length=0)


def weight_codes(codes: ArrayLike, *, ax: Axes, most: int = WEIGHT_MAX) -> Axes:
    """How often each weight is used: signed codes from ``-most`` to ``most``, excitatory orange, inhibitory blue.

    ``most`` is larger where several rows serve one input. Weights of 0 are left out; how many there are is said above,
    and how many lie at either end, where clipped ones end up.
    """
    given = np.asarray(codes).ravel().astype(np.int64)
    used = given[given != 0]
    step = max(1, most // WEIGHT_MAX)
    edges = np.arange(0.5, most + step + 0.5, step)
    for sign, colour in ((-1, COLOURS[0]), (1, COLOURS[1])):
        height, _ = np.histogram(sign * used, edges)
        ax.bar(sign * (edges[:-1] + step / 2), height, 0.9 * step, color=colour, linewidth=0, snap=False)
    zero, end = (100.0 * float(part.mean()) if len(part) else 0.0 for part in (given == 0, np.abs(given) >= most))
    ax.set_title(f"at 0: {zero:.1f} %, at ±{most}: {end:.1f} %", loc="left", fontsize=10)
    ax.set_xlim(-most - 2 * step, most + 2 * step)
    ax.set_xticks([-most, 0, most])
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    return tidy(ax, "Weight (codes)", "Synapses")


def before_after(
    before: ArrayLike, after: ArrayLike, *, ax: Axes, name: str, target: float | None = None, bins: int = 40
) -> Axes:
    """Two histograms of a parameter over the circuits, before and after a calibration, with their spreads.

    Neither the axis nor the spreads care for the outermost 5 %: circuits that failed. ``target`` is dashed. ``name``
    says the unit.
    """
    sides = [np.asarray(x, np.float64).ravel() for x in (before, after)]
    sides = [side[np.isfinite(side)] for side in sides]
    inner = [_trimmed(side) for side in sides]
    both = np.concatenate([*inner, [0.0, 1.0] if not any(map(len, inner)) else []])
    margin = 0.15 * float(np.ptp(both)) or 1e-3 * max(abs(float(both[0])), 1.0)
    edges = np.linspace(both.min() - margin, both.max() + margin, bins + 1)
    for side, word, colour in zip(sides, ("before", "after"), (FAINT, COLOURS[0]), strict=True):
        kept = _trimmed(side)
        label = f"{word}: {np.mean(kept):.3g} ± {np.std(kept):.2g}" if len(kept) else word
        ax.hist(side, edges, color=paler(colour), edgecolor=colour, histtype="stepfilled", linewidth=1.2, label=label)
    if target is not None:
        ax.axvline(target, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderpad=0.0)
    return tidy(ax, name, "Circuits")


def transfer_curves(product: ArrayLike, reading: ArrayLike, *, ax: Axes, name: str) -> Axes:
    """Mean results (P, C) of C columns against the products (P,) of weights and activations, summed over the rows.

    Thin: each column, thick: the median one, dashed: the ends of the ADC's 8 bits. ``name`` stands above, with how much
    the columns' slopes and offsets differ where they are straight, between -80 and 80.
    """
    given, read = np.asarray(product, np.float64), np.asarray(reading, np.float64)
    if read.ndim != 2 or given.shape != read.shape[:1]:
        raise ShapeMismatch(f"products {given.shape}, results {read.shape}", where="plot", expected="(P,) and (P, C)")
    ax.plot(given / 1e3, read, color=COLOURS[0], linewidth=0.4, alpha=0.15)
    ax.plot(given / 1e3, np.median(read, 1), color=COLOURS[1], linewidth=1.6)
    for edge in (-128, 127):
        ax.axhline(edge, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    slopes, offsets = _lines(given, np.where(np.abs(read) < 80, read, np.nan))
    spread = 100 * float(np.std(slopes) / np.mean(slopes))
    ax.set_title(f"{name}: gain ± {spread:.2g} %, offset ± {np.std(offsets):.2g} steps", loc="left", fontsize=10)
    return tidy(ax, "Activation x weight, summed (thousands)", "Result (steps)")


def _lines(x: Float, y: Float) -> tuple[Float, Float]:
    """Slope and offset of the line through each column of y (P, C), where it is known."""
    known = np.isfinite(y)
    count, xs, ys = known.sum(0), np.where(known, x[:, None], 0.0), np.where(known, y, 0.0)
    centre = xs.sum(0) / count
    away = np.where(known, x[:, None] - centre, 0.0)
    slope = (away * ys).sum(0) / (away**2).sum(0)
    return slope, ys.sum(0) / count - slope * centre


def _trimmed(values: Float) -> Float:
    """Without 2.5 % at either end."""
    cut = len(values) // 40
    return np.sort(values)[cut : len(values) - cut]
