"""What other machines compute: tests of kernels once more, with the instruction sets that this one would not choose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spikeloop.engine import _core

TESTS = Path(__file__).parent
FILES = ("test_engine.py", "test_engine_codes.py", "test_training_straight.py", "test_adam.py")
CHOSEN = (
    "not test_engine.py or (together and (wide-0 or whole-0)) or many_spikes or (bound and layer) or (peaks and 17)"
)


def run(target: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SPIKELOOP_TARGET": target}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(_core.instruction_set() == "only", reason="the kernels are compiled for one instruction set")
@pytest.mark.parametrize("target", ["avx2", "plain"])
def test_kernels_of_every_instruction_set_equal_the_naive_twin(target: str) -> None:
    if target == "avx2" and _core.instruction_set() == "plain":
        pytest.skip("this machine has no AVX2")
    told = run(target, "-c", "from spikeloop.engine import _core; print(_core.instruction_set())")
    assert told.stdout.strip() == target
    done = run(
        target, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN, *(str(TESTS / name) for name in FILES)
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.splitlines()[-1].split()[0]) > 150, done.stdout[-300:]
