"""Where records are kept: SQLite files in a folder, or PostgreSQL where an address is given; and what writes them there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

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
