"""kmock's emulator of the Kubernetes API on loopback, taught server-side apply; the tests play the controllers."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import kmock
import yaml

APPLY = "application/apply-patch+yaml"
NAMESPACES = kmock.resource("v1/namespaces")
DEPLOYMENTS = kmock.resource("apps/v1/deployments")
REPLICA_SETS = kmock.resource("apps/v1/replicasets")
PODS = kmock.resource("v1/pods")
REVISION = "deployment.kubernetes.io/revision"


class Emulator(kmock.KubernetesEmulator):
    """kmock's emulator and what it leaves to its heirs: server-side apply, dry runs, versions, generations.

    kmock changes its state before a reaction can answer instead; an apply that a test has refused must change nothing,
    so applies go past that and are a reaction of their own, of the lowest rank but one.
    """

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.applied: dict[Any, dict[str, Any]] = {}
        self.version = 100
        self.resources.load_bundled()
        (self.fallback**1)["patch", kmock.headers({"Content-Type": APPLY})] << self._serve_apply

    async def _handle(self, request: Any) -> Any:
        # kmock 0.8 reads /api/v1/namespaces/NAME as "all of the namespace NAME", so that a Namespace cannot be had by its path.
        named = re.fullmatch(r"/api/v1/namespaces/([^/]+)", request.url.path)
        if named:
            action = {"GET": kmock.action.FETCH, "PATCH": kmock.action.UPDATE}[request.method.value.upper()]
            place = next(i for i, known in enumerate(self._requests) if known is request)
            request = attrs.evolve(request, resource=NAMESPACES, namespace=None, name=named[1], action=action)
            self._requests[place] = request
        if request.headers.get("Content-Type") == APPLY:
            return await kmock.RawHandler._handle(self, request)
        return await super()._handle(request)

    async def _serve_version(self, request: Any) -> Any:
        found = await super()._serve_version(request)
        return {**found, "groupVersion": found["groupVersion"].lstrip("/")}  # kubectl does not take kmock's "/v1"

    async def _serve_list(self, request: Any) -> Any:
        kind = self.resources[request.resource].kind
        version = f"{request.resource.group}/{request.resource.version}".lstrip("/")
        return {"kind": f"{kind}List", "apiVersion": version, **await super()._serve_list(request)}  # kubectl asks for both

    async def _serve_apply(self, request: Any) -> dict[str, Any]:
        namespace = request.namespace
        if namespace and (NAMESPACES, None, namespace) not in self.objects:
            raise not_found(namespace)
        key = (request.resource, namespace, request.name)
        live = self.objects[key].raw if key in self.objects and not self.objects[key].deleted else {}
        merged = merge(live, self.applied.get(key, {}), request.data)
        merged["metadata"] |= {"namespace": namespace} if namespace else {}
        if request.params.get("dryRun") == "All":
            return merged
        self.applied[key] = request.data
        return live if merged == live else await self.store(key, merged)

    async def store(self, key: Any, content: dict[str, Any]) -> dict[str, Any]:
        """Keep an object as the API server does: with a new version, and a new generation if its spec is another."""
        async with self._lock:
            old = self.objects[key].raw if key in self.objects and not self.objects[key].deleted else {}
            self.version += 1
            metadata = {"uid": f"uid-{self.version}", "generation": 0, **old.get("metadata", {}), **content["metadata"]}
            metadata["generation"] += old.get("spec") != content.get("spec")
            metadata["resourceVersion"] = str(self.version)
            stored = copy.deepcopy({**content, "metadata": metadata})
            self.objects[key] = stored
            await self._buses[key[0]].put({"type": "MODIFIED" if old else "ADDED", "object": copy.deepcopy(stored)})
            return stored


def merge(live: Any, before: Any, new: Any) -> Any:
    """What an apply makes of an object: the new fields, without those that the same manager named before and no longer names."""
    if not isinstance(new, dict):
        return copy.deepcopy(new)
    kept = live if isinstance(live, dict) else {}
    past = before if isinstance(before, dict) else {}
    left = {key: value for key, value in kept.items() if key in new or key not in past}
    return left | {key: merge(kept.get(key), past.get(key), value) for key, value in new.items()}


def refusal(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    """The body of a refusal, as the API server writes it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


def not_found(namespace: str) -> Exception:
    from kmock._internal.k8s import KubernetesError

    return KubernetesError(404, "NotFound", f'namespaces "{namespace}" not found', {})


async def breaks(request: Any) -> AsyncIterator[bytes]:
    """A watch whose connection breaks in the middle of an event."""
    yield b'{"type": "MODIFIED", "obj'
    request._raw_request.transport.abort()


class Api:
    """The emulator at work in a thread, and what a test does to it."""

    refusal = staticmethod(refusal)
    breaks = staticmethod(breaks)

    def __init__(self, emulator: Emulator, url: str, loop: asyncio.AbstractEventLoop, namespace: str) -> None:
        self.emulator, self.url, self.namespace, self._loop = emulator, url, namespace, loop

    def wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(60)

    def react(self, what: str, plural: str, *payloads: Any, times: int | None = None, for_real: bool = False) -> None:
        """Answer requests to a collection otherwise: all of them or so many, dry runs too or not."""
        view = self.emulator[what, re.compile(rf".*/{plural}(/.*)?")]
        view = view[lambda request: "dryRun" not in request.params] if for_real else view
        view = view[:times] if times else view
        for payload in payloads:
            view = view << payload

    def refuse(self, what: str, plural: str, code: int, reason: str, message: str, *, times: int | None = None, **details: Any) -> None:
        """Refuse requests to a collection, as the API server words it."""
        self.react(what, plural, code, kmock.data(refusal(code, reason, message, **details)), times=times)

    def write(self, resource: Any, name: str, content: dict[str, Any], *, namespace: str | None = "") -> None:
        """Put an object there; keys of one that is there already are merged."""
        key = (resource, self.namespace if namespace == "" else namespace, name)
        old = self.emulator.objects[key].raw if key in self.emulator.objects else {}
        self.wait(self.emulator.store(key, merge(old, {}, {**content, "metadata": {"name": name, **content.get("metadata", {})}})))

    def has(self, resource: Any, name: str) -> bool:
        return (resource, self.namespace, name) in self.emulator.objects

    def read(self, resource: Any, name: str) -> dict[str, Any]:
        return json.loads(json.dumps(self.emulator.objects[resource, self.namespace, name].raw))

    def delete(self, resource: Any, name: str) -> None:
        import urllib.request

        path = f"/apis/apps/v1/namespaces/{self.namespace}/{resource.plural}/{name}"
        with urllib.request.urlopen(urllib.request.Request(self.url + path, method="DELETE"), timeout=120):
            pass

    def deployment(self) -> dict[str, Any]:
        return self.read(DEPLOYMENTS, "flights")

    def image(self) -> str | None:
        """The image that the Deployment names now."""
        return self.deployment()["spec"]["template"]["spec"]["containers"][0]["image"] if self.has(DEPLOYMENTS, "flights") else None

    def requests(self, method: str, path: str = "") -> list[Any]:
        return [r for r in list(self.emulator) if r.method.value.lower() == method and path in r.url.path]

    def applies(self) -> list[Any]:
        """The applies that were to change something."""
        return [r for r in self.requests("patch") if r.headers.get("Content-Type") == APPLY and "dryRun" not in r.params]

    def watches(self) -> list[Any]:
        return [r for r in self.requests("get", "/deployments") if r.params.get("watch") == "true"]

    def control(self, revision: int, *, updated: int = 2, available: int = 2, old: int = 0, **condition: str) -> None:
        """Do what the Deployment controller does: own a ReplicaSet for the template, and write the status."""
        live = self.deployment()
        template = live["spec"]["template"]
        hashed = f"h{revision}"
        labels = {**template["metadata"]["labels"], "pod-template-hash": hashed}
        self.write(
            REPLICA_SETS,
            f"flights-{hashed}",
            {
                "metadata": {
                    "labels": labels,
                    "annotations": {REVISION: str(revision)},
                    "ownerReferences": [{"kind": "Deployment", "name": "flights", "uid": live["metadata"]["uid"]}],
                },
                "spec": {"template": {**template, "metadata": {**template["metadata"], "labels": labels}}},
            },
        )
        counts = {"replicas": updated + old, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available}
        conditions = [{"type": "Progressing", "status": "True", **condition}] if condition else []
        self.write(
            DEPLOYMENTS,
            "flights",
            {
                "metadata": {"annotations": {REVISION: str(revision)}},
                "status": {"observedGeneration": live["metadata"]["generation"], **counts, "conditions": conditions},
            },
        )

    def pod(self, revision: int, name: str, **status_of: Any) -> None:
        """A pod of a revision, as the kubelet reports it."""
        owner = self.read(REPLICA_SETS, f"flights-h{revision}")
        references = [{"kind": "ReplicaSet", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]
        metadata = {"labels": owner["metadata"]["labels"], "ownerReferences": references}
        self.write(PODS, name, {"metadata": metadata, "spec": {}, "status": status_of})

    def kubeconfig(self, folder: Path, **more: Any) -> Path:
        """A kubeconfig with one context, `here`, that leads to this API."""
        path = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": self.namespace}}],
            "current-context": "here",
            **more,
        }
        path.write_text(yaml.safe_dump(content))
        return path


@contextmanager
def kubernetes_api(namespace: str = "serving") -> Iterator[Api]:
    """An emulated cluster with one namespace, for the length of a block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Emulator, kmock.Server]:
        emulator = await Emulator().__aenter__()
        return emulator, await kmock.Server(emulator).__aenter__()

    async def stop() -> None:
        await server.__aexit__(None, None, None)
        await emulator.__aexit__(None, None, None)

    emulator, server = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    api = Api(emulator, str(server.url).rstrip("/"), loop, namespace)
    api.write(NAMESPACES, namespace, {"apiVersion": "v1", "kind": "Namespace"}, namespace=None)
    try:
        yield api
    finally:
        api.wait(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(120)
        loop.close()
