"""Records in SQLite: a folder with one file a worker and day (UTC), in WAL mode, so that workers never contend.

A group is one transaction, and ``synchronous = FULL`` has its pages on disk when the commit returns.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import make_own_file, make_own_folder
from mlops_pipeline.records.entry import WITHDRAWN
from mlops_pipeline.records.query import Filter, Recorded, columns_of, recorded
from mlops_pipeline.records.store import StoreError

if TYPE_CHECKING:
    from mlops_pipeline.records.encoding import Columns, Row

VERSION = 1
"""``PRAGMA user_version`` of the files."""
DAY_S = 86_400
LOCKED_S = 2.0
"""How long a statement waits for another process that has the file locked."""
SAME_FILE_S = 1.0
"""How often to look whether the file was taken away."""

_TABLES = """
CREATE TABLE runs (number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, started REAL NOT NULL, pid INTEGER NOT NULL);
CREATE TABLE layouts (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, columns TEXT NOT NULL);
CREATE TABLE predictions (
    key INTEGER PRIMARY KEY, -- run number * 2^40 + count: later is larger, so pages are only appended
    time REAL, request_id TEXT, model TEXT, version TEXT, rows INTEGER, latency_us INTEGER, error TEXT, layout INTEGER, blob BLOB
);
"""
_INSERT = "INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"


class SQLiteFiles:
    """One worker's file of the day. Made anew after any failure, and when the file is moved away."""

    def __init__(self, where: str, worker: int, token: str) -> None:
        self._folder = folder = Path(where)
        self._worker = worker
        self._token = token
        self._connection: sqlite3.Connection | None = None
        self._path = folder
        self._day = -1
        self._file = (0, 0)
        self._looked = 0.0
        self._base = 0
        self._numbers: dict[int, int] = {}

    def open(self) -> None:
        """Open today's file."""
        self._at(int(time.time()) // DAY_S)

    def write(self, first: int, rows: Sequence[Row], layouts: Mapping[int, Columns]) -> None:
        """Write a group; rows of several days go to their days' files, each in one transaction."""
        for day, part in _by_day(rows):
            try:
                connection = self._at(day)
                numbers = {number: self._number(connection, number, layouts) for number in {row[7] for row in part}}
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    _INSERT, ((self._base + first + count, *row[:7], numbers[row[7]], row[8]) for count, row in enumerate(part))
                )
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._drop()
                raise StoreError(_described(self._path, error)) from error

    def close(self) -> None:
        """Close the file; SQLite then folds its write-ahead log into it."""
        connection, self._connection, self._day = self._connection, None, -1
        self._numbers.clear()
        if connection is not None:
            connection.close()

    def _drop(self) -> None:
        try:
            self.close()
        except sqlite3.Error:
            self._connection = None

    def _at(self, day: int) -> sqlite3.Connection:
        now = time.monotonic()
        if self._connection is not None and day == self._day:
            if now - self._looked < SAME_FILE_S:
                return self._connection
            if _identity(self._path) == self._file:
                self._looked = now
                return self._connection
        self._drop()
        path = self._folder / f"{date(1970, 1, 1) + timedelta(days=day)}.w{self._worker}.sqlite"
        self._path = path
        try:
            make_own_folder(self._folder)
            make_own_file(path)
            connection = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
            try:
                self._base = _prepared(connection, path, self._token) << 40
            except BaseException:
                connection.close()
                raise
            self._file = _identity(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(_described(path, error)) from error
        self._connection, self._day, self._looked = connection, day, now
        return connection

    def _number(self, connection: sqlite3.Connection, number: int, layouts: Mapping[int, Columns]) -> int | None:
        """The number of a layout in this file; None for a request without one."""
        columns = layouts.get(number)
        if columns is None:
            return None
        if number not in self._numbers:
            digest = columns.digest()
            connection.execute("INSERT INTO layouts (digest, columns) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, columns.as_json()))
            (self._numbers[number],) = connection.execute("SELECT number FROM layouts WHERE digest = ?", (digest,)).fetchone()
        return self._numbers[number]


@contextmanager
def recorded_files(where: str, wanted: Filter) -> Iterator[RecordedFiles]:
    """What is recorded in a folder. Raises :class:`PipelineError`."""
    yield RecordedFiles(Path(where), wanted)


def files_of(folder: Path, since: datetime | None = None, until: datetime | None = None) -> list[Path]:
    """The files of a folder that can hold entries of a span of time, by day and worker."""
    found = []
    for path in folder.glob("*.w*.sqlite"):
        day, _, worker = path.stem.partition(".w")
        try:
            began = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
            number = int(worker)
        except ValueError:
            continue
        if (since is None or began + timedelta(days=1) > since) and (until is None or began < until):
            found.append((began, number, path))
    return [path for _, _, path in sorted(found)]


def _by_day(rows: Sequence[Row]) -> Iterator[tuple[int, Sequence[Row]]]:
    """The rows of each day, and the day's number; the same rows always come in the same order."""
    times = [row[0] for row in rows]
    if int(min(times) // DAY_S) == int(max(times) // DAY_S):
        yield _day(rows[0]), rows
        return
    for day, part in itertools.groupby(sorted(rows, key=_day), key=_day):
        yield day, list(part)


def _day(row: Row) -> int:
    return int(row[0] // DAY_S)


def _prepared(connection: sqlite3.Connection, path: Path, token: str) -> int:
    """Make the tables if they are missing and enter this run; its number."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _TABLES.strip().removesuffix(";").split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise StoreError(f"{path}: holds records of version {version}, this program writes version {VERSION}: move the file away")
    connection.execute("INSERT INTO runs (token, started, pid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (token, time.time(), os.getpid()))
    (number,) = connection.execute("SELECT number FROM runs WHERE token = ?", (token,)).fetchone()
    connection.execute("COMMIT")
    return int(number)


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _described(path: Path, error: Exception) -> str:
    said = one_line(error.strerror if isinstance(error, OSError) and error.strerror else error)
    remedy = {
        "SQLITE_FULL": "make room on the disk",
        "SQLITE_CANTOPEN": "let the server write to the folder",
        "SQLITE_READONLY": "let the server write to the folder",
        "SQLITE_BUSY": "another process has it locked",
        "SQLITE_CORRUPT": "move the file away, a new one is made",
        "SQLITE_NOTADB": "move the file away, a new one is made",
    }.get("_".join(getattr(error, "sqlite_errorname", "").split("_")[:2]), "let the server write to the folder")
    return f"{path}: {said}: {remedy}"


class RecordedFiles:
    """Requests in SQLite files."""

    def __init__(self, folder: Path, wanted: Filter) -> None:
        if not folder.is_dir():
            remedy = "no server has answered here yet (`mlops serve`), or name the one that it writes to (record.folder)"
            raise PipelineError(f"{folder}: there is no such folder of records: {remedy}")
        self._files: list[Path] = []
        self._fields = wanted.fields("length")
        self._where, self._values = wanted.where("?", "?")
        self._after = wanted.after
        self._spans: dict[Path, list[tuple[int, int]]] = {}
        self.read_to: dict[str, int] = dict(wanted.after or {})
        self.layouts: list[Columns] = []
        withdrawn: set[tuple[str, float]] = set()
        for path in files_of(folder, wanted.since, wanted.until):
            with _readable(path) as connection:
                if not _has_tables(connection, path):
                    continue
                self._files.append(path)
                # What comes in from now on may have other columns.
                self._spans[path] = self._new(path, connection)
                if wanted.brief:
                    continue
                for span in self._spans[path]:
                    used = f"SELECT DISTINCT layout FROM predictions WHERE key > ? AND key <= ? AND {self._where}"  # noqa: S608  # our own words
                    found = connection.execute(
                        f"SELECT columns FROM layouts WHERE number IN ({used})",  # noqa: S608  # our own words
                        [*span, *self._values],
                    )
                    self.layouts += [columns_of(text) for (text,) in found]
                    late = (
                        "SELECT request_id, time FROM predictions"  # noqa: S608  # our own words
                        f" WHERE key > ? AND key <= ? AND {self._where} AND error = ?"
                    )
                    withdrawn.update(connection.execute(late, [*span, *self._values, WITHDRAWN]))
        self.withdrawn = frozenset(withdrawn)

    def _new(self, path: Path, connection: sqlite3.Connection) -> list[tuple[int, int]]:
        """Which keys of a file are asked for: above one, up to another. Of several runs an older may still write."""
        if self._after is None:
            [(last,)] = connection.execute("SELECT coalesce(max(key), 0) FROM predictions")
            return [(0, last)]
        spans = []
        for number, token in connection.execute("SELECT number, token FROM runs ORDER BY number").fetchall():
            first = number << 40
            [(last,)] = connection.execute("SELECT max(key) FROM predictions WHERE key >= ? AND key < ?", (first, first + (1 << 40)))
            writer = f"{path.name} {token}"
            # By the run's own count: a file that was moved away and made anew may have another number for it.
            begin = first + self._after.get(writer, -1)
            if last is not None and last > begin:
                spans.append((begin, last))
                self.read_to[writer] = last - first
        return spans

    def requests(self, limit: int | None) -> Iterator[Recorded]:
        """All requests, by day and worker; or the newest, until they have so many rows."""
        if limit is None:
            for path in self._files:
                yield from self._of(path, "key")
            return
        for _, files in itertools.groupby(reversed(self._files), key=lambda path: path.name.partition(".")[0]):
            rows = 0
            for path in files:
                held = 0
                for request in self._of(path, "key DESC"):
                    yield request
                    held += max(1, request.rows)
                    if held >= limit:
                        break
                rows += held
            if rows >= limit:
                return

    def _of(self, path: Path, order: str) -> Iterator[Recorded]:
        with _readable(path) as connection:
            layouts = {number: columns_of(text) for number, text in connection.execute("SELECT number, columns FROM layouts")}
            for span in self._spans[path]:
                cursor = connection.execute(
                    f"SELECT {self._fields} FROM predictions WHERE key > ? AND key <= ? AND {self._where} ORDER BY {order}",  # noqa: S608  # our own words
                    [*span, *self._values],
                )
                for *fields, layout, blob in cursor:
                    yield recorded(fields, layouts.get(layout), blob)


@contextmanager
def _readable(path: Path) -> Iterator[sqlite3.Connection]:
    """A file that its server may be writing to. What a killed server left is folded in, which needs the right to write."""
    try:
        with closing(_read_only(path)) as connection:
            yield connection
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise PipelineError(
            f"{path}: cannot be read ({one_line(error)}): move it out of the folder if it is damaged, or get the right to write"
        ) from error


def _has_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether anything can be recorded: a server may be making the file, or have been killed while it did."""
    # In one statement, which sees the file at one moment.
    found = connection.execute("SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version")
    version, tables = found.fetchone()
    if version != VERSION and (version or tables):
        raise PipelineError(f"{path}: holds no records of version {VERSION} (but {version}): move the file out of the folder")
    return bool(tables)


def _read_only(path: Path) -> sqlite3.Connection:
    for mode in ("rw", "ro"):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=10)
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error:
            connection.close()
            if mode == "ro":
                raise
        else:
            break
    return connection
