"""Addresses of databases in settings: which they are, and what they take from the environment, so that no password need stand there."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl

from mlops_pipeline.errors import PipelineError

_POSTGRESQL = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_SECRET = frozenset({"password", "sslpassword"})
"""Parameters of an address whose values are secret; ``passfile`` and ``sslkey`` are paths."""


def is_postgresql(where: str) -> bool:
    """Whether words that say where something lies are PostgreSQL's address, or a variable that holds it."""
    return _POSTGRESQL.match(where) is not None or _VARIABLE.fullmatch(where) is not None


def resolved(address: str, key: str) -> str:
    """PostgreSQL's address with what it takes from the environment; raises :class:`PipelineError`."""

    def value(found: re.Match[str]) -> str:
        if not os.environ.get(found[1]):
            raise PipelineError(f"{key}: names {found[1]}, which is not set in the environment: set it")
        return os.environ[found[1]]

    made = _VARIABLE.sub(value, address)
    if _POSTGRESQL.match(made) is None:
        raise PipelineError(f"{key}: is no address of PostgreSQL: write postgresql://user:password@host:port/database")
    return made


def holds_password(address: str) -> bool:
    """Whether an address has a password in it that is not taken from the environment."""
    parts = _VARIABLE.sub("", address).partition("://")[2]
    account, _, place = parts.rpartition("@")
    given = parse_qsl(place.partition("?")[2])
    return bool(account.partition(":")[2]) or any(name.lower() in _SECRET and value for name, value in given)
