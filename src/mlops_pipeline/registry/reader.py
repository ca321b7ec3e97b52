"""What MLflow's registry holds, read without MLflow, whose import alone takes longer than an idle run or a server's start."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import sqlite3
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import sha256_of_file

CHAMPION = "champion"
CONTENT_TAG = "mlops.content_sha256"
GATE_TAG = "mlops.gate"

TIMEOUT_S = 5
PAGE = 1000

Answer = TypeVar("Answer")

VERSIONS = """
select version, coalesce(nullif(storage_location, ''), source) from model_versions
where name = {0} and workspace = {0} and current_stage <> 'Deleted_Internal'
"""
"""MLflow keeps the row and the tags of a deleted version; only its stage tells."""
TAGS = "select version, key, value from model_version_tags where name = {0} and workspace = {0}"
ALIASES = "select version, alias from registered_model_aliases where name = {0} and workspace = {0}"


class RegistryUnreachable(PipelineError):
    """The registry gave no clear answer; what was known of it may still hold."""


@dataclass(frozen=True)
class StoredVersion:
    """A registered version. ``location`` is where its files lie, or ``models:/…``, which :func:`download_location` turns into that."""

    number: int
    content_sha256: str
    aliases: frozenset[str]
    location: str
    tags: dict[str, str] = field(hash=False)


def stored_versions(uri: str, name: str) -> list[StoredVersion]:
    """Every version of a registered model, newest first, as of one moment; none if there is no such model.

    Raises :class:`RegistryUnreachable`, or :class:`PipelineError` for an address of a kind that is not read here.
    """
    if uri.startswith("sqlite:///"):
        found = _from_sqlite(uri, name)
    elif uri.startswith("postgresql"):
        found = _from_postgresql(uri, name)
    elif uri.startswith(("http://", "https://")):
        found = _from_server(uri, name)
    else:
        raise PipelineError(f"registry.uri = {hidden(uri)}: is no address that can be read: use sqlite:///, postgresql:// or http(s)://")
    return sorted(found, key=lambda version: -version.number)


def download_location(uri: str, name: str, version: StoredVersion) -> str:
    """Where a version's files lie; asked of the server where its versions do not say. Raises :class:`RegistryUnreachable`."""
    if not version.location.startswith("models:/") or not uri.startswith("http"):
        return version.location
    answer = _json(uri, "mlflow/model-versions/get-download-uri", _Location, name=name, version=version.number)
    return answer.artifact_uri


def content_digest(folder: Path) -> str:
    """The identity of a version: the SHA-256 digests of all that decides what it predicts and what it refuses."""
    files = (folder / name for name in ("model.skops", "MLmodel", "training.json", "onnx/model.onnx"))
    parts = [sha256_of_file(file) if file.exists() else "none" for file in files]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def opened(server: str, path: str, parameters: Mapping[str, object], timeout: float = TIMEOUT_S) -> http.client.HTTPResponse:
    """A GET below an MLflow server's ``/api/2.0``, with the credentials that MLflow's own client takes from the environment.

    Raises :class:`OSError`, :class:`http.client.HTTPException` or :class:`ValueError`.
    """
    parts = urllib.parse.urlsplit(server)
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if parts.username and parts.password:
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password)
    query = urllib.parse.urlencode(parameters)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/api/2.0/{path}{'?' * bool(query)}{query}"
    request = urllib.request.Request(address)  # noqa: S310  # the callers check the scheme
    if user and password:
        word = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    else:
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        word = f"Bearer {token}" if token else ""
    if word:
        # Not sent on to wherever the server redirects to.
        request.add_unredirected_header("Authorization", word)
    if os.environ.get("MLFLOW_WORKSPACE"):
        request.add_header("X-MLFLOW-WORKSPACE", os.environ["MLFLOW_WORKSPACE"])
    context = _tls() if parts.scheme == "https" else None
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout, context=context)  # noqa: S310  # the callers check the scheme
    return answer


def why_not(error: Exception) -> str:
    """Why a server gave no answer, and for a refusal the remedy."""
    if isinstance(error, urllib.error.HTTPError):
        remedy = ": set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN" if error.code in (401, 403) else ""
        return f"HTTP {error.code} {error.reason}{remedy}"
    return one_line(getattr(error, "reason", None) or error) or type(error).__name__


class _Tag(msgspec.Struct):
    key: str
    value: str = ""


class _Version(msgspec.Struct):
    version: str
    source: str = ""
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


class _Location(msgspec.Struct):
    artifact_uri: str


def _from_sqlite(uri: str, name: str) -> list[StoredVersion]:
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.is_file():
        raise RegistryUnreachable(f"{path}: the registry's file is missing: run `mlops run`, or mend registry.uri")
    try:
        connection = sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True, timeout=TIMEOUT_S)
        try:
            connection.execute("begin")
            parameters = (name, _workspace())
            return _assembled(*(connection.execute(query.format("?"), parameters).fetchall() for query in (VERSIONS, TAGS, ALIASES)))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RegistryUnreachable(f"{path}: the registry cannot be read ({one_line(error)}): check registry.uri") from error


def _from_postgresql(uri: str, name: str) -> list[StoredVersion]:
    import psycopg

    address = "postgresql://" + uri.split("://", 1)[1]
    try:
        with psycopg.connect(address, connect_timeout=TIMEOUT_S, tcp_user_timeout=TIMEOUT_S * 1000) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute(f"set local statement_timeout = '{TIMEOUT_S}s'")
            parameters = (name, _workspace())
            return _assembled(*(connection.execute(query.format("%s"), parameters).fetchall() for query in (VERSIONS, TAGS, ALIASES)))
    except (psycopg.Error, OSError) as error:
        raise RegistryUnreachable(
            f"{hidden(uri)}: the registry's PostgreSQL does not answer ({one_line(error)}): start it, or mend registry.uri"
        ) from error


def _assembled(versions: list[Any], tags: list[Any], aliases: list[Any]) -> list[StoredVersion]:
    """The rows of the three queries put together."""
    tagged: dict[int, dict[str, str]] = {}
    for number, key, value in tags:
        tagged.setdefault(int(number), {})[key] = value or ""
    called: dict[int, set[str]] = {}
    for number, alias in aliases:
        called.setdefault(int(number), set()).add(alias)
    return [
        StoredVersion(
            number=int(number),
            content_sha256=tagged.get(int(number), {}).get(CONTENT_TAG, ""),
            aliases=frozenset(called.get(int(number), ())),
            location=location or "",
            tags=tagged.get(int(number), {}),
        )
        for number, location in versions
    ]


def _from_server(uri: str, name: str) -> list[StoredVersion]:
    try:
        model = _json(uri, "mlflow/registered-models/get", _ModelAnswer, name=name).registered_model
    except _NoSuchModel:
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
            [(found.version, found.source) for found in versions],
            [(found.version, tag.key, tag.value) for found in versions for tag in found.tags],
            [(alias.version, alias.alias) for alias in model.aliases],
        )
    except ValueError as error:
        raise RegistryUnreachable(f"{hidden(uri)}: the answer is none of MLflow's ({one_line(error)}): check registry.uri") from error


class _NoSuchModel(RegistryUnreachable):
    """The server answers that the model, or the page, does not exist."""


def _json(uri: str, path: str, kind: type[Answer], **parameters: object) -> Answer:
    try:
        with opened(uri, path, parameters) as answer:
            return msgspec.json.decode(answer.read(), type=kind)
    except msgspec.DecodeError as error:
        raise RegistryUnreachable(f"{hidden(uri)}: the answer is none of MLflow's ({one_line(error)}): check registry.uri") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        missing = isinstance(error, urllib.error.HTTPError) and error.code == 404 and b"RESOURCE_DOES_NOT_EXIST" in error.read()
        raise (_NoSuchModel if missing else RegistryUnreachable)(
            f"{hidden(uri)}: the registry does not answer ({why_not(error)}): start `mlflow server`, or mend registry.uri"
        ) from error


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(os.environ["MLFLOW_TRACKING_CLIENT_CERT_PATH"])
    return context


def _workspace() -> str:
    """MLflow's workspace; a store without workspaces has everything in this one."""
    return os.environ.get("MLFLOW_WORKSPACE") or "default"
