"""HTTP in front of the service: from an ASGI scope to a route, from a body to an answer or a page.

An ASGI application and nothing more: whatever speaks ASGI can run it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mlops_pipeline.serving.bodies import Bodies, ClientGone
from mlops_pipeline.serving.operations import Operations
from mlops_pipeline.serving.problems import problem_details, refused
from mlops_pipeline.serving.protocol import Headers, open_inference
from mlops_pipeline.serving.request import JSON, PROBLEM, Receive, Request, Scope, Send, request_of
from mlops_pipeline.serving.routes import OPEN, WATCHED, Route, routes_of, scope_of, without_version
from mlops_pipeline.serving.sites import Sites

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving
    from mlops_pipeline.inference.faults import Refused
    from mlops_pipeline.monitoring.state import Shown
    from mlops_pipeline.serving.answer import Service
    from mlops_pipeline.serving.tracing import Tracing


class Application:
    """One worker's server."""

    def __init__(self, service: Service, *, version: str, tracing: Tracing | None = None) -> None:
        self.service, self.tracing = service, tracing
        self._operations = Operations(service, version)
        self._bodies = Bodies(service.settings.limits)
        self._numbers = itertools.count()
        self._prefix = f"{int(time.time()):08x}{os.urandom(5).hex()}"
        self._routes = routes_of(service.settings)
        self._sites = Sites(service.settings)
        self._use(service.settings)
        service.on_beat.append(self._bodies.give_up)
        service.on_use.append(self._use)

    def _use(self, settings: Serving) -> None:
        longest = settings.limits.id
        self._longest_id = min(longest.characters, longest.most_bytes)
        self._bodies.use(settings.limits)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The work of an ASGI scope. Not a coroutine itself, which would cost every request one more."""
        if scope["type"] != "http":
            return self._lifespan(receive, send)
        route, version = self._routes.get(scope["path"]), None
        if route is None and (versioned := without_version(scope["path"])) is not None:
            path, version = versioned
            route = self._routes.get(path)
        if route is not None and route.method == "POST" and scope["method"] == "POST":
            if route.kind == "labels":
                return self._labels(scope, receive, send, route)
            return self._predict(scope, receive, send, route, version)
        return self._page(scope, send, route, version)

    async def _predict(self, scope: Scope, receive: Receive, send: Send, route: Route, version: str | None) -> None:
        service = self.service
        request = request_of(scope, f"{self._prefix}{next(self._numbers):x}", route.kind, route.model, self._longest_id)
        span = self.tracing.begin(request) if self.tracing is not None else None
        served, status = None, 200
        try:
            self._sites.check(request, route.kind)
            self._sites.check_post(request)
            if service.access is not None:
                service.access.admit(request, scope.get("client"), "predict", route.model)
            request.check_id(self._longest_id)
            body = await self._bodies.read(receive, request)
            served = service.served(route.model, version)
            if service.traffic is None or version is not None:
                content, headers = await service.predict(request, served, body)
            else:
                content, headers = await service.traffic.predict(request, served, body, scope["headers"])
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # nothing may leave a client without an answer
            status, content, headers = _of_refusal(await service.refusal(error, request, served), request)
        await self._send(send, status, content, headers, request)
        service.answered(request, status)
        if span is not None:
            span(status)
        if request.behind is not None and status == 200 and service.traffic is not None:
            service.traffic.follow(request, body)

    async def _labels(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        service, status = self.service, 200
        request = request_of(scope, f"{self._prefix}{next(self._numbers):x}", "pages", "", self._longest_id)
        try:
            self._sites.check(request, route.kind)
            self._sites.check_post(request)
            if service.access is not None:
                service.access.admit(request, scope.get("client"), scope_of(route), route.model)
            request.check_id(self._longest_id)
            body = await self._bodies.read(receive, request)
            content, headers = await service.keep_labels(request, service.served(route.model, None), body)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # nothing may leave a client without an answer
            status, content, headers = _of_refusal(await service.refusal(error, request, None), request)
        await self._send(send, status, content, headers, request)
        service.metrics.told("pages", status)

    async def _page(self, scope: Scope, send: Send, route: Route | None, version: str | None) -> None:
        service, path, method = self.service, scope["path"], scope["method"]
        protocol = "v2" if path == "/v2" or path.startswith("/v2/") else "pages"
        request = request_of(scope, f"{self._prefix}{next(self._numbers):x}", protocol, "", self._longest_id)
        try:
            self._sites.check(request, "" if route is None else route.kind)
            if method == "OPTIONS" and route is not None and self._sites.allows(request.origin):
                await self._send(send, 200, b"", self._sites.preflight(), request)
                return
            if service.access is not None and not self._is_open(route):
                service.access.admit(request, scope.get("client"), *(("predict",) if route is None else (scope_of(route), route.model)))
            if route is None:
                raise refused(404, "not_found", f"there is nothing at {path[:100]}: see /docs")
            if method != route.method and not (method == "HEAD" and route.method == "GET"):
                allowed = b"POST" if route.method == "POST" else b"GET, HEAD"
                raise refused(405, "method", f"{path[:100]} takes {allowed.decode()}, not {method[:20]}", ((b"allow", allowed),))
            served = service.served(route.model, version) if route.model else None
            shown = await self._shown(route.kind)
            status, content, headers = self._operations.page(route.kind, served, request.holder, shown)
        except Exception as error:  # noqa: BLE001  # nothing may leave a client without an answer
            status, content, headers = _of_refusal(await service.refusal(error, request, None), request)
            if status == 401 and route is not None and route.kind in ("monitoring", "release"):
                # A browser asks for it, where one looks at the page: any name, the key as the password.
                headers.append((b"www-authenticate", b'Basic realm="any name, the API key as password", charset="UTF-8"'))
        await self._send(send, status, content, headers, request, bodiless=method == "HEAD")
        service.metrics.told("pages", status)

    async def _shown(self, kind: str) -> Shown | None:
        """What the watch's job has made for a page; None for one that it makes nothing for."""
        memory = self.service.memory
        return await memory.shown(kind) if memory is not None and kind in WATCHED else None

    def _is_open(self, route: Route | None) -> bool:
        return route is not None and (route.kind in OPEN or (route.kind == "metrics" and self.service.settings.open_metrics))

    async def _send(self, send: Send, status: int, content: bytes, headers: Headers, request: Request, *, bodiless: bool = False) -> None:
        headers.append((b"content-length", b"%d" % len(content)))
        if request.origin:
            headers += self._sites.headers(request.origin)
        headers.append((b"x-request-id", request.request_id.encode()))
        if self.service.draining or request.expects:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if bodiless else content})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.service.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.service.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _of_refusal(refusal: Refused, request: Request) -> tuple[int, bytes, Headers]:
    """Status, body and headers as the request's protocol spells an error."""
    if request.protocol == "v2":
        return refusal.status, open_inference.error(str(refusal)), [(b"content-type", JSON), *refusal.headers]
    return refusal.status, problem_details(refusal, request.request_id), [(b"content-type", PROBLEM), *refusal.headers]
