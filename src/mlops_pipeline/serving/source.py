"""Which version a reference means, and its files on this machine: from the pipeline's own folder, the cache, or its artifact store."""

from __future__ import annotations

import http.client
import importlib
import os
import posixpath
import re
import shutil
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec

from mlops_pipeline.config.serving import is_folder
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import read_json, swap, write_json
from mlops_pipeline.registry.reader import (
    RegistryUnreachable,
    StoredVersion,
    content_digest,
    download_location,
    opened,
    stored_versions,
    why_not,
)

FILES = ("MLmodel", "training.json", "evaluation.json", "expected.json", "model.skops", "MODEL_CARD.md", "input_example.json")
"""What a server reads of a version, and what its digest is made of; beside them everything in ``onnx/``."""

NEEDED = ("MLmodel", "training.json", "evaluation.json", "expected.json")
DIGEST = "^[0-9a-f]{64}$"
KEPT = 5
"""Fetched versions that stay in the cache although none is served."""

DOWNLOAD_TIMEOUT_S = 30
ARTIFACTS = "mlflow-artifacts/artifacts"


class Unfit(PipelineError):
    """A version that cannot take traffic. ``reason`` is a word for metrics: unreachable, missing, checksum, unreadable, outputs, cache."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Found(msgspec.Struct, frozen=True):
    """What a reference means: a version's number (empty for a folder), the digest of its content, and where its files lie."""

    number: str
    content_sha256: Annotated[str, msgspec.Meta(pattern=DIGEST)]
    location: str
    tags: dict[str, str] = {}


@dataclass(frozen=True)
class Look:
    """What one look at the registry found. A reference may have both: what it meant last, and why that is all that is known."""

    found: dict[str, Found]
    faults: dict[str, Unfit]
    unreachable: bool


@dataclass
class Source:
    """A registered model. ``versions`` is where the pipeline keeps its folders, ``cache`` where this server keeps what it fetched.

    ``server`` is the MLflow server behind ``mlflow-artifacts:/`` addresses; by default the registry, if that is one.
    """

    registry: str
    model: str
    versions: Path
    cache: Path
    server: str = ""

    def __post_init__(self) -> None:
        self._digests: dict[Path, tuple[object, str]] = {}

    def resolve(self, reference: str) -> Found:
        """What an alias, a version's number or a folder's path means now, or meant last if the registry gives no answer.

        Raises :class:`Unfit`.
        """
        look = self.look([reference])
        if reference not in look.found:
            raise look.faults[reference]
        return look.found[reference]

    def look(self, references: Iterable[str]) -> Look:
        """What references mean, as of one moment."""
        found: dict[str, Found] = {}
        faults: dict[str, Unfit] = {}
        named = []
        for reference in references:
            if not is_folder(reference):
                named.append(reference)
                continue
            try:
                found[reference] = self._folder_itself(Path(reference).expanduser().absolute())
            except Unfit as fault:
                faults[reference] = fault
        unreachable = False
        if named:
            try:
                versions = stored_versions(self.registry, self.model)
            except PipelineError as error:
                unreachable = True
                for reference in named:
                    remembered = self.remembered(reference)
                    if remembered is not None:
                        found[reference] = remembered
                    faults[reference] = Unfit("unreachable", str(error))
            else:
                for reference in named:
                    try:
                        found[reference] = self._in_registry(reference, versions)
                    except Unfit as fault:
                        faults[reference] = fault
        return Look(found, faults, unreachable)

    def folder(self, found: Found, *, anew: bool = False) -> Path:
        """A complete folder with this content on this machine, fetched if there is none. Raises :class:`Unfit`.

        ``anew`` fetches it all the same, if it can be: the digest does not cover the expected outputs.
        """
        if not found.number:
            return Path(found.location)
        name = found.content_sha256[:16]
        place = self.cache / "versions" / name

        def held() -> Path | None:
            return next((folder for folder in (self.versions / name, place) if _complete(folder, found.content_sha256)), None)

        here = None if anew else held()
        if here is not None:
            return here
        from filelock import FileLock

        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.parent / ".lock"):
                here = held()
                if here is not None and not anew:
                    return here
                try:
                    self._fetch(found, place)
                except Unfit:
                    if here is None:
                        raise
                    return here
        except OSError as error:
            raise Unfit("cache", f"{self.cache}: cannot be written ({one_line(error)}): name another folder for the cache") from error
        return place

    def remember(self, reference: str, found: Found) -> None:
        """Note what a reference means, for a start without the registry. Raises :class:`Unfit` if it cannot be written."""
        if is_folder(reference) or self.remembered(reference) == found:
            return
        from filelock import FileLock

        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with FileLock(self.cache / ".lock"):
                notes = self._notes()
                notes.setdefault(self._key, {})[reference] = msgspec.to_builtins(found)
                write_json(self.cache / "served.json", notes)
                self._tidy({str(note.get("content_sha256", ""))[:16] for known in notes.values() for note in known.values()})
        except OSError as error:
            raise Unfit(
                "cache", f"{self.cache}: cannot be written ({one_line(error)}): a start without the registry will not find this version"
            ) from error

    def remembered(self, reference: str) -> Found | None:
        """What a reference meant when a version was last served by it."""
        try:
            return msgspec.convert(self._notes().get(self._key, {}).get(reference), Found)
        except msgspec.ValidationError:
            return None

    def _tidy(self, served: set[str]) -> None:
        """Drop fetched versions that are not served any more, but for the newest."""
        fetched = [folder for folder in (self.cache / "versions").glob("[!.]*") if folder.name not in served]
        for folder in sorted(fetched, key=lambda folder: folder.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _key(self) -> str:
        return f"{hidden(self.registry)} {self.model}"

    def _notes(self) -> dict[str, dict[str, Any]]:
        try:
            return msgspec.convert(read_json(self.cache / "served.json"), dict[str, dict[str, Any]])
        except (OSError, ValueError):
            return {}

    def _in_registry(self, reference: str, versions: list[StoredVersion]) -> Found:
        wanted = [v for v in versions if (str(v.number) == reference if reference.isdigit() else reference in v.aliases)]
        if not wanted:
            there = ", ".join(str(version.number) for version in versions[:10]) or "none"
            called = ", ".join(sorted({alias for version in versions for alias in version.aliases})) or "none"
            raise Unfit(
                "missing",
                f"{self.model}: has no version or alias '{reference}': there are versions {there} and aliases {called} "
                "(a folder is named with a slash, as in ./model)",
            )
        version = wanted[0]
        if not re.match(DIGEST, version.content_sha256):
            raise Unfit("checksum", f"{self.model} version {version.number}: carries no digest: register it with `mlops run`")
        return Found(str(version.number), version.content_sha256, version.location, version.tags)

    def _folder_itself(self, folder: Path) -> Found:
        if not (folder / "MLmodel").is_file():
            raise Unfit("missing", f"{folder}: is no model folder (MLmodel is missing): name one that `mlops run` made")
        try:
            stamp = [(file.stat().st_mtime_ns, file.stat().st_size, file.stat().st_ino) for file in sorted(folder.glob("**/*"))]
            known = self._digests.get(folder)
            if known is None or known[0] != stamp:
                known = self._digests[folder] = (stamp, content_digest(folder))
        except OSError as error:
            raise Unfit("unreadable", f"{folder}: cannot be read ({one_line(error)})") from error
        return Found("", known[1], str(folder))

    def _fetch(self, found: Found, place: Path) -> None:
        """Fetch a version's files beside their place, check them, and put them there in one step; the lock is held."""
        what = f"{self.model} version {found.number}"
        for unfinished in place.parent.glob(f".{place.name}.*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        try:
            location = download_location(
                self.registry, self.model, StoredVersion(int(found.number), found.content_sha256, frozenset(), found.location, {})
            )
        except RegistryUnreachable as error:
            raise Unfit("unreachable", str(error)) from error
        staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            self._download(what, location, staging)
            if content_digest(staging) != found.content_sha256:
                raise Unfit("checksum", f"{what}: its files at {hidden(location)} do not match its digest: promote another version")
            absent = next((name for name in NEEDED if not (staging / name).is_file()), None)
            if absent is not None:
                raise Unfit("missing", f"{what}: {absent} is missing at {hidden(location)}: register it anew with `mlops run`")
            staging.chmod(0o755)
            swap(staging, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _download(self, what: str, location: str, into: Path) -> None:
        scheme = urllib.parse.urlsplit(location).scheme
        try:
            if scheme in ("", "file"):
                _copy(Path(urllib.parse.unquote(urllib.parse.urlsplit(location).path)) if scheme else Path(location), into)
            elif scheme in ("mlflow-artifacts", "http", "https"):
                _from_server(*self._on_server(what, location), into)
            elif scheme == "s3":
                _from_s3(what, location, into)
            else:
                raise Unfit(
                    "missing",
                    f"{what}: lies at {hidden(location)}, which is not read here: keep models in files, on an MLflow server or on S3",
                )
        except FileNotFoundError as error:
            raise Unfit("missing", f"{what}: its files are not at {hidden(location)}: restore them, or promote another version") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unfit("unreachable", f"{what}: its files at {hidden(location)} cannot be read ({why_not(error)})") from error

    def _on_server(self, what: str, location: str) -> tuple[str, str]:
        """The MLflow server's address, and the path of the artifacts on it."""
        parts = urllib.parse.urlsplit(location)
        if parts.scheme in ("http", "https"):
            base, found, path = location.partition(f"/api/2.0/{ARTIFACTS}/")
            if not found:
                raise Unfit("missing", f"{what}: {hidden(location)} is no address of an MLflow server's artifacts")
            return base, path
        server = self.server or self.registry
        if not server.startswith("http"):
            raise Unfit("missing", f"{what}: its files lie behind an MLflow server: set MLFLOW_TRACKING_URI to its http address")
        if parts.netloc:
            near = urllib.parse.urlsplit(server)
            server = urllib.parse.urlunsplit((near.scheme, parts.netloc, near.path, "", ""))
        return server, parts.path.lstrip("/")


def _complete(folder: Path, content_sha256: str) -> bool:
    try:
        for name in NEEDED:
            content = (folder / name).read_bytes()
            if name.endswith(".json"):
                msgspec.json.decode(content)
        return content_digest(folder) == content_sha256
    except (OSError, ValueError):
        return False


def _copy(origin: Path, into: Path) -> None:
    if not origin.is_dir():
        raise FileNotFoundError(origin)

    def write(name: str, stream: BinaryIO) -> None:
        with (origin / name).open("rb") as content:
            shutil.copyfileobj(content, stream)

    onnx = [file.name for file in origin.glob("onnx/*") if file.is_file()]
    _take([file.name for file in origin.iterdir() if file.is_file()], onnx, write, into)


def _from_server(server: str, path: str, into: Path) -> None:
    def listed(folder: str) -> list[_Listed]:
        with opened(server, ARTIFACTS, {"path": folder}, DOWNLOAD_TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(), type=_Listing).files

    def write(name: str, stream: BinaryIO) -> None:
        with opened(server, f"{ARTIFACTS}/{urllib.parse.quote(posixpath.join(path, name))}", {}, DOWNLOAD_TIMEOUT_S) as answer:
            shutil.copyfileobj(answer, stream)
            promised = answer.headers.get("Content-Length")
        if promised is not None and stream.tell() != int(promised):
            raise OSError(f"{name} ended after {stream.tell()} of {promised} bytes")

    top = listed(path)
    onnx = listed(posixpath.join(path, "onnx")) if any(file.path == "onnx" and file.is_dir for file in top) else []
    _take([file.path for file in top if not file.is_dir], [file.path for file in onnx if not file.is_dir], write, into)


def _from_s3(what: str, location: str, into: Path) -> None:
    try:
        boto3, botocore = importlib.import_module("boto3"), importlib.import_module("botocore.exceptions")
    except ImportError as error:
        raise Unfit("missing", f"{what}: lies at {location}, but boto3 is not installed: pip install 'mlops-pipeline[s3]'") from error
    parts = urllib.parse.urlsplit(location)
    prefix = parts.path.strip("/") + "/"
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix)
        names = [item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ())]
        onnx = [name.removeprefix("onnx/") for name in names if name.startswith("onnx/")]
        _take(names, onnx, lambda name, stream: client.download_fileobj(parts.netloc, prefix + name, stream), into)
    except (boto3.exceptions.Boto3Error, botocore.BotoCoreError, botocore.ClientError) as error:
        raise OSError(one_line(error)) from error
    finally:
        client.close()


def _take(names: Iterable[str], onnx: Iterable[str], write: Callable[[str, BinaryIO], None], into: Path) -> None:
    """Write the files that a server needs, of those that a store lists; a listed name never leads out of the folder."""
    wanted = [name for name in FILES if name in set(names)]
    if not wanted:
        raise FileNotFoundError("MLmodel")
    for name in onnx:
        if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
            raise OSError(f"it lists {one_line(repr(name))}, which is no file's name")
        wanted.append(f"onnx/{name}")
    for name in wanted:
        file = into / name
        file.parent.mkdir(exist_ok=True)
        with file.open("xb") as stream:
            write(name, stream)


class _Listed(msgspec.Struct):
    path: str
    is_dir: bool = False


class _Listing(msgspec.Struct):
    files: list[_Listed] = []
