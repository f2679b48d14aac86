"""Data sets and encodings: labelled events, batches of them, and numbers turned into spikes."""

from spikeloop.data.dataset import Batches, EventDataset, ImageEvents, Loader, loader
from spikeloop.data.encode import latency, logarithmic_latency, poisson, population
from spikeloop.data.images import read_idx, rotate, rotation, shrink
from spikeloop.data.mnist import MNIST, FashionMNIST, PixelLatency
from spikeloop.data.yin_yang import YinYang

__all__ = [
    "MNIST",
    "Batches",
    "EventDataset",
    "FashionMNIST",
    "ImageEvents",
    "Loader",
    "PixelLatency",
    "YinYang",
    "latency",
    "loader",
    "logarithmic_latency",
    "poisson",
    "population",
    "read_idx",
    "rotate",
    "rotation",
    "shrink",
]
