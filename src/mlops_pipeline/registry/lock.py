"""One process at a time in what must not interleave: making a store, deciding on a champion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.addresses import for_psycopg
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, ServiceAway, one_line
from mlops_pipeline.registry.rest import TIMEOUT_S

if TYPE_CHECKING:
    import psycopg

    from mlops_pipeline.layout import Layout


def connected(uri: str) -> psycopg.Connection[Any]:
    """A connection to a store in PostgreSQL.

    Raises :class:`ServiceAway` within seconds if it does not answer, :class:`PipelineError` for what is no address.
    """
    import psycopg

    try:
        return psycopg.connect(
            for_psycopg(uri),
            autocommit=True,
            connect_timeout=TIMEOUT_S,
            keepalives_idle=10,  # a lock may be waited for as long as a decision takes: only a server that is gone ends that
            keepalives_interval=5,
            keepalives_count=3,
        )
    except psycopg.ProgrammingError as error:  # whose text may hold the password
        where = "tracking.uri (MLFLOW_TRACKING_URI) or registry.uri (MLFLOW_REGISTRY_URI)"
        raise PipelineError(f"{hidden(uri)}: is no address of PostgreSQL: mend it in {where}; write % in a password as %25") from error
    except psycopg.OperationalError as error:
        raise ServiceAway(
            f"{hidden(uri)}: PostgreSQL does not answer ({one_line(error)}): start it, or mend the address, which stands in tracking.uri "
            "(MLFLOW_TRACKING_URI) or registry.uri (MLFLOW_REGISTRY_URI)"
        ) from error


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
