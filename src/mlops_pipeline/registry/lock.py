"""One process at a time in what must not interleave: making a store, deciding on a champion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_pipeline.postgresql import connect
from mlops_pipeline.registry.rest import TIMEOUT_S

if TYPE_CHECKING:
    import psycopg

    from mlops_pipeline.layout import Layout


def connected(uri: str) -> psycopg.Connection[Any]:
    """A connection to a store in PostgreSQL.

    Raises :class:`ServiceAway` within seconds if it does not answer, :class:`PipelineError` for what is no address.
    """
    where = "tracking.uri (MLFLOW_TRACKING_URI) or registry.uri (MLFLOW_REGISTRY_URI)"
    return connect(uri, where, autocommit=True, connect_timeout=TIMEOUT_S)


@contextmanager
def store_lock(uri: str, layout: Layout, purpose: str = "store") -> Iterator[None]:
    """Hold the store's lock for a purpose: an advisory lock in PostgreSQL (across machines), else a file in the project's ``mlflow``.

    Both are let go by the system when the process dies. Behind an ``http`` address only processes of this project
    exclude each other, since MLflow's API has no lock. Raises :class:`ServiceAway` if PostgreSQL does not answer.
    """
    if uri.startswith("postgresql"):
        with connected(uri) as connection:
            connection.execute(
                "select pg_advisory_lock(%s)", [int.from_bytes(hashlib.sha256(f"mlops-pipeline {purpose}".encode()).digest()[:7])]
            )
            yield
        return
    from filelock import FileLock

    layout.mlflow.mkdir(parents=True, exist_ok=True)
    with FileLock(layout.mlflow / f".{purpose}.lock"):
        yield
