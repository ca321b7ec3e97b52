"""The path of a prediction, from its bytes to its answer, top to bottom.

An ASGI application and nothing more: whatever speaks ASGI can run it. One instance serves one worker and is used from one
event loop only. Models come and go by :meth:`Application.take`; a request keeps the version that it began with.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.engine import NotFinite, score
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.records.entry import Entry, Layout
from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.batching import Batcher, Queue
from mlops_pipeline.serving.metrics import Metrics, resident_bytes
from mlops_pipeline.serving.operations import OPEN, PAGES, Operations, Workers
from mlops_pipeline.serving.problems import RETRY, problem_details, refused
from mlops_pipeline.serving.protocol import Headers, Spoken, open_inference
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.predict import Predict
from mlops_pipeline.serving.record import Recorder, RecordFull
from mlops_pipeline.serving.request import JSON, PROBLEM, Asked, asked_by

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving
    from mlops_pipeline.serving.models import Loaded
    from mlops_pipeline.serving.tracing import Tracing

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

BEAT_S = 0.5
DISCARDED_BYTES = 64_000_000
RECORDED = frozenset({422, 500, 503})
"""Refusals that go on record: those of input that was read, and our own failures."""

log = logging.getLogger("mlops.serving")


class Route(NamedTuple):
    """What a path means: a protocol's name where the method is POST, else a page's."""

    kind: str
    method: str
    model: str = ""


class Served:
    """A loaded version with all that answers for it."""

    def __init__(self, loaded: Loaded, batcher: Batcher) -> None:
        self.loaded, self.batcher = loaded, batcher
        self.signature, self.version = loaded.signature, loaded.version
        signature, name, version = loaded.signature, loaded.name, loaded.version
        self.protocols: dict[str, Spoken] = {
            "predict": Predict(signature, name, version),
            "invocations": Invocations(signature),
            "v2": open_inference.OpenInference(signature, name, version),
        }
        self.layout = Layout(
            key=loaded.content_sha256,
            task=signature.task,
            numbers=signature.numbers,
            categories=signature.categories,
            private=frozenset(name for name, column in signature.columns.items() if column.private),
            classes=signature.classes,
        )
        self.headers = [(b"mlops-model", name.encode()), (b"mlops-model-version", version.encode())]
        # The example is a row of the training data: what is private in it is made up.
        self.example = {**loaded.example, **{key: value for key, value in openapi.made_up(signature).items() if key in self.layout.private}}


class Application:
    """One worker's server."""

    def __init__(
        self,
        settings: Serving,
        metrics: Metrics,
        workers: Workers,
        recorder: Callable[[asyncio.AbstractEventLoop], Recorder] | None,
        *,
        version: str,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings, self.metrics, self.workers, self.tracing = settings, metrics, workers, tracing
        self.models: dict[str, Served] = {}
        self.draining = False
        self.lost = ""
        """What could not be put on record at the end, in one line."""
        self.on_start: list[Callable[[], None]] = []
        self.on_stop: list[Callable[[], None]] = []
        self.recorder: Recorder | None = None
        self._make_recorder = recorder
        self._operations = Operations(self, version)
        self._queue: Queue
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._keys = [bytes.fromhex(digest.removeprefix("sha256:")) for digest in settings.api_keys.values()]
        self._max_body, self._all_bodies = int(settings.limits.max_body_mb * 1e6), int(settings.limits.bodies_mb * 1e6)
        self._under_way = 0
        self._reading: dict[int, tuple[float, asyncio.Task[Any] | None]] = {}
        self._written = 0
        self._numbers = itertools.count()
        self._prefix = f"{int(time.time()):08x}{os.urandom(5).hex()}"
        self._routes = _routes(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route, version = self._routes.get(scope["path"]), None
            if route is None:
                route, version = self._versioned(scope["path"])
            if route is not None and route.method == "POST" and scope["method"] == "POST":
                await self._predict(scope, receive, send, route, version)
            else:
                await self._page(scope, send, route, version)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    # ------------------------------------------------------------------------------------------------ a prediction

    async def _predict(self, scope: Scope, receive: Receive, send: Send, route: Route, version: str | None) -> None:
        asked = asked_by(scope, f"{self._prefix}{next(self._numbers):x}", route.kind, route.model)
        span = self.tracing.begin(asked) if self.tracing is not None else None
        served, status = None, 200
        try:
            if self._keys:
                self._authorise(asked.credentials)
            body = await self._body(receive, asked)
            served = self._served(route.model, version)
            protocol = served.protocols[route.kind]
            rows, wanted = protocol.read(asked, body)
            outputs = await served.batcher.submit(rows, asked.began)
            content, headers = protocol.write(asked, rows, wanted, outputs)
            headers += served.headers
            if rows.unseen:
                self.metrics.unseen(route.model, rows.unseen)
            if self.recorder is not None:
                written = self.recorder.add(_entry(asked, served, rows.count, rows.numbers, rows.categories, outputs, rows.ids))
                if written is not None:
                    await self._on_disk(written, asked.began)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # nothing may leave a client without an answer
            status, content, headers, written = self._failed(error, asked, served)
            if written is not None and status < 500:
                try:
                    await self._on_disk(written, time.perf_counter())
                except Refused as late:
                    status, content, headers, _ = self._failed(late, asked, None)
        await self._send(send, status, content, headers, asked)
        count, observe = self.metrics.answered(asked.protocol, asked.model, status)
        count()
        observe(time.perf_counter() - asked.began)
        if span is not None:
            span(status)
        if status == 200 and self.settings.log.requests == "all":
            self._log(logging.INFO, "answered", asked, status)

    def _authorise(self, credentials: tuple[bytes, ...]) -> None:
        """Every key is compared, in constant time, so that the time taken tells nothing of them."""
        digests = [hashlib.sha256(credential).digest() for credential in credentials]
        if not any([hmac.compare_digest(digest, key) for digest in digests for key in self._keys]):  # noqa: C419  # a list: all are compared
            what = "the API key is not one of this server's" if credentials else "an API key is needed: send Authorization: Bearer KEY"
            raise refused(401, "unauthorized", what, ((b"www-authenticate", b"Bearer"),))

    async def _body(self, receive: Receive, asked: Asked) -> bytes:
        """The whole body; refused as soon as it is known to be too large, given up if it does not come in time."""
        if asked.compressed:
            raise refused(415, "content_type", "the body is compressed, which this server does not read: send it plain")
        number = next(self._numbers)
        self._reading[number] = (asked.began, asyncio.current_task())
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body") or len(body) > self._max_body:
                body = await self._long_body(receive, message, asked)
            elif message["type"] == "http.disconnect":
                raise ClientGone
        except asyncio.CancelledError:
            if number in self._reading:
                raise
            seconds = self.settings.limits.body_timeout_s
            raise refused(408, "timeout", f"the body did not arrive within {seconds:g} s", ((b"connection", b"close"),)) from None
        finally:
            self._reading.pop(number, None)
        return body

    async def _long_body(self, receive: Receive, message: Mapping[str, Any], asked: Asked) -> bytes:
        """A body in several pieces. One that is too large is let pass unkept for a while, since a client that is cut off while
        it still sends sees a broken connection and not the answer."""
        parts, size, limit = [message.get("body", b"")], len(message.get("body", b"")), self._max_body
        if self._under_way + min(asked.length, limit) > self._all_bodies:
            raise refused(429, "queue_full", "too much is being received already: send again later", (*RETRY, (b"connection", b"close")))
        held = max(asked.length, size)
        self._under_way += held
        try:
            while message.get("more_body") and max(size, asked.length) <= limit + DISCARDED_BYTES:
                message = await receive()
                part = message.get("body", b"")
                size += len(part)
                if size <= limit and asked.length <= limit:
                    parts.append(part)
                else:
                    parts.clear()
        finally:
            self._under_way -= held
        if message["type"] == "http.disconnect":
            raise ClientGone
        if max(size, asked.length) > limit:
            said = f"the body is larger than {self.settings.limits.max_body_mb:g} MB: send fewer rows"
            raise refused(413, "body_too_large", said, ((b"connection", b"close"),) if message.get("more_body") else ())
        return b"".join(parts)

    def _served(self, name: str, version: str | None) -> Served:
        served = self.models.get(name)
        if served is None:
            raise refused(503, "not_ready", f"model '{name}' is not loaded: see /ready", RETRY)
        if version is not None and version != served.version:
            raise refused(404, "not_found", f"model '{name}' is served in version {served.version or '(none)'}, not in {version[:40]}")
        return served

    async def _on_disk(self, written: asyncio.Future[None], began: float) -> None:
        """Wait for a group's commit. The future is the whole group's, so this request has one of its own to give up on."""
        own = self._queue.loop.create_future()
        written.add_done_callback(lambda _: None if own.done() else own.set_result(None))
        self._queue.watch(own, began)
        await own

    async def _send(self, send: Send, status: int, content: bytes, headers: Headers, asked: Asked, *, bodiless: bool = False) -> None:
        headers.append((b"content-length", b"%d" % len(content)))
        headers.append((b"x-request-id", asked.request_id.encode()))
        if self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if bodiless else content})

    # ------------------------------------------------------------------------------------------------- what goes wrong

    def _failed(self, error: Exception, asked: Asked, served: Served | None) -> tuple[int, bytes, Headers, asyncio.Future[None] | None]:
        """The answer to a request that fails, and what it has to wait for.

        It is counted, logged and put on record by its reason, row and column, never by a value.
        """
        written = None
        if isinstance(error, Refused):
            refusal = error
        elif isinstance(error, RecordFull):
            refusal = refused(503, "record_full", "the record of predictions cannot be written at present: send again later", RETRY)
        elif isinstance(error, NotFinite):
            log.error("output_not_finite", extra={"request_id": asked.request_id, "path": asked.path[:200]})
            what = f"{error}: nothing was predicted"
            refusal = Refused(500, [Fault("output_not_finite", what, int(error.rows[0]))])
        else:
            log.error("failed", exc_info=error, extra={"request_id": asked.request_id, "path": asked.path[:200]})
            refusal = refused(500, "internal", f"the server failed; its log says more under {asked.request_id}")
        self.metrics.rejected(asked.protocol, refusal.reason)
        if self.settings.log.requests != "none":
            self._log(logging.WARNING, "refused", asked, refusal.status, reason=refusal.place)
        if served is not None and self.recorder is not None and refusal.status in RECORDED and not isinstance(error, RecordFull):
            try:
                written = self.recorder.add(_entry(asked, served, 0, error=refusal.place))
            except RecordFull:
                log.warning("a refusal could not be put on record", extra={"request_id": asked.request_id})
        if asked.protocol == "v2":
            return refusal.status, open_inference.error(str(refusal)), [(b"content-type", JSON), *refusal.headers], written
        return refusal.status, problem_details(refusal, asked.request_id), [(b"content-type", PROBLEM), *refusal.headers], written

    def _log(self, level: int, event: str, asked: Asked, status: int, **more: Any) -> None:
        facts = {
            "request_id": asked.request_id,
            "protocol": asked.protocol,
            "path": asked.path[:200],
            "status": status,
            "ms": round((time.perf_counter() - asked.began) * 1000, 3),
            **more,
        }
        if asked.traceparent:
            facts["traceparent"] = asked.traceparent
        log.log(level, event, extra=facts)

    # ------------------------------------------------------------------------------------------------ everything else

    async def _page(self, scope: Scope, send: Send, route: Route | None, version: str | None) -> None:
        path, method = scope["path"], scope["method"]
        protocol = "v2" if path == "/v2" or path.startswith("/v2/") else "pages"
        asked = asked_by(scope, f"{self._prefix}{next(self._numbers):x}", protocol, "")
        try:
            if self._keys and (route is None or route.kind not in OPEN) and not self._is_open_metrics(route):
                self._authorise(asked.credentials)
            if route is None:
                raise refused(404, "not_found", f"there is nothing at {path[:100]}: see /docs")
            if method != route.method and not (method == "HEAD" and route.method == "GET"):
                allowed = b"POST" if route.method == "POST" else b"GET, HEAD"
                raise refused(405, "method", f"{path[:100]} takes {allowed.decode()}, not {method[:20]}", ((b"allow", allowed),))
            served = self._served(route.model, version) if route.model else None
            status, content, headers = self._operations.page(route.kind, served)
        except Exception as error:  # noqa: BLE001  # nothing may leave a client without an answer
            status, content, headers, _ = self._failed(error, asked, None)
        await self._send(send, status, content, headers, asked, bodiless=method == "HEAD")
        self.metrics.answered("pages", "", status)[0]()

    def _is_open_metrics(self, route: Route | None) -> bool:
        return route is not None and route.kind == "metrics" and self.settings.open_metrics

    def _versioned(self, path: str) -> tuple[Route | None, str | None]:
        found = re.fullmatch(r"/v2/models/([^/]+)/versions/([^/]+)(/ready|/infer)?", path)
        return (None, None) if found is None else (self._routes.get(f"/v2/models/{found[1]}{found[3] or ''}"), found[2])

    # ---------------------------------------------------------------------------------------------------- life of it

    def prepared(self, loaded: Loaded) -> Served:
        """A version with all that it needs to answer; in any thread, once the application has started."""
        before = self.models.get(loaded.name)
        if before is not None and before.loaded.engine is loaded.engine:
            batcher = before.batcher
        else:
            seen = self.metrics.batches(loaded.name)
            batcher = Batcher(partial(score, loaded.engine), self._queue, self._pool, max_rows=self.settings.batching.max_rows, seen=seen)
        return Served(loaded, batcher)

    def take(self, served: Served) -> None:
        """Let a version answer from the next request on; on the loop's own thread."""
        loaded = served.loaded
        self.models[loaded.name] = served
        self.metrics.loaded(loaded.name, loaded.version)
        facts = {"model": loaded.name, "version": loaded.version, "content": loaded.content_sha256[:16], "engine": loaded.engine.name}
        log.info("serves", extra=facts)

    async def start(self) -> None:
        """Make what belongs to the loop, before the first request."""
        loop = asyncio.get_running_loop()
        limits = self.settings.limits
        self._queue = Queue(loop, rows=limits.queue_rows, deadline_s=limits.deadline_ms / 1000)
        if self._make_recorder is not None:
            self.recorder = self._make_recorder(loop)
            self.recorder.start()
        for call in self.on_start:
            call()
        self._beating = loop.create_task(self._beat())

    async def stop(self) -> None:
        """After the last request: stop looking for models, write what is to be recorded."""
        self._beating.cancel()
        if self.recorder is not None:
            try:
                await self.recorder.close()
            except PipelineError as error:
                self.lost = str(error)
        for call in self.on_stop:
            await asyncio.to_thread(call)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _beat(self) -> None:
        while True:
            self.workers.beats[self.workers.own] = time.monotonic()
            metrics, recorder = self.metrics, self.recorder
            metrics.queue_rows.set(self._queue.rows)
            metrics.resident.set(resident_bytes())
            if recorder is not None:
                metrics.record_pending.set(recorder.pending)
                metrics.record_failing.set(1 if recorder.problem else 0)
                metrics.records_written.inc(recorder.written - self._written)
                self._written = recorder.written
            self._give_up_bodies()
            await asyncio.sleep(BEAT_S)

    def _give_up_bodies(self) -> None:
        oldest = time.perf_counter() - self.settings.limits.body_timeout_s
        for number, (since, task) in list(self._reading.items()):
            if since > oldest:
                break
            del self._reading[number]
            if task is not None:
                task.cancel()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


class ClientGone(Exception):
    """The client has hung up before its body was complete."""


def _entry(asked: Asked, served: Served, rows: int, *arrays: Any, error: str = "") -> Entry:
    latency_us = int((time.perf_counter() - asked.began) * 1e6)
    numbers, categories, outputs, ids = arrays or (None, None, None, None)
    return Entry(
        asked.request_id,
        asked.arrived,
        latency_us,
        asked.model,
        served.version,
        served.layout,
        rows,
        numbers,
        categories,
        outputs,
        ids,
        error,
    )


def _routes(settings: Serving) -> dict[str, Route]:
    routes = {path: Route(kind, "GET") for path, kind in PAGES.items()}
    routes |= {f"/{kind}": Route(kind, "POST", settings.default_model) for kind in ("predict", "invocations")}
    for name in settings.models:
        routes |= {f"/models/{name}/{kind}": Route(kind, "POST", name) for kind in ("predict", "invocations")}
        routes[f"/v2/models/{name}"] = Route("v2-model", "GET", name)
        routes[f"/v2/models/{name}/ready"] = Route("v2-model-ready", "GET", name)
        routes[f"/v2/models/{name}/infer"] = Route("v2", "POST", name)
    routes["/version"] = Route("version", "GET", settings.default_model)
    return routes
