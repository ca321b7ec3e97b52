"""uvicorn's HTTP/1.1 connection with what it leaves to a proxy: a time limit for every state, bounds, order, and no upgrades.

:data:`STATES` is the whole of it, from the end of TLS's handshake (:data:`HANDSHAKE_S`) on: what a connection can wait for, and how
long. None of it costs a request anything: what state a connection is in is worked out when :class:`Connections` looks, five times a
second, and that is also when its time counts from.

An ``Upgrade`` header makes the parser (llhttp, as httptools sets it) end the message after its head, so that its body would
be read as the next request. Behind a proxy that forwards the header this is request smuggling, so such a request is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import httptools
import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_pipeline.serving.problems import RETRY, problem_details, refused
from mlops_pipeline.serving.routes import PROBE_PATHS

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Limits
    from mlops_pipeline.inference.faults import Refused
    from mlops_pipeline.serving.metrics import Metrics
    from mlops_pipeline.serving.tls import Tls


class Wait(NamedTuple):
    """What a connection waits for, the setting in ``limits`` that says how long, and what happens then."""

    what: str
    limit: str
    then: str


CLOSE, BREAK, ANSWER_408, ELSEWHERE = "close", "break off", "answer 408 and close", "ended elsewhere"
STATES = {
    "head": Wait("a request's line and headers, from a connection's or a request's beginning", "head_timeout_s", ANSWER_408),
    "body": Wait("a request's body", "body_timeout_s", ELSEWHERE),  # by bodies.py, in the words of the request's protocol
    "answer": Wait("our answer", "deadline_ms", ELSEWHERE),  # by the queue
    "half_closed": Wait("our answer, by a client that has ended its sending", "deadline_ms", ELSEWHERE),
    "unread": Wait("the client to take an answer", "unread_timeout_s", BREAK),
    "rest": Wait("what a client still sends of a request that is answered", "rest_timeout_s", CLOSE),
    "idle": Wait("the next request", "idle_timeout_s", CLOSE),
    "closing": Wait("the client to take the last answer of a connection that is closed", "unread_timeout_s", BREAK),
}
HEAD_BYTES = 65_536
DISCARDED_BYTES = 64_000_000
"""What is read and thrown away of a request that is answered: a client that is cut off while it sends may not see its answer."""
COPIED_BYTES = 16_384
"""A body up to so long is put behind its head in memory; what is longer is sent from where it is."""
CONTINUE = b"HTTP/1.1 100 "
PIPELINED = 100
"""Requests that may wait on one connection for those before them."""
HANDSHAKE_S = 5.0
"""TLS: a handshake not ended by then is broken off. Until it is, there is no connection here, and none is counted."""
LOOK_S = 0.2
ROOM_S = 0.02
"""How long a new connection above the limit has before older ones give way to it: enough for its first bytes to be read."""
ABOVE = 2048
"""Connections above the limit for so long, and for probes."""
SPARED_DESCRIPTORS = 128
TOLD_S = 60.0
PROBE_CONNECTIONS = 64

log = logging.getLogger("mlops.serving")


class Loop(uvloop.Loop):
    """uvloop's loop, with a limit for TLS handshakes that are not ended, and no client certificate asked for on the port of probes."""

    def __init__(self, tls: Tls | None = None, probe_port: int | None = None) -> None:
        super().__init__()
        self._tls, self._probe_port = tls, probe_port

    async def create_server(self, *words: Any, **options: Any) -> Any:
        if self._tls is not None:
            options["ssl_handshake_timeout"] = HANDSHAKE_S
            if options["sock"].getsockname()[1] == self._probe_port:
                options["ssl"] = self._tls.listening.probes
        return await super().create_server(*words, **options)


class Connections:
    """The connections of one listener: each has its time, and those that keep their place for nothing give way to new ones."""

    def __init__(self, limits: Limits, most: int, metrics: Metrics, *, probes_only: bool = False) -> None:
        self.probes_only, self.metrics = probes_only, metrics
        self.use(limits, most)
        self._open: dict[Connection, None] = {}
        self._looking = self._making_room = False
        self._full_until = self._quiet_until = 0.0

    def use(self, limits: Limits, most: int) -> None:
        """Go on under these limits."""
        self.most = most
        self._seconds = {state: getattr(limits, wait.limit) for state, wait in STATES.items() if wait.then != ELSEWHERE}
        self._above = min(most + ABOVE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARED_DESCRIPTORS)

    @property
    def busy(self) -> int:
        """From how many requests under way on another is looked at more closely."""
        return 0 if self.probes_only else self.most

    def join(self, connection: Connection) -> None:
        """Take a new connection in; above the limit others give way a moment later."""
        loop = connection.loop
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_S, self._look, loop)
        self._open[connection] = None
        if len(self._open) <= self.most:
            return
        if len(self._open) > max(self._above, self.most):
            self._ended(connection, "head", "room")
            connection.transport.abort()
        elif not self._making_room:
            self._making_room = True
            loop.call_later(ROOM_S, self._make_room, loop)

    def leave(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def give_way(self, now: float) -> bool:
        """Whether a body that has been long in coming was given up for a request that has come."""
        if now < self._full_until:
            return False
        self._observe(now)
        slow = [each for each in self._open if each.state == "body" and now - each.since > LOOK_S]
        if not slow:
            self._full_until = now + LOOK_S
            return False
        self._evict(min(slow, key=_first_to_go))
        return True

    def _observe(self, now: float) -> None:
        for connection in self._open:
            connection.observe(now)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what has taken too long."""
        loop.call_later(LOOK_S, self._look, loop)
        now = loop.time()
        self._observe(now)
        if not self.probes_only:
            self.metrics.connections.set(len(self._open))
        for connection in [each for each in self._open if now - each.since > self._seconds.get(each.state, now)]:
            state = connection.state
            self._ended(connection, state, "time")
            if STATES[state].then == ANSWER_408:
                connection.refuse(refused(408, "timeout", f"no whole request came within {self._seconds[state]:g} s"))
            elif STATES[state].then == CLOSE:
                connection.transport.close()
            else:
                connection.transport.abort()

    def _make_room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of as many as are too many, of those that wait for their client: first strangers, first who waits longest."""
        self._making_room = False
        excess = len(self._open) - self.most
        if excess <= 0:
            return
        self._observe(loop.time())
        waiting = sorted((each for each in self._open if each.state not in ("answer", "half_closed")), key=_first_to_go)
        for connection in waiting[:excess]:
            self._evict(connection)

    def _evict(self, connection: Connection) -> None:
        self._ended(connection, connection.state, "room")
        connection.give_way()

    def _ended(self, connection: Connection, state: str, cause: str) -> None:
        self.metrics.connections_ended.labels(state, cause).inc()
        now = connection.loop.time()
        if cause == "room" and now > self._quiet_until:
            self._quiet_until = now + TOLD_S
            log.warning("more connections than limits.connections", extra={"limit": self.most, "open": len(self._open)})


def _first_to_go(connection: Connection) -> tuple[bool, bool, bool, float]:
    return not connection.has_parted, connection.is_known, connection.state == "body", connection.since


class _Out:
    """What answers are written to: the transport, but for its end, which waits for a client that still sends.

    Uvicorn writes an answer's head and its body apart, and uvloop sends what is written at once: two calls of the system and two
    packets. Here a head waits for the beginning of its body.
    """

    __slots__ = ("_begun", "_head", "_transport", "is_closing", "part")

    def __init__(self, transport: asyncio.Transport, part: Callable[[], None]) -> None:
        self._transport, self.is_closing, self.part = transport, transport.is_closing, part
        self._head, self._begun = b"", False

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            if len(data) > COPIED_BYTES:
                self._transport.writelines((head, data))
            else:
                self._transport.write(head + data)
        elif self._begun or data.startswith(CONTINUE):
            self._transport.write(data)
        else:
            self._head, self._begun = data, True

    def close(self) -> None:
        self.end()
        self.part()

    def end(self) -> None:
        """An answer is over; a head that has no body goes out."""
        head, self._head, self._begun = self._head, b"", False
        if head and not self._transport.is_closing():
            self._transport.write(head)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(
        self, *words: Any, among: Connections, probes: Connections | None = None, probe_port: int | None = None, **more: Any
    ) -> None:
        super().__init__(*words, **more)
        self._among, self._probes, self._probe_port = among, probes, probe_port
        self._head, self._discarded = 0, 0  # bytes of a head, or of a body since its last own one
        self._in_head, self._in_body, self._with_body = True, False, False
        self._ended = self._parting = self._half_closed = False
        self._farewell: bytes | None = None
        self._seen: Any = None
        self.state, self.since = "head", 0.0

    # --------------------------------------------------------------------------------------------- what uvicorn calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._out = _Out(transport, self.part)
        self.since = self.loop.time()
        if self._probes is not None and self.server is not None and self.server[1] == self._probe_port:
            self._among = self._probes
        self._among.join(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.leave(self)
        super().connection_lost(exc)
        self._out.part = _nothing  # else it would keep this connection alive, and this connection it

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._discard(len(data))
            return
        if self._in_head or self._in_body:
            self._head += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            if not self._ended:
                self.refuse(refused(400, "malformed", "this is no HTTP/1.1 request"))
            return
        if self._head > HEAD_BYTES and not self._ended:
            what = "line and headers are" if self._in_head else "trailers, or what else comes with no byte of its body, are"
            self.refuse(refused(431, "head_too_large", f"the request's {what} longer than {HEAD_BYTES:,} bytes"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has ended its sending still gets the answers to whole requests; by TLS there is no such half."""
        if self._parting or self.scheme == "https" or not self._owes():
            return False
        self._ended = self._half_closed = True
        if self._farewell is None:
            self._farewell = b""
        return True

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head, self._in_head = 0, False
        if self._ended:
            return
        if self.parser.should_upgrade():
            remedy = "send no Upgrade header (curl: --http1.1; Java: HttpClient.Version.HTTP_1_1)"
            self.refuse(refused(400, "malformed", f"this server speaks HTTP/1.1 and nothing else: {remedy}"))
        elif len(self.pipeline) >= PIPELINED:
            self.refuse(refused(429, "queue_full", f"{PIPELINED} requests wait on this connection already: wait for answers", RETRY))
        elif len(self.tasks) >= self._among.busy and (refusal := self._unless_probe()) is not None:
            self.refuse(refusal)
        else:
            super().on_headers_complete()
            self.headers = []  # what is told behind the body, where nobody looks for it
            self._in_body, self._with_body = True, False
            self.cycle.transport = self._out  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._head = 0
        if self._ended or self.cycle.response_complete:
            self._discard(len(body))
        else:
            self._with_body = True
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._head, self._in_body = 0, False
        if not self._ended:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._out.end()
        if self.transport.is_closing() or self._parting:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._farewell is not None:
            self._say(self._farewell)

    # ---------------------------------------------------------------------------------------- its state, and its end

    def observe(self, now: float) -> None:
        """Work out the state of now; its time counts from when it, or another request in it, was first seen."""
        state = self._state()
        if state != self.state or self._seen is not self.cycle:
            self.state, self._seen, self.since = state, self.cycle, now

    @property
    def is_known(self) -> bool:
        """Whether the last request was one whose body was taken: a stranger's, who has no key, is not."""
        return self._with_body and not self.cycle.more_body and not self.cycle.body

    @property
    def has_parted(self) -> bool:
        """Whether all is said, and the end waits for a client that still sends."""
        return self._parting

    def refuse(self, refusal: Refused) -> None:
        """Answer once more, after what is owed to earlier requests, and close; what else comes is not read."""
        self._ended = True
        self._among.metrics.rejected("connection", refusal.reason)
        self._among.metrics.told("connection", refusal.status)
        said = _as_http(refusal)
        if self._owes():
            self._farewell = said
        else:
            self._say(said)

    def give_way(self) -> None:
        """Close for another connection's sake, with a word for a client that was about to ask."""
        begun = self.state == "body" or (self.state == "head" and self._head > 0)
        if begun and not self._ended:
            self.refuse(_too_many())  # ends by itself: after what is owed, or in the time of "rest"
            return
        if self.state in ("closing", "unread"):
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.close()

    def part(self) -> None:
        """Close so that what was written arrives: a socket closed before its client has sent all resets the connection."""
        if self._parting or self.transport.is_closing():
            return
        self._ended = True
        self.pipeline.clear()
        if self._half_closed or not (self._in_body or self._in_head or self._farewell):
            self.transport.close()
            return
        self._parting = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def _state(self) -> str:
        if self.transport.is_closing():
            return "closing"
        if self._parting:
            return "rest"
        if self.cycle is None or self.cycle.response_complete:
            return self._state_between()
        if self._in_body:
            return "body"
        if self.flow.write_paused:
            return "unread"
        return "half_closed" if self._half_closed else "answer"

    def _state_between(self) -> str:
        if self._in_head:
            return "head"
        if self._in_body:
            return "rest"
        return "unread" if self.transport.get_write_buffer_size() else "idle"

    def _unless_probe(self) -> Refused | None:
        path = self.url.partition(b"?")[0].decode("latin-1")
        if path in PROBE_PATHS and self.parser.get_method() in (b"GET", b"HEAD"):
            return None
        if self._among.probes_only:
            return refused(404, "not_found", f"this port is for probes: {', '.join(PROBE_PATHS)}")
        return None if self._among.give_way(self.loop.time()) else _too_many()

    def _owes(self) -> bool:
        """Whether an answer to a whole request is still to come; a request whose body will not come gets none."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        if not self._in_body:
            return True
        self._in_body = False
        if self.pipeline:
            self.pipeline.popleft()
            return True
        cycle.disconnected = True
        cycle.message_event.set()
        return False

    def _say(self, farewell: bytes) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.close()  # nothing can be said in the middle of an answer
            return
        if cycle is not None and cycle.response_complete and self._in_body:
            self.part()  # it is answered: another word would be taken for the answer to what comes next
            return
        self._farewell = farewell
        self.transport.write(farewell)
        self.part()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > DISCARDED_BYTES and not self.transport.is_closing():
            self.transport.close()


def _nothing() -> None:
    """What a connection does that is gone."""


def _too_many() -> Refused:
    return refused(503, "too_many_connections", "more clients are connected than this server takes: send again later", RETRY)


def _as_http(refusal: Refused) -> bytes:
    content = problem_details(refusal, "")
    headers: Iterable[tuple[bytes, bytes]] = (
        (b"content-type", b"application/problem+json"),
        (b"connection", b"close"),
        *refusal.headers,
        (b"content-length", b"%d" % len(content)),
    )
    return b"".join([STATUS_LINE[refusal.status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n", content])
