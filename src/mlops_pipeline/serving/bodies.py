"""The bodies of requests as they come in: how large they may be, one and all together, and how long they may take."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_pipeline.serving.problems import RETRY, refused

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Limits
    from mlops_pipeline.inference.faults import Refused
    from mlops_pipeline.serving.request import Receive, Request


class ClientGone(Exception):
    """The client has hung up before its body was complete."""


class Bodies:
    """What one worker is receiving."""

    def __init__(self, limits: Limits) -> None:
        self.use(limits)
        self._under_way = 0
        self._numbers = itertools.count()
        self._reading: dict[int, tuple[float, asyncio.Task[Any] | None]] = {}

    def use(self, limits: Limits) -> None:
        """Go on under these limits."""
        self._limits = limits
        self._max_body, self._all_bodies = int(limits.max_body_mb * 1e6), int(limits.bodies_mb * 1e6)

    async def read(self, receive: Receive, request: Request) -> bytes:
        """The whole body; refused as soon as it is known to be too large, given up if it does not come in time.

        Raises :class:`Refused` and :class:`ClientGone`.
        """
        if request.compressed:
            raise refused(415, "content_type", "the body is compressed, which this server does not read: send it plain")
        if request.length > self._max_body:
            raise self._too_large()
        request.expects = False
        number = next(self._numbers)
        self._reading[number] = (request.began, asyncio.current_task())
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body") or len(body) > self._max_body:
                body = await self._long(receive, message, request)
            elif message["type"] == "http.disconnect":
                raise ClientGone
        except asyncio.CancelledError:
            if number in self._reading:
                raise
            seconds = self._limits.body_timeout_s
            raise refused(408, "timeout", f"the body did not arrive within {seconds:g} s", ((b"connection", b"close"),)) from None
        finally:
            self._reading.pop(number, None)
        return body

    def give_up(self) -> None:
        """End the wait for bodies that have taken too long."""
        oldest = time.perf_counter() - self._limits.body_timeout_s
        for number, (since, task) in list(self._reading.items()):
            if since > oldest:
                break
            del self._reading[number]
            if task is not None:
                task.cancel()

    async def _long(self, receive: Receive, message: Mapping[str, Any], request: Request) -> bytes:
        """A body in several pieces."""
        parts, size, limit = [message.get("body", b"")], len(message.get("body", b"")), self._max_body
        held = max(request.length, min(size, limit))
        self._take(held)
        try:
            while message.get("more_body") and size <= limit:
                message = await receive()
                part = message.get("body", b"")
                size += len(part)
                parts.append(part)
                if held < size <= limit:  # in chunks, of which nobody says beforehand how many come
                    self._take(size - held)
                    held = size
        finally:
            self._under_way -= held
        if message["type"] == "http.disconnect":
            raise ClientGone
        if size > limit:
            raise self._too_large((b"connection", b"close"))
        return b"".join(parts)

    def _take(self, size: int) -> None:
        """Count so many bytes more among those of all bodies; raises :class:`Refused` where these are too many."""
        if self._under_way + size > self._all_bodies:
            raise refused(429, "queue_full", "too much is being received already: send again later", (*RETRY, (b"connection", b"close")))
        self._under_way += size

    def _too_large(self, *headers: tuple[bytes, bytes]) -> Refused:
        return refused(413, "body_too_large", f"the body is larger than {self._limits.max_body_mb:g} MB: send fewer rows", headers)
