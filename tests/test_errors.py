import copy
import inspect
import pickle

import pytest

from spikeloop import errors
from spikeloop.errors import SpikeloopError, SpikeloopWarning

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SpikeloopError)
]  # SpikeloopError included


def test_message_is_a_chain_of_sentences():
    error = SpikeloopError("5 weights are NaN", where="input_to_hidden", expected="finite weights", todo="Load a copy!")
    assert str(error) == "input_to_hidden: 5 weights are NaN. Expected: finite weights. Load a copy!"
    assert str(SpikeloopError("nothing works")) == "nothing works."


def test_parts_are_attributes():
    error = SpikeloopError("a", where="b", expected="c", todo="d")
    assert (error.what, error.where, error.expected, error.todo) == ("a", "b", "c", "d")
    assert SpikeloopError("a").where is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_prints_pickles_and_says_what_it_is(kind):
    error = kind("wrong", where="here", todo="Mend it")
    assert str(error) == "here: wrong. Mend it."
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is kind
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidEvents", ValueError),
        ("InvalidNetwork", ValueError),
        ("ShapeMismatch", ValueError),
        ("UnknownPopulation", KeyError),
        ("OutOfRange", ValueError),
        ("WrongType", TypeError),
        ("DoesNotFit", ValueError),
        ("CannotObserve", ValueError),
        ("ActivityExplosion", RuntimeError),
        ("NoRule", RuntimeError),
        ("Unsupported", NotImplementedError),
        ("CheckpointError", RuntimeError),
        ("DataError", ValueError),
    ],
)
def test_caught_as_the_natural_builtin(name, builtin):
    with pytest.raises(builtin, match="wrong"):
        raise getattr(errors, name)("wrong")


def test_warning_is_a_user_warning():
    assert issubclass(SpikeloopWarning, UserWarning)
