"""Where records are kept: SQLite files in a folder, or PostgreSQL where an address is given; and what writes them there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from mlops_pipeline.records.encoding import Columns, Row

SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


class StoreError(Exception):
    """The store cannot be written or read now: one line, without a password. What was to be written is to be tried again."""


class Database(Protocol):
    """What the writer writes to."""

    def open(self) -> None:
        """Make it ready, so that what is wrong shows before the first request. Raises :class:`StoreError`."""

    def write(self, first: int, rows: Sequence[Row], layouts: Mapping[int, Columns]) -> None:
        """Write and commit a group whose rows count from ``first``; on return they outlive a loss of power.

        The same group may come again after a failure: it is stored once. Raises :class:`StoreError`.
        """

    def close(self) -> None:
        """Leave it complete in itself."""


class Store(Protocol):
    """What a recorder hands its groups to, one at a time. Everything happens on the loop's thread."""

    def start(self, loop: asyncio.AbstractEventLoop, heard: Callable[[int, str], None], ended: Callable[[], None]) -> None:
        """Begin. ``heard(count, problem)``: so many rows are committed, and why the store cannot be written now, if so."""

    def layout(self, number: int, columns: Columns) -> None:
        """Make a layout known under the number that rows name it by."""

    def send(self, first: int, rows: Sequence[bytes]) -> None:
        """Write a group whose rows count from ``first``."""

    def finish(self) -> None:
        """Nothing more comes: close the store, then call ``ended()``."""

    def kill(self) -> None:
        """Stop at once."""


def is_address(where: str | Path) -> bool:
    """Whether this is a PostgreSQL address and no folder."""
    return str(where).startswith(SCHEMES)


def open_store(where: str | Path, worker: int) -> Store:
    """The store at a PostgreSQL address, or in a folder (made if missing), for one worker of a server.

    Raises :class:`PipelineError` if it is neither.
    """
    if not is_address(where) and "://" in str(where):
        scheme = str(where).split("://", maxsplit=1)[0]
        raise PipelineError(f"record.uri = {scheme}://…: is neither a folder nor a PostgreSQL address: write postgresql://…")
    from mlops_pipeline.records.process import WriterProcess

    return WriterProcess(where, worker)


def open_database(where: str | Path, worker: int, token: str) -> Database:
    """The database behind a store; ``token`` (32 hexadecimal digits) tells this run of the server from all others."""
    if is_address(where):
        from mlops_pipeline.records.postgresql import PostgreSQLTable

        return PostgreSQLTable(str(where), worker, token)
    from mlops_pipeline.records.sqlite import SQLiteFiles

    return SQLiteFiles(Path(where), worker, token)
