import pytest
import torch

from spikeloop.data import ArrayDataset, loader
from spikeloop.errors import ShapeMismatch


def shift(inputs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return inputs + torch.rand(len(inputs), 1, generator=generator)


def test_batches_are_arrays_and_labels():
    data = ArrayDataset(torch.arange(12.0).view(6, 2), range(6))
    batches = list(loader(data, 4))
    assert [label.tolist() for _, label in batches] == [[0, 1, 2, 3], [4, 5]]
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), data.inputs)
    one, label = data[-1]
    assert (one.tolist(), int(label)) == ([[10.0, 11.0]], 5)


def test_bytes_are_shares_of_255():
    data = ArrayDataset(torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8), [0, 1])
    inputs, _ = data.batch(torch.tensor([1, 0]))
    assert inputs.dtype == torch.float32
    assert torch.allclose(inputs, torch.tensor([[1.0, 0.4], [0.0, 0.2]]))


def test_augmentation_is_drawn_anew_and_again_from_the_same_seed():
    data = ArrayDataset(torch.zeros(8, 3), range(8), shift)
    assert data.random
    assert not ArrayDataset(torch.zeros(8, 3), range(8)).random
    order = loader(data, 4, shuffle=True, seed=1)
    first, second, again = list(order), list(order), list(loader(data, 4, shuffle=True, seed=1))
    for (a, _), (b, _), (c, label) in zip(first, second, again, strict=True):
        assert torch.equal(a, c)
        assert not torch.equal(a, b)
        assert (a[:, :1] == a).all()
        assert a.unique().numel() == len(label)


def test_prepared_after_augmentation():
    data = ArrayDataset(torch.full((4, 3), 2.0), range(4), lambda inputs, _: inputs + 1, torch.square)
    assert (data.batch(torch.arange(4))[0] == 9).all()
    assert (data.subset([1])[0][0] == 9).all()


def test_parts():
    data = ArrayDataset(torch.arange(10.0)[:, None], range(10), shift)
    first, second = data.split(0.3, seed=2)
    assert (len(first), len(second)) == (3, 7)
    assert sorted([*first.labels.tolist(), *second.labels.tolist()]) == list(range(10))
    assert torch.equal(first.inputs[:, 0].long(), first.labels)
    assert data.subset(slice(2, 4)).labels.tolist() == [2, 3]
    assert first.augment is shift


def test_one_label_for_each():
    with pytest.raises(ShapeMismatch, match="one for each of 3 samples"):
        ArrayDataset(torch.zeros(3, 2), [0, 1])
