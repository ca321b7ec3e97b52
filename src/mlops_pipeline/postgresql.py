"""PostgreSQL, whatever is kept there: one way to connect, and what goes wrong told without a part of the address's password."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.addresses import for_psycopg
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, ServiceAway, one_line

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 5
WATCHED = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""By which the death of a server is noticed while a statement waits, however long that may take."""
KEPT_OPEN = {"autocommit": True, "prepare_threshold": None, "tcp_user_timeout": 30_000}
"""Of a connection that commits after every statement; poolers between us and the server may not carry prepared statements."""

_AWAY = {
    "authentication failed": "PostgreSQL refuses the user or the password: mend them",
    "FATAL: .*does not exist": "the server has no such database or user: mend the address",
    "(resolve|translate) host": "its host is not known: mend the address",
    "Connection refused": "PostgreSQL does not answer at its host and port: check the address, and start the server",
}
"""By what libpq says, the same with its remedy."""


def connect(address: str, key: str, **options: Any) -> psycopg.Connection[Any]:
    """A connection to the address under a key of the settings; ``options`` are psycopg's and libpq's own.

    Raises :class:`ServiceAway` where no server answers or it refuses, :class:`PipelineError` for what is no address: both without
    its user and password, of which libpq's own words may hold a part.
    """
    import psycopg

    if not _is_read_rightly(address):
        raise PipelineError(
            f"{key} = postgresql://…: is no address of PostgreSQL: write postgresql://user:password@host:port/database, and "
            "percent-encode the password (%25 for %, %40 for @, %2F for /, %3F for ?, %20 for a blank)"
        )
    try:
        return psycopg.connect(for_psycopg(address), **{"connect_timeout": CONNECT_S, **WATCHED, **options})
    except psycopg.Error as error:
        away = f"PostgreSQL does not answer ({first_line(error)}): check the address and the server"
        why = next((ours for said, ours in _AWAY.items() if re.search(said, str(error))), away)
        raise ServiceAway(f"{key}: {hidden(address)}: {why}") from None


def described(address: str, error: Exception) -> str:
    """What went wrong at an address that was connected to, in one line; the lines after its first may quote what was to be stored."""
    return f"{hidden(address)}: {first_line(error)}: check the address and the server"


def first_line(error: Exception) -> str:
    """What PostgreSQL says, without the lines that quote a statement or its values."""
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[0])


def _is_read_rightly(address: str) -> bool:
    """Whether libpq takes an address as it is meant: a sign that is not encoded makes a part of the password host, port or database."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(for_psycopg(address)).items()}
    except (psycopg.ProgrammingError, ValueError):
        return False
    return not any("@" in parts.get(key, "") for key in ("host", "dbname")) and bool(re.fullmatch(r"[\d,]*", parts.get("port", "")))
