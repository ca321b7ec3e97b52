"""What a request's line and headers say, read once."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.serving.problems import refused

if TYPE_CHECKING:
    from mlops_pipeline.serving.holder import Holder

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

JSON, PROBLEM, TEXT, CSV = b"application/json", b"application/problem+json", b"text/plain; charset=utf-8", b"text/csv"
OCTETS, NONE = b"application/octet-stream", b""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID_LENGTH = 128


class Request(msgspec.Struct, gc=False):
    """One request. Times are seconds: ``arrived`` since 1970, ``began`` of the clock that measures latency."""

    request_id: str
    protocol: str
    model: str
    path: str
    began: float
    arrived: float
    content_type: bytes = NONE
    length: int = 0
    header_length: int | None = None
    credentials: tuple[bytes, ...] = ()
    traceparent: str = ""
    compressed: bool = False
    holder: Holder | None = None

    def must_be(self, *types: bytes) -> bytes:
        """The content type without its parameters; raises :class:`Refused` (415) if it is none of those given."""
        given = self.content_type
        if given not in types:
            given = given.split(b";")[0].strip().lower()
            if given not in types:
                shown, allowed = given.decode("latin-1")[:60] or "missing", " or ".join(kind.decode() for kind in types if kind)
                raise refused(415, "content_type", f"the content type is {shown}: send {allowed}")
        return given


def request_of(scope: Scope, request_id: str, protocol: str, model: str) -> Request:
    """Read the headers of an ASGI scope; ``request_id`` holds unless the client gives a decent one of its own."""
    request = Request(request_id, protocol, model, scope["path"], time.perf_counter(), time.time())
    for key, value in scope["headers"]:
        if key == b"content-type":
            request.content_type = value
        elif key == b"content-length":
            request.length = int(value) if value.isdigit() else 0
        elif key in _RARE:
            _RARE[key](request, value)
    return request


def _request_id(request: Request, value: bytes) -> None:
    text = value.decode("latin-1")
    if text.isascii() and text.isprintable() and 0 < len(text) <= _ID_LENGTH:
        request.request_id = text


def _bearer(request: Request, value: bytes) -> None:
    if value[:7].lower() == b"bearer ":
        request.credentials += (value[7:].strip(),)


def _api_key(request: Request, value: bytes) -> None:
    request.credentials += (value,)


def _header_length(request: Request, value: bytes) -> None:
    request.header_length = int(value) if value.isdigit() and len(value) < 12 else -1


def _traceparent(request: Request, value: bytes) -> None:
    text = value.decode("latin-1")
    request.traceparent = text if _TRACEPARENT.fullmatch(text) else ""


def _encoding(request: Request, value: bytes) -> None:
    request.compressed = value.lower() != b"identity"


_RARE = {
    b"x-request-id": _request_id,
    b"authorization": _bearer,
    b"x-api-key": _api_key,
    b"inference-header-content-length": _header_length,
    b"traceparent": _traceparent,
    b"content-encoding": _encoding,
}
