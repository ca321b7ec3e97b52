"""The cluster's API through the official client: one request with its retries, discovery of kinds, watches that end."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.pages import visible

FIELD_MANAGER = "mlops"
PATIENCE_S = 60  # a server that asks to come back later than this is not waited for
IN_CLUSTER_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT_S = (10, 60)  # to connect, to answer

Say = Callable[[str], None]


class ClusterRefused(Exception):
    """The cluster answered a request with an error."""

    def __init__(self, status: int, body: dict[str, Any], retry_after: float | None = None, *, secret: bool = False) -> None:
        self.status = status
        reason, message = body.get("reason"), body.get("message")
        self.no_dry_run = "does not support dry run" in str(message)
        # What the cluster says of a Secret may repeat its content.
        self.message = visible(one_line((not secret and message) or reason or f"HTTP {status}", limit=600))
        self.causes: list[dict[str, Any]] = list((body.get("details") or {}).get("causes") or ())
        self.retry_after = retry_after
        super().__init__(f"{status}: {self.message}")

    @property
    def conflicts(self) -> list[dict[str, Any]]:
        """The fields that another manager owns, if that is why it refused."""
        return [cause for cause in self.causes if cause.get("reason") == "FieldManagerConflict"] if self.status == 409 else []

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed a moment later."""
        if self.retry_after is not None and self.retry_after > PATIENCE_S:
            return False
        return self.status in {429, 500, 502, 503, 504} or (self.status == 409 and not self.conflicts)


class Unreachable(Exception):
    """No answer came: no connection, a broken one, or a certificate that is not trusted."""

    retry_after = None

    def __init__(self, message: str, passes: bool) -> None:
        self.passes = passes
        super().__init__(message)


@dataclass(frozen=True)
class Clock:
    """What time it is, and how to let some pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Backoff:
    """How often a request is repeated, and how long the pauses are: doubled each time, bounded, with jitter."""

    attempts: int = 6
    first_s: float = 0.25
    longest_s: float = 10
    random: random.Random = field(default_factory=random.Random)

    def pause(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after this many failures; never shorter than the server asks for."""
        bound = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return (retry_after or 0.0) + self.random.uniform(bound / 2, bound)


@dataclass(frozen=True)
class Resource:
    """Where objects of a kind lie in the API."""

    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """The path of a collection, or of one object in it."""
        within = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{self.base}{within}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


DEPLOYMENTS = Resource("/apis/apps/v1", "deployments", namespaced=True)
REPLICA_SETS = Resource("/apis/apps/v1", "replicasets", namespaced=True)
PODS = Resource("/api/v1", "pods", namespaced=True)
SECRETS = Resource("/api/v1", "secrets", namespaced=True)
NAMESPACES = Resource("/api/v1", "namespaces", namespaced=False)


class Cluster:
    """One cluster, one context, one namespace that objects without one go to."""

    def __init__(
        self, client: Any, *, context: str | None, namespace: str, say: Say, clock: Clock | None = None, backoff: Backoff | None = None
    ) -> None:
        self.context, self.namespace = context, namespace
        self.clock, self.backoff = clock or Clock(), backoff or Backoff()
        self._client, self._say = client, say
        self._kinds: dict[str, list[dict[str, Any]] | None] = {}
        self._until = math.inf

    @property
    def address(self) -> str:
        return str(self._client.configuration.host)

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Within this, no request and none of its repetitions is waited for past a moment of the clock."""
        before, self._until = self._until, deadline
        try:
            yield
        finally:
            self._until = before

    def get(self, path: str, query: Sequence[tuple[str, str]] = (), accept: str = "application/json") -> dict[str, Any]:
        """An object or a list."""
        return self._object(self._request("GET", path, query, accept=accept))

    def find(self, path: str, accept: str = "application/json") -> dict[str, Any] | None:
        """An object, or nothing where it does not exist."""
        try:
            return self.get(path, accept=accept)
        except ClusterRefused as error:
            if error.status != 404:
                raise
            return None

    def text(self, path: str, query: Sequence[tuple[str, str]] = ()) -> str:
        """An answer that is plain text, such as a log."""
        return self._request("GET", path, query, accept="text/plain, */*").decode("utf-8", errors="replace")

    def apply(self, path: str, content: dict[str, Any], *, force: bool = False, dry_run: bool = False) -> dict[str, Any]:
        """Server-side apply; the object as the cluster has it then, or would have it."""
        query = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"), ("force", str(force).lower())]
        query += [("dryRun", "All")] if dry_run else []
        return self._object(self._request("PATCH", path, query, content))

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """Where a kind lies, or nothing where the cluster does not know it."""
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        for found in self._known(base) or ():
            if found.get("kind") == kind and "/" not in str(found.get("name")):
                return Resource(base, str(found["name"]), bool(found.get("namespaced")))
        return None

    def kinds(self, api_version: str) -> list[str] | None:
        """The kinds of a group and version, or nothing where the cluster does not serve it."""
        known = self._known(f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}")
        return None if known is None else sorted({str(found.get("kind")) for found in known})

    def watch(self, path: str, name: str, version: str, seconds: float) -> Iterator[dict[str, Any]]:
        """The events of one object after a version, for so many seconds at most; a broken stream ends like a finished one."""
        from kubernetes.watch.watch import iter_resp_lines
        from urllib3.exceptions import HTTPError

        query = [("watch", "true"), ("fieldSelector", f"metadata.name={name}"), ("resourceVersion", version)]
        query += [("allowWatchBookmarks", "true"), ("timeoutSeconds", str(math.ceil(seconds)))]
        answer = self._open("GET", path, query, None, "application/json", (_TIMEOUT_S[0], seconds))
        try:
            for line in iter_resp_lines(answer.response):
                event = self._object(line) if line.strip() else {}
                if event.get("type") == "ERROR":
                    raise ClusterRefused(int(event["object"].get("code") or 500), event["object"])
                if event:
                    yield event
        except (HTTPError, OSError, ValueError, Unreachable):
            return  # nothing came for that long, or the connection broke: the caller goes on from the last version
        finally:
            answer.response.close()

    def _known(self, base: str) -> list[dict[str, Any]] | None:
        if base not in self._kinds:
            listing = self.find(base)
            self._kinds[base] = None if listing is None else list(listing.get("resources") or ())
        return self._kinds[base]

    def _request(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: Any = None, accept: str = "application/json"
    ) -> bytes:
        for failures in itertools.count(1):
            try:
                answer = self._open(method, path, query, body, accept, _TIMEOUT_S)
                content = self._read(answer)
                if "json" in accept:
                    self._object(content)  # the page of a proxy may be another one a moment later
                return content
            except (ClusterRefused, Unreachable) as error:
                pause = self.backoff.pause(failures, error.retry_after)
                if not error.passes or failures >= self.backoff.attempts or self.clock.now() + pause >= self._until:
                    raise
                self._say(f"{one_line(error, 160)}: again in {pause:.1f} s")
                self.clock.sleep(pause)
        raise AssertionError("unreachable")

    def _open(self, method: str, path: str, query: Sequence[tuple[str, str]], body: Any, accept: str, timeout: tuple[float, float]) -> Any:
        from urllib3.exceptions import HTTPError, LocationParseError, SSLError

        headers = {"Accept": accept} | ({"Content-Type": "application/apply-patch+yaml"} if body is not None else {})
        asked = self._client.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        left = max(0.1, self._until - self.clock.now())
        try:
            answer = self._client.call_api(*asked, _request_timeout=(min(timeout[0], left), min(timeout[1], left)))
        except (HTTPError, OSError) as error:
            certain = isinstance(error, SSLError | LocationParseError)
            raise Unreachable(f"no answer from {self.address} ({one_line(error)})", passes=not certain) from error
        if not 200 <= answer.status <= 299:
            secret = path.split("/")[-2] == SECRETS.plural
            raise ClusterRefused(answer.status, _status_of(self._read(answer)), _seconds(answer.headers.get("Retry-After")), secret=secret)
        return answer

    def _object(self, body: bytes | str) -> dict[str, Any]:
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise Unreachable(f"the answer of {self.address} is not that of a Kubernetes API (is there a proxy between?)", passes=True)
        return content

    def _read(self, answer: Any) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            return bytes(answer.read())
        except (HTTPError, OSError) as error:
            raise Unreachable(f"the answer of {self.address} broke off ({one_line(error)})", passes=True) from error


def connect(context: str | None, namespace: str | None, say: Say, *, clock: Clock | None = None, backoff: Backoff | None = None) -> Cluster:
    """The cluster of a kubeconfig's context, or of the pod that this runs in; raises :class:`PipelineError` in one line."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise PipelineError("mlops deploy: the Kubernetes client is not installed: pip install 'mlops-pipeline[deploy]'") from error
    configuration = client.Configuration()
    files = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if any(Path(name).expanduser().is_file() for name in files.split(os.pathsep) if name):
        named = _load(files, context, configuration)
        context, usual = str(named["name"]), named["context"].get("namespace")
    elif context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        try:
            config.load_incluster_config(configuration)
        except (config.ConfigException, OSError) as error:
            raise PipelineError(f"in-cluster configuration: {one_line(error)}: mount the pod's service account token") from error
        usual = IN_CLUSTER_NAMESPACE.read_text(encoding="utf-8").strip() if IN_CLUSTER_NAMESPACE.is_file() else None
    else:
        raise PipelineError(f"{files}: there is no kubeconfig: set KUBECONFIG to one, or get one from the cluster's provider")
    # The client would repeat a request by itself, without a pause and without a word.
    configuration.retries = False
    api = client.ApiClient(configuration)
    api.set_default_header("User-Agent", "mlops-pipeline")
    return Cluster(api, context=context, namespace=namespace or usual or "default", say=say, clock=clock, backoff=backoff)


def _load(files: str, context: str | None, configuration: Any) -> Any:
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger
    from yaml import YAMLError

    try:
        content = KubeConfigMerger(files).config
        names = [str(entry["name"]) for entry in content["contexts"]] if content and "contexts" in content else []
        if context is not None and context not in names:
            raise PipelineError(f"{files}: --context {context}: there is no such context: use one of {', '.join(names) or '(none)'}")
        if context is None and not (content and "current-context" in content and content.safe_get("current-context")):
            raise PipelineError(f"{files}: current-context is not set: name one with --context ({', '.join(names) or 'it has none'})")
        loader = KubeConfigLoader(config_dict=content, config_base_path=None, active_context=context)
        loader.load_and_set(configuration)
    except (ConfigException, YAMLError, OSError, TypeError, KeyError, ValueError) as error:
        raise PipelineError(f"{files}: cannot be used: {one_line(error)}: mend it, or name another with KUBECONFIG") from error
    return loader.current_context


def _status_of(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {"message": body.decode("utf-8", errors="replace")}
    return content if isinstance(content, dict) else {"message": str(content)}


def _seconds(header: str | None) -> float | None:
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
