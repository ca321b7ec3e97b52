"""A challenger asked behind answers that have gone out: nobody waits for it, and nothing that is waited for waits for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_pipeline.inference.raw import RawRows
from mlops_pipeline.serving.answer import entry_of, failed_entry
from mlops_pipeline.serving.arms import why_of
from mlops_pipeline.serving.aside import Aside
from mlops_pipeline.serving.batching import Predict, attempts
from mlops_pipeline.serving.record import RecordFull

if TYPE_CHECKING:
    from mlops_pipeline.inference.signature import Rows
    from mlops_pipeline.serving.answer import Service
    from mlops_pipeline.serving.request import Request
    from mlops_pipeline.serving.served import Served

TOGETHER = 32
"""Requests that are asked in the shadow at a time."""


@dataclass
class _Asked:
    """What a challenger said behind one answer."""

    request: Request
    seconds: float = 0.0
    rows: Rows | None = None
    raw: RawRows | None = None
    outputs: np.ndarray | None = None
    error: Exception | None = None


class Shadows:
    """Asks a challenger behind answers that have gone out, in a thread of its own and for a share of one core.

    Of what waits no more is kept than the settings say; what is left out is counted.
    """

    def __init__(self, service: Service, name: str, served: Served, predict: Predict) -> None:
        self._service, self._name, self.served, self._predict = service, name, served, predict
        self._loop, self._thread = asyncio.get_running_loop(), Aside("shadow")
        self._waiting: deque[tuple[Request, bytes, float]] = deque()
        self._bytes = 0
        self._busy = self._closed = False

    def add(self, request: Request, body: bytes) -> None:
        """Ask for what was answered a moment ago, when there is time."""
        settings = self._service.settings.release.shadow
        if len(self._waiting) >= settings.requests or self._bytes + len(body) > settings.max_mb * 1e6:
            self._service.metrics.shadow_left_out(self._name, "queue_full")
            return
        request.arm, request.why, request.computed, request.on_record = "shadow", "", None, -1
        self._bytes += len(body)
        self._waiting.append((request, body, time.perf_counter() + settings.deadline_ms / 1000))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        self._waiting.clear()
        self._thread.shutdown()

    def _next(self) -> None:
        batch: list[tuple[Request, bytes]] = []
        now = time.perf_counter()
        while self._waiting and len(batch) < TOGETHER:
            request, body, due = self._waiting.popleft()
            self._bytes -= len(body)
            if due < now:
                self._service.metrics.shadow_left_out(self._name, "late")
            else:
                batch.append((request, body))
        if not batch or self._closed:
            self._busy = False
            return
        running = self._loop.run_in_executor(self._thread, self._ask, batch)
        deadline_s, waited_for = self._service.settings.release.shadow.deadline_ms / 1000, [request for request, _ in batch]
        late = self._loop.call_later(deadline_s, self._give_up, waited_for, deadline_s)
        running.add_done_callback(lambda done: self._answered(done, waited_for, late))

    def _ask(self, batch: list[tuple[Request, bytes]]) -> tuple[list[_Asked], float]:
        """What the challenger says to some requests, and the seconds of a core that it took; in the thread."""
        began, worked = time.perf_counter(), time.thread_time()
        asked = [self._read(request, body) for request, body in batch]
        there = [each for each in asked if each.rows is not None]
        if there:
            said = attempts(self._predict, [each.rows for each in there if each.rows is not None])
            for each, outputs in zip(there, said, strict=True):
                if isinstance(outputs, Exception):
                    each.error = outputs
                else:
                    each.outputs = outputs
        seconds = time.perf_counter() - began
        for each in asked:
            each.seconds = seconds
        return asked, time.thread_time() - worked

    def _read(self, request: Request, body: bytes) -> _Asked:
        served = self.served
        try:
            given, _ = served.protocols[request.protocol].read(request, body)
            if not isinstance(given, RawRows):
                return _Asked(request, rows=given)
            assert served.loaded.raw is not None  # noqa: S101  # else no row is raw
            by, _ = self._service.knowing(request, served, given.count)
            return _Asked(request, rows=served.loaded.raw.computed(given, by), raw=given)
        except Exception as error:  # noqa: BLE001  # it is put on record
            return _Asked(request, error=error)

    def _give_up(self, waited_for: list[Request], seconds: float) -> None:
        for request in waited_for:
            self._record(_Asked(request, seconds, error=_Late()))
        waited_for.clear()

    def _answered(self, done: asyncio.Future[tuple[list[_Asked], float]], waited_for: list[Request], late: asyncio.TimerHandle) -> None:
        began = time.perf_counter()
        late.cancel()
        asked, worked = done.result()
        if waited_for:
            for each in asked:
                self._record(each)
        share = self._service.settings.release.shadow.share
        worked += time.perf_counter() - began
        if self._closed:
            self._busy = False
        else:
            self._loop.call_later(worked * (1 - share) / share, self._next)

    def _record(self, asked: _Asked) -> None:
        service, request, recorder = self._service, asked.request, self._service.recorder
        failed = asked.outputs is None or asked.rows is None
        service.metrics.arm(self._name, "shadow", asked.seconds, failed=failed)
        if recorder is None:
            return
        if asked.outputs is None or asked.rows is None:
            assert asked.error is not None  # noqa: S101  # else it has said something
            word = "late" if isinstance(asked.error, _Late) else why_of(self.served.version, asked.error).partition(": ")[2]
            entry = failed_entry(request, self.served, word, asked.seconds)
        else:
            entry = entry_of(request, self.served, asked.rows, asked.outputs, asked.raw, asked.seconds)
        try:
            recorder.add(entry)
        except RecordFull:
            service.metrics.shadow_left_out(self._name, "record_full")


class _Late(Exception):  # a challenger in the shadow has not answered in its time
    pass
