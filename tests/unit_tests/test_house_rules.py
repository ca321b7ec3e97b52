"""The rules that a machine keeps: format, lint, types, layers, dependencies, dead code, and files rendered from the one definition."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.conftest import REPOSITORY, process_environment

CHECKS = re.findall(r"^\t(.+)$", (REPOSITORY / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0], re.MULTILINE)


@pytest.mark.parametrize("command", CHECKS)
def test_the_house_keeps_its_rules(command: str) -> None:
    done = subprocess.run(
        command.split(), cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_makefile_checks_what_it_promises() -> None:
    programs = {command.split()[0] for command in CHECKS}
    assert programs >= {"ruff", "mypy", "lint-imports", "deptry", "vulture", "mlops"}


def test_no_database_is_in_git() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    there = [REPOSITORY / name for name in files if name and (REPOSITORY / name).is_file()]
    assert there
    assert [path for path in there if path.read_bytes()[:15] == b"SQLite format 3"] == []
