"""The one place that knows the version: the build reads it, `spikeloop.__version__` repeats it."""

__version__ = "0.1.0"
