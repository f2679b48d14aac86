"""What can go wrong, each error saying what, where, what was expected and what to do."""

from __future__ import annotations


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def kind_of(given: object) -> str:
    """What something is, for a sentence: ``a Tensor``, ``the class Ideal``."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    name = type(given).__name__
    return f"an {name}" if name[0] in "AEIOUaeiou" else f"a {name}"


class SpikeloopError(Exception):
    """Base of every error of this package.

    The message is one chain of sentences; its parts stay available as attributes.

    what: what is wrong.  where: the population, projection, file or row it was found in.
    expected: what would have been right.  todo: what the reader can do about it.
    """

    what: str
    where: str | None
    expected: str | None
    todo: str | None

    def __init__(
        self, what: str, *, where: str | None = None, expected: str | None = None, todo: str | None = None
    ) -> None:
        self.what, self.where, self.expected, self.todo = what, where, expected, todo
        chain = [f"{where}: {what}" if where else what]
        if expected:
            chain.append(f"Expected: {expected}")
        if todo:
            chain.append(todo)
        super().__init__(" ".join(_sentence(part) for part in chain))

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class InvalidEvents(SpikeloopError, ValueError):
    """Events that break the rules of `Events`: unsorted, negative, not finite, a unit out of range, too late."""


class InvalidNetwork(SpikeloopError, ValueError):
    """A network that has no meaning: NaN weights, non-positive time constants, reset above threshold."""


class ShapeMismatch(SpikeloopError, ValueError):
    """Two things that belong together differ in shape, size or batch."""


class UnknownPopulation(SpikeloopError, KeyError):
    """A population or projection that the network does not have."""


class OutOfRange(SpikeloopError, ValueError):
    """A number outside what its owner can represent or accept."""


class WrongType(SpikeloopError, TypeError):
    """Something of another kind than was asked for: a tensor for `Events`, a class for an object of it."""


class DoesNotFit(SpikeloopError, ValueError):
    """A network that is too large for the place it shall run on."""


class CannotObserve(SpikeloopError, ValueError):
    """An observation that the substrate does not offer."""


class ActivityExplosion(SpikeloopError, RuntimeError):
    """More spikes than the limit per neuron allows: names the population and the sample."""


class NoRule(SpikeloopError, RuntimeError):
    """A gradient was asked of a record that was made without a rule."""


class RuleFailed(SpikeloopError, RuntimeError):
    """A plasticity rule that raised an error, or did not end within its budget of time: names program and call."""


class Unsupported(SpikeloopError, NotImplementedError):
    """Something that is understood but not done: double backward, tensors that are not on the CPU."""


class CheckpointError(SpikeloopError, RuntimeError):
    """A checkpoint that is truncated, foreign, of another network or from a newer version."""


class DataError(SpikeloopError, ValueError):
    """A data file that is missing, truncated, of a foreign format or with the wrong checksum."""


class SpikeloopWarning(UserWarning):
    """Base of every warning of this package."""
