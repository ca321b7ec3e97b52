"""While nothing has changed since DVC found all stages up to date, it is not asked again; whatever has changed, it is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mlops_pipeline import terminal
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline import runner
from tests.conftest import Project, copied

ASKED = """
import sys
from mlops_pipeline.cli import main
try:
    main(["status", "--config", "pipeline.yaml"])
finally:
    print("asked", "dvc.repo" in sys.modules)
"""


def causes(project: Project) -> dict[str, list[str]]:
    """Why each stage is stale, as `mlops status` and `mlops run` find it."""
    settings = load_settings(project.config)
    found = runner.prepare(settings, layout_of(settings, project.config, project.folder), terminal.opened()).causes()
    return {stage: [str(cause) for cause in of_stage] for stage, of_stage in found.items()}


def forget(project: Project) -> None:
    for file in project.folder.glob(".dvc/tmp/mlops-current-*"):
        file.unlink()


@pytest.fixture
def known(registered: Project, tmp_path: Path) -> Project:
    """A project of which it is known that all is up to date."""
    project = copied(registered, tmp_path / "known")
    assert not any(causes(project).values())
    assert list(project.folder.glob(".dvc/tmp/mlops-current-*"))
    return project


def test_what_has_not_changed_is_not_asked_of_dvc(known: Project) -> None:
    said = known.command(sys.executable, "-c", ASKED)
    assert said.stdout.count("up to date") == 6
    assert "asked False" in said.stdout
    forget(known)
    again = known.command(sys.executable, "-c", ASKED)
    assert again.stdout == said.stdout.replace("asked False", "asked True")


def edited_table(project: Project) -> None:
    table = project.folder / "table.csv"
    text = table.read_text()
    table.write_text(text.replace("0.", "1.", 1))


def replaced_table(project: Project) -> None:
    """Another file of the same size and time, as a tool leaves it that keeps both."""
    table = project.folder / "table.csv"
    before, text = table.stat(), table.read_text()
    new = table.with_name("new.csv")
    new.write_text(text.replace("0.", "1.", 1))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(table)


def changed_setting(project: Project) -> None:
    project.change(train={"params": {"n_estimators": 21}})


def _of_the_model(project: Project) -> Path:
    return project.folder / "models/artifacts/model"


def output_gone(project: Project) -> None:
    shutil.rmtree(_of_the_model(project))


def file_of_an_output_gone(project: Project) -> None:
    (_of_the_model(project) / "MLmodel").unlink()


def file_put_beside_an_output(project: Project) -> None:
    (_of_the_model(project) / "notes.txt").write_text("mine")


def lock_gone(project: Project) -> None:
    (project.folder / "dvc.lock").unlink()


def of_another_commit(project: Project) -> None:
    lock = project.folder / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    content["stages"]["train"]["deps"][0]["md5"] = "0" * 32
    lock.write_text(yaml.safe_dump(content))


def cache_gone(project: Project) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")


def one_of_the_cache_gone(project: Project) -> None:
    metrics = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]["train"]["outs"]
    digest = next(out["md5"] for out in metrics if out["path"] == "models/artifacts/model")
    (project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()


@pytest.mark.parametrize(
    "change",
    [
        edited_table,
        replaced_table,
        changed_setting,
        output_gone,
        file_of_an_output_gone,
        file_put_beside_an_output,
        lock_gone,
        of_another_commit,
        cache_gone,
        one_of_the_cache_gone,
    ],
)
def test_what_has_changed_is_found_as_if_nothing_were_known(known: Project, change: Callable[[Project], None]) -> None:
    change(known)
    found = causes(known)
    assert any(found.values())
    forget(known)
    assert causes(known) == found


def test_a_copy_of_a_project_is_looked_at_anew(known: Project, tmp_path: Path) -> None:
    """What is known there is of the original's files."""
    other, third = copied(known, tmp_path / "other"), copied(known, tmp_path / "third")
    edited_table(other)
    assert any(causes(other).values())
    assert not any(causes(known).values())
    edited_table(known)
    assert not any(causes(third).values())
    assert causes(other) == causes(known)
