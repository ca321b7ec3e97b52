"""What MLflow's registry holds, read without MLflow, whose import alone takes longer than an idle run or a server's start."""

from __future__ import annotations

import http.client
import os
import sqlite3
import urllib.error
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.layout import SQLITE, sqlite_path
from mlops_pipeline.postgresql import connect
from mlops_pipeline.registry.artifacts import near
from mlops_pipeline.registry.rest import API, TIMEOUT_S, opened, refusal, why_not
from mlops_pipeline.registry.versions import Version

PAGE = 1000
SHOWN = 20
READ_HERE = (SQLITE, "postgresql", "http://", "https://")
"""Addresses that are read without MLflow."""

Answer = TypeVar("Answer")
Query = Callable[[str, tuple[Any, ...]], list[Any]]
"""Rows that a statement gives; its parameters are written as ``{0}``."""

VERSIONS = """
select version, coalesce(nullif(storage_location, ''), source), run_id, creation_time from model_versions
where name = {0} and workspace = {0} and current_stage <> 'Deleted_Internal'
"""
"""MLflow keeps the row and the tags of a deleted version; only its stage tells."""
TAGS = "select version, key, value from model_version_tags where name = {0} and workspace = {0}"
ALIASES = "select version, alias from registered_model_aliases where name = {0} and workspace = {0}"
EXPERIMENT = "select artifact_location from experiments where name = {0} and workspace = {0}"


class RegistryUnreachable(PipelineError):
    """The registry gave no clear answer; what was known of it may still hold."""


class NotThere(RegistryUnreachable):
    """A database that holds no table of MLflow's yet, or a server's word that what was asked for does not exist."""


class AccessRefused(RegistryUnreachable):
    """The server knows who asks, or does not, and refuses."""


class RegisteredModel:
    """A registered model, read anew by every method; raises :class:`PipelineError` where the registry at ``uri`` cannot be read.

    ``default_uri`` is the project's own store, which need not be there yet.
    """

    def __init__(self, uri: str, name: str, default_uri: str) -> None:
        self.uri, self.name, self._default_uri = uri, name, default_uri

    def versions(self) -> list[Version]:
        """Every version, newest first."""
        if self.uri == self._default_uri and not sqlite_path(self.uri).exists():
            return []
        if not self.uri.startswith(READ_HERE):
            return _by_mlflow(self.uri, self.name)
        try:
            return stored_versions(self.uri, self.name)
        except NotThere:
            return []

    def champion(self) -> Version | None:
        """The version that the alias names."""
        return next((version for version in self.versions() if version.is_champion), None)

    def without_champion(self, option: str = "") -> str:
        """Why there is no champion to work with, and what to do, as the end of an error; ``option`` names the settings to a command."""
        versions = self.versions()
        champion = next((version for version in versions if version.is_champion), None)
        if champion is not None:
            return f"version {champion.number} is champion and its files are not here: `mlops run{option}` fetches them"
        return no_champion_among(versions, option)

    def turned_down(self, option: str = "") -> str:
        """What to do about the newest version, if the gate turned it down; empty if it did not."""
        return turned_down(self.versions(), option)

    def get(self, number: int) -> Version:
        """One version; raises :class:`PipelineError` that names those there are."""
        versions = self.versions()
        for version in versions:
            if version.number == number:
                return version
        there = ", ".join(str(version.number) for version in versions[:SHOWN]) + ", …" * (len(versions) > SHOWN)
        raise PipelineError(f"{self.name}: has no version {number}: there are {there or 'none'}")

    def find(self, identity_sha256: str) -> Version | None:
        """The newest version that predicts as this one."""
        return next((version for version in self.versions() if version.identity_sha256 == identity_sha256), None)


def no_champion_among(versions: list[Version], option: str = "") -> str:
    """Why none of the versions, newest first, is champion, and what to do."""
    if not versions:
        return f"there is no champion yet: run `mlops run{option}` first"
    newest = versions[0].number
    if waiting(versions) is not None:
        return f"there is no champion: version {newest} waits for approval: `mlops models approve {newest} --reason REASON{option}`"
    return f"there is no champion: {turned_down(versions, option) or f'take version {newest}, `mlops models promote {newest}{option}`'}"


def waiting(versions: list[Version]) -> Version | None:
    """The newest of the versions, newest first, if it waits for a person's approval."""
    newest = next(iter(versions), None)
    return newest if newest is not None and newest.waits else None


def turned_down(versions: list[Version], option: str = "") -> str:
    """What to do about the newest of the versions, if the gate turned it down; empty if it did not."""
    newest = next(iter(versions), None)
    if newest is None or newest.passed or newest.is_champion or not newest.gate:
        return ""
    failed = "; ".join(str(rule.get("text")) for rule in newest.gate if not rule.get("passed"))
    return (
        f"version {newest.number} did not pass the gate ({failed}): try another train.estimator, other features or more rows and run "
        f"again, or take it all the same: `mlops models promote {newest.number} --override REASON{option}`"
    )


def stored_versions(uri: str, name: str) -> list[Version]:
    """Every version of a registered model, newest first, as of one moment; none if there is no such model.

    Raises :class:`RegistryUnreachable`, or :class:`PipelineError` for an address of a kind that is not read here.
    """
    if uri.startswith(("http://", "https://")):
        found = _from_server(uri, name)
    else:
        found = _asked(uri, lambda query: _from_database(query, name))
        if uri.startswith(SQLITE):
            database = sqlite_path(uri).resolve()
            found = [replace(version, location=near(version.location, database)) for version in found]
    return sorted(found, key=lambda version: -version.number)


def experiment_location(uri: str, name: str) -> str | None:
    """Where an experiment's artifacts go; of one that a server does not have yet, where its default one's do. None if that is unknown.

    Raises :class:`RegistryUnreachable`, :class:`PipelineError`.
    """
    if not uri.startswith(("http://", "https://")):
        rows = _asked(uri, lambda query: query(EXPERIMENT, (name, _workspace())))
        return rows[0][0] if rows else None
    try:
        return _json(uri, "mlflow/experiments/get-by-name", _ExperimentAnswer, experiment_name=name).experiment.artifact_location
    except NotThere:
        pass
    try:
        return _json(uri, "mlflow/experiments/get", _ExperimentAnswer, experiment_id="0").experiment.artifact_location
    except NotThere:
        return None


def download_location(uri: str, name: str, number: int, location: str) -> str:
    """Where a version's files lie; asked of the server where its versions do not say. Raises :class:`RegistryUnreachable`."""
    if not location.startswith("models:/") or not uri.startswith("http"):
        return location
    return _json(uri, "mlflow/model-versions/get-download-uri", _Location, name=name, version=number).artifact_uri


def _by_mlflow(uri: str, name: str) -> list[Version]:
    """Of a store of another kind, as MLflow reads it: a server never comes here."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(uri, registry_uri=uri)
    try:
        called = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    found: list[Any] = []
    token: str | None = None
    while token is None or token:
        page = client.search_model_versions(f"name = '{name}'", max_results=PAGE, page_token=token)
        found += page
        token = page.token or ""
    rows = [(version.version, version.source, version.run_id, version.creation_timestamp) for version in found]
    tags = [(version.version, key, value) for version in found for key, value in version.tags.items()]
    return sorted(_assembled(rows, tags, [(number, alias) for alias, number in called.items()]), key=lambda version: -version.number)


class _Tag(msgspec.Struct):
    key: str
    value: str = ""


class _Version(msgspec.Struct):
    version: str
    source: str = ""
    run_id: str = ""
    creation_timestamp: int | str = 0
    tags: list[_Tag] = []


class _Page(msgspec.Struct):
    model_versions: list[_Version] = []
    next_page_token: str = ""


class _Alias(msgspec.Struct):
    alias: str
    version: str


class _Model(msgspec.Struct):
    aliases: list[_Alias] = []


class _ModelAnswer(msgspec.Struct):
    registered_model: _Model


class _Experiment(msgspec.Struct):
    artifact_location: str = ""


class _ExperimentAnswer(msgspec.Struct):
    experiment: _Experiment


class _Location(msgspec.Struct):
    artifact_uri: str


def _asked(uri: str, read: Callable[[Query], Answer]) -> Answer:
    """What a database answers as of one moment."""
    if uri.startswith(SQLITE):
        return _of_sqlite(uri, read)
    if uri.startswith("postgresql"):
        return _of_postgresql(uri, read)
    raise PipelineError(f"registry.uri = {hidden(uri)}: is no address that can be read: use sqlite:///, postgresql:// or http(s)://")


def _of_sqlite(uri: str, read: Callable[[Query], Answer]) -> Answer:
    path = sqlite_path(uri)
    if not path.is_file():
        raise RegistryUnreachable(f"{path}: the registry's file is missing: run `mlops run`, or mend registry.uri")

    def opened_as(mode: str) -> Answer:
        with closing(
            sqlite3.connect(f"file:{urllib.parse.quote(os.fsencode(path))}?mode={mode}", uri=True, timeout=TIMEOUT_S)
        ) as connection:
            connection.execute("begin")
            return read(lambda statement, parameters: connection.execute(statement.format("?"), parameters).fetchall())

    try:
        try:
            return opened_as("ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            # A writer was killed: SQLite takes back what it had half done before anybody reads.
            return opened_as("rw")
    except sqlite3.Error as error:
        kind = NotThere if "no such table" in str(error) else RegistryUnreachable
        raise kind(f"{path}: the registry cannot be read ({one_line(error)}): check registry.uri") from error


def _of_postgresql(uri: str, read: Callable[[Query], Answer]) -> Answer:
    import psycopg

    try:
        with connect(uri, "registry.uri", connect_timeout=TIMEOUT_S, tcp_user_timeout=TIMEOUT_S * 1000) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute(f"set local statement_timeout = '{TIMEOUT_S}s'")
            return read(lambda statement, parameters: connection.execute(statement.format("%s").encode(), parameters).fetchall())
    except PipelineError as error:
        raise RegistryUnreachable(str(error)) from None
    except psycopg.errors.UndefinedTable as error:
        raise NotThere(
            f"{hidden(uri)}: holds no table of MLflow's yet ({one_line(error)}): run `mlops run`, or mend registry.uri"
        ) from error
    except (psycopg.Error, OSError) as error:
        raise RegistryUnreachable(
            f"{hidden(uri)}: the registry's PostgreSQL does not answer ({one_line(error)}): start it, or mend registry.uri"
        ) from error


def _from_database(query: Query, name: str) -> list[Version]:
    return _assembled(*(query(statement, (name, _workspace())) for statement in (VERSIONS, TAGS, ALIASES)))


def _assembled(versions: list[Any], tags: list[Any], aliases: list[Any]) -> list[Version]:
    """The rows of the three queries put together."""
    tagged: dict[int, dict[str, str]] = {}
    for number, key, value in tags:
        tagged.setdefault(int(number), {})[key] = value or ""
    called: dict[int, set[str]] = {}
    for number, alias in aliases:
        called.setdefault(int(number), set()).add(alias)
    return [
        Version(
            number=int(number),
            aliases=frozenset(called.get(int(number), ())),
            location=location or "",
            run_id=run_id or "",
            created=int(created_ms or 0) / 1000,
            tags=tagged.get(int(number), {}),
        )
        for number, location, run_id, created_ms in versions
    ]


def _from_server(uri: str, name: str) -> list[Version]:
    try:
        model = _json(uri, "mlflow/registered-models/get", _ModelAnswer, name=name).registered_model
    except NotThere:
        return []
    versions: list[_Version] = []
    token = ""
    while True:
        more = {"page_token": token} if token else {}
        page = _json(uri, "mlflow/model-versions/search", _Page, filter=f"name='{name}'", max_results=PAGE, **more)
        versions += page.model_versions
        token = page.next_page_token
        if not token:
            break
    try:
        return _assembled(
            [(found.version, found.source, found.run_id, found.creation_timestamp) for found in versions],
            [(found.version, tag.key, tag.value) for found in versions for tag in found.tags],
            [(alias.version, alias.alias) for alias in model.aliases],
        )
    except ValueError as error:
        raise RegistryUnreachable(f"{hidden(uri)}: the answer is none of MLflow's ({one_line(error)}): check registry.uri") from error


def _json(uri: str, path: str, kind: type[Answer], **parameters: object) -> Answer:
    try:
        with opened(uri, f"{API}/{path}", parameters) as answer:
            return msgspec.json.decode(answer.read(), type=kind)
    except msgspec.DecodeError as error:
        raise RegistryUnreachable(f"{hidden(uri)}: the answer is none of MLflow's ({one_line(error)}): check registry.uri") from error
    except ValueError as error:
        raise RegistryUnreachable(f"{hidden(uri)}: the registry cannot be asked: {one_line(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        if refusal(error):
            raise AccessRefused(f"{hidden(uri)}: the registry refuses ({why_not(error)})") from error
        missing = isinstance(error, urllib.error.HTTPError) and error.code == 404 and b"RESOURCE_DOES_NOT_EXIST" in error.read()
        raise (NotThere if missing else RegistryUnreachable)(
            f"{hidden(uri)}: the registry does not answer ({why_not(error)}): start `mlflow server`, or mend registry.uri"
        ) from error


def _workspace() -> str:
    """MLflow's workspace; a store without workspaces has everything in this one."""
    return os.environ.get("MLFLOW_WORKSPACE") or "default"
