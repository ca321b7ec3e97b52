"""How many of xdist's workers there are, and which of them runs which test."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest


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
def group_of(file: Path) -> str | None:
    """The first ``xdist_group`` that a test file names."""
    found = re.search(r"xdist_group\([\"']([^\"']+)[\"']\)", file.read_text(encoding="utf-8"))
    return found.group(1) if found else None
