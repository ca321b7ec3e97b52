"""Where a state is kept: a folder of versions, or PostgreSQL, from which those who ask it take a version's files into a folder of theirs.

A version's files are kept by their content, in pieces, so that a day more sends and fetches a day. Who brings the state up to date holds a
lock in the database meanwhile, and all that changes is one transaction: whoever is killed leaves the old version or the new.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.config.addresses import resolved
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.features.state import CURRENT, FILE, version_folder
from mlops_pipeline.files import FOR_ALL, FOR_ITS_OWNER, durable, linked, replace_durably, replacing_folder, sha256_of_file, sync
from mlops_pipeline.postgresql import KEPT_OPEN, connect, described

if TYPE_CHECKING:
    import psycopg

    from mlops_pipeline.layout import StatePlace

KEY = "features.state"
"""Under which settings name the address."""

VERSIONS = 3
"""So many of the newest versions are kept, in the database and of copies."""

PIECE = 8 << 20
"""Bytes of a file that one row holds."""

MANIFEST = "files.json"
"""Beside a version's files: the SHA-256 and size of each."""

_NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('mlops features ' || %s, 0))"
_TABLES = """
SELECT pg_advisory_xact_lock(7216450917);
CREATE TABLE IF NOT EXISTS mlops_feature_states (
    name text, version text, files text NOT NULL, rows text NOT NULL, made timestamptz NOT NULL DEFAULT now(),
    is_current boolean NOT NULL, PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX IF NOT EXISTS mlops_feature_states_current ON mlops_feature_states (name) WHERE is_current;
CREATE TABLE IF NOT EXISTS mlops_feature_files (
    name text, digest text, piece integer, content bytea NOT NULL, PRIMARY KEY (name, digest, piece)
);
CREATE TABLE IF NOT EXISTS mlops_feature_rows (
    name text, digest text, piece integer, content bytea NOT NULL, PRIMARY KEY (name, digest, piece)
);
ALTER TABLE mlops_feature_files ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE mlops_feature_rows ALTER COLUMN content SET STORAGE EXTERNAL;
"""

Manifest = dict[str, tuple[str, int]]
"""By file: its SHA-256 and size."""


class StateStore:
    """Where a state is asked of; to be used by one thread."""

    def __init__(self, place: StatePlace) -> None:
        self.place = place
        self._database = None if place.address is None else Database(place.address, place.name)

    def version(self) -> Path | None:
        """The current version's folder, here; None if there is none. Raises :class:`PipelineError` where the database cannot be asked."""
        if self._database is not None:
            return self._database.copied(self.place.folder)
        found = version_folder(self.place.folder)
        return found if found.exists() and (found != self.place.folder or (found / FILE).exists()) else None

    def copy(self) -> Path | None:
        """The version that was fetched last, where the database cannot be asked."""
        found = version_folder(self.place.folder)
        return found if self._database is not None and found != self.place.folder and found.exists() else None

    def close(self) -> None:
        """Close what is open."""
        if self._database is not None:
            self._database.close()


class Database:
    """One pipeline's state in PostgreSQL."""

    def __init__(self, address: str, name: str) -> None:
        self._written, self._name = address, name
        self._connection: psycopg.Connection[Any] | None = None

    @cached_property
    def _address(self) -> str:
        return resolved(self._written, KEY)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def copied(self, folder: Path) -> Path | None:
        """The current version's folder within a folder of copies, fetched if it is not there; None if there is no version."""
        from filelock import FileLock

        with self._asked() as connection:
            current = self._current(connection) if _is_made(connection) else None
            if current is None:
                return None
            version, files, _ = current
            place = folder / version
            with _writing_to(folder):
                if not place.exists() or version_folder(folder) != place:
                    folder.mkdir(parents=True, exist_ok=True)
                    with FileLock(folder / ".lock"):
                        self._bring(connection, "files", files, place)
                        point(folder, version)
                        _clear_copies(folder, version)
        return place

    def has_version(self) -> bool:
        """Whether there is one."""
        with self._asked() as connection:
            return _is_made(connection) and self._current(connection) is not None

    @contextmanager
    def changing(self, folder: Path, *, anew: bool = False) -> Iterator[Change]:
        """While nobody else changes the state: what is sent through it is current when the block ends without an error, else nothing is.

        ``folder`` is one of versions with the rows that they were made of, which is first brought to what the database holds; ``anew``:
        nothing of that is asked for, and no file in the database is taken for what it should be.
        """
        with self._asked(writes=True) as connection:
            if not _is_made(connection):
                connection.execute(_TABLES)
            connection.execute(_LOCK, [self._name])
            current = self._current(connection)
            if current is not None and not anew:
                self._pull(connection, folder, *current)
            yield Change(connection, self._name, folder, current, anew=anew)

    def _pull(self, connection: psycopg.Connection[Any], folder: Path, version: str, files: Manifest, rows: Manifest) -> None:
        from filelock import FileLock

        with _writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                self._bring(connection, "files", files, folder / version)
                self._bring(connection, "rows", rows, folder / "journal" / version)
                point(folder, version)

    def _current(self, connection: psycopg.Connection[Any]) -> tuple[str, Manifest, Manifest] | None:
        found = connection.execute(
            "SELECT version, files, rows FROM mlops_feature_states WHERE name = %s AND is_current", [self._name]
        ).fetchone()
        if found is None:
            return None
        version, files, rows = found
        manifests = [msgspec.json.decode(each, type=Manifest) for each in (files, rows)]
        if not all(_NAMES.fullmatch(each) for each in (version, *manifests[0], *manifests[1])):
            raise PipelineError(f"{self._told()}: holds a version of names that are none of ours: look at the table mlops_feature_states")
        return version, manifests[0], manifests[1]

    def _bring(self, connection: psycopg.Connection[Any], table: str, manifest: Manifest, place: Path) -> None:
        """See to it that a folder holds these files: those that another version beside it has are linked."""
        if manifest_in(place) == manifest:
            return
        mode = FOR_ALL if table == "files" else FOR_ITS_OWNER
        known = _known(place.parent)
        with replacing_folder(place, on_disk=True) as temporary:
            for file, (digest, _) in manifest.items():
                if digest not in known or not linked(known[digest], temporary / file):
                    self._fetch(connection, table, digest, temporary / file, mode)
            write_manifest(temporary, manifest)

    def _fetch(self, connection: psycopg.Connection[Any], table: str, digest: str, path: Path, mode: int) -> None:
        found, piece = hashlib.sha256(), 0
        with durable(path, mode) as stream:
            while True:
                row = connection.execute(
                    f"SELECT content FROM mlops_feature_{table} WHERE name = %s AND digest = %s AND piece = %s",  # noqa: S608  # our own words
                    [self._name, digest, piece],
                    binary=True,
                ).fetchone()
                if row is None:
                    break
                found.update(row[0])
                stream.write(row[0])
                piece += 1
        if found.hexdigest() != digest:
            raise PipelineError(
                f"{self._told()}: a file of it is not what it was: make the state anew with `mlops features refresh --anew`"
            )

    @contextmanager
    def _asked(self, *, writes: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """A transaction: of one moment's view, or one that writes. Raises :class:`PipelineError` without the password."""
        import psycopg

        try:
            connection = self._connected()
            with connection.transaction():
                if writes:
                    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                else:
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield connection
        except psycopg.Error as error:
            self.close()
            raise PipelineError(f"{KEY}: {described(self._address, error)}") from None

    def _connected(self) -> psycopg.Connection[Any]:
        import psycopg

        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.Error:  # the server was started anew since
                self.close()
            else:
                return self._connection
        self._connection = connect(self._address, KEY, application_name="mlops features", **KEPT_OPEN)
        return self._connection

    def _told(self) -> str:
        return f"{KEY}: {hidden(self._address)}: the features' state '{self._name}'"


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Raises :class:`PipelineError` where a copy cannot be put into a folder: a full disk, or one that others alone may write to."""
    try:
        yield
    except OSError as error:
        what = f"the features' state cannot be put there ({one_line(error)})"
        raise PipelineError(f"{folder}: {what}: make room, or let this user write to it") from error


class Change:
    """What a transaction makes of a state."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        name: str,
        folder: Path,
        current: tuple[str, Manifest, Manifest] | None,
        *,
        anew: bool = False,
    ) -> None:
        self._connection, self._name, self._folder, self._current, self._anew = connection, name, folder, current, anew

    @property
    def is_first(self) -> bool:
        """Whether the database holds no version yet."""
        return self._current is None

    @property
    def version(self) -> str:
        """The current version's name; empty if there is none."""
        return "" if self._current is None else self._current[0]

    def send(self, version: str) -> None:
        """Make a version of the folder the current one, with the rows that it was made of; the oldest go."""
        files, rows = self._sent("files", self._folder / version), self._sent("rows", self._folder / "journal" / version)
        if self._current == (version, files, rows) and not self._anew:
            return
        ask, name = self._connection.execute, self._name
        ask("UPDATE mlops_feature_states SET is_current = false WHERE name = %s AND is_current", [name])
        ask(
            "INSERT INTO mlops_feature_states (name, version, files, rows, is_current) VALUES (%s, %s, %s, %s, true)"
            " ON CONFLICT (name, version) DO UPDATE SET files = excluded.files, rows = excluded.rows, is_current = true",
            [name, version, msgspec.json.encode(files).decode(), msgspec.json.encode(rows).decode()],
        )
        kept = ask(
            "SELECT version, files, rows FROM mlops_feature_states WHERE name = %s ORDER BY is_current DESC, version DESC", [name]
        ).fetchall()[:VERSIONS]
        ask("DELETE FROM mlops_feature_states WHERE name = %s AND NOT version = ANY(%s)", [name, [each[0] for each in kept]])
        for place, table in enumerate(("files", "rows"), 1):
            used = {digest for each in kept for digest, _ in msgspec.json.decode(each[place], type=Manifest).values()}
            ask(f"DELETE FROM mlops_feature_{table} WHERE name = %s AND NOT digest = ANY(%s)", [name, list(used)])  # noqa: S608  # as above

    def _sent(self, table: str, place: Path) -> Manifest:
        """The files of a folder, those sent that are not there yet."""
        files = [file for file in sorted(place.iterdir()) if file.name != MANIFEST and not file.name.startswith(".")]
        linked = {path.stat().st_ino: digest for digest, path in _known(place.parent).items()}
        manifest = {file.name: (linked.get(file.stat().st_ino) or sha256_of_file(file), file.stat().st_size) for file in files}
        if self._anew:
            gone = f"DELETE FROM mlops_feature_{table} WHERE name = %s AND digest = ANY(%s)"  # noqa: S608  # our own words
            self._connection.execute(gone, [self._name, [digest for digest, _ in manifest.values()]])
        there = self._connection.execute(
            f"SELECT DISTINCT digest FROM mlops_feature_{table} WHERE name = %s AND piece = 0 AND digest = ANY(%s)",  # noqa: S608  # our own words
            [self._name, [digest for digest, _ in manifest.values()]],
        ).fetchall()
        known = {digest for (digest,) in there}
        insert = f"INSERT INTO mlops_feature_{table} VALUES (%s, %s, %s, %b) ON CONFLICT DO NOTHING"  # noqa: S608  # our own words
        for file, (digest, _) in manifest.items():
            if digest in known:
                continue
            with (place / file).open("rb") as stream:
                piece = 0
                while (content := stream.read(PIECE)) or not piece:
                    self._connection.execute(insert, [self._name, digest, piece, content])
                    piece += 1
        write_manifest(place, manifest)
        return manifest


def _is_made(connection: psycopg.Connection[Any]) -> bool:
    """Whether the tables are there."""
    return connection.execute("SELECT to_regclass('mlops_feature_states')").fetchone() != (None,)


def _known(folder: Path) -> dict[str, Path]:
    """Files of a folder's versions that were sent or fetched, by their SHA-256; they never change."""
    return {
        digest: place / file
        for place in folder.glob("[0-9]*-*")
        for file, (digest, size) in manifest_in(place).items()
        if not file.endswith(".json")  # which are small, and the one of rows is noted in
        and (place / file).is_file()
        and (place / file).stat().st_size == size
    }


def manifest_in(place: Path) -> Manifest:
    """What a folder's files were when they were sent or fetched; nothing where they were not."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((place / MANIFEST).read_bytes(), type=Manifest)
    return {}


def write_manifest(place: Path, manifest: Mapping[str, tuple[str, int]]) -> None:
    """Note what a folder's files are."""
    replace_durably(place / MANIFEST, msgspec.json.encode(manifest))


def point(folder: Path, version: str) -> None:
    """Make a version the current one of a folder."""
    replace_durably(folder / CURRENT, f"{version}\n".encode())
    sync(folder)


def _clear_copies(folder: Path, current: str) -> None:
    """Take away all but the newest copies, and what an interrupted fetch left."""
    there = sorted((place.stat().st_mtime_ns, place) for place in folder.glob("[0-9]*-*") if place.name != current)
    for _, place in there[: max(0, len(there) - VERSIONS + 1)]:
        shutil.rmtree(place, ignore_errors=True)
    for place in folder.glob(".*"):
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
