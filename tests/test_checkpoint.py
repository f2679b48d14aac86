"""Checkpoints: exact round trips, refusals, and a full disk that loses nothing."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spikeloop import LIF, Normal, checkpoint, feedforward
from spikeloop.checkpoint import load, load_network, save, save_network
from spikeloop.errors import CheckpointError

TENSORS = {
    "weight": torch.randn(3, 4),
    "exact": torch.tensor([1 / 3, float("inf"), float("nan")], dtype=torch.float64),
    "state": torch.arange(5, dtype=torch.uint8),
    "step": torch.tensor(7),
    "empty": torch.empty(0, 2),
    "transposed": torch.arange(6.0).view(2, 3).t(),
}


def test_tensors_and_metadata_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "state.safetensors"
    meta = {"epoch": 3, "rate": 1 / 3, "names": ["a", None], "nested": {"on": True}}
    save(path, TENSORS, meta)
    tensors, found = load(path)
    assert found == meta
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name].nan_to_num(nan=-1.0), tensor.nan_to_num(nan=-1.0))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["state.safetensors"]


def test_tensors_that_share_memory_are_saved_each(tmp_path):
    one = torch.arange(4.0)
    save(tmp_path / "x", {"one": one, "view": one[:2], "again": one})
    tensors, _ = load(tmp_path / "x")
    assert tensors["view"].tolist() == [0, 1]
    assert tensors["again"].tolist() == [0, 1, 2, 3]


def test_a_random_state_survives(tmp_path):
    save(tmp_path / "x", {"rng": torch.get_rng_state()})
    expected = torch.rand(3)
    torch.set_rng_state(load(tmp_path / "x")[0]["rng"])
    assert torch.equal(torch.rand(3), expected)


def test_networks_come_back(tmp_path):
    net, other = (feedforward([5, 4, 3], LIF(10e-3, 5e-3)) for _ in range(2))
    save_network(tmp_path / "net", net, {"seed": 1})
    assert load_network(tmp_path / "net", other) == {"seed": 1}
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(CheckpointError, match=r"input_to_hidden.weight has shape \(5, 4\).*\(5, 6\)"):
        load_network(tmp_path / "net", feedforward([5, 6, 3], LIF(10e-3, 5e-3), weight=Normal(0, 1)))
    with pytest.raises(CheckpointError, match=r"lacks .*hidden1.* in excess"):
        load_network(tmp_path / "net", feedforward([5, 4, 4, 3], LIF(10e-3, 5e-3)))


@pytest.mark.parametrize("length", [0, 4, 60, -1])
def test_truncated_files_are_refused(tmp_path, length):
    path = tmp_path / "x"
    save(path, TENSORS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(path)


def test_whatever_the_reader_dislikes_is_a_checkpoint_error(tmp_path, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("an odd number of bytes")

    monkeypatch.setattr("spikeloop.checkpoint.safe_open", fails)
    with pytest.raises(CheckpointError, match="cannot be read.*an odd number of bytes"):
        load(tmp_path / "x")


def test_foreign_and_newer_files_are_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"PK\x03\x04 not a checkpoint at all, but long enough to be looked at")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(path)
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="not written by spikeloop"):
        load(path)
    for version, what in (("2", "version 2.*at most 1.*newer"), ("", "version none"), ("one", "version one")):
        save_file({"weight": torch.ones(1)}, path, {"format": "spikeloop", "version": version, "meta": "{}"})
        with pytest.raises(CheckpointError, match=what):
            load(path)
    save_file({"weight": torch.ones(1)}, path, {"format": "spikeloop", "version": "1", "meta": "{"})
    with pytest.raises(CheckpointError, match="metadata"):
        load(path)


def test_a_missing_file_and_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / "x", TENSORS)


@pytest.mark.parametrize("stage", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, stage):
    path = tmp_path / "x"
    save(path, {"value": torch.ones(1)})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if stage == "write":
        opened = Path.open

        def onto_a_full_disk(self, *args, **more):
            return opened(Path("/dev/full") if self.suffix == ".part" else self, *args, **more)

        monkeypatch.setattr(Path, "open", onto_a_full_disk)
    elif stage == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, {"value": torch.zeros(1)})
    monkeypatch.undo()
    assert load(path)[0]["value"].tolist() == [1.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_the_format_version_is_written():
    assert (checkpoint.FORMAT, checkpoint.VERSION) == ("spikeloop", 1)
