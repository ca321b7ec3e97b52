"""What fails is run once more, by itself: real runs of pytest in a folder of their own, with xdist and with coverage."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, process_environment, wait_for
from tests.second_try import MOST

HEAD = """
import os, pathlib, signal, pytest

def attempt(name):
    '''How often this has been asked for, this time included; it outlives the process.'''
    file = pathlib.Path(__file__).with_name(name)
    with file.open("a") as opened:
        opened.write("x")
    return file.stat().st_size
"""
PASSES = "\ndef test_passes():\n    pass\n"
FAILS_ONCE = "\ndef test_fails_once():\n    assert attempt('once') > 1, 'as it failed first'\n"
FAILS_ALWAYS = "\ndef test_fails_always():\n    assert attempt('always') < 1, 'as it fails'\n"
LACKING = "PyTorch, or what reads texts, cannot be had here (why stands above): the tests that need them are not run"
APART = ("-p", "tests.second_try", "-ra", "--dist", "loadgroup")
WORDS = (*APART, "--cov=counted", "-n", "2")
BY_ONE = (*APART, "-n", "1")
"""For what is the same whether one worker reports it or two, with coverage or without."""


@dataclass(frozen=True)
class Ran:
    """A run of pytest that has ended."""

    code: int
    out: str
    folder: Path

    def attempts(self, name: str) -> int:
        return len((self.folder / name).read_text())

    def last(self) -> list[str]:
        """The lines after the last empty one."""
        return self.out.rstrip("\n").rpartition("\n\n")[2].splitlines()


def write(folder: Path, *tests: str) -> None:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text("from tests.scheduling import pytest_xdist_make_scheduler\n")
    (folder / "counted.py").write_text("def two():\n    return 2\n")
    (folder / "test_it.py").write_text("".join((HEAD, "import counted\n", *tests)))


def begun(folder: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "src", folder)))
    kept = {name: value for name, value in process_environment().items() if not name.startswith("PYTEST_")}
    quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin,pytest_cov.plugin"}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder, env={**kept, **quick, "PYTHONPATH": path, **environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def ran(folder: Path, *words: str, **environ: str) -> Ran:
    process = begun(folder, *words, **environ)
    try:
        out, _ = process.communicate(timeout=300)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return Ran(process.returncode, out, folder)


def test_what_fails_once_leaves_the_run_green_and_is_told_last(tmp_path: Path) -> None:
    """Its first failure is shown whole, coverage is reported once, and what passed is not run again."""
    counts = "\ndef test_counts():\n    attempt('counts')\n    assert counted.two() == 2\n"
    write(tmp_path, PASSES, FAILS_ONCE, counts)
    seen = ran(tmp_path, *WORDS)
    assert seen.code == 0, seen.out
    assert seen.last() == ["FLAKY test_it.py::test_fails_once"]
    assert (seen.attempts("once"), seen.attempts("counts")) == (2, 1)
    assert "AssertionError: as it failed first" in seen.out
    assert "1 failed, 2 passed" in seen.out
    assert re.findall(r"^counted\.py .* (\d+)%$", seen.out, re.MULTILINE) == ["100"]


def test_what_fails_twice_leaves_the_run_red(tmp_path: Path) -> None:
    write(tmp_path, PASSES, FAILS_ONCE, FAILS_ALWAYS)
    seen = ran(tmp_path, *BY_ONE)
    assert seen.code == 1, seen.out
    assert seen.last() == ["FAILED TWICE test_it.py::test_fails_always", "FLAKY test_it.py::test_fails_once"]
    assert (seen.attempts("always"), seen.attempts("once")) == (2, 2)


def test_without_workers_it_is_the_same(tmp_path: Path) -> None:
    write(tmp_path, PASSES, FAILS_ONCE)
    seen = ran(tmp_path, "-p", "tests.second_try")
    assert (seen.code, seen.last()) == (0, ["FLAKY test_it.py::test_fails_once"]), seen.out


def test_a_run_in_which_nothing_fails_says_nothing_of_it(tmp_path: Path) -> None:
    write(tmp_path, PASSES)
    seen = ran(tmp_path, *BY_ONE)
    assert seen.code == 0
    assert not re.search("second try|FLAKY|TWICE", seen.out)


@pytest.mark.parametrize("group", ["pytestmark = pytest.mark.xdist_group('together')\n", ""], ids=["in a group", "each by itself"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
def test_a_test_that_takes_its_worker_with_it_has_failed(once: bool, group: str, tmp_path: Path) -> None:
    """The next worker does not get it, but all the others that the dead one had."""
    condition = "attempt('killed') == 1" if once else "attempt('killed')"
    killed = f"\ndef test_dies():\n    if {condition}:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    others = "".join(f"\ndef test_after_{n}():\n    attempt('after')\n" for n in range(6))
    write(tmp_path, group, PASSES, killed, others)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = xdist_group: together\n")
    seen = ran(tmp_path, *WORDS)
    assert seen.code == (0 if once else 1), seen.out
    assert seen.last() == [f"{'FLAKY' if once else 'FAILED TWICE'} test_it.py::test_dies"]
    assert (seen.attempts("killed"), seen.attempts("after")) == (2, 6)
    assert "crashed while running 'test_it.py::test_dies'" in seen.out


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
def test_a_fixture_that_fails_is_tried_again_with_its_test(place: str, once: bool, tmp_path: Path) -> None:
    fails = f"assert attempt('fixture') > {1 if once else 2}"
    body = f"    {fails}\n    yield\n" if place == "before" else f"    yield\n    {fails}\n"
    write(tmp_path, f"\n@pytest.fixture(scope='session')\ndef part():\n{body}", "\ndef test_with_part(part):\n    pass\n", PASSES)
    seen = ran(tmp_path, *WORDS)
    assert seen.code == (0 if once else 1), seen.out
    assert seen.last() == [f"{'FLAKY' if once else 'FAILED TWICE'} test_it.py::test_with_part"]
    assert seen.attempts("fixture") == 2


def test_a_test_that_fails_and_whose_fixture_fails_too_is_tried_again_once(tmp_path: Path) -> None:
    part = "\n@pytest.fixture\ndef part():\n    yield\n    assert attempt('fixture') > 1\n"
    write(tmp_path, part, "\ndef test_with_part(part):\n    assert attempt('test') > 1\n")
    seen = ran(tmp_path, *BY_ONE)
    assert (seen.code, seen.last()) == (0, ["FLAKY test_it.py::test_with_part"]), seen.out
    assert (seen.attempts("fixture"), seen.attempts("test")) == (2, 2)


@pytest.mark.parametrize("workers", [WORDS, WORDS[:2]], ids=["workers", "none"])
def test_what_cannot_be_collected_is_red_at_once(workers: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path, FAILS_ONCE)
    (tmp_path / "test_broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "test_broken_too.py").write_text("import nothing_of_this_name\n")
    seen = ran(tmp_path, *workers)
    assert seen.code == pytest.ExitCode.INTERRUPTED, seen.out
    assert "nothing_of_that_name" in seen.out
    assert "nothing_of_this_name" in seen.out
    assert not (tmp_path / "once").exists()
    seen = ran(tmp_path, *workers, "--continue-on-collection-errors")
    assert seen.code == pytest.ExitCode.TESTS_FAILED, seen.out
    assert seen.last()[-1] == "no second try: not only tests have failed"
    assert seen.attempts("once") == 1


@pytest.mark.parametrize("workers", [WORDS, WORDS[:2]], ids=["workers", "none"])
def test_a_run_that_stops_at_a_failure_is_red(workers: tuple[str, ...], tmp_path: Path) -> None:
    """What it did not reach has not passed."""
    write(tmp_path, FAILS_ONCE, *(PASSES.replace("passes", f"passes_{n}") for n in range(40)))
    seen = ran(tmp_path, *workers, "-x")
    assert seen.code not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}, seen.out
    assert seen.attempts("once") == 1


def test_where_workers_keep_dying_the_run_is_red(tmp_path: Path) -> None:
    deaths = "".join(f"\ndef test_dies_{n}():\n    os.kill(os.getpid(), signal.SIGKILL)\n" for n in range(3))
    write(tmp_path, deaths, *(PASSES.replace("passes", f"passes_{n}") for n in range(9)))
    seen = ran(tmp_path, *WORDS, "--max-worker-restart=1")
    assert seen.code not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}, seen.out
    assert "second try of" not in seen.out


def test_many_failures_are_not_taken_for_chance(tmp_path: Path) -> None:
    write(tmp_path, f"\n@pytest.mark.parametrize('n', range({MOST + 1}))\ndef test_fails(n):\n    assert attempt('all') < 1\n")
    seen = ran(tmp_path, *BY_ONE)
    assert seen.code == 1
    assert seen.last()[-1] == f"no second try: {MOST + 1} tests have failed, more than {MOST}"
    assert seen.attempts("all") == MOST + 1


def test_being_skipped_is_not_passing(tmp_path: Path) -> None:
    write(tmp_path, "\ndef test_skips():\n    if attempt('skip') > 1:\n        pytest.skip('not this time')\n    assert False\n")
    seen = ran(tmp_path, *BY_ONE)
    assert (seen.code, seen.last()) == (1, ["FAILED TWICE test_it.py::test_skips"]), seen.out


def test_neither_odd_names_nor_settings_of_the_environment_are_in_the_way(tmp_path: Path) -> None:
    """Jenkins asks for a file of results by PYTEST_ADDOPTS: the second try, always alone, leaves the whole run's as it is."""
    (tmp_path / "a b").mkdir()
    odd = "\n@pytest.mark.parametrize('n', ['a b', 'x::y', '[z]', 'q@r', 'ü'])"
    odd += "\ndef test_odd(n):\n    assert attempt(f'odd {ord(n[0])}') > 1 and 'PYTEST_XDIST_WORKER' not in os.environ\n"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "a b/test_it.py").write_text(HEAD + PASSES + FAILS_ALWAYS + odd)
    seen = ran(tmp_path, PYTEST_ADDOPTS="--junitxml=results.xml -n 2 -p tests.second_try")
    assert seen.code == 1, seen.out
    first, *others = seen.last()
    assert first == "FAILED TWICE a b/test_it.py::test_fails_always"
    assert len(others) == 5
    assert all(line.startswith("FLAKY a b/test_it.py::test_odd[") for line in others)
    assert len((tmp_path / "a b/always").read_text()) == 2
    assert 'tests="7"' in (tmp_path / "results.xml").read_text()


@pytest.mark.parametrize("when", ["first", "second"])
def test_a_run_that_is_interrupted_is_red(when: str, tmp_path: Path) -> None:
    """By Ctrl-C, which reaches every process of the terminal."""
    waits = f"\ndef test_waits():\n    if attempt('waits') == {1 if when == 'first' else 2}:\n        signal.pause()\n    assert False\n"
    write(tmp_path, FAILS_ONCE, waits)
    process = begun(tmp_path, "-p", "tests.second_try")
    there = tmp_path / "waits"
    wait_for(lambda: there.exists() and there.stat().st_size == (1 if when == "first" else 2), 120, "the test that waits")
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, out
    assert ("second try of" in out) == (when == "second")


@pytest.mark.parametrize("failing", ["nothing", "check", "test", "acceptance", "torch"])
def test_ci_tells_last_what_failed_by_chance(failing: str, tmp_path: Path) -> None:
    """Its own lines, with a `make` that says what it is asked for."""
    assert re.search(r"^\tpython -m pytest -p tests\.second_try \$\(TESTS\) ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for folder in (".ci", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(REPOSITORY / ".ci/run", tmp_path / ".ci/run")
    make = tmp_path / "bin/make"
    make.write_text(f'#!/bin/sh\necho "made $1"\n[ "$1" != test ] || echo "FLAKY a b"\n[ "$1" != {failing} ]\n')
    make.chmod(0o755)
    environ = process_environment(PATH=f"{make.parent}:/usr/bin:/bin", TMPDIR=str(tmp_path))
    done = subprocess.run([tmp_path / ".ci/run"], env=environ, capture_output=True, text=True, timeout=300, check=False)
    said = [line for line in done.stdout.splitlines() if line != "made system"]
    assert done.returncode == (failing not in ("nothing", "torch"))
    flaky = "FLAKY a b"
    networks = ["made text", "made test", flaky] if failing != "torch" else [LACKING]
    everything = [
        "made setup-dev",
        "made check",
        "made test",
        flaky,
        "made torch",
        *networks,
        "made acceptance",
        *[flaky] * (1 if failing == "torch" else 2),
    ]
    assert said == (everything[:2] if failing == "check" else everything)
    assert not list(tmp_path.glob("tmp.*")), "the log is left behind"
