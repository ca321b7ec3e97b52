"""What each path of the server means: its pages, and the three protocols of each model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlops_pipeline.config.keys import Scope
    from mlops_pipeline.config.serving import Serving

PAGES = {
    "/": "index",
    "/docs": "docs",
    "/openapi.json": "openapi",
    "/status": "status",
    "/monitoring": "monitoring",
    "/release": "release",
    "/release.json": "release.json",
    "/metrics": "metrics",
    "/live": "live",
    "/ready": "ready",
    "/ping": "ping",
    "/health": "ping",
    "/v2": "v2",
    "/v2/health/live": "v2-live",
    "/v2/health/ready": "v2-ready",
}
LABELS_PATH = "/labels"
OPEN = frozenset({"index", "docs", "live", "ready", "ping", "v2-live", "v2-ready"})
"""Kinds of pages that need no key: they hold nothing of the model, and probes carry none."""
OPEN_PATHS = tuple(path for path, kind in PAGES.items() if kind in OPEN)
"""The paths of those pages."""
PROBES = frozenset({"live", "ready", "ping", "v2-live", "v2-ready"})
"""Kinds of pages that a kubelet asks; they tell nothing."""
SCRAPED = PROBES | {"metrics"}
"""With what Prometheus asks: like a kubelet, it asks by the pod's address."""
WATCHED = frozenset({"monitoring", "metrics", "release", "release.json"})
"""Kinds of pages to which the watch's job adds, or which it makes."""
PROBE_PATHS = tuple(path for path, kind in PAGES.items() if kind in SCRAPED)
"""What is answered however many connections and requests there are."""
_OF_A_VERSION = re.compile(r"/v2/models/([^/]+)/versions/([^/]+)(/ready|/infer)?")


class Route(NamedTuple):
    """What a path means: a protocol's name where the method is POST, else a page's."""

    kind: str
    method: str
    model: str = ""


_SCOPES: dict[str, Scope] = {
    "metrics": "metrics",
    "status": "admin",
    "labels": "labels",
    "monitoring": "monitoring",
    "release": "monitoring",
    "release.json": "monitoring",
}


def scope_of(route: Route) -> Scope:
    """What a key must be good for to ask a path; who may predict may also read what the models are like."""
    return _SCOPES.get(route.kind, "predict")


def model_prefix(name: str) -> str:
    """Where a model is asked by its name."""
    return f"/models/{name}"


def open_inference_prefix(name: str) -> str:
    """Where a model is asked by the Open Inference Protocol; ``/versions/VERSION`` may follow."""
    return f"/v2/models/{name}"


def routes_of(settings: Serving) -> dict[str, Route]:
    """Every path of a server but those that name a version."""
    routes = {path: Route(kind, "GET") for path, kind in PAGES.items()}
    routes[LABELS_PATH] = Route("labels", "POST", settings.default_model)
    routes |= {f"/{kind}": Route(kind, "POST", settings.default_model) for kind in ("predict", "invocations")}
    for name in settings.models:
        routes |= {f"{model_prefix(name)}/{kind}": Route(kind, "POST", name) for kind in ("predict", "invocations")}
        prefix = open_inference_prefix(name)
        routes[prefix] = Route("v2-model", "GET", name)
        routes[f"{prefix}/ready"] = Route("v2-model-ready", "GET", name)
        routes[f"{prefix}/infer"] = Route("v2", "POST", name)
    routes["/version"] = Route("version", "GET", settings.default_model)
    return routes


def without_version(path: str) -> tuple[str, str] | None:
    """The path without the version that it names, and that version; None if it names none."""
    found = _OF_A_VERSION.fullmatch(path)
    return None if found is None else (f"{open_inference_prefix(found[1])}{found[3] or ''}", found[2])
