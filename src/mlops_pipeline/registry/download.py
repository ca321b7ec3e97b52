"""A version's files on this machine, fetched once from wherever they lie and checked against the version's digest."""

from __future__ import annotations

import http.client
import importlib
import os
import posixpath
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import swap
from mlops_pipeline.registry.artifacts import LIBRARIES, local_path
from mlops_pipeline.registry.reader import RegistryUnreachable, download_location
from mlops_pipeline.registry.rest import API, is_at, opened, refusal, why_not
from mlops_pipeline.registry.versions import content_digest, holds

NEEDED = ("MLmodel", "training.json", "evaluation.json", "expected.json")
"""What every version has, whatever its format."""
TIMEOUT_S = 30
ARTIFACTS = f"{API}/mlflow-artifacts/artifacts"
DEEPEST = 8
"""How many folders deep a version's files may lie."""


class Unfit(PipelineError):
    """A version that cannot take traffic. ``reason`` is a word for metrics: unreachable, missing, checksum, unreadable, outputs, gate,
    cache."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Origin(NamedTuple):
    """Where a version's files come from. ``server`` is the MLflow server behind ``mlflow-artifacts:/``; empty: the registry, if it is one.

    ``content_sha256`` is empty for a version that was not registered by us.
    """

    registry: str
    model: str
    number: int
    location: str
    content_sha256: str
    server: str = ""

    @property
    def what(self) -> str:
        return f"{self.model} version {self.number}"


def is_complete(folder: Path, content_sha256: str) -> bool:
    """Whether a folder holds a whole version with this content; of one that was not registered by us, a model."""
    if not content_sha256:
        return (folder / "MLmodel").is_file()
    try:
        for name in NEEDED:
            content = (folder / name).read_bytes()
            if name.endswith(".json"):
                msgspec.json.decode(content)
        return holds(folder, content_sha256)
    except (OSError, ValueError):
        return False


def fetch(origin: Origin, place: Path, *, by_mlflow: bool = False) -> None:
    """Fetch a version's files beside their place, check them, and put them there in one step; the caller lets one process at it.

    ``by_mlflow`` asks MLflow, where it is installed, for what lies in a store that is not read here. Raises :class:`Unfit`, ``OSError``.
    """
    tidy_beside(place)
    try:
        location = download_location(origin.registry, origin.model, origin.number, origin.location)
    except RegistryUnreachable as error:
        raise Unfit("unreachable", str(error)) from error
    staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        _download(origin, location, staging, by_mlflow=by_mlflow)
        if origin.content_sha256 and not holds(staging, origin.content_sha256):
            raise Unfit("checksum", f"{origin.what}: its files at {hidden(location)} do not match its digest: promote another version")
        absent = next((name for name in NEEDED[: None if origin.content_sha256 else 1] if not (staging / name).is_file()), None)
        if absent is not None:
            raise Unfit("missing", f"{origin.what}: {absent} is missing at {hidden(location)}: register it anew with `mlops run`")
        staging.chmod(0o755)
        swap(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def keep(folder: Path, place: Path) -> None:
    """Copy a complete folder to its place in one step, one process at a time; one that holds the same content already stays untouched."""
    content_sha256 = content_digest(folder)
    if is_complete(place, content_sha256):
        return
    with alone_beside(place):
        if not is_complete(place, content_sha256):
            put_copy(folder, place)


def put_copy(folder: Path, place: Path) -> None:
    """Put a copy of a folder in its place in one step; the caller lets one process at it (:func:`alone_beside`)."""
    tidy_beside(place)
    staging = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        shutil.copytree(folder, staging)
        swap(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def alone_beside(place: Path) -> Iterator[None]:
    """Only one process at a time makes anything beside a place, whose folder is made if it is missing."""
    from filelock import FileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / ".lock"):
        yield


def tidy_beside(place: Path) -> None:
    """Take away what a kill has left beside a place; the caller is alone there."""
    for unfinished in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _download(origin: Origin, location: str, into: Path, *, by_mlflow: bool) -> None:
    scheme = urllib.parse.urlsplit(location).scheme
    local = local_path(location)
    try:
        if local is not None or not scheme:
            _copy(local or Path(location), into)
        elif scheme in ("mlflow-artifacts", "http", "https"):
            _from_server(origin, location, into)
        elif scheme == "s3":
            _from_s3(origin, location, into)
        elif by_mlflow:
            _by_mlflow(location, into)
        else:
            raise Unfit(
                "missing",
                f"{origin.what}: lies at {hidden(location)}, which is not read here: keep models in files, on an MLflow server or on S3",
            )
    except FileNotFoundError as error:
        raise Unfit(
            "missing", f"{origin.what}: its files are not at {hidden(location)}: restore them, or promote another version"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unfit("unreachable", f"{origin.what}: its files at {hidden(location)} cannot be read ({why_not(error)})") from error


def _on_server(origin: Origin, location: str) -> tuple[str, str]:
    """The MLflow server's address, and the path of the artifacts on it."""
    parts = urllib.parse.urlsplit(location)
    server = origin.server or origin.registry
    near = urllib.parse.urlsplit(server if server.startswith("http") else "")
    known = near.netloc.rpartition("@")[2]
    # The credentials of an address are for its own server alone, and no less safely than they are sent to it.
    theirs = parts.netloc == known and (parts.scheme == "mlflow-artifacts" or is_at(location, server))
    netloc = near.netloc if theirs else parts.netloc
    if parts.scheme in ("http", "https"):
        base, found, path = urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, "", "")).partition(f"/{ARTIFACTS}/")
        if not found:
            raise Unfit("missing", f"{origin.what}: {hidden(location)} is no address of an MLflow server's artifacts")
        return base, path
    if not known:
        raise Unfit("missing", f"{origin.what}: its files lie behind an MLflow server: set MLFLOW_TRACKING_URI to its http address")
    return urllib.parse.urlunsplit((near.scheme, netloc or near.netloc, near.path, "", "")), parts.path.lstrip("/")


def _copy(origin: Path, into: Path) -> None:
    if not origin.is_dir():
        raise FileNotFoundError(origin)

    def listed(folder: str) -> list[_Listed]:
        return [_Listed(file.name, file.is_dir()) for file in sorted((origin / folder).iterdir()) if file.is_dir() or file.is_file()]

    def write(name: str, stream: BinaryIO) -> None:
        with (origin / name).open("rb") as content:
            shutil.copyfileobj(content, stream)

    _take(_below("", listed), write, into)


def _from_server(origin: Origin, location: str, into: Path) -> None:
    server, path = _on_server(origin, location)
    # Whoever may register a version names its source: the user's own credentials are for the servers that the user named.
    configured = any(is_at(server, known) for known in (origin.server, origin.registry))

    def asked(below: str, parameters: dict[str, str]) -> http.client.HTTPResponse:
        try:
            return opened(server, below, parameters, TIMEOUT_S, configured=configured)
        except urllib.error.HTTPError as error:
            if configured or not refusal(error):
                raise
            raise OSError(
                f"HTTP {error.code} {error.reason}: your credentials are sent to the configured server alone: "
                "register the version there, or set MLFLOW_TRACKING_URI to this one"
            ) from error

    def listed(folder: str) -> list[_Listed]:
        with asked(ARTIFACTS, {"path": posixpath.join(path, folder).rstrip("/")}) as answer:
            return msgspec.json.decode(answer.read(), type=_Listing).files

    def write(name: str, stream: BinaryIO) -> None:
        with asked(f"{ARTIFACTS}/{urllib.parse.quote(posixpath.join(path, name))}", {}) as answer:
            shutil.copyfileobj(answer, stream)
            promised = answer.headers.get("Content-Length")
        if promised is not None and stream.tell() != int(promised):
            raise OSError(f"{name} ended after {stream.tell()} of {promised} bytes")

    _take(_below("", listed), write, into)


def _from_s3(origin: Origin, location: str, into: Path) -> None:
    try:
        boto3, botocore = importlib.import_module("boto3"), importlib.import_module("botocore.exceptions")
    except ImportError as error:
        raise Unfit("missing", f"{origin.what}: lies at {location}, but boto3 is not installed: {LIBRARIES['s3'][1]}") from error
    parts = urllib.parse.urlsplit(location)
    prefix = parts.path.strip("/") + "/"
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix)
        names = [item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ())]
        _take(
            [name for name in names if not name.endswith("/")],
            lambda name, stream: client.download_fileobj(parts.netloc, prefix + name, stream),
            into,
        )
    except (boto3.exceptions.Boto3Error, botocore.BotoCoreError, botocore.ClientError) as error:
        raise OSError(one_line(error)) from error
    finally:
        client.close()


def _by_mlflow(location: str, into: Path) -> None:
    """Stores of other kinds are MLflow's business, where it is installed: a server never comes here."""
    import mlflow.artifacts

    with tempfile.TemporaryDirectory(dir=into, prefix=".mlflow-") as temporary:
        try:
            fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=temporary))
        except Exception as error:  # MLflow passes on whatever the artifact store raises
            raise OSError(one_line(error)) from error
        for file in list(fetched.iterdir()):
            file.rename(into / file.name)


def _below(folder: str, listed: Callable[[str], list[_Listed]], depth: int = 0) -> list[str]:
    """Paths of the files below a folder of a store, so many folders deep."""
    there = [(_checked(file.path), file.is_dir) for file in listed(folder)]
    names = [posixpath.join(folder, name) for name, is_dir in there if not is_dir]
    for name, is_dir in there:
        below = posixpath.join(folder, name)
        if is_dir and depth < DEEPEST:
            names += _below(below, listed, depth + 1)
    return names


def _take(names: Iterable[str], write: Callable[[str, BinaryIO], None], into: Path) -> None:
    """Write the files that a store lists; a listed name never leads out of the folder."""
    taken = list(names)
    if not taken:
        raise FileNotFoundError("MLmodel")
    for name in taken:
        for part in name.split("/"):
            _checked(part)
        file = into / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as stream:
            write(name, stream)


def _checked(name: str) -> str:
    if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise OSError(f"it lists {one_line(repr(name))}, which is no file's name")
    return name


class _Listed(msgspec.Struct):
    path: str
    is_dir: bool = False


class _Listing(msgspec.Struct):
    files: list[_Listed] = []
