"""The database of the watching job: a SQLite file, or PostgreSQL; the same statements in both."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import make_own_file, make_own_folder

VERSION = 2
"""1: without what the job shows."""
LOCKED_S = 30.0
"""How long a statement waits for another process that is writing."""
STATEMENT_MS = 60_000

Row = tuple[Any, ...]

TABLES = """
CREATE TABLE IF NOT EXISTS mlops_monitor_windows (
    number {serial}, model TEXT NOT NULL, version TEXT NOT NULL, since {real} NOT NULL, until {real} NOT NULL, made {real} NOT NULL,
    requests BIGINT NOT NULL, rows BIGINT NOT NULL, labels BIGINT NOT NULL, labels_until BIGINT NOT NULL, stale INTEGER NOT NULL,
    enough INTEGER NOT NULL, figures TEXT NOT NULL, measured TEXT NOT NULL, keys {blob} NOT NULL, UNIQUE (model, since, version)
);
CREATE TABLE IF NOT EXISTS mlops_monitor_ends (model TEXT PRIMARY KEY, until {real} NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_monitor_labels (
    number {serial}, kind TEXT NOT NULL, name TEXT NOT NULL, place BIGINT NOT NULL, moment {real} NOT NULL, value TEXT NOT NULL,
    happened {real}, received {real} NOT NULL, UNIQUE (kind, name, place, moment)
);
CREATE TABLE IF NOT EXISTS mlops_monitor_matches (label BIGINT NOT NULL, part BIGINT NOT NULL, PRIMARY KEY (part, label));
CREATE TABLE IF NOT EXISTS mlops_monitor_additions (
    number {serial}, made {real} NOT NULL, who TEXT NOT NULL, origin TEXT NOT NULL, counts TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_alerts (
    number {serial}, rule TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
    began {real} NOT NULL, made {real} NOT NULL, ended {real}
);
CREATE TABLE IF NOT EXISTS mlops_monitor_outbox (
    number {serial}, alert BIGINT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, due {real} NOT NULL,
    attempts BIGINT NOT NULL, sent {real}, problem TEXT NOT NULL, UNIQUE (alert, channel, kind)
);
CREATE TABLE IF NOT EXISTS mlops_monitor_silences (
    number {serial}, rule TEXT NOT NULL, model TEXT NOT NULL, made {real} NOT NULL, until {real} NOT NULL, who TEXT NOT NULL,
    why TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_retrainings (
    number {serial}, part BIGINT NOT NULL, evidence BIGINT NOT NULL, rule TEXT NOT NULL, model TEXT NOT NULL,
    version TEXT NOT NULL, as_of TEXT NOT NULL,
    state TEXT NOT NULL, made {real} NOT NULL, due {real} NOT NULL, ended {real}, identity TEXT NOT NULL, outcome TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_switches (
    number {serial}, name TEXT NOT NULL, value TEXT NOT NULL, made {real} NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_shown (name TEXT PRIMARY KEY, made {real} NOT NULL, content TEXT NOT NULL);
"""


class Database(Protocol):
    """What :mod:`~mlops_pipeline.monitoring.state` asks; ``?`` stands for a value. Raises :class:`PipelineError`."""

    place: str
    """Where it is, without a password."""

    def ask(self, statement: str, *values: Any) -> list[Row]:
        """One statement's rows."""

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each row."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which no other process writes; kept whole when the block ends, or not at all."""

    def close(self) -> None: ...


def opened(file: Path, uri: str | None) -> Database:
    """The database in a file, made if it is missing, or at PostgreSQL's address. Raises :class:`PipelineError`."""
    return SQLite(file) if uri is None else PostgreSQL(uri)


class SQLite:
    """A file in WAL mode, its owner's alone, each commit on the disk."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        try:
            make_own_folder(path.parent)
            make_own_file(path)
            self._connection = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise self._told(error) from error
        self._write_ahead()
        self.ask("PRAGMA synchronous = FULL")
        [(version,)] = self.ask("PRAGMA user_version")
        if version == VERSION:
            return
        if version > VERSION:
            raise PipelineError(f"{path}: holds a watch of version {version}, this program writes version {VERSION}: move the file away")
        with self.writing():
            for statement in _tables(serial="INTEGER PRIMARY KEY AUTOINCREMENT", real="REAL", blob="BLOB"):
                self.ask(statement)
            self.ask(f"PRAGMA user_version = {VERSION}")

    def _write_ahead(self) -> None:
        """The mode in which readers do not wait. SQLite itself does not wait for another that is changing it."""
        deadline = time.monotonic() + LOCKED_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise self._told(error) from error
                time.sleep(0.01)
            except sqlite3.Error as error:
                raise self._told(error) from error
            else:
                return

    def ask(self, statement: str, *values: Any) -> list[Row]:
        """One statement's rows."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._told(error) from error

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each row."""
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self._told(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which no other process writes."""
        self.ask("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self.ask("COMMIT")

    def close(self) -> None:
        """Fold the log into the file."""
        self._connection.close()

    def _told(self, error: Exception) -> PipelineError:
        remedy = "make room on the disk" if "full" in str(error) else "let this user write to its folder, or name another under state.file"
        return PipelineError(f"{self.place}: {one_line(error)}: {remedy}")


class PostgreSQL:
    """Tables at an address, shared by whoever watches."""

    def __init__(self, address: str) -> None:
        from mlops_pipeline.records.postgresql import connect, described
        from mlops_pipeline.records.store import StoreError

        def told(error: Exception) -> str:
            return described(address, error)

        self._described = told
        try:
            self._connection = connect(address)
        except StoreError as error:
            raise PipelineError(str(error).replace("record.uri", "state.uri")) from None
        info = self._connection.info
        self.place = f"postgresql://{info.host}:{info.port}/{info.dbname}"
        self.ask(f"SET statement_timeout = {STATEMENT_MS}")
        with self.writing():
            for statement in _tables(serial="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", real="DOUBLE PRECISION", blob="BYTEA"):
                self.ask(statement)

    def ask(self, statement: str, *values: Any) -> list[Row]:
        """One statement's rows."""
        import psycopg

        try:
            cursor = self._connection.execute(statement.replace("?", "%s"), values or None)
            return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as error:
            raise PipelineError(self._described(error)) from error

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each row."""
        import psycopg

        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s"), rows)
        except psycopg.Error as error:
            raise PipelineError(self._described(error)) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which no other process writes."""
        import psycopg

        try:
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_xact_lock(7216450915)")
                yield
        except psycopg.Error as error:
            raise PipelineError(self._described(error)) from error

    def close(self) -> None:
        """Leave the server."""
        self._connection.close()


def _tables(**types: str) -> list[str]:
    return [statement for statement in TABLES.format(**types).split(";\n") if statement.strip()]
