"""Where a store's artifacts lie, in a project that may have been copied or moved since they were written.

MLflow notes absolute paths. A store in the project's own SQLite file holds those of the folder where the project lay then:
what is read is looked for beside the file first, and before anything is written the notes are brought up to date.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import SQLITE, sqlite_path

if TYPE_CHECKING:
    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.layout import Layout

NOTED = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Where MLflow notes paths of files; an experiment's is the folder of those to come."""

OWN_PARTS = 3
"""How much of a path names one run's or one model's files, and can be no other's: models/m-…/artifacts."""

LIBRARIES = {
    "s3": ("boto3", "pip install 'mlops-pipeline[s3]'"),
    "gs": ("google.cloud.storage", "pip install google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "pip install azure-storage-blob azure-identity"),
    "abfss": ("azure.storage.filedatalake", "pip install azure-storage-file-datalake azure-identity"),
}
"""What MLflow needs for artifacts behind an address of this kind."""


def artifact_root(settings: Settings, layout: Layout, uri: str) -> str | None:
    """Where new experiments of a tracking address keep their files; None if its server decides. A relative path lies in the project."""
    stated = settings.tracking.artifacts
    if stated is not None:
        return stated if urllib.parse.urlsplit(stated).scheme else (layout.project / stated).resolve().as_uri()
    return None if uri.startswith("http") else (layout.mlflow / "artifacts").as_uri()


def needs_of(location: str) -> None:
    """Raise :class:`PipelineError` if the library is missing by which artifacts at a location are written."""
    parts = urllib.parse.urlsplit(location)
    library, remedy = LIBRARIES.get(parts.scheme, ("", ""))
    if library and not _is_installed(library):
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise PipelineError(f"artifacts are kept at {place}, but {library} is not installed: {remedy}")


def local_path(location: str) -> Path | None:
    """The folder that a location names on this machine; None if it lies elsewhere."""
    parts = urllib.parse.urlsplit(location)
    if parts.scheme == "file":
        return Path(urllib.parse.unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def near(location: str, database: Path) -> str:
    """A noted location, or the same files beside the SQLite file that notes it, if they are there: a copy reads its own."""
    path = local_path(location)
    if path is None:
        return location
    place = next(_beside(path, database), None)
    return location if place is None or place == path else place.as_uri()


def bring_home(uri: str, settings: Settings, layout: Layout) -> None:
    """Point a store that lies in the project at the project's own files, if it was copied or moved since it was made.

    Notes of files that are not here stay as they are.
    """
    database = sqlite_path(uri).resolve()
    if not uri.startswith(SQLITE) or not database.is_file() or not database.is_relative_to(layout.project):
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        if "experiments" in tables:
            _bring_experiment(
                connection, settings.tracking.experiment or settings.name, artifact_root(settings, layout, uri), layout.project
            )
        for table, column in NOTED:
            if table in tables:
                _bring_notes(connection, table, column, database)


def _bring_experiment(connection: sqlite3.Connection, name: str, root: str | None, project: Path) -> None:
    """Only the pipeline's own, and only if its files lay at the same place of a project: another folder was somebody's choice."""
    home = local_path(root or "")
    if home is None or not home.is_relative_to(project):
        return
    tail = home.relative_to(project).parts
    for (noted,) in connection.execute("select artifact_location from experiments where name = ?", (name,)).fetchall():
        path = local_path(noted or "")
        if path is not None and path != home and path.parts[-len(tail) :] == tail:
            connection.execute("update experiments set artifact_location = ? where name = ?", (home.as_uri(), name))


def _bring_notes(connection: sqlite3.Connection, table: str, column: str, database: Path) -> None:
    for (noted,) in connection.execute(f"select distinct {column} from {table}").fetchall():  # noqa: S608  # names of our own
        path = local_path(noted or "")
        if path is None or path.is_relative_to(database.parent):
            continue
        place = next(_beside(path, database), None)
        if place is not None and place != path:
            connection.execute(f"update {table} set {column} = ? where {column} = ?", (place.as_uri(), noted))  # noqa: S608  # as above


def _beside(path: Path, database: Path) -> Iterator[Path]:
    """Folders in the folder around the database's, or in its own, that end as the path does; the nearest first."""
    parts = PurePosixPath(path).parts[1:]
    for base in (database.parent.parent, database.parent):
        for length in range(OWN_PARTS, len(parts) + 1):
            place = base.joinpath(*parts[-length:])
            if place.exists():
                yield place


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False
