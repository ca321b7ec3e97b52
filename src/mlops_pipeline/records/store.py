"""Where records are kept: SQLite files in a folder, PostgreSQL, or another's store; and what writes and reads there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlops_pipeline import plugins
from mlops_pipeline.config.serving import RecordStore, store_at
from mlops_pipeline.config.tree import Frozen, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_pipeline.records.encoding import Columns, Row
    from mlops_pipeline.records.query import Recorded


class StoreError(Exception):
    """The store cannot be written or read now: one line, without a password. What was to be written is to be tried again."""


class Database(Protocol):
    """What the writer writes to.

    It may have ``belongs_to(name)``, called before it is opened: the registered model that its rows are of, where a store that several
    pipelines share can keep them apart (``Filter.of``).
    """

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


class Records(Protocol):
    """What is recorded in a store, of the requests that are asked for, as of the moment it was opened.

    It may have ``withdrawn``, a set of request ids and times of the entries whose error is ``WITHDRAWN``: then nobody else looks for them.
    It may have ``read_to``, a number for each of its writers that grows with what is committed, and heed a filter's ``after``: then who
    reads on and on is handed what is new alone.
    """

    layouts: list[Columns]
    """Of these requests, and of no more than these; none need be looked for where the filter is ``brief``."""

    def requests(self, limit: int | None) -> Iterator[Recorded]:
        """All of them; or at least the newest, until they have so many rows. Memory must not grow with their number."""


def located(where: str | Path | RecordStore) -> RecordStore:
    """The store at a folder or an address. Raises :class:`PipelineError` if there is none for it."""
    return where if isinstance(where, RecordStore) else store_at(str(where))


def part_at(store: RecordStore) -> tuple[plugins.Store, list[Any]]:
    """A store's part, and its own settings if it has any."""
    part = plugins.part(plugins.Store, store.name, "record.store")
    return part, [] if part.settings is None else [tree_of(part.settings or Frozen, store.settings, part.name, ("record", "settings"))]
