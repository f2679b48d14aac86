"""Pictures: what is drawn, in which units, and what is refused. How they look is for eyes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeloop import Events, plot
from spikeloop.errors import CannotObserve, OutOfRange, ShapeMismatch, UnknownPopulation
from spikeloop.record import Lowering, Record, Samples

SPIKES = Events.from_lists([[0.01, 0.02, 0.03], [0.015]], [[2, 0, 7], [1]], size=8)


def record(unit: tuple[int, ...] = (2, 5)) -> Record:
    time = torch.linspace(0, 0.05, 11, dtype=torch.float64)
    value = torch.arange(2 * 11 * len(unit), dtype=torch.float32).reshape(2, 11, len(unit)) / 50
    return Record({"hidden": SPIKES}, 0.05, membrane={"hidden": Samples(time, torch.tensor(unit), value)})


def test_raster_shows_one_sample_in_milliseconds() -> None:
    _, ax = plot.canvas()
    assert plot.raster(SPIKES, 0, ax=ax) is ax
    (line,) = ax.lines
    assert np.allclose(line.get_xdata(), [10, 20, 30])
    assert np.array_equal(line.get_ydata(), [2, 0, 7])
    assert ax.get_xlabel() == "Time (ms)"
    assert ax.get_ylim() == (-0.5, 7.5)


def test_raster_of_nothing_and_of_no_sample() -> None:
    _, ax = plot.canvas()
    plot.raster(Events.from_lists([[]], [[]], size=3), 0, ax=ax)
    assert len(ax.lines[0].get_xdata()) == 0
    with pytest.raises(OutOfRange, match="sample 2 does not exist"):
        plot.raster(SPIKES, 2, ax=ax)


def test_membrane_draws_traces_threshold_and_spikes() -> None:
    _, ax = plot.canvas()
    plot.membrane(record(), "hidden", 0, ax=ax, threshold=1.5)
    first, second, threshold = ax.lines
    assert np.allclose(first.get_xdata(), np.linspace(0, 50, 11))
    assert np.allclose(first.get_ydata(), record().membrane["hidden"].value[0, :, 0])
    assert np.allclose(second.get_ydata(), record().membrane["hidden"].value[0, :, 1])
    assert list(threshold.get_ydata()) == [1.5, 1.5]
    (stroke,) = ax.collections  # unit 2 spiked and was observed, units 0 and 7 were not observed
    (start, end) = stroke.get_segments()[0]
    assert np.allclose(start, [10, 1.5])
    assert end[1] > 1.5
    assert ax.get_xlim() == (0, 50)


def test_membrane_with_a_threshold_per_neuron() -> None:
    _, ax = plot.canvas()
    plot.membrane(record(), "hidden", 0, ax=ax, threshold=torch.arange(8.0))
    assert sorted(line.get_ydata()[0] for line in ax.lines[2:]) == [2, 5]


def test_membrane_of_a_readout_has_no_threshold() -> None:
    made = record()
    silent = Record({"input": SPIKES}, 0.05, membrane={"output": made.membrane["hidden"]})
    _, ax = plot.canvas()
    plot.membrane(silent, "output", 1, ax=ax)
    assert len(ax.lines) == 2
    assert not ax.collections


def test_traces_of_one_neuron_in_several_places() -> None:
    samples = record().membrane["hidden"]
    places = ["hidden.soma", "hidden.dendrite"]
    made = Record(
        {"hidden": SPIKES}, 0.05, membrane={places[0]: samples, places[1]: replace(samples, value=-samples.value)}
    )
    _, ax = plot.canvas()
    assert plot.traces(made, places, sample=1, neuron=5, ax=ax) is ax
    soma, dendrite = ax.lines
    assert np.allclose(soma.get_xdata(), np.linspace(0, 50, 11))
    assert np.allclose(soma.get_ydata(), samples.value[1, :, 1])
    assert np.allclose(dendrite.get_ydata(), -samples.value[1, :, 1])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == places
    with pytest.raises(OutOfRange, match="neuron 3 of 'hidden.soma' was not sampled.*one of 2, 5"):
        plot.traces(made, places, neuron=3, ax=ax)
    with pytest.raises(CannotObserve, match="the membrane of 'hidden.axon' was not sampled"):
        plot.traces(made, ["hidden.axon"], ax=ax)


def test_membrane_that_was_not_observed() -> None:
    _, ax = plot.canvas()
    with pytest.raises(CannotObserve, match="was not sampled"):
        plot.membrane(Record({"hidden": SPIKES}, 0.05), "hidden", ax=ax)
    with pytest.raises(UnknownPopulation, match="no population 'hiden'"):
        plot.membrane(record(), "hiden", ax=ax)
    with pytest.raises(OutOfRange, match="sample -1"):
        plot.membrane(record(), "hidden", -1, ax=ax)


def test_learning_curve() -> None:
    lines = [{"epoch": k, "accuracy": 0.5 + k / 10, "validation_accuracy": None} for k in range(6)]
    _, ax = plot.canvas()
    plot.learning_curve(lines, ax=ax)
    (line,) = ax.lines
    assert np.allclose(line.get_xdata(), range(1, 7))
    assert np.allclose(line.get_ydata(), [50, 40, 30, 20, 10, 5])  # no errors: half of the least
    assert [text.get_text() for text in ax.texts] == ["training 100.0 %"]


def test_learning_curve_of_nothing() -> None:
    _, ax = plot.canvas()
    plot.learning_curve([], ax=ax)
    assert not ax.lines


def halves(points: Tensor) -> Tensor:
    return torch.where(points[:, 1] > 0.75, -1, (points[:, 0] > 0.5).long())


def test_decision_map_colours_the_field_and_rings_mistakes() -> None:
    _, ax = plot.canvas()
    points, labels = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1, 0])
    plot.decision_map(halves, ax=ax, points=points, labels=labels, resolution=4)
    field = np.asarray(ax.images[0].get_array())
    assert np.array_equal(field, [[1, 1, 2, 2]] * 3 + [[0, 0, 0, 0]])
    dots, rings = ax.collections
    assert np.allclose(dots.get_offsets(), points)
    assert np.allclose(rings.get_offsets(), [[0.8, 0.2]])


def test_decision_map_of_silence() -> None:
    _, ax = plot.canvas()
    plot.decision_map(lambda points: torch.full((len(points),), -1), ax=ax, resolution=3)
    assert not np.asarray(ax.images[0].get_array()).any()


def test_save_writes_a_png(tmp_path: Path) -> None:
    figure, axes = plot.canvas(2, 1, sharex=True)
    plot.raster(SPIKES, ax=axes[0])
    plot.membrane(record(), "hidden", ax=axes[1])
    path = plot.save(figure, tmp_path / "picture.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_what_a_chip_sampled_is_drawn_as_dots() -> None:
    made = record()
    _, (left, right) = plot.canvas(1, 2)
    plot.membrane(made, "hidden", ax=left)
    plot.membrane(replace(made, lowering=Lowering()), "hidden", ax=right)
    assert left.lines[0].get_marker() == "None"
    assert right.lines[0].get_marker() == "o"


def test_membrane_sampled_at_times_of_each_run() -> None:
    made = record().membrane["hidden"]
    samples = replace(made, time=torch.stack([made.time, made.time + 1e-3]))
    _, ax = plot.canvas()
    plot.membrane(Record({"hidden": SPIKES}, 0.05, membrane={"hidden": samples}), "hidden", 1, ax=ax)
    assert ax.lines[0].get_xdata()[0] == pytest.approx(1.0)


def test_array_map_of_circuits() -> None:
    values = np.arange(512.0)
    values[3] = np.nan
    figure, ax = plot.canvas()
    plot.array_map(values, ax=ax, name="leak (CADC steps)")
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert shown.shape == (2, 256)
    assert np.isnan(shown[0, 3])
    assert shown[1, 0] == 256
    low, high = ax.images[0].get_clim()
    assert (low + high) / 2 == pytest.approx(np.nanmedian(values))
    assert ax.get_title(loc="left") == "leak (CADC steps)"
    assert len(figure.axes) == 2  # the colour bar


def test_array_map_of_synapses() -> None:
    values = np.arange(2 * 256 * 256.0).reshape(2, 256, 256)
    _, ax = plot.canvas()
    plot.array_map(values, ax=ax, name="weight")
    shown = np.asarray(ax.images[0].get_array())
    assert np.array_equal(shown[:256], values[0])
    assert np.array_equal(shown[-256:], values[1])
    assert len(shown) > 512


def test_array_map_of_one_value_and_of_the_wrong_shape() -> None:
    _, ax = plot.canvas()
    plot.array_map(np.full(512, 3.0), ax=ax, name="refractory")
    plot.array_map(np.full(512, np.nan), ax=ax, name="nothing")
    with pytest.raises(ShapeMismatch, match=r"\(256,\)"):
        plot.array_map(np.zeros(256), ax=ax, name="half of it")


def test_weight_codes() -> None:
    _, ax = plot.canvas()
    plot.weight_codes([[0, 5, 5], [-63, 63, 63]], ax=ax)
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ax.patches if bar.get_height()}
    assert bars == {5: 2, -63: 1, 63: 2}
    assert ax.get_title(loc="left") == "at 0: 16.7 %, at ±63: 50.0 %"


def test_weight_codes_over_several_rows_and_of_nothing() -> None:
    _, ax = plot.canvas()
    plot.weight_codes([-315, 315, 1, 300], ax=ax, most=315)
    assert sum(bar.get_height() for bar in ax.patches) == 4
    plot.weight_codes([], ax=ax)


def test_before_and_after_a_calibration() -> None:
    random = np.random.default_rng(0)
    before, after = 80 + 10 * random.normal(size=512), 80 + 1.5 * random.normal(size=512)
    after[:5] = 1e6  # circuits that failed
    after[5] = np.nan
    _, ax = plot.canvas()
    plot.before_after(before, after, ax=ax, name="leak (CADC steps)", target=80.0)
    assert ax.get_xlim()[1] < 150
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [word.split(":")[0] for word in words] == ["before", "after"]
    assert float(words[1].rpartition(" ")[2]) < 2
    assert list(ax.lines[0].get_xdata()) == [80.0, 80.0]


def test_before_and_after_of_nothing_and_of_one_value() -> None:
    _, ax = plot.canvas()
    plot.before_after([np.nan], [], ax=ax, name="x")
    plot.before_after([2.0], [2.0], ax=ax, name="x")


def test_transfer_curves_show_every_column_and_how_they_differ() -> None:
    _, ax = plot.canvas()
    product = np.linspace(-80e3, 80e3, 41)
    slope, offset = np.tile([0.0018, 0.0022], 5), np.repeat([-2.0, 2.0], 5)
    reading = np.clip(product[:, None] * slope + offset, -128, 127)
    plot.transfer_curves(product, reading, ax=ax, name="nominal codes")
    assert len(ax.lines) == 10 + 3
    assert np.allclose(ax.lines[3].get_ydata(), reading[:, 3])
    assert np.allclose(ax.lines[3].get_xdata(), product / 1e3)
    assert np.allclose(ax.lines[10].get_ydata(), np.median(reading, 1))
    assert ax.get_title(loc="left") == "nominal codes: gain ± 10 %, offset ± 2 steps"
    with pytest.raises(ShapeMismatch, match=r"products \(3,\), results \(4, 2\)"):
        plot.transfer_curves(np.zeros(3), np.zeros((4, 2)), ax=ax, name="x")


def test_accuracy_bars() -> None:
    _, ax = plot.canvas()
    results = {
        "Yin-Yang": {"software": [0.97], "transferred": [0.6, 0.7], "in the loop": [0.95, 0.96]},
        "MNIST": {"software": [0.975], "in the loop": [0.971]},
    }
    plot.accuracy_bars(results, ax=ax)
    assert [round(bar.get_height(), 1) for bar in ax.patches] == [97.0, 97.5, 65.0, 95.5, 97.1]
    assert [text.get_text() for text in ax.texts] == ["97.0", "97.5", "65.0", "95.5", "97.1"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["software", "transferred", "in the loop"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Yin-Yang", "MNIST"]


def test_accuracy_bars_name_a_kind_that_the_first_task_lacks() -> None:
    _, ax = plot.canvas()
    plot.accuracy_bars({"a": {"software": [0.9]}, "b": {"in the loop": [0.8]}}, ax=ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["software", "in the loop"]
    plot.accuracy_bars({}, ax=ax)
