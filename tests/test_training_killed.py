"""A training whose process is killed, several times, ends where one that was never stopped ends, bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from test_training import same_end

from spikeloop import LIF, feedforward
from spikeloop.data import YinYang
from spikeloop.training import Decay, Settings, fit

KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training_killed import fit_yin_yang
fit_yin_yang(Path(sys.argv[2]))
"""


def fit_yin_yang(folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = feedforward([5, 20, 3], LIF(0.02, 0.005), dropout=0.05)
    settings = Settings(duration=0.06, schedule=Decay(0.9), checkpoint_period=0.0)
    fit(network, YinYang("train", size=600), settings, epochs=4, folder=folder, resume=True)


def test_killed_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for steps in (3, 25, 50):  # 19 steps per epoch: in the first, the second and the third one
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder)])
        try:
            wait_for(folder / "checkpoint.safetensors", steps, child)
        finally:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
    fit_yin_yang(folder)
    fit_yin_yang(tmp_path / "whole")
    same_end(folder, tmp_path / "whole")


def wait_for(path: Path, steps: int, child: subprocess.Popen[bytes]) -> None:
    """Until the training in `child` has saved its state after so many steps."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert child.poll() is None, "the training ended before it could be killed"
        if path.exists() and steps_saved(path) >= steps:
            return
        time.sleep(0.001)
    raise AssertionError("the training does not come forward")


def steps_saved(path: Path) -> int:
    """Read through one handle: the file is being replaced all the time."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    meta = json.loads(header["__metadata__"]["meta"])
    return meta["epoch"] * 19 + meta["taken"]
