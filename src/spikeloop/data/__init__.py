"""Data sets and encodings: labelled events or arrays, batches of them, and numbers turned into spikes."""

from spikeloop.data.arrays import ArrayDataset
from spikeloop.data.dataset import Batches, EventDataset, ImageEvents, Loader, loader
from spikeloop.data.encode import latency, logarithmic_latency, poisson, population
from spikeloop.data.har import HAR, WornAnew, compressed
from spikeloop.data.images import read_idx, rotate, rotation, shift, shifting, shrink
from spikeloop.data.mnist import MNIST, FashionMNIST, PixelLatency
from spikeloop.data.yin_yang import YinYang

__all__ = [
    "HAR",
    "MNIST",
    "ArrayDataset",
    "Batches",
    "EventDataset",
    "FashionMNIST",
    "ImageEvents",
    "Loader",
    "PixelLatency",
    "WornAnew",
    "YinYang",
    "compressed",
    "latency",
    "loader",
    "logarithmic_latency",
    "poisson",
    "population",
    "read_idx",
    "rotate",
    "rotation",
    "shift",
    "shifting",
    "shrink",
]
