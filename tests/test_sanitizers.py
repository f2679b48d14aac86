"""The C++ core's own tests (cpp/tests), built and run under the address and undefined-behaviour sanitizers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def core_tests() -> Path:
    """The test program, in build/sanitize: a second build only compiles what has changed.

    Its kernels are compiled for one instruction set, the best one this machine has, and not for all, as a wheel's are.
    """
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    assert cmake is not None, "cmake is part of the extra `dev`"
    folder = ROOT / "build" / "sanitize"
    options = ["-DSPIKELOOP_SANITIZE=address,undefined", "-DSPIKELOOP_TARGETS=OFF"]
    configure = [cmake, "-S", str(ROOT), "-B", str(folder), *options]
    for command in (configure, [cmake, "--build", str(folder), "--parallel", "2"]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "core_tests"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_core_has_no_memory_errors_and_no_undefined_behaviour(core_tests):
    done = run(core_tests)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("cases passed")


def test_a_planted_read_out_of_bounds_is_caught(core_tests):
    done = run(core_tests, "--plant")
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
    assert "dense_forward" in done.stderr
