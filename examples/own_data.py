"""My own spikes: an HDF5 file with times in ms and units, one array of each per sample."""

import os

import h5py
import numpy as np

from spikeloop import Events
from spikeloop.data import EventDataset, loader


def write_something(path: str, samples: int = 100) -> None:
    """A file such as a recording would give: ragged arrays of times in ms and of units."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as f:
        times = f.create_dataset("spikes/times", (samples,), h5py.vlen_dtype(np.float64))
        units = f.create_dataset("spikes/units", (samples,), h5py.vlen_dtype(np.int64))
        for sample in range(samples):
            count = rng.integers(50, 500)
            times[sample], units[sample] = rng.uniform(0, 1000, count), rng.integers(0, 700, count)
        f["labels"] = rng.integers(0, 20, samples)


if not os.path.exists("my.h5"):
    write_something("my.h5")
with h5py.File("my.h5") as f:
    events = Events.from_lists(list(f["spikes/times"]), list(f["spikes/units"]), size=700, scale=1e-3)
    data = EventDataset(events, f["labels"][:])
train, test = data.split(0.8, seed=0)
events.save("my.npz")

print(data, len(train), len(test))
for drive, label in loader(train, 32, shuffle=True):
    print(drive, label[:5])
