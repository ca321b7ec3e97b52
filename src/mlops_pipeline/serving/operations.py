"""Everything that is not a prediction: the pages, health, metrics, and what is told of the models served."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.moments import rfc3339
from mlops_pipeline.contract.privacy import told_levels
from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.answer import NO_WATCH
from mlops_pipeline.serving.problems import RETRY, refused
from mlops_pipeline.serving.protocol import Headers, open_inference
from mlops_pipeline.serving.request import JSON, TEXT

if TYPE_CHECKING:
    from mlops_pipeline.contract.evaluation import Evaluation
    from mlops_pipeline.inference.raw import RawInput
    from mlops_pipeline.inference.signature import Signature
    from mlops_pipeline.monitoring.state import Shown
    from mlops_pipeline.serving.answer import Service
    from mlops_pipeline.serving.holder import Holder
    from mlops_pipeline.serving.served import Served


Page = tuple[int, bytes, Headers]

WATCHED_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the watch's page, which runs nothing, and whose cells have a style each."""
NO_PAGE = {
    "monitoring": "the watch has made no page yet: `mlops monitor run` does",
    "release": "",
}
"""Why there is none of these pages; of releases there is always one."""
NO_RELEASE = b'{"verdict":"none","releases":[]}'
NO_RELEASE_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Releases</title>
<body style="font:16px/1.5 system-ui,sans-serif;max-width:60ch;margin:3rem auto;padding:0 1rem"><h1>Releases</h1>
<p>No release was begun yet: <code>mlops release start VERSION</code> begins one.</p></body></html>
"""
"""What people see before the first release: no fault of theirs."""


def while_judged(content: str, leases: Mapping[int, float], now: float) -> bytes:
    """What the controller has said of releases; of one that nobody judges any more, by its lease, the verdict is unknown."""
    if '"healthy"' not in content:
        return content.encode()
    told = msgspec.json.decode(content)
    for each in told["releases"]:
        if each["verdict"] == "healthy" and leases.get(each["release"], each["good_until"]) < now:
            each["verdict"] = "unknown"
    told["verdict"] = told["releases"][0]["verdict"]
    told["verdicts"] = {each["challenger"]: each["verdict"] for each in reversed(told["releases"])}
    return msgspec.json.encode(told)


class Operations:
    """The pages of one worker's service."""

    def __init__(self, service: Service, version: str) -> None:
        self._service, self._version = service, version

    def page(self, kind: str, served: Served | None, holder: Holder | None = None, shown: Shown | None = None) -> Page:
        """Status, body and headers of a page; ``served`` is the model that its path names, ``holder`` the key's, told of his models.

        ``shown`` is what the watch's job has made for it. Raises :class:`Refused` if it has made none and the page is nothing else.
        """
        if served is not None:
            return self._of_model(kind, served)
        if kind in ("index", "docs"):
            content, policy = openapi.page(kind)
            safe = [(b"content-security-policy", policy.encode()), (b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-cache")]
            return 200, content, [(b"content-type", b"text/html; charset=utf-8"), *safe]
        if kind in ("ready", "v2-ready", "ping"):
            return self._readiness(kind)
        if kind == "metrics":
            text = self._service.metrics.text() + (b"" if shown is None else shown.content.encode())
            return 200, text, [(b"content-type", b"text/plain; version=1.0.0; charset=utf-8")]
        if kind in NO_PAGE:
            return self._watched(shown, NO_PAGE[kind])
        contents: dict[str, Callable[[], bytes]] = {
            "live": lambda: b'{"status":"ok"}',
            "v2-live": lambda: b'{"live":true}',
            "v2": lambda: open_inference.server_metadata(self._version),
            "release.json": lambda: NO_RELEASE if shown is None else while_judged(shown.content, self._leases(), time.time()),
            "status": lambda: msgspec.json.encode(self._status(holder)),
            "openapi": lambda: msgspec.json.encode(self._document(holder)),
        }
        return 200, contents[kind](), [(b"content-type", JSON), (b"cache-control", b"no-store")]

    def not_ready(self) -> list[str]:
        """Why this server should get no traffic; empty if it should. For everybody: no word of hosts, folders or databases."""
        service, reasons = self._service, []
        default, recorder, workers = service.settings.default_model, service.recorder, service.workers
        if service.draining:
            reasons.append("stopping")
        if default not in service.models:
            reasons.append(f"model '{default}' {service.why_none(default)}")
        if recorder is not None and recorder.problem:
            reasons.append("the record of predictions cannot be written: the server's log and /status say why")
        now = time.monotonic()
        # A beat in the future is the time that a new worker has to start: it does not answer yet.
        late = [k for k, beat in enumerate(workers.beats) if k != workers.own and (now - beat > workers.stuck_s or beat > now)]
        if late:
            reasons.append(f"{len(late)} of {len(workers.beats)} workers do not answer")
        return reasons

    def _of_model(self, kind: str, served: Served) -> Page:
        if kind == "version":
            return 200, served.loaded.mlflow_version.encode(), [(b"content-type", TEXT)]
        name, version, signature = served.loaded.name, served.version, served.taken
        if kind == "v2-model-ready":
            return 200, open_inference.model_ready(name), [(b"content-type", JSON)]
        form = plugins.part(plugins.ModelFormat, served.loaded.engine.name)
        platform = form.platform or f"mlops_{form.name}"
        raw = None if served.loaded.raw is None or served.only_raw else served.loaded.raw.signature
        why_not = "" if served.computing is None else served.computing.why_not
        return 200, open_inference.model_metadata(name, version, signature, platform, raw, why_not), [(b"content-type", JSON)]

    def _leases(self) -> dict[int, float]:
        traffic = self._service.traffic
        return {} if traffic is None else {each["number"]: each["lease_until"] for each in traffic.status().values()}

    def _watched(self, shown: Shown | None, without: str) -> Page:
        if shown is None and (without or self._service.memory is None):
            raise refused(404, "not_found", NO_WATCH if self._service.memory is None else without)
        content, live = NO_RELEASE_PAGE, [(b"refresh", b"60")]
        if shown is not None:
            content = shown.content.encode()
            live = [(b"last-modified", formatdate(shown.made, usegmt=True).encode()), *live]
        safe = [(b"content-security-policy", WATCHED_POLICY), (b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-cache")]
        return 200, content, [(b"content-type", b"text/html; charset=utf-8"), *live, *safe]

    def _readiness(self, kind: str) -> Page:
        reasons = self.not_ready()
        status, retry = (503, list(RETRY)) if reasons else (200, [])
        if kind == "ping":
            return status, b"\n", [(b"content-type", TEXT), *retry]
        if kind == "v2-ready":
            return status, b'{"ready":false}' if reasons else b'{"ready":true}', [(b"content-type", JSON), *retry]
        content: dict[str, Any] = {"status": "not ready", "reasons": reasons} if reasons else {"status": "ok"}
        releases = self._service.releases
        if releases is not None and (notes := releases.notes()):
            content["notes"] = notes
        return status, msgspec.json.encode(content), [(b"content-type", JSON), *retry]

    def _told(self, holder: Holder | None) -> dict[str, Served]:
        return {name: served for name, served in self._service.models.items() if holder is None or holder.may_ask(name)}

    def _status(self, holder: Holder | None) -> dict[str, Any]:
        service = self._service
        settings, recorder, totals = service.settings, service.recorder, service.metrics.totals()
        return {
            "service": {
                "version": self._version,
                "started": _utc(totals.pop("started")),
                "workers": settings.workers,
                "default": settings.default_model,
                "record": {
                    "mode": settings.record.mode,
                    "loss_ms": settings.record.loss_ms,
                    "pending": recorder.pending if recorder else 0,
                    "written": recorder.written if recorder else 0,
                    "problem": recorder.problem if recorder else "",
                },
                "not_ready": self.not_ready(),
            },
            "models": {name: _described(served) for name, served in self._told(holder).items()},
            "releases": {} if service.releases is None else {n: r for n, r in service.releases.status().items() if n in self._told(holder)},
            "totals": totals,
        }

    def _document(self, holder: Holder | None) -> dict[str, Any]:
        settings, told = self._service.settings, self._told(holder)
        return openapi.document(
            {name: served.taken for name, served in told.items()},
            settings.default_model,
            version=self._version,
            keys=settings.has_keys,
            max_rows=settings.limits.max_rows,
            open_metrics=settings.open_metrics,
            labels=self._labels(),
            raws={name: served.loaded.raw for name, served in told.items() if served.loaded.raw is not None and not served.only_raw},
            examples={name: served.example for name, served in told.items()},
        )

    def _labels(self) -> openapi.Labels:
        """What `/labels` takes, as far as it is known."""
        settings, memory = self._service.settings, self._service.memory
        served = self._service.models.get(settings.default_model)
        target = None if served is None or memory is None else memory.target(served.loaded.contract)
        return openapi.Labels(target, settings.limits.max_rows, settings.limits.id.characters)


def _utc(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


def _described(served: Served) -> dict[str, Any]:
    loaded, signature = served.loaded, served.signature
    columns = _columns(signature)
    return {
        "project": loaded.evaluation.pipeline,
        "reference": loaded.reference,
        "version": loaded.version,
        "content_sha256": loaded.content_sha256,
        "engine": loaded.engine.name,
        "loaded": _utc(loaded.loaded_at),
        "task": signature.task,
        "target": loaded.contract.target,
        "classes": list(signature.classes),
        "estimator": loaded.contract.estimator,
        "columns": columns,
        "raw": _raw(served),
        "important": _important(loaded.evaluation, signature.columns),
        "example": openapi.made_up(signature),
        "metrics": loaded.evaluation.metrics,
        "gate": list(loaded.gate),
    }


def _raw(served: Served) -> dict[str, Any] | None:
    """What is told of raw rows; None where none are taken."""
    raw, now = served.loaded.raw, served.computing
    if raw is None or now is None:
        return None
    return {
        "columns": _columns(raw.signature),
        "example": raw.example,
        "computed": list(raw.kinds.computed),
        "important": _important_sources(served.loaded.evaluation, raw),
        "features_as_of": None if now.as_of is None else rfc3339(now.as_of),
        "why_not": now.why_not,
        "only": served.only_raw,
    }


def _columns(signature: Signature) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "kind": column.kind,
            "min": column.min,
            "max": column.max,
            "nullable": column.nullable,
            "private": column.private,
            "categories": told_levels(column, signature.seen[name]) if name in signature.seen and not column.private else None,
        }
        for name, column in signature.columns.items()
    ]


def _important_sources(evaluation: Evaluation, raw: RawInput) -> list[str]:
    """The raw columns of which most is made that the model listens to, these first."""
    weight = dict.fromkeys(raw.order, 0.0)
    for part in evaluation.importance:
        sources = [name for name in raw.made_of.get(part.feature, (part.feature,)) if name in weight]
        for name in sources:
            weight[name] += (part.drop or 0.0) / len(sources)
    return sorted(weight, key=lambda name: -weight[name]) if any(weight.values()) else []


def _important(evaluation: Evaluation, columns: Container[str]) -> list[str]:
    """Columns that the model listens to, the most important first; none if its evaluation does not say."""
    return [part.feature for part in evaluation.importance if part.feature in columns]
