"""A small database in whole transactions: a SQLite file, or PostgreSQL; the same statements in both."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import make_own_file, make_own_folder
from mlops_pipeline.postgresql import KEPT_OPEN, connect, described

LOCKED_S = 30.0
"""How long a statement waits for another process that is writing."""
STATEMENT_S = 60.0
"""How long one may take in PostgreSQL, with what it waits for."""
_REMEDIES = {
    "SQLITE_FULL": "make room on the disk",
    "SQLITE_BUSY": "another process is writing to it: try again when that is done",
    "SQLITE_CORRUPT": "put a copy of it from before in its place, or move it away to begin anew",
    "SQLITE_NOTADB": "put a copy of it from before in its place, or move it away to begin anew",
}
"""By how SQLite calls what is wrong."""

Row = tuple[Any, ...]
RETURNING = "RETURNING number"
"""At the end of what adds a row: its number is given back."""


class NotThere(PipelineError):
    """Nobody has made the tables yet."""


@dataclass(frozen=True)
class Tables:
    """What a database holds: statements that make it, with ``{serial}``, ``{real}`` and ``{blob}`` for each side's types."""

    statements: str
    version: int
    """Of the statements: a file of an older one is given what it lacks, one of a newer one is refused."""
    what: str
    """In messages: a watch, a release."""
    section: str
    """Of the settings, where the place is named."""

    def made(self, **types: str) -> list[str]:
        """The statements for one side."""
        return [statement for statement in self.statements.format(**types).split(";\n") if statement.strip()]

    @property
    def names(self) -> list[str]:
        """What the tables are called."""
        return re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", self.statements)


def nothing() -> None:
    """What is done before others are kept from writing, mostly."""


class Database(Protocol):
    """What is asked of it; ``?`` stands for a value. Raises :class:`PipelineError`."""

    place: str
    """Where it is, without a password."""

    def ask(self, statement: str, *values: Any) -> list[Row]:
        """One statement's rows."""

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each row."""

    @contextmanager
    def writing(self, before: Callable[[], object] = nothing) -> Iterator[None]:
        """A transaction in which no other process writes; kept whole when the block ends, or not at all.

        What is done ``before`` is in it, too, and others may write meanwhile: it may touch temporary tables alone.
        """

    def close(self) -> None: ...


def add_row(ask: Callable[..., list[Row]], table: str, end: str = "", /, **values: Any) -> list[Row]:
    """Add a row by a database's way to ask; ``end`` is what stands behind the statement, such as :data:`RETURNING`."""
    signs = ", ".join("?" for _ in values)
    return ask(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({signs}) {end}", *values.values())  # noqa: S608  # our own words


def opened(file: Path, uri: str | None, tables: Tables) -> Database:
    """The database in a file, made if it is missing, or at PostgreSQL's address. Raises :class:`PipelineError`."""
    return SQLite(file, tables, LOCKED_S) if uri is None else PostgreSQL(uri, tables)


def found(file: Path, uri: str | None, tables: Tables, wait_s: float) -> Database:
    """The database as :func:`opened` gives it where somebody has made it; no statement waits for others longer than ``wait_s``.

    Raises :class:`NotThere` where nobody has, another :class:`PipelineError` where that cannot be told.
    """
    return SQLite(file, tables, wait_s, making=False) if uri is None else PostgreSQL(uri, tables, wait_s, making=False)


class SQLite:
    """A file in WAL mode, its owner's alone, each commit on the disk."""

    def __init__(self, path: Path, tables: Tables, wait_s: float, *, making: bool = True) -> None:
        self.place, self._section, self._wait_s = str(path), tables.section, wait_s
        if not making and not path.is_file():
            raise NotThere(f"{path}: does not exist")
        try:
            if making:
                make_own_folder(path.parent)
                make_own_file(path)
            address = f"{path.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(address, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._told(error) from error
        if not making and self.ask("PRAGMA user_version") == [(0,)]:
            self.close()
            raise NotThere(f"{path}: holds nothing of {tables.what}")
        self._write_ahead()
        self.ask("PRAGMA synchronous = FULL")
        [(version,)] = self.ask("PRAGMA user_version")
        self._version = tables.version
        if version == tables.version:
            return
        if version > tables.version:
            raise PipelineError(
                f"{path}: holds {tables.what} of version {version}, this program writes version {tables.version}: move the file away"
            )
        with self.writing():
            for statement in tables.made(serial="INTEGER PRIMARY KEY AUTOINCREMENT", real="REAL", blob="BLOB"):
                self.ask(statement)
            self.ask(f"PRAGMA user_version = {tables.version}")

    def _write_ahead(self) -> None:
        """The mode in which readers do not wait. SQLite itself does not wait for another that is changing it."""
        deadline = time.monotonic() + self._wait_s
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
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._told(error) from error

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self._told(error) from error

    @contextmanager
    def writing(self, before: Callable[[], object] = nothing) -> Iterator[None]:
        self.ask("BEGIN IMMEDIATE" if before is nothing else "BEGIN")
        try:
            if before is not nothing:
                before()
                self.ask(f"PRAGMA user_version = {self._version}")  # the same as it was: a write, as of which others wait
            yield
            self.ask("COMMIT")
        except BaseException:  # a commit that fails, as on a full disk, leaves the transaction open
            self._connection.rollback()
            raise

    def close(self) -> None:
        """Fold the log into the file."""
        self._connection.close()

    def _told(self, error: Exception) -> PipelineError:
        name = getattr(error, "sqlite_errorname", "")
        remedy = next(
            (text for start, text in _REMEDIES.items() if name.startswith(start)),
            f"let this user write to its folder, or name another under {self._section}.file",
        )
        return PipelineError(f"{self.place}: {one_line(error)}: {remedy}")


class PostgreSQL:
    """Tables at an address, shared by several machines."""

    def __init__(self, address: str, tables: Tables, wait_s: float = STATEMENT_S, *, making: bool = True) -> None:
        from psycopg import IsolationLevel

        self._address = address
        self._connection = connect(address, f"{tables.section}.uri", application_name=f"mlops {tables.section}", **KEPT_OPEN)
        # Whatever the database's default is: who has waited for another that was writing must see what that has written.
        self._connection.isolation_level = IsolationLevel.READ_COMMITTED
        info = self._connection.info
        self.place = f"postgresql://{info.host}:{info.port}/{info.dbname}"
        self.ask(f"SET statement_timeout = {round(1000 * wait_s)}")
        names = tables.names
        [(there,)] = self.ask("SELECT count(to_regclass(name)) FROM unnest(?::text[]) AS name", names)
        if there == len(names):
            return  # and no writer is waited for
        if not there and not making:
            self.close()
            raise NotThere(f"{self.place}: holds nothing of {tables.what}")
        with self.writing():
            for statement in tables.made(serial="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", real="DOUBLE PRECISION", blob="BYTEA"):
                self.ask(statement)

    def ask(self, statement: str, *values: Any) -> list[Row]:
        import psycopg

        try:
            cursor = self._connection.execute(statement.replace("?", "%s"), values or None)
            return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as error:
            raise PipelineError(described(self._address, error)) from error

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        import psycopg

        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s"), rows)
        except psycopg.Error as error:
            raise PipelineError(described(self._address, error)) from error

    @contextmanager
    def writing(self, before: Callable[[], object] = nothing) -> Iterator[None]:
        import psycopg

        try:
            with self._connection.transaction():
                before()
                self._connection.execute("SELECT pg_advisory_xact_lock(7216450915)")
                yield
        except psycopg.Error as error:
            raise PipelineError(described(self._address, error)) from error

    def close(self) -> None:
        """Leave the server."""
        self._connection.close()
