"""Which of xdist's workers collects when: real runs of pytest in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, process_environment

CONFTEST = """
from tests import scheduling
from tests.scheduling import pytest_collection, pytest_configure_node, pytest_xdist_make_scheduler

scheduling.compiled = lambda: {compiled}
"""
TESTS = """
import os

def tell(what):
    with open("log", "a") as log:
        log.write(f"{what} {os.getpid()}\\n")

tell("begins")
compile("x = 1\\n" * 30_000, "long", "exec")
BROKEN
tell("ends")

def test_one():
    pass
"""


def collected(folder: Path, compiled: bool = False, broken: str = "") -> tuple[subprocess.CompletedProcess[str], list[tuple[str, str]]]:
    """A run by two workers; who began and ended to collect, in order."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST.format(compiled=compiled))
    (folder / "test_it.py").write_text(TESTS.replace("BROKEN", broken))
    words = (sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider")
    environ = process_environment(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'src'}")
    kept = {name: value for name, value in environ.items() if not name.startswith("PYTEST_")}
    quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    done = subprocess.run(words, cwd=folder, env={**kept, **quick}, capture_output=True, text=True, timeout=300, check=False)
    whats = [line.split() for line in (folder / "log").read_text().splitlines()]
    return done, [(what, who) for what, who in whats]


def test_in_a_new_checkout_one_worker_collects_before_the_others(tmp_path: Path) -> None:
    for _ in range(2):  # what one run has left does not say that another has collected
        (tmp_path / "log").unlink(missing_ok=True)
        done, told = collected(tmp_path)
        assert done.returncode == 0, done.stdout
        assert len(told) == 4
        first = told[0][1]
        assert told[:2] == [("begins", first), ("ends", first)]


def test_one_that_cannot_collect_keeps_no_other_from_it(tmp_path: Path) -> None:
    done, told = collected(tmp_path, broken="os._exit(3) if os.environ['PYTEST_XDIST_WORKER'] == 'gw0' else None")
    assert [what for what, _ in told].count("ends") >= 1, done.stdout


def test_where_it_has_been_collected_before_nobody_waits(tmp_path: Path) -> None:
    collected(tmp_path, compiled=True)
    assert not (tmp_path / ".pytest_cache/collected").exists()
