"""A challenger asked behind answers that have gone out: nobody waits for it, and nothing that is waited for waits for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlops_pipeline.inference.raw import RawRows
from mlops_pipeline.inference.signature import Rows
from mlops_pipeline.records.encoding import encode
from mlops_pipeline.serving.answer import entry_of, failed_entry
from mlops_pipeline.serving.arms import why_of
from mlops_pipeline.serving.aside import Aside
from mlops_pipeline.serving.batching import Predict, attempts

if TYPE_CHECKING:
    import numpy as np

    from mlops_pipeline.records.encoding import Form
    from mlops_pipeline.records.entry import Entry
    from mlops_pipeline.serving.answer import Service
    from mlops_pipeline.serving.request import Request
    from mlops_pipeline.serving.served import Served

GATHER_S = 0.05
"""How long the first answer waits for others, so that one turn serves many."""
TOGETHER = 64
"""Requests that are asked in one turn of the thread."""
PIECE_ROWS = 16
"""Rows, as their signature weighs them, that are asked in one turn of the loop."""
PIECE_S = 0.0003
"""If so many take no longer. Clients would wait longer for a thread: each time that it and the loop hand Python's lock to one another, one
of them has to be woken (benchmarks/release.py measures what clients see)."""
TEXT_BYTES = 64
"""What a text of rows that wait holds beyond its letters."""


class _Waiting(NamedTuple):
    """What is to be asked behind one answer: rows, or the body that they are still to be read from."""

    request: Request
    rows: Rows | None
    body: bytes
    weight: int
    """Of its rows, in rows of the usual kind; 0 while they are not read."""
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


class _Said(NamedTuple):
    """What is put on record of what was asked together: entries encoded, none where nothing is recorded."""

    rows: list[bytes]
    failed: int
    seconds: float
    """What it took to ask."""
    worked: float
    """Seconds of a core that all of it took."""


class Shadows:
    """Asks a challenger behind answers that have gone out, for a share of one core.

    A few rows at a time are asked on the loop, if they are read already and take no longer than :data:`PIECE_S`; all else in a thread of
    its own. Of what waits no more is kept than the settings say; what is left out is counted.
    """

    def __init__(self, service: Service, name: str, served: Served, predict: Predict, *, inline: bool) -> None:
        """Unless ``inline`` none is asked on the loop itself: an engine whose time is not known beforehand might keep it."""
        self._service, self._name, self.served, self._predict = service, name, served, predict
        self._loop, self._thread = asyncio.get_running_loop(), Aside("shadow")
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._inline = inline
        self._piece_s = 0.0
        """Seconds of a core that such a piece took lately; 0 until the thread has been asked once."""
        self._turn: asyncio.TimerHandle | None = None
        self._free_at = 0.0
        """When the share of a core allows the next turn."""
        self._busy = self._closed = False

    def add(self, request: Request, body: bytes, given: Rows | RawRows | None) -> None:
        """Ask for what was answered a moment ago, when there is time. ``given`` are its rows, if they are as this challenger reads them."""
        settings = self._service.settings.release.shadow
        rows = given if isinstance(given, Rows) else None
        size = len(body) if rows is None or rows.categories is None else len(body) + TEXT_BYTES * rows.categories.size
        if len(self._waiting) >= settings.requests or self._bytes + size > settings.max_mb * 1e6:
            self._service.metrics.shadow_left_out(self._name, "queue_full")
            return
        request.arm, request.why, request.computed, request.on_record = "shadow", "", None, -1
        self._bytes += size
        weights = None if rows is None else self.served.signature.row_weights(rows)
        weight = 0 if rows is None else rows.count if weights is None else sum(weights)
        due = time.perf_counter() + settings.deadline_ms / 1000
        self._waiting.append(_Waiting(request, rows, body if rows is None else b"", weight, size, due))
        if not self._busy:
            self._busy = True
            self._rest()
        elif len(self._waiting) == PIECE_ROWS and self._turn is not None and self._is_brief(self._waiting[0]):
            self._turn.cancel()
            self._rest()

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        self._waiting.clear()
        self._thread.shutdown()

    def _is_brief(self, waiting: _Waiting) -> bool:
        return self._inline and 0 < self._piece_s <= PIECE_S and 0 < waiting.weight <= PIECE_ROWS

    def _rest(self) -> None:
        """Wait until others have come."""
        waiting = self._waiting
        enough = PIECE_ROWS if waiting and self._is_brief(waiting[0]) else TOGETHER
        gather_s = 0.0 if len(waiting) >= enough else min(GATHER_S, self._service.settings.release.shadow.deadline_ms / 4000)
        self._turn = self._loop.call_later(max(gather_s, self._free_at - time.perf_counter()), self._next)

    def _rest_after(self, worked: float) -> None:
        """Go on when the share of a core allows that, now that so many seconds of it were taken."""
        share = self._service.settings.release.shadow.share
        self._free_at = max(self._free_at, time.perf_counter()) + worked * (1 - share) / share
        if self._closed:
            self._busy = False
        else:
            self._rest()

    def _next(self) -> None:
        self._turn = None
        batch: list[_Waiting] = []
        weight, waiting, now = 0, self._waiting, time.perf_counter()
        brief = bool(waiting) and self._is_brief(waiting[0])
        most, together = (PIECE_ROWS, PIECE_ROWS) if brief else (self._service.settings.batching.max_rows, TOGETHER)
        while waiting and len(batch) < together and weight < most and (not brief or self._is_brief(waiting[0])):
            each = waiting.popleft()
            self._bytes -= each.size
            if each.due < now:
                self._service.metrics.shadow_left_out(self._name, "late")
            else:
                batch.append(each)
                weight += each.weight or 1
        if self._closed or not batch:
            self._busy = bool(waiting) and not self._closed
            if self._busy:
                self._rest()
            return
        served, recorder = self.served, self._service.recorder
        form = None if recorder is None else recorder.form(served.layout)
        if brief:
            self._ask_here(served, form, batch)
            return
        running = self._loop.run_in_executor(self._thread, self._ask, served, form, batch)
        deadline_s, waited_for = self._service.settings.release.shadow.deadline_ms / 1000, [each.request for each in batch]
        late = self._loop.call_later(deadline_s, self._give_up, served, waited_for, deadline_s)
        running.add_done_callback(lambda done: self._answered(done, served, waited_for, weight, late))

    def _ask_here(self, served: Served, form: Form | None, batch: list[_Waiting]) -> None:
        began = time.thread_time()
        try:
            said = self._ask(served, form, batch)
        except Exception as error:  # noqa: BLE001  # as from the thread
            self._fail(served, [each.request for each in batch], error, 0.0)
        else:
            self._put(said, len(batch))
        worked = time.thread_time() - began
        self._piece_s += (worked - self._piece_s) / 8
        self._rest_after(worked)

    def _ask(self, served: Served, form: Form | None, batch: list[_Waiting]) -> _Said:
        """What the challenger says to some requests, as it is put on record in this form; in either thread."""
        began, worked = time.perf_counter(), time.thread_time()
        asked = [self._read(served, each) for each in batch]
        there = [each for each in asked if each.rows is not None]
        if there:
            said = attempts(self._predict, [each.rows for each in there if each.rows is not None])
            for each, outputs in zip(there, said, strict=True):
                if isinstance(outputs, Exception):
                    each.error = outputs
                else:
                    each.outputs = outputs
        seconds = time.perf_counter() - began
        rows = [] if form is None else [encode(_entry(served, each, seconds), form) for each in asked]
        failed = sum(each.outputs is None for each in asked)
        return _Said(rows, failed, seconds, time.thread_time() - worked)

    def _read(self, served: Served, waiting: _Waiting) -> _Asked:
        request = waiting.request
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

    def _give_up(self, served: Served, waited_for: list[Request], seconds: float) -> None:
        self._fail(served, waited_for, _Late(), seconds)
        waited_for.clear()

    def _answered(
        self, done: asyncio.Future[_Said], served: Served, waited_for: list[Request], weight: int, late: asyncio.TimerHandle
    ) -> None:
        late.cancel()
        began = time.perf_counter()
        try:
            said = done.result()
        except Exception as error:  # noqa: BLE001  # it is put on record, and others are asked
            self._fail(served, waited_for, error, 0.0)
            self._rest_after(0.0)
            return
        if waited_for:
            self._put(said, len(waited_for))
        piece_s = said.worked * min(1.0, PIECE_ROWS / weight)
        self._piece_s += (piece_s - self._piece_s) / (8 if self._piece_s else 1)
        self._rest_after(said.worked + time.perf_counter() - began)

    def _put(self, said: _Said, asked: int) -> None:
        """Count what was said, and put it on record."""
        metrics, recorder = self._service.metrics, self._service.recorder
        metrics.shadows(self._name, said.seconds, asked - said.failed, failed=False)
        if said.failed:
            metrics.shadows(self._name, said.seconds, said.failed, failed=True)
        if recorder is not None:
            self._left_out(len(said.rows) - recorder.add_rows(said.rows))

    def _fail(self, served: Served, waited_for: list[Request], error: Exception, seconds: float) -> None:
        """Put on record that these requests got no answer in the shadow."""
        recorder = self._service.recorder
        self._service.metrics.shadows(self._name, seconds, len(waited_for), failed=True)
        if recorder is not None:
            form = recorder.form(served.layout)
            rows = [encode(_entry(served, _Asked(request, error=error), seconds), form) for request in waited_for]
            self._left_out(len(rows) - recorder.add_rows(rows))

    def _left_out(self, count: int) -> None:
        for _ in range(count):
            self._service.metrics.shadow_left_out(self._name, "record_full")


def _entry(served: Served, asked: _Asked, seconds: float) -> Entry:
    if asked.rows is not None and asked.outputs is not None:
        return entry_of(asked.request, served, asked.rows, asked.outputs, asked.raw, seconds)
    assert asked.error is not None  # noqa: S101  # else it has said something
    word = "late" if isinstance(asked.error, _Late) else why_of(served.version, asked.error).partition(": ")[2]
    return failed_entry(asked.request, served, word, seconds)


class _Late(Exception):  # a challenger in the shadow has not answered in its time
    pass
