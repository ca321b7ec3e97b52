"""The project's own store: looked at without being made, and made whole or not at all."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tests.conftest import Project, process_environment
from tests.integration_tests.test_copied_project import content

pytestmark = pytest.mark.slow

READING: dict[tuple[str, ...], tuple[int, str]] = {
    ("models", "list"): (0, "no version is registered yet"),
    ("models", "show"): (2, "there is no champion yet"),
    ("models", "show", "1"): (2, "has no version 1: there are none"),
    ("doctor",): (0, "(0 versions)"),
    ("config",): (0, '"name": "small"'),
    ("predict", "--input", "table.csv", "--output", "predicted.csv"): (2, "there is no champion yet"),
    ("monitor", "report", "--current", "table.csv"): (2, "error: "),
}


def test_reading_an_empty_project_writes_nothing(project: Project) -> None:
    before = content(project.folder)
    for words, (code, said) in READING.items():
        done = project.mlops(*words, "--config", str(project.config), check=False)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
        assert content(project.folder) == before, words
    assert project.mlops("status", "--config", str(project.config)).stdout.count("never run") == 6
    assert content(project.folder).keys() - before.keys() <= {
        "dvc.yaml",
        "mlops.lock",
        ".dvc/tmp/rwlock",
        ".dvc/tmp/rwlock.lock",
        ".dvc/tmp/lock",
    }


def test_a_disk_that_fills_up_while_the_store_is_made_is_one_line_and_leaves_nothing_half_made(project: Project) -> None:
    project.run("--to", "split")
    done = subprocess.run(
        [sys.executable, "-m", "mlops_pipeline", "stage", "train", "--config", str(project.config)],
        cwd=project.folder,
        env=process_environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY)),  # no threads here
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert "mlflow.db: cannot be opened" in done.stderr
    assert "make room on the disk" in done.stderr
    assert [path.name for path in (project.folder / "mlflow").iterdir()] == [".store.lock"]
    assert project.run().stdout.count("never run") == 3
