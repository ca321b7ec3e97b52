"""A challenger asked behind answers that have gone out: nobody waits for it, and nothing that is waited for waits for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlops_pipeline.inference.raw import RawRows
from mlops_pipeline.inference.signature import Rows
from mlops_pipeline.serving.answer import entry_of, failed_entry
from mlops_pipeline.serving.arms import why_of
from mlops_pipeline.serving.aside import Aside
from mlops_pipeline.serving.batching import Predict, attempts
from mlops_pipeline.serving.record import RecordFull

if TYPE_CHECKING:
    import numpy as np

    from mlops_pipeline.serving.answer import Service
    from mlops_pipeline.serving.request import Request
    from mlops_pipeline.serving.served import Served

GATHER_S = 0.05
"""How long the first answer waits for others, so that one turn of the thread serves many."""
TOGETHER = 64
"""Requests that are asked in the shadow at a time."""
ON_RECORD = 8
"""Of them, so many go on record in one turn of the loop: a client who asks meanwhile waits for no more."""


class _Waiting(NamedTuple):
    """What is to be asked behind one answer: rows, or the body that they are still to be read from."""

    request: Request
    rows: Rows | None
    body: bytes
    size: int
    due: float


@dataclass(slots=True)
class _Asked:
    """What a challenger said behind one answer."""

    request: Request
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
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._busy = self._closed = False

    def add(self, request: Request, body: bytes, given: Rows | RawRows | None) -> None:
        """Ask for what was answered a moment ago, when there is time. ``given`` are its rows, if they are as this challenger reads them."""
        settings, size = self._service.settings.release.shadow, len(body)
        if len(self._waiting) >= settings.requests or self._bytes + size > settings.max_mb * 1e6:
            self._service.metrics.shadow_left_out(self._name, "queue_full")
            return
        request.arm, request.why, request.computed, request.on_record = "shadow", "", None, -1
        self._bytes += size
        rows = given if isinstance(given, Rows) else None
        due = time.perf_counter() + settings.deadline_ms / 1000
        self._waiting.append(_Waiting(request, rows, body if rows is None else b"", size, due))
        if not self._busy:
            self._busy = True
            self._rest(0.0)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        self._waiting.clear()
        self._thread.shutdown()

    def _next(self) -> None:
        batch: list[_Waiting] = []
        now, rows, most = time.perf_counter(), 0, self._service.settings.batching.max_rows
        while self._waiting and len(batch) < TOGETHER and rows < most:
            each = self._waiting.popleft()
            self._bytes -= each.size
            if each.due < now:
                self._service.metrics.shadow_left_out(self._name, "late")
            else:
                batch.append(each)
                rows += 1 if each.rows is None else each.rows.count
        if not batch or self._closed:
            self._busy = False
            return
        running = self._loop.run_in_executor(self._thread, self._ask, batch)
        deadline_s, waited_for = self._service.settings.release.shadow.deadline_ms / 1000, [each.request for each in batch]
        late = self._loop.call_later(deadline_s, self._give_up, waited_for, deadline_s)
        running.add_done_callback(lambda done: self._answered(done, waited_for, late))

    def _ask(self, batch: list[_Waiting]) -> tuple[list[_Asked], float, float]:
        """What the challenger says to some requests, its time, and the seconds of a core that it took; in the thread."""
        began, worked = time.perf_counter(), time.thread_time()
        asked = [self._read(each) for each in batch]
        there = [each for each in asked if each.rows is not None]
        if there:
            said = attempts(self._predict, [each.rows for each in there if each.rows is not None])
            for each, outputs in zip(there, said, strict=True):
                if isinstance(outputs, Exception):
                    each.error = outputs
                else:
                    each.outputs = outputs
        return asked, time.perf_counter() - began, time.thread_time() - worked

    def _read(self, waiting: _Waiting) -> _Asked:
        served, request = self.served, waiting.request
        if waiting.rows is not None:
            return _Asked(request, waiting.rows)
        time.sleep(0)  # lets the loop go on first, which cannot while this thread reads
        try:
            given, _ = served.protocols[request.protocol].read(request, waiting.body)
            if not isinstance(given, RawRows):
                return _Asked(request, given)
            assert served.loaded.raw is not None  # noqa: S101  # else no row is raw
            by, _ = self._service.knowing(request, served, given.count)
            return _Asked(request, served.loaded.raw.computed(given, by), given)
        except Exception as error:  # noqa: BLE001  # it is put on record
            return _Asked(request, error=error)

    def _give_up(self, waited_for: list[Request], seconds: float) -> None:
        for request in waited_for:
            self._record(_Asked(request, error=_Late()), seconds)
        waited_for.clear()

    def _answered(
        self, done: asyncio.Future[tuple[list[_Asked], float, float]], waited_for: list[Request], late: asyncio.TimerHandle
    ) -> None:
        late.cancel()
        asked, seconds, worked = done.result()
        self._keep(deque(asked if waited_for else ()), seconds, worked)

    def _keep(self, asked: deque[_Asked], seconds: float, worked: float) -> None:
        """Put what was said on record, some of it in each turn of the loop."""
        began = time.perf_counter()
        for _ in range(min(ON_RECORD, len(asked))):
            self._record(asked.popleft(), seconds)
        worked += time.perf_counter() - began
        if asked:
            self._loop.call_soon(self._keep, asked, seconds, worked)
        elif self._closed:
            self._busy = False
        else:
            self._rest(worked)

    def _rest(self, worked: float) -> None:
        """Wait until others have come, and for as long as keeps to the share of a core."""
        settings = self._service.settings.release.shadow
        gather_s = 0.0 if len(self._waiting) >= TOGETHER else min(GATHER_S, settings.deadline_ms / 4000)
        self._loop.call_later(max(gather_s, worked * (1 - settings.share) / settings.share), self._next)

    def _record(self, asked: _Asked, seconds: float) -> None:
        service, request, recorder = self._service, asked.request, self._service.recorder
        failed = asked.outputs is None or asked.rows is None
        service.metrics.shadow(self._name, seconds, failed=failed)
        if recorder is None:
            return
        if asked.outputs is None or asked.rows is None:
            assert asked.error is not None  # noqa: S101  # else it has said something
            word = "late" if isinstance(asked.error, _Late) else why_of(self.served.version, asked.error).partition(": ")[2]
            entry = failed_entry(request, self.served, word, seconds)
        else:
            entry = entry_of(request, self.served, asked.rows, asked.outputs, asked.raw, seconds)
        try:
            recorder.add(entry)
        except RecordFull:
            service.metrics.shadow_left_out(self._name, "record_full")


class _Late(Exception):  # a challenger in the shadow has not answered in its time
    pass
