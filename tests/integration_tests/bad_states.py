"""Connections in every state that a client can leave a server in, and what becomes of them."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from urllib.parse import urlsplit

from tests.integration_tests.conftest import Server

TO_PREDICT = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connected(server: Server, *, port: int | None = None, received: int | None = None) -> socket.socket:
    """A connection to a server; ``received`` bytes are all that it takes in unread."""
    parts = urlsplit(server.url)
    client = socket.socket()
    if received is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    client.settimeout(120)
    client.connect((parts.hostname, port or parts.port))
    return client


def raw(server: Server, *parts: bytes, end: bool = False) -> bytes:
    """What comes back on one connection until the server closes it; with ``end``, the client's side is closed once all is sent."""
    said = b""
    with connected(server) as client:
        for part in parts:
            client.sendall(part)
        if end:
            client.shutdown(socket.SHUT_WR)
        try:
            while piece := client.recv(65536):
                said += piece
        except ConnectionResetError:  # the server closed while a part was still on its way to it
            pass
    return said


def head_of(client: socket.socket) -> bytes:
    """The head of the next answer on a connection, and nothing of what follows it."""
    said = b""
    while b"\r\n\r\n" not in said and (piece := client.recv(1)):
        said += piece
    return said


def answer(client: socket.socket) -> bytes:
    """The next whole answer on a connection: its head, and the body that its content-length tells, however it is cut into packets."""
    said = head_of(client)
    length = next((int(line.split(b":")[1]) for line in said.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while length and (piece := client.recv(length)):
        said, length = said + piece, length - len(piece)
    return said


UNREAD_ROWS = 60_000
"""Rows whose answer is larger than what two sockets hold."""


def many_rows(server: Server) -> bytes:
    body = json.dumps({"records": [server.example] * UNREAD_ROWS}).encode()
    return TO_PREDICT + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _silent(_: Server) -> list[bytes]:
    return []


def _half_a_head(_: Server) -> list[bytes]:
    return [b"GET /ping HTTP/1.1\r\nX-"]


def _half_a_second_head(_: Server) -> list[bytes]:
    return [b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /pi"]


def _half_a_body(_: Server) -> list[bytes]:
    return [TO_PREDICT + b"Content-Length: 100\r\n\r\n{"]


def _half_a_chunk(_: Server) -> list[bytes]:
    return [TO_PREDICT + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"]


def _byte_after_404(_: Server) -> list[bytes]:
    return [b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", b"{"]


def _byte_after_405(_: Server) -> list[bytes]:
    return [b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", b"{"]


def _byte_after_413(_: Server) -> list[bytes]:
    return [TO_PREDICT + b"Content-Length: 100000000\r\n\r\n", b"{"]


def _whole_body_after_404(_: Server) -> list[bytes]:
    return [b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n", b"{}"]


def _idle(_: Server) -> list[bytes]:
    return [b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"]


def _empty_lines(_: Server) -> list[bytes]:
    return [b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n"]


def _unread_answer(server: Server) -> list[bytes]:
    return [many_rows(server)]


def _unread_last_answer(server: Server) -> list[bytes]:
    return [many_rows(server).replace(b"Host: localhost", b"Host: localhost\r\nConnection: close")]


def _lingering(_: Server) -> list[bytes]:
    return [b"this is no HTTP\r\n\r\n"]


BAD_STATES: dict[str, tuple[str, Callable[[Server], list[bytes]]]] = {
    "silent": ("head", _silent),
    "half a head": ("head", _half_a_head),
    "half a second head": ("head", _half_a_second_head),
    "half a body": ("body", _half_a_body),
    "half a chunk": ("body", _half_a_chunk),
    "one byte after a 404": ("rest", _byte_after_404),
    "one byte after a 405": ("rest", _byte_after_405),
    "one byte after a 413": ("rest", _byte_after_413),
    "a whole body after a 404": ("idle", _whole_body_after_404),
    "idle": ("idle", _idle),
    "empty lines": ("idle", _empty_lines),
    "no HTTP": ("rest", _lingering),
}
"""What a client does, and the state of its connection from then on."""
UNREAD = {
    "an answer unread": ("unread", _unread_answer),
    "a last answer unread": ("closing", _unread_last_answer),
}
"""The same of clients that never read."""


def enough_files() -> None:
    """Let this process have as many sockets as it may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def in_bad_state(server: Server, name: str, count: int, *, patient: bool = True) -> Iterator[list[socket.socket]]:
    """So many connections left in a state; each step of theirs is answered before the next, unless they are impatient."""
    unread = name in UNREAD
    steps = (UNREAD | BAD_STATES)[name][1](server)
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server, received=4096 if unread else None)) for _ in range(count)]
        for number, step in enumerate(steps):
            for client in clients:
                with nullcontext() if patient else suppress(OSError):  # it may be closed by now
                    client.sendall(step)
            if patient and number + 1 < len(steps):
                for client in clients:
                    assert client.recv(65536), name
        yield clients


def crowd(server: Server, count: int, seconds: float, size: int = 10) -> None:
    """Leave so many connections in every bad state by turns, spread over some seconds; none is closed by us before all are open."""
    enough_files()
    groups = [name for _ in range(count // (size * len(BAD_STATES)) + 1) for name in BAD_STATES][: -(-count // size)]
    began, pause = time.monotonic(), threading.Event()
    with ExitStack() as stack:
        for number, name in enumerate(groups):
            stack.enter_context(in_bad_state(server, name, size, patient=False))
            pause.wait(max(0.0, began + seconds * (number + 1) / len(groups) - time.monotonic()))


def closed_by_server(clients: list[socket.socket], seconds: float) -> int:
    """How many of these connections the server ends within so many seconds; what it says before is read and thrown away."""
    deadline, closed = time.monotonic() + seconds, 0
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            client.setblocking(False)
            waiting.register(client, selectors.EVENT_READ)
        while waiting.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                client = key.fileobj  # type: ignore[assignment]
                try:
                    gone = not client.recv(1 << 20)
                except ConnectionResetError:
                    gone = True
                if gone:
                    closed += 1
                    waiting.unregister(client)
    return closed
