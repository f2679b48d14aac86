"""The pictures of a run folder: how it learned, what one sample looks like inside, where the borders lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikeloop import plot
from spikeloop._run import IDEAL, run
from spikeloop.network import Network
from spikeloop.protocols import Every, Observe, Substrate
from spikeloop.record import Record
from spikeloop.tasks import SAMPLING_PERIOD, Task, YinYangTask
from spikeloop.training import HighestOutput, Metrics
from spikeloop.training.course import EVALUATION_NUMBER

TRACES = 10
PERIOD_SHARE = 1 / 600


def draw(
    task: Task, network: Network, metrics: Sequence[Metrics], folder: Path, substrate: Substrate = IDEAL
) -> list[Path]:
    """Draws all pictures that suit the task into `folder`; returns their paths."""
    paths = [*draw_learning(metrics, folder), draw_activity(task, network, folder / "activity.png", substrate)]
    if isinstance(task, YinYangTask):
        paths.append(draw_decisions(task, network, folder / "decision_map.png", substrate))
    return paths


def draw_learning(metrics: Sequence[Metrics], folder: Path) -> list[Path]:
    """Errors over epochs, if there are any."""
    if not metrics:
        return []
    figure, axes = plot.canvas()
    plot.learning_curve(metrics, ax=axes)
    return [plot.save(figure, folder / "learning_curve.png")]


def draw_activity(task: Task, network: Network, path: Path, substrate: Substrate = IDEAL) -> Path:
    """Spikes of every layer and membranes of the output, for the first test sample."""
    drive, label = task.data("test").batch(torch.tensor([0]))
    period = max(task.duration * PERIOD_SHARE, SAMPLING_PERIOD if task.looped else 0.0)
    shown = range(min(TRACES, network.populations["output"].size))
    observe = Observe(membrane={"output": Every(period, neurons=list(shown))})
    with torch.no_grad():
        record = run(network, drive, task.duration, observe=observe, substrate=substrate, number=EVALUATION_NUMBER)
    layers = [name for name in record.spikes if name != "output"]
    heights = [0.5 if network.populations[name].size < 10 else 1.0 for name in layers]
    figure, axes = plot.canvas(
        len(layers) + 1, size=(6.4, 1.2 + 1.5 * sum(heights) + 1.8), sharex=True, height_ratios=[*heights, 1.2]
    )
    for name, ax in zip(layers, axes, strict=False):
        plot.raster(record.spikes[name], 0, ax=ax)
        ax.set_xlabel("")
        ax.set_ylabel(name)
    plot.membrane(record, "output", 0, ax=axes[-1], threshold=_threshold(network))
    axes[-1].set_xlim(-10 * task.duration, 1010 * task.duration)  # ms; a spike at 0 is seen beside the axis
    axes[0].set_title(_answer(task, record, int(label[0])), loc="left", fontsize=10)
    return plot.save(figure, path)


def draw_decisions(task: YinYangTask, network: Network, path: Path, substrate: Substrate = IDEAL) -> Path:
    """The class of every point, and the test points on top."""
    data, readout = task.data("test"), task.settings(0).readout
    assert not isinstance(readout, HighestOutput | None)

    def classify(points: Tensor) -> Tensor:
        with torch.no_grad():
            drive = data.encode(points)
            record = run(
                network, drive, task.duration, observe=readout.observe, substrate=substrate, number=EVALUATION_NUMBER
            )
            return readout.decide(record)

    figure, axes = plot.canvas(size=(4.4, 4.4))
    points = data.points[:, :2]
    resolution = 100 if task.looped else 200  # a chip takes its time
    plot.decision_map(classify, ax=axes, points=points, labels=data.labels, resolution=resolution)
    right = float((classify(points) == data.labels).double().mean())
    axes.set_title(f"{100 * right:.1f} % of {len(points)} test points", loc="left", fontsize=10)
    return plot.save(figure, path)


def _threshold(network: Network) -> float | Tensor:
    output = network.populations["output"]
    return output.threshold if "threshold" in output.fields else 1.0


def _answer(task: Task, record: Record, label: int) -> str:
    readout = task.settings(0).readout
    if isinstance(readout, HighestOutput | None) or not set(readout.observe.peak) <= set(record.peak):
        return f"a test sample of class {label}"
    said = int(readout.decide(record)[0])
    return f"a test sample of class {label}, " + ("no answer" if said < 0 else f"taken for {said}")
