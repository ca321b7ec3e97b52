"""Who may have sent a request: by which name it asks for this server, and whether a page of another site sent it.

A browser runs what strangers wrote, on the machine of somebody who can reach this server. It tells the name in its address bar
(``Host``), and of which site the page is that asks (``Origin``, ``Sec-Fetch-Site``), and lets no page change them. A page whose own
name is made to lead to this machine (DNS rebinding) is known by the former, any other by the latter. Programs send no ``Origin``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mlops_pipeline.config.serving import is_loopback
from mlops_pipeline.serving.problems import refused
from mlops_pipeline.serving.request import NONE
from mlops_pipeline.serving.routes import PROBES, SCRAPED

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving
    from mlops_pipeline.serving.request import Request

_HEADERS = b"authorization, content-type, inference-header-content-length, traceparent, x-api-key, x-request-id"
_TOLD = b"inference-header-content-length, mlops-model, mlops-model-version, mlops-warnings, retry-after, x-request-id"


class Sites:
    """The names and sites of one server.

    On a loopback address only loopback names and ``allowed_hosts`` are this server's. On any other address it does not know its names
    (a pod's address, a service's name, a proxy's), so that all are taken unless ``allowed_hosts`` lists some: there keys keep others
    out, or a network does. Probes are answered under any name, ``/metrics`` too where the address is no loopback one.
    """

    def __init__(self, settings: Serving) -> None:
        names = {name.lower() for name in settings.allowed_hosts}
        self._any_host = "*" in names or not (names or is_loopback(settings.host))
        self._under_any_host = PROBES if is_loopback(settings.host) else SCRAPED
        self._names = frozenset(name for name in names if not name.startswith("*"))
        self._endings = (".localhost", *(name[1:] for name in names if name.startswith("*.")))
        self._origins = frozenset(origin.lower().rstrip("/").encode() for origin in settings.allowed_origins)
        self.is_ours = lru_cache(256)(self._is_ours)

    def check(self, request: Request, kind: str) -> None:
        """Raises :class:`Refused` for a request that asks for another server (403), or for none or several (400: RFC 9112, 3.2)."""
        if not request.names_one_host:
            raise refused(400, "malformed", "HTTP/1.1 asks for one header Host, with the name that this server is asked by: send it once")
        if not self._any_host and request.host and kind not in self._under_any_host and not self.is_ours(request.host):
            said = request.host.decode("latin-1")[:60]
            what = f"the request's Host, {said!r}, is no name of this server: ask by localhost, or list the name under allowed_hosts"
            raise refused(403, "foreign_host", what)

    def check_post(self, request: Request) -> None:
        """Raises :class:`Refused` (403, 415) for a request that a page of another site may have sent."""
        if request.origin:
            if not self.allows(request.origin) and not _is_own_page(request):
                said = request.origin.decode("latin-1")[:60]
                what = f"a page of {said!r} may not ask this server: list the site under allowed_origins if it may"
                raise refused(403, "foreign_origin", what)
        elif request.fetch_site in (b"cross-site", b"same-site"):
            raise refused(403, "foreign_origin", "a page of another site may not ask this server")
        if request.content_type == NONE and (request.origin or request.fetch_site):
            # Triton's own client sends none; a browser that does has been told so, to pass for a form.
            raise refused(415, "content_type", "the content type is missing: send application/json")

    def allows(self, origin: bytes) -> bool:
        """Whether a site is one of those that the settings list."""
        return bool(self._origins) and (origin.lower() in self._origins or b"*" in self._origins)

    def headers(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """What tells a browser that a page of this site may read the answer; nothing for all others."""
        if not self.allows(origin):
            return []
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _TOLD), (b"vary", b"origin")]

    def preflight(self) -> list[tuple[bytes, bytes]]:
        """What more is told to a browser that asks first what a page of a listed site may send."""
        methods = [(b"access-control-allow-methods", b"GET, HEAD, POST"), (b"access-control-allow-headers", _HEADERS)]
        return [*methods, (b"access-control-max-age", b"600")]

    def _is_ours(self, host: bytes) -> bool:
        name = host.decode("latin-1").lower()
        name = name[1 : name.index("]")] if name.startswith("[") and "]" in name else name.partition(":")[0]
        name = name.removesuffix(".")
        return is_loopback(name) or name in self._names or name.endswith(self._endings)


def _is_own_page(request: Request) -> bool:
    """Whether this server's own page asks.

    A browser says so itself (``Sec-Fetch-Site``) where its address bar shows https or a loopback name, whatever name a proxy makes of
    it. Elsewhere there is ``Origin`` alone, which must be ``Host``: a proxy without TLS that replaces ``Host`` needs ``allowed_origins``.
    """
    if request.fetch_site:
        return request.fetch_site == b"same-origin"
    return request.origin.partition(b"://")[2].lower() == request.host.lower() != b""
