"""The Jenkinsfile: read by a Groovy linter, and its shell lines run in order. Jenkins itself takes no part."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, lacking
from tests.integration_tests.conftest import FOR_A_CLONE

JENKINSFILE = "cicd/jenkins/Jenkinsfile"
LINTER = ("npx", "--yes", "--package=node@22", "--package=npm-groovy-lint@18.0.0", "--", "npm-groovy-lint")
"""It sends statistics only under --insight. It wants a newer Node.js than many machines have, and npm brings that too."""


@pytest.mark.slow
def test_the_linter_finds_nothing_in_the_jenkinsfile_and_a_stage_that_is_not_closed(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        lacking("npx", "apt-get install npm")
    if shutil.which("java") is None:
        lacking("java", "apt-get install default-jre-headless")
    right = (REPOSITORY / JENKINSFILE).read_text()
    for name, text in (("right", right), ("wrong", right.replace("stage('Check') {", "stage('Check' {"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Jenkinsfile").write_text(text)
    found = found_by_the_linter(tmp_path, npm_folder(pytestconfig, tmp_path))
    assert found["right"] == []
    assert "NglParseError" in found["wrong"]


def npm_folder(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """Where npm keeps what it has fetched, from one run of the tests to the next."""
    return Path(pytestconfig.cache.mkdir("npm")) if pytestconfig.cache else tmp_path / "npm"


def found_by_the_linter(folder: Path, npm: Path) -> dict[str, list[str]]:
    """The rules that the Jenkinsfile of each folder breaks."""
    quiet = {
        "npm_config_update_notifier": "false",
        "npm_config_fund": "false",
        "npm_config_audit": "false",
        "npm_config_fetch_retries": "5",
    }
    words = ("--path", str(folder), "--files", "**/Jenkinsfile", "--config", "recommended-jenkinsfile", "--noserver", "--output", "json")
    done = subprocess.run(
        [*LINTER, *words],
        env={**os.environ, **quiet, "npm_config_cache": str(npm)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    files = json.loads(done.stdout)["files"]
    assert len(files) == 2
    return {Path(name).parent.name: [error["rule"] for error in file["errors"]] for name, file in files.items()}


@pytest.mark.slow
@pytest.mark.xdist_group("fresh-clone")
def test_the_shell_lines_pass_in_order_in_a_fresh_clone(tmp_path: Path) -> None:
    """What is not committed takes no part. The parameter TESTS narrows the tests to one file, as it may on Jenkins.

    `make setup-dev` finds an environment that is up to date, as it does in a workspace of Jenkins from the second build on. That it
    makes one from nothing, and that `make check` passes in a fresh clone, is what test_act.py sees: it is not typed twice.
    """
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", REPOSITORY, clone], check=True, timeout=120)
    lend_environment(clone)
    text = (clone / JENKINSFILE).read_text()
    lines = re.findall(r"\bsh '(.+)'$", text, re.MULTILINE)
    assert lines[0] == "make setup-dev"
    assert lines.pop(1) == "make check"
    assert lines[-1].startswith("make test")
    environ = {
        **outside(),
        **FOR_A_CLONE,
        "PYTHONPATH": str(clone / "src"),
        **dict(re.findall(r"^ +([A-Z_]+) = '(.+)'$", text, re.MULTILINE)),
        "TESTS": "tests/unit_tests/test_gate.py",
    }
    outputs = []
    for line in lines:
        done = subprocess.run(["sh", "-xe", "-c", line], cwd=clone, env=environ, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
        outputs.append(done.stdout)
    trained, again = (output for line, output in zip(lines, outputs, strict=True) if line == "make run")
    assert "flights version 1: champion" in trained
    assert again.count("up to date") == 6

    (results,) = re.findall(r"testResults: '(.+)'", text)
    assert "test_gate" in (clone / results).read_text()
    (kept,) = re.findall(r"artifacts: '(.+)'", text)
    assert clone / "models/artifacts/model/MLmodel" in set(clone.glob(f"{kept}/*"))
    shutil.rmtree(clone)


def lend_environment(clone: Path) -> None:
    """Give a clone the environment of these tests as its own, newer than the locks of both."""
    venv = clone / ".venv"
    venv.mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("."):
            (venv / part.name).symlink_to(part)
    for stamp in (".base", ".dev"):
        (venv / stamp).touch()


def outside() -> dict[str, str]:
    """The environment as it is outside of this test run and of this project's environment."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "MAKE", "MFLAGS", "PYTEST_", "COV_", "MLOPS_", "MLFLOW_", "PREFECT_", "DVC_")
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != REPOSITORY / ".venv/bin"]
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {"PATH": os.pathsep.join(path)}
