"""The package as a whole: what importing it costs, the names it promises, its version and its types."""

import ast
import importlib
import os
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

import spikeloop

ROOT = Path(__file__).parent.parent
PUBLIC_MODULES = (
    "spikeloop",
    "spikeloop.ann",
    "spikeloop.checkpoint",
    "spikeloop.conformance",
    "spikeloop.data",
    "spikeloop.loss",
    "spikeloop.plasticity",
    "spikeloop.plot",
    "spikeloop.training",
)


def public_names() -> list[str]:
    """Every promised name with its module; `python tests/test_package.py > tests/public_names.txt` after a change."""
    return sorted(f"{module}.{name}" for module in PUBLIC_MODULES for name in importlib.import_module(module).__all__)


def top_level_modules_after(statement: str) -> set[str]:
    """First parts of the names of all modules loaded by a fresh interpreter."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{statement}; {show}"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_importing_loads_the_core_dependencies_only():
    added = top_level_modules_after("import spikeloop") - top_level_modules_after("import torch, numpy, safetensors")
    assert added - set(sys.stdlib_module_names) == {"spikeloop"}


def test_a_chip_is_loaded_when_it_is_asked_for():
    code = """
import sys, spikeloop, spikeloop.training
chip = lambda: any(name.startswith(("spikeloop.chip.", "spikeloop.ann.")) for name in sys.modules)
before = chip()
spikeloop.Twin, spikeloop.training.fit_ann
print(before, chip(), "OnChip" in dir(spikeloop), hasattr(spikeloop, "Wafer"))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "True", "False"]


def test_public_names_are_the_committed_ones():
    assert public_names() == (ROOT / "tests" / "public_names.txt").read_text().split()


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_exists_and_is_documented(module):
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    assert not [name for name in loaded.__all__ if not getattr(loaded, name).__doc__]


def test_there_is_one_version():
    assert metadata.version("spikeloop") == spikeloop.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == spikeloop.__version__


def test_typing_information_is_installed():
    package = resources.files("spikeloop")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("engine", "_core.pyi").is_file()


def signatures(stub: str) -> dict[str, list[str]]:
    """Name and parameters of every class and function of a stub."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(stub).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = [parameter.arg for parameter in node.args.args]
        elif isinstance(node, ast.ClassDef):
            found[node.name] = [ast.unparse(base) for base in node.bases]
    return found


def test_stub_of_the_extension_is_current(tmp_path):
    built = tmp_path / "_core.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "spikeloop.engine._core", "-o", str(built)]
    subprocess.run(command, check=True)
    committed = resources.files("spikeloop").joinpath("engine", "_core.pyi")
    assert signatures(committed.read_text()) == signatures(built.read_text())


def test_a_skip_is_a_failure_in_ci(tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_skips.py").write_text("import pytest\n\n\ndef test_skips():\n    pytest.skip('no data')\n")
    (tmp_path / "test_absent.py").write_text("import pytest\n\npytest.importorskip('no_such_module')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]

    def outcome(ci: str) -> tuple[int, str]:
        environment = os.environ | {"CI": ci}
        done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout

    code, report = outcome("true")
    assert code != 0
    assert "a skip is a failure in CI" in report
    assert outcome("false")[0] in (0, 5)


if __name__ == "__main__":
    print("\n".join(public_names()))
