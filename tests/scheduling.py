"""How many of xdist's workers there are, which of them runs which test, and what comes first."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """What ``-n auto`` means: one worker more than cores, as a test that waits for a server or a container leaves its core to another."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests of one ``xdist_group`` on one worker; the group is read from the file, since pytest 9.2 took away how xdist did it.

    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    config.option.loadscopereorder = False  # it would put what has many tests first, not what takes long

    class ByFile(LoadGroupScheduling):  # type: ignore[misc]  # xdist's own types are partial
        def _split_scope(self, nodeid: str) -> str:
            return group_of(config.rootpath / nodeid.partition("::")[0]) or nodeid

        def remove_node(self, node: Any) -> str | None:
            """The test that a worker died of has failed; xdist alone would hand it to the next worker, until none is left.

            What that worker had done goes too: a worker that is handed nothing but what is done asks for no more, and waits for ever.
            """
            work = self.assigned_work[node]
            died_of = next((test for unit in work.values() for test, done in unit.items() if not done), None)
            left = {scope: {test: done or test == died_of for test, done in unit.items()} for scope, unit in work.items()}
            self.assigned_work[node] = {scope: unit for scope, unit in left.items() if not all(unit.values())}
            super().remove_node(node)
            return died_of

    return ByFile(config, log)


@cache
def compiled() -> bool:
    """Whether the tests have been collected in this checkout before, so that what pytest makes of them is there."""
    return any(Path(__file__).parent.glob(f"*_tests/__pycache__/*-pytest-{pytest.__version__}.pyc"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["compiled"] = compiled()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """In a new checkout one of xdist's workers collects, then the others: each would compile every test, and all that tests import.

    In a new environment that is 18 of 28 seconds of a core, spared by each worker that waits.
    """
    told = getattr(session.config, "workerinput", {})
    if told.get("compiled", True):
        return (yield)
    place = session.config.rootpath / ".pytest_cache/collected"
    place.parent.mkdir(exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not place.exists() or place.read_text() != told["testrunuid"]:
            collected = yield
            place.write_text(told["testrunuid"])
            return collected
    return (yield)


LONG = (
    "compose",
    "notebooks",
    "prefect",
    "fresh-clone",
    "orchestrators",
    "images",
    "serving_source",
    "postgresql",
    "tests/integration_tests",
)
"""Groups, or where grouped files lie, that take minutes: begun last, one of them would leave the other cores with nothing to do.

The first has both images built, for minutes in which whoever needs one waits, too: others that do come when those that do not have begun.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, and single tests, which fill what is left, come last."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: rank(item.path, item.nodeid.partition("::")[0]))


def rank(file: Path, name: str) -> int:
    """Where the tests of a file come: that of its group in ``LONG``, behind these the other groups, behind these single tests."""
    group = group_of(file)
    if group is None:
        return len(LONG) + 1
    return next((place for place, long in enumerate(LONG) if group == long or (group == str(file) and name.startswith(long))), len(LONG))


@cache
def group_of(file: Path) -> str | None:
    """The first ``xdist_group`` that a test file names; else the file itself, if it makes anything once for all its tests."""
    text = file.read_text(encoding="utf-8")
    found = re.search(r"xdist_group\([\"']([^\"']+)[\"']\)", text)
    if found:
        return found.group(1)
    return str(file) if re.search(r"^@pytest\.fixture\(scope=\"module\"", text, re.MULTILINE) else None
