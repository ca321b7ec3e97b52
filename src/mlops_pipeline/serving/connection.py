"""uvicorn's HTTP/1.1 connection with what it leaves to a proxy: bounds on a request's head, and no upgrades.

An ``Upgrade`` header makes the parser (llhttp, as httptools sets it) end the message after its head, so that its body would
be read as the next request. Behind a proxy that forwards the header this is request smuggling, so such a request is refused.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.serving.problems import problem_details, refused

HEAD_BYTES = 65_536
HEAD_S = 10.0
"""How long a connection may take from its first byte, or from its beginning, to the end of a request's head."""


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head, self._in_head, self._ended = 0, True, False
        self._patience: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self._in_head and not self._ended:
            if self._head > HEAD_BYTES:
                self._end(refused(431, "head_too_large", f"the request's line and headers are longer than {HEAD_BYTES:,} bytes"))
            elif self._patience is None:
                self._patience = self.loop.call_later(HEAD_S, self._too_slow)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head, self._in_head = 0, False
        if self._patience is not None:
            self._be_patient()
        if self.parser.should_upgrade():
            remedy = "send no Upgrade header (curl: --http1.1; Java: HttpClient.Version.HTTP_1_1)"
            self._end(refused(400, "malformed", f"this server speaks HTTP/1.1 and nothing else: {remedy}"))
        elif not self._ended:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._ended:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._ended:
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        return

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        self._patience = None
        if self._in_head and not self.transport.is_closing():
            self._end(refused(408, "timeout", f"no whole request came within {HEAD_S:g} s"))

    def _end(self, refusal: Refused) -> None:
        """Answer once and close; what else comes on this connection is not read."""
        self._ended = True
        content = problem_details(refusal, "")
        head: list[Any] = [STATUS_LINE[refusal.status], b"content-type: application/problem+json\r\nconnection: close\r\n"]
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(content), content]))
        self.transport.close()
