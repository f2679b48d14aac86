"""Rules of the whole suite: the same random examples every time, Ctrl-C as at a terminal, no skipped test in CI."""

import os
import signal
from collections import Counter
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("spikeloop", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("spikeloop")
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell begin with it ignored


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The sanitizers, whose build takes minutes, then files with many tests: one that gets them last is waited for."""
    tests = Counter(item.path.name for item in items)
    items.sort(key=lambda item: (item.path.name != "test_sanitizers.py", -tests[item.path.name], item.path.name))


def fail_if_skipped(report):
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a skip is a failure in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return fail_if_skipped((yield))


@pytest.fixture(autouse=True, scope="session")
def _calibrations(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Calibrations are kept for this run of the suite only; the user's stay as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKELOOP_CALIBRATIONS", str(tmp_path_factory.mktemp("calibrations")))
        yield
