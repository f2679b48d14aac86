"""The networks that were published as trained, run by the rebuilt noise model: what it is worth without any training.

    python benchmarks/hardware_aware_trained.py FOLDER     # experiment_pretrained of JulianGoeltz/fastAndDeep

Only the arrays are read, as numbers: weights (inputs, 30) and (30, 3), and how far each neuron's threshold was off when
they were trained. Lines go to results/hardware_aware.jsonl, and the table is written anew.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from accuracy import commit, machine
from hardware_aware import (
    LINES,
    OFFSET,
    TABLE,
    VARIANTS,
    Course,
    HardwareAware,
    finished,
    network_of,
    points,
    substrate_of,
)
from hardware_aware_table import AWARE, IDEAL, table
from torch import Tensor

FOLDERS = {IDEAL: "yin_yang_H30_W", AWARE: "yin_yang_hwAware_W"}
THRESHOLDS = ("theirs", "others", "twins")
DRAWS = 20  # of the thresholds that change from run to run


def main(folder: Path) -> None:
    """Run both on the validation and the test points, with their own thresholds, with others, and on twins."""
    known = {(line["variant"], line.get("thresholds")) for line in finished()}
    for name in FOLDERS:
        for thresholds in THRESHOLDS if VARIANTS[name].fixed else THRESHOLDS[:1]:
            if (name, thresholds) not in known:
                line = {"variant": name, "thresholds": thresholds, **tried(name, folder, thresholds)}
                line |= {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), "machine": machine()}
                with LINES.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
    TABLE.write_text(table(finished(), VARIANTS))


def tried(name: str, folder: Path, thresholds: str) -> dict[str, list[float]]:
    """Accuracies, draw by draw, with the thresholds of the training, of other chips by the model, or of twins."""
    variant, arrays = VARIANTS[name], read(folder / FOLDERS[name] / "epoch_300" / "yin_yang_network.pt")
    network = network_of(variant, 0)
    for k, projection in enumerate(network.projections.values()):
        weight = arrays[2 * k].reshape(projection.weight.shape)
        projection.weight.data = (variant.ratio * weight).to(projection.weight.dtype)
    found: dict[str, list[float]] = {"validation": [], "test": []}
    for draw in range(DRAWS if variant.fixed else 1):
        place = dataclasses.replace(variant, chip="thresholds" if thresholds == "twins" else "")
        substrate = substrate_of(place, network, draw)
        if thresholds == "theirs":
            assert isinstance(substrate, HardwareAware)
            substrate.fixed = {"hidden": arrays[1] - OFFSET, "output": arrays[3] - OFFSET}
        course = Course(variant, network, substrate)
        found["validation"].append(course.accuracy(points("validation", variant.copies)))
        found["test"].append(course.accuracy(points("test", variant.copies)))
    return found


def read(path: Path) -> list[Tensor]:
    """Weights and thresholds' deviations of the hidden layer, then of the output, float64, flat."""
    with zipfile.ZipFile(path) as archive:
        raw = [archive.read(f"yin_yang_network/data/{k}") for k in range(4)]
    return [torch.from_numpy(np.frombuffer(each, np.float64).copy()) for each in raw]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
