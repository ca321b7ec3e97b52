"""A project that was copied or moved works on its own files, whatever its folder is called, and never on the original's."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
import urllib.parse
from pathlib import Path

import pytest

from mlops_pipeline.layout import sqlite_uri
from mlops_pipeline.registry.versions import CHAMPION, TOLD_TAG, content_digest
from mlops_pipeline.serving.source import ModelSource
from tests.conftest import Project, copied

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("copied_project")]

NAMES = ("an original [x] ä", "a copy [x] 50%20ö #1")
"""Folders' names with all that means something to shells, globbing, addresses or markup."""

NOTED = """
select artifact_location from experiments where name = 'small' union select artifact_uri from runs
union select artifact_location from logged_models union select storage_location from model_versions
"""


def content(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with the digest of what it holds."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        for path in sorted(folder.rglob("*"))
    }


def champion(project: Project) -> str:
    """The champion's number, as `mlops models show` says it."""
    return project.mlops("models", "show", "--config", str(project.config)).stdout.split("version ")[1].split()[0]


def predictions(project: Project) -> str:
    target = project.folder / "predicted.csv"
    project.mlops("predict", "--input", "table.csv", "--output", str(target), "--config", str(project.config))
    return target.read_text()


def test_a_copy_leaves_the_original_alone_and_outlives_it(registered: Project, tmp_path: Path) -> None:
    first = copied(registered, tmp_path / NAMES[0])
    before = content(first.folder)
    copy = copied(first, tmp_path / NAMES[1])
    assert champion(copy) == "1"
    source = ModelSource(sqlite_uri(copy.folder / "mlflow/mlflow.db"), "small", tmp_path / "none", tmp_path / "cache")
    assert Path(urllib.parse.unquote(source.resolve(CHAMPION).location.removeprefix("file://"))).is_relative_to(copy.folder)

    copy.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
    copy.run()
    assert champion(copy) == "2"
    copy.mlops("models", "rollback", "--config", str(copy.config))
    assert content(first.folder) == before
    connection = sqlite3.connect(copy.folder / "mlflow/mlflow.db")
    noted = [urllib.parse.unquote(location.removeprefix("file://")) for (location,) in connection.execute(NOTED)]
    connection.close()
    assert len(noted) == 5, noted
    assert all(Path(location).is_relative_to(copy.folder) for location in noted)

    said = predictions(copy)
    shutil.rmtree(first.folder)
    shutil.rmtree(copy.folder / "models/versions")  # they are fetched anew, from where the copy says that they are
    for number in ("2", "1"):
        copy.mlops("models", "promote", number, "--config", str(copy.config))
        found = source.resolve(CHAMPION)
        assert found.number == champion(copy) == number
        assert content_digest(source.folder(found)) == content_digest(copy.folder / "models/registry/best_model") == found.content_sha256
    assert predictions(copy) == said


def test_a_copy_that_has_not_written_yet_reads_its_own_files_after_the_original_is_gone(registered: Project, tmp_path: Path) -> None:
    first = copied(registered, tmp_path / "first")
    copy = copied(first, tmp_path / NAMES[1])
    before = content(copy.folder / "mlflow")
    shutil.rmtree(first.folder)
    source = ModelSource(sqlite_uri(copy.folder / "mlflow/mlflow.db"), "small", tmp_path / "none", tmp_path / "cache")
    for reference in (CHAMPION, "1"):
        found = source.resolve(reference)
        assert content_digest(source.folder(found)) == found.content_sha256
    assert content(copy.folder / "mlflow") == before


def test_a_project_that_was_moved_goes_on_where_it_is_with_a_thousand_versions(registered: Project, tmp_path: Path) -> None:
    copied(registered, tmp_path / "old").folder.rename(tmp_path / NAMES[1])
    moved = Project(tmp_path / NAMES[1], tmp_path / NAMES[1] / "pipeline.yaml")
    add_versions(moved, 1200)
    assert moved.run().stdout.count("up to date") == 6
    assert len(re.findall(r"(?m)^│ \d+ ", moved.mlops("models", "list", "--config", str(moved.config)).stdout)) == 1201
    shutil.rmtree(moved.folder / "models/versions")
    assert champion(moved) == "1"
    moved.mlops("models", "promote", "1100", "--config", str(moved.config))
    assert champion(moved) == "1100"
    moved.mlops("models", "rollback", "--config", str(moved.config))
    assert champion(moved) == "1"
    refused = moved.mlops("models", "promote", "1300", "--config", str(moved.config), check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "has no version 1300: there are 1201, 1200, " in refused.stderr
    assert not (tmp_path / "old").exists()


def add_versions(project: Project, count: int) -> None:
    """More versions of a registered model, each with the content of the first; that one alone has been champion."""
    connection = sqlite3.connect(project.folder / "mlflow/mlflow.db")
    with connection:
        for table in ("model_versions", "model_version_tags"):
            columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
            values = ", ".join("?" if name == "version" else name for name in columns)
            statement = f"insert into {table} ({', '.join(columns)}) select {values} from {table} where version = 1"  # noqa: S608  # names of MLflow's
            connection.executemany(statement, [(number,) for number in range(2, count + 2)])
        connection.execute("delete from model_version_tags where version > 1 and key = ?", (TOLD_TAG,))
    connection.close()
