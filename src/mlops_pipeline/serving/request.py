"""What a request's line and headers say, read once."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mlops_pipeline.inference.faults import Reason
from mlops_pipeline.serving.problems import refused

if TYPE_CHECKING:
    from mlops_pipeline.records.entry import Arm
    from mlops_pipeline.serving.holder import Holder

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

JSON, PROBLEM, TEXT, CSV = b"application/json", b"application/problem+json", b"text/plain; charset=utf-8", b"text/csv"
OCTETS, NONE = b"application/octet-stream", b""

WATCH_PATHS = ("/monitoring", "/release")
"""The paths to which a browser may send the key as a password: each shows a page, and changes nothing."""

KEYS = 8
"""Keys of a request that are looked at: a head has room for thousands, each of them a guess."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Computed(NamedTuple):
    """What is told of features that were computed: the moment (UTC) that they are true for, and they themselves, a mapping a row."""

    as_of: str | None
    features: list[dict[str, Any]] | None


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
    expects: bool = False
    """Whether the client waits for a word of ours before it sends the body, and has none yet."""
    host: bytes = NONE
    names_one_host: bool = True
    """As HTTP/1.1 asks; by HTTP/1.0 a request may name none."""
    origin: bytes = NONE
    fetch_site: bytes = NONE
    given_id: bytes = NONE
    """The client's own id, unless it could be taken."""
    on_record: int = -1
    """Which entry of the record says that it was answered, where that came too late."""
    query: bytes = NONE
    asks_as_of: bool = False
    """Whether its body asks what moment the features are true for."""
    arm: Arm = ""
    """Of a release, where one is under way."""
    why: str = ""
    """Why that arm, where it is no matter of course."""
    unit: str = ""
    """What stands on record for what sticks to the arm; empty where nothing does."""
    answering: Any = None
    """The version that answers in place of the one its address means (``served.Served``)."""
    behind: Any = None
    """What is to be asked behind its answer (``traffic.Traffic.follow``); None where nothing is."""
    rows_taken: bool = False
    """Whether its rows are off what its key may ask."""
    computed: Computed | None = None
    """What its answer says of the features of raw rows, if it asks."""

    def check_id(self, longest: int) -> None:
        """Raises :class:`Refused` (400) if the client gave an id that could not be taken."""
        if self.given_id:
            reason: Reason = "too_long" if len(self.given_id) > longest else "malformed"
            what = f"has {len(self.given_id):,} bytes: give printable ASCII of at most {longest:,}, or none"
            raise refused(400, reason, f"the header X-Request-Id {what}")

    def must_be(self, *types: bytes, csv_at: str = "") -> bytes:
        """The content type without its parameters; raises :class:`Refused` (415) if it is none of those given.

        ``csv_at`` is the path beside this one that takes CSV.
        """
        given = self.content_type
        if given not in types:
            given = given.split(b";")[0].strip().lower()
            if given not in types:
                shown, allowed = given.decode("latin-1")[:60] or "missing", " or ".join(kind.decode() for kind in types if kind)
                elsewhere = f", or CSV to {self.path.rpartition('/')[0]}/{csv_at}" if csv_at and given == CSV else ""
                raise refused(415, "content_type", f"the content type is {shown}: send {allowed}{elsewhere}")
        return given


def asked_for(query: bytes, name: str) -> bool:
    """Whether a query says yes to something: ``?name=true``, ``?name=1`` or ``?name``."""
    given = dict(part.partition("=")[::2] for part in query.decode("latin-1").split("&"))
    return given.get(name, "false").lower() in ("", "1", "true", "yes")


def request_of(scope: Scope, request_id: str, protocol: str, model: str, longest_id: int) -> Request:
    """Read the headers of an ASGI scope; ``request_id`` holds unless the client gives a decent one of its own."""
    request = Request(request_id, protocol, model, scope["path"], time.perf_counter(), time.time(), query=scope.get("query_string", NONE))
    hosts = 0
    for key, value in scope["headers"]:
        if key == b"content-type":
            request.content_type = value
        elif key == b"content-length":
            request.length = _length(value)
        elif key == b"host":
            request.host = value
            hosts += 1
        elif key in _RARE:
            _RARE[key](request, value)
    if hosts != 1:
        request.names_one_host = not hosts and scope.get("http_version") != "1.1"
    if request.given_id and len(request.given_id) <= longest_id:
        text = request.given_id.decode("latin-1")
        if text.isascii() and text.isprintable():
            request.request_id, request.given_id = text, NONE
    return request


def _length(value: bytes) -> int:
    """A body's length as its header says it, whose zeros may be more digits than Python reads; 0 where it says none."""
    digits = value.lstrip(b"0")
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0


def _request_id(request: Request, value: bytes) -> None:
    request.given_id = value


def _bearer(request: Request, value: bytes) -> None:
    if value[:7].lower() == b"bearer ":
        _api_key(request, value[7:].strip())
    elif value[:6].lower() == b"basic " and request.path in WATCH_PATHS:
        with suppress(ValueError):
            _api_key(request, base64.b64decode(value[6:].strip(), validate=True).partition(b":")[2])


def _api_key(request: Request, value: bytes) -> None:
    if len(request.credentials) < KEYS:
        request.credentials += (value,)


def _header_length(request: Request, value: bytes) -> None:
    request.header_length = int(value) if value.isdigit() and len(value) < 12 else -1


def _traceparent(request: Request, value: bytes) -> None:
    text = value.decode("latin-1")
    request.traceparent = text if _TRACEPARENT.fullmatch(text) else ""


def _origin(request: Request, value: bytes) -> None:
    request.origin = value


def _fetch_site(request: Request, value: bytes) -> None:
    request.fetch_site = value


def _encoding(request: Request, value: bytes) -> None:
    request.compressed = value.lower() != b"identity"


def _expect(request: Request, value: bytes) -> None:
    request.expects = value.lower() == b"100-continue"


_RARE = {
    b"expect": _expect,
    b"x-request-id": _request_id,
    b"authorization": _bearer,
    b"x-api-key": _api_key,
    b"inference-header-content-length": _header_length,
    b"traceparent": _traceparent,
    b"content-encoding": _encoding,
    b"origin": _origin,
    b"sec-fetch-site": _fetch_site,
}
