"""One process at a time in what must not interleave: making a store, deciding on a champion; and what nobody is to wait for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mlops_pipeline.errors import one_line, without_secrets
from mlops_pipeline.postgresql import connect
from mlops_pipeline.registry.rest import TIMEOUT_S

if TYPE_CHECKING:
    import psycopg

    from mlops_pipeline.layout import Layout

SAID_S = 2.0
"""After so long it is said that one waits for a lock."""
_put_off: ContextVar[list[Callable[[], None]] | None] = ContextVar("put_off", default=None)


def connected(uri: str) -> psycopg.Connection[Any]:
    """A connection to a store in PostgreSQL.

    Raises :class:`ServiceAway` within seconds if it does not answer, :class:`PipelineError` for what is no address.
    """
    where = "tracking.uri (MLFLOW_TRACKING_URI) or registry.uri (MLFLOW_REGISTRY_URI)"
    return connect(uri, where, autocommit=True, connect_timeout=TIMEOUT_S)


def _unsaid() -> None:
    """What is said of a wait that is short."""


@contextmanager
def store_lock(uri: str, layout: Layout, purpose: str = "store", waits: Callable[[], None] = _unsaid) -> Iterator[None]:
    """Hold the store's lock for a purpose: an advisory lock in PostgreSQL (across machines), else a file in the project's ``mlflow``.

    Both are let go by the system when the process dies. Behind an ``http`` address only processes of this project
    exclude each other, since MLflow's API has no lock. ``waits`` is called once if another holds it for long. Raises :class:`ServiceAway`
    if PostgreSQL does not answer.
    """
    if uri.startswith("postgresql"):
        from psycopg.errors import LockNotAvailable

        number = int.from_bytes(hashlib.sha256(f"mlops-pipeline {purpose}".encode()).digest()[:7])
        with connected(uri) as connection:
            connection.execute(f"set lock_timeout = {round(1000 * SAID_S)}")
            try:
                connection.execute("select pg_advisory_lock(%s)", [number])
            except LockNotAvailable:
                waits()
                connection.execute("set lock_timeout = 0")
                connection.execute("select pg_advisory_lock(%s)", [number])
            yield
        return
    from filelock import FileLock, Timeout

    layout.mlflow.mkdir(parents=True, exist_ok=True)
    lock = FileLock(layout.mlflow / f".{purpose}.lock")
    try:
        lock.acquire(timeout=SAID_S)
    except Timeout:
        waits()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def putting_off() -> Iterator[None]:
    """What is to be done :func:`afterwards` is put off until this block has ended, however it ends; a lock is held within it.

    What fails then is logged, since what was decided in the block stands.
    """
    works: list[Callable[[], None]] = []
    token = _put_off.set(works)
    try:
        yield
    finally:
        _put_off.reset(token)
        for work in reversed(works):
            try:
                work()
            except Exception as error:  # noqa: BLE001  # whatever it is, it takes nothing back
                logging.getLogger(__name__).error("after a decision: %s", without_secrets(one_line(error)))


def afterwards(work: Callable[[], None]) -> None:
    """Do something that nobody is to wait for: now, or after the block of :func:`putting_off` that this is in; once, and the last first."""
    works = _put_off.get()
    if works is None:
        work()
    else:
        works[:] = [*(each for each in works if each != work), work]
