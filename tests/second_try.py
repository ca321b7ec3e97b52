"""A test that failed is run once more, by itself, when all others are done: `python -m pytest -p tests.second_try`.

If it passes then, the run is green and tells it on the last lines as FLAKY: what fails by chance is mended next, and holds up
nothing until then. What fails twice, cannot be collected or was not reached leaves the run red.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from xml.etree import ElementTree

import pytest

MOST = 20
"""Where more tests than these have failed, that is not chance, and hours are not spent on trying them again."""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist's workers report to the process that decides
        config.pluginmanager.register(SecondTry(config))


class SecondTry:
    """What has failed in a run, and what becomes of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.failed: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.uncollected = 0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.uncollected += report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """What cannot be collected ends the run before it begins, as it does without workers."""
        if self.uncollected and not self.config.getoption("continue_on_collection_errors"):
            self.config.pluginmanager.get_plugin("dsession").shouldstop = f"{self.uncollected} errors during collection"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid] += 1
        if report.when in {"teardown", "???"}:  # ??? is xdist's word for the test that a worker died of
            self.ended.add(report.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Try again after all that others do at the end: workers have ended, coverage and tracebacks are shown."""
        result = yield
        if session.exitstatus == pytest.ExitCode.TESTS_FAILED:
            if reason := self.no_chance(session):
                print(f"no second try: {reason}")
            else:
                session.exitstatus = self.try_again()
        return result

    def no_chance(self, session: pytest.Session) -> str | None:
        """Why this run is red whatever a second try says."""
        if session.testsfailed != self.failed.total():
            return "not only tests have failed"
        if len(self.ended) != session.testscollected:
            return f"{session.testscollected - len(self.ended)} of {session.testscollected} tests have not been run"
        if len(self.failed) > MOST:
            return f"{len(self.failed)} tests have failed, more than {MOST}"
        return None

    def try_again(self) -> pytest.ExitCode:
        """Run each failed test in a process of its own, one after the other, and tell what became of it."""
        passed: dict[str, bool] = {}
        try:
            for test in self.failed:
                print(f"\nsecond try of {test}", flush=True)
                passed[test] = passes(test, self.config.rootpath)
        except KeyboardInterrupt:
            return pytest.ExitCode.INTERRUPTED
        finally:
            print("\n")  # what was killed has left its line open
            for test, now in sorted(passed.items(), key=lambda item: item[1]):
                print(f"FLAKY {test}" if now else f"FAILED TWICE {test}", flush=True)
        return pytest.ExitCode.OK if all(passed.values()) else pytest.ExitCode.TESTS_FAILED


def passes(test: str, folder: Path) -> bool:
    """Whether a test alone, in a new process, passes: that it is skipped there is not enough."""
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results.xml"
        here = ["--no-cov", "--numprocesses=0", "--durations=0", "--durations-min=5", f"--junitxml={results}", "-p", f"no:{__name__}"]
        with subprocess.Popen([sys.executable, "-m", "pytest", *here, test], cwd=folder) as process:
            code = process.wait()
        if code or not results.exists():
            return False
        counts = next(ElementTree.parse(results).iter("testsuite")).attrib  # noqa: S314 - pytest has just written it
        return [counts[name] for name in ("tests", "failures", "errors", "skipped")] == ["1", "0", "0", "0"]
