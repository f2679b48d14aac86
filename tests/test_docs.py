"""The pages do what they say: their programs run, their links and commands exist, their conversions are right."""

import contextlib
import doctest
import importlib
import io
import math
import pkgutil
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

import spikeloop
from spikeloop import LI, Events, Network, Observe, Population, Projection, run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    found.name
    for found in pkgutil.walk_packages(spikeloop.__path__, "spikeloop.")
    if not found.name.endswith(("._core", ".cli"))
]


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the line it begins in."""
    text = page.read_text()
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, found.start(1)), found[1]) for found in fence.finditer(text)]


WITH_PROGRAMS = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=lambda page: page.name)
def test_programs_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block, as a reader would type them, each with what the ones before it left."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": page.stem}
    for line, source in blocks(page, "python"):
        code = compile("\n" * line + source, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed, mpl.rc_context({"backend": "agg"}):
            exec(code, names)
        assert "print(" not in source or printed.getvalue()


def test_there_are_programs_on_the_pages_that_shall_have_some() -> None:
    assert {page.name for page in WITH_PROGRAMS} >= {"README.md", "coming_from.md", "training.md"}


def test_the_program_of_the_readme_is_short() -> None:
    ((_, source),) = blocks(ROOT / "README.md", "python")
    assert len([line for line in source.splitlines() if line.strip()]) <= 16


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    with warnings.catch_warnings():
        found = doctest.testmod(importlib.import_module(module))
    assert found.failed == 0


def test_there_are_docstring_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    assert not [target for target in local if not (page.parent / target).exists()]


def test_commands_exist() -> None:
    commands = [
        line.partition("#")[0].split()
        for page in PAGES
        for _, source in blocks(page, "sh")
        for line in source.splitlines()
    ]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {words[1] for words in commands if words[:1] == ["make"]} == {"demo", "test"} <= targets
    assert {words[1] for words in commands if words[:1] == ["spikeloop"]} <= {"train", "evaluate", "plot", "partition"}


def test_every_result_on_the_front_page_was_made_by_the_script() -> None:
    text = (ROOT / "README.md").read_text()
    claimed = re.search(r"<!-- results.*?-->\n(.*?)<!-- end of results -->", text, re.DOTALL)
    assert claimed is not None
    table = ROOT / "benchmarks" / "results" / "accuracy.md"
    made = set(table.read_text().splitlines()) if table.exists() else set[str]()
    assert not [line for line in claimed[1].splitlines() if line.startswith("|") and line not in made]


def test_decisions_are_dated_and_take_two_lines() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    entries = [entry.splitlines() for entry in text.split("\n\n") if entry.startswith("**")]
    assert len(entries) > 10
    assert not [
        entry for entry in entries if len(entry) != 2 or not re.match(r"\*\*20\d\d-\d\d-\d\d, .*\.\*\*$", entry[0])
    ]


TAU_MEM, TAU_SYN, DT, STEPS = 20e-3, 5e-3, 1e-5, 4000
Step = Callable[[float, float, float], tuple[float, float]]


def norse(v: float, i: float, weight: float) -> tuple[float, float]:
    return v + DT / TAU_MEM * (i - v), i - DT / TAU_SYN * i + weight


def snntorch(v: float, i: float, weight: float) -> tuple[float, float]:
    i = math.exp(-DT / TAU_SYN) * i + weight
    return math.exp(-DT / TAU_MEM) * v + i, i


CAPACITANCE = 1e-5


def hxtorch(v: float, i: float, weight: float) -> tuple[float, float]:
    return v + DT / CAPACITANCE * (i - CAPACITANCE / TAU_MEM * v), i * (1 - DT / TAU_SYN) + weight


CM = 0.5  # nF


def pynn(v: float, i: float, weight: float) -> tuple[float, float]:
    """cm dv/dt = -cm / tau_m v + i in mV, nA, nF and ms: nA / nF = mV / ms."""
    ms = 1e3 * DT
    return v + ms * (i / CM - v / (1e3 * TAU_MEM)), i * (1 - ms / (1e3 * TAU_SYN)) + weight


FACTORS: dict[str, tuple[Step, float]] = {
    "norse": (norse, 1.0),
    "snntorch": (snntorch, TAU_MEM / DT),
    "hxtorch": (hxtorch, TAU_MEM / CAPACITANCE),
    "pynn": (pynn, 1e3 * TAU_MEM / CM),
}


@pytest.mark.parametrize("simulator", FACTORS)
def test_a_converted_weight_makes_the_same_potential(simulator: str) -> None:
    """One step of each simulator as its documentation has it, against ours, with the factor of the table."""
    step, factor = FACTORS[simulator]
    v, i, highest = *step(0.0, 0.0, 0.3), 0.0
    for _ in range(STEPS):
        v, i = step(v, i, 0.0)
        highest = max(highest, v)
    weight = torch.tensor([[0.3 * factor]], dtype=torch.float64)
    net = Network(
        {"input": Population(1), "output": Population(1, LI(TAU_MEM, TAU_SYN))}, [Projection("input", "output", weight)]
    )
    record = run(net, Events.from_lists([[0.0]], [[0]], 1), STEPS * DT, observe=Observe(peak={"output"}))
    assert float(record.peak["output"].value.detach()) == pytest.approx(highest, rel=3e-3)
