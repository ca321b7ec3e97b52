"""Addresses of databases in settings: which they are, and what they take from the environment, so that no password need stand there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

from mlops_pipeline.config.tree import text_beside
from mlops_pipeline.errors import PipelineError, is_secret_name, without_secrets

_POSTGRESQL = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://", re.IGNORECASE)
_SCHEME = re.compile(r"^[A-Za-z0-9+.-]+://")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BEHIND_HOST = re.compile(r"[/?#]")
_NO_PORT = re.compile(r"[^:\[\]]*:(?!\d{0,5}$).*")
"""What stands before the first slash where that is no host and its port: a user and what a password begins with."""

_PLAIN = frozenset({"passfile", "sslkey", "require_auth"})
"""Parameters of an address that are called like secrets, and hold a path or a word."""


def is_postgresql(address: str) -> bool:
    """Whether an address is PostgreSQL's, and no path or another's."""
    return _POSTGRESQL.match(address) is not None


def check_one_address(section: str, uri: str | None, uri_file: str | None) -> None:
    """Raise ValueError if a section that may name PostgreSQL in place of a SQLite file names it twice, or something else."""
    if uri is not None and uri_file is not None:
        raise ValueError(f"give either {section}.uri or {section}.uri_file")
    if uri is not None and not is_or_holds_postgresql(uri):
        raise ValueError(f"{section}.uri must be postgresql://…: leave it out for the SQLite file")


def is_or_holds_postgresql(where: str) -> bool:
    """Whether words that say where something lies are PostgreSQL's address, or a variable that holds it."""
    return is_postgresql(where) or _VARIABLE.fullmatch(where) is not None


def for_psycopg(address: str) -> str:
    """PostgreSQL's address as its own library takes it, which knows no driver in the scheme as SQLAlchemy does (``postgresql+psycopg``)."""
    return _SCHEME.sub("postgresql://", address)


def address_beside(path: Path, key: str, name: str, is_address: Callable[[str], object], example: str) -> str:
    """The address in a file that the settings at ``path`` name under a key; raises :class:`PipelineError` in one line without it."""
    remedy = f"put the address there, {example}"
    address = text_beside(path, key, name, remedy).strip()
    if not is_address(address) or "\n" in address:
        raise PipelineError(f"{path}: {key} = '{name}': holds no address: {remedy}")
    return address


def taken_as_it_is(address: str) -> str:
    """An address out of a file of its own, in which ``${NAME}`` is no variable but part of a password, for :func:`filled`."""
    return address.replace("${", "%24{")


def filled(text: str, key: str, remedy: str = "set it") -> str:
    """A text in which each ``${NAME}`` is replaced by what the environment holds; raises :class:`PipelineError`."""

    def value(found: re.Match[str]) -> str:
        if not os.environ.get(found[1]):
            raise PipelineError(f"{key}: {found[1]} is not set in the environment: {remedy}")
        return os.environ[found[1]]

    return _VARIABLE.sub(value, text)


def resolved(address: str, key: str) -> str:
    """PostgreSQL's address with what it takes from the environment; raises :class:`PipelineError`."""
    made = filled(address, key)
    if not is_postgresql(made):
        raise PipelineError(f"{key}: is no address of PostgreSQL: write postgresql://user:password@host:port/database")
    return made


def holds_password(address: str) -> bool:
    """Whether an address has a password in it, or a token, that is not taken from the environment.

    Whoever stands before the ``@`` is a user, but of a web address a token.
    """
    bare = _VARIABLE.sub("", address)
    scheme, is_address, parts = bare.partition("://")
    if not is_address:
        return without_secrets(bare) != bare
    is_web = scheme.lower().startswith("http")
    account, place = _account(parts, is_web=is_web)
    given = parse_qsl(place.partition("?")[2].replace(";", "&"))
    is_secret = bool(account.strip(":")) if is_web else bool(account.partition(":")[2])
    return is_secret or any(is_secret_name(name) and name.lower() not in _PLAIN and value for name, value in given)


def _account(parts: str, *, is_web: bool) -> tuple[str, str]:
    """Who is named before a host, and the rest: an ``@`` in a query, or in a page's path, is none of theirs.

    Nothing keeps a database's password from having a slash or a question mark in it, even behind what looks like a port.
    """
    host = _BEHIND_HOST.split(parts, maxsplit=1)[0]
    if "@" not in host and not _NO_PORT.fullmatch(host):
        path, _, query = parts[len(host) :].partition("?")
        if is_web or ":" not in host or not ("@" in path or "@" in query.partition("=")[0]):
            return "", parts
    account, _, place = parts.rpartition("@")
    return account, place
