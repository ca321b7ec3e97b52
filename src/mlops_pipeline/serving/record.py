"""The recorder: answers go to the store in groups, and wait for it as long as they were promised to.

Everything happens on the loop's thread. An entry is encoded when it is added, so that its arrays are let go and memory is
counted in bytes that are there. While one group is written and committed, by a process of its own, the next one gathers: the
size of a group follows the load by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.records.encoding import NO_FORM, encode, form_of, recorded_columns

if TYPE_CHECKING:
    from mlops_pipeline.records.encoding import Form
    from mlops_pipeline.records.entry import Entry, RecordLayout
    from mlops_pipeline.records.store import Store

GROUP_ENTRIES = 2000
"""Most entries of a group: a commit of so many takes a few milliseconds."""
GROUP_BYTES = 1 << 20
EARLY_ENTRIES = 500
"""Relaxed: so many entries are written before their time."""
EARLY_BYTES = 1 << 18
SILENT_S = 5.0
"""A group that is not committed after so long is a problem, whatever the writer says or does not."""
COUNTED_BYTES = 64
"""What an entry counts beyond its own bytes, so that empty ones count too."""


class RecordFull(Exception):  # the name that the application knows
    """Nothing more can be put on record for now: the answer is not to be given."""


class _Group:
    """Rows that are committed together, counted from ``first``."""

    __slots__ = ("committed", "first", "held", "rows", "since")

    def __init__(self, first: int) -> None:
        self.first = first
        self.rows: list[bytes] = []
        self.held = 0
        self.since = 0.0
        self.committed: asyncio.Future[None] | None = None


class Recorder:
    """Writes entries to a store. ``durable``: an answer waits for its commit. Otherwise it may go out before its commit, but
    no later than ``loss_ms`` after the oldest entry that is not committed, so that a kill or a loss of power takes at most the
    answers of so many milliseconds.

    ``pending`` entries are not committed yet and hold at most ``max_bytes``; ``written`` ones are.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, *, durable: bool, loss_ms: int, max_bytes: int) -> None:
        self._store = store
        self._loop = loop
        self._durable = durable
        self._loss_s = loss_ms / 1000
        self._max_bytes = max_bytes
        self._gathering = _Group(0)
        self._ready: deque[_Group] = deque()
        self._writing: _Group | None = None
        self._held = 0
        self._forms: dict[int, Form] = {}
        self._scheduled: asyncio.Handle | None = None
        self._started = False
        self._closed: asyncio.Future[None] | None = None
        self._problem = ""
        self._sent = 0.0
        self.written = 0

    @property
    def pending(self) -> int:
        """Entries that are not committed yet."""
        return self._gathering.first + len(self._gathering.rows) - self.written

    @property
    def problem(self) -> str:
        """Why the store cannot be written now; empty if it can."""
        if not self._problem and self._writing is not None and time.monotonic() - self._sent > SILENT_S:
            return f"the writer has not committed what it was given for more than {SILENT_S:g} s"
        return self._problem

    def start(self) -> None:
        """Start the writer; it opens the store, so that ``problem`` says soon what is wrong with it."""
        self._started = True
        self._store.start(self._loop, self._heard, self._ended)

    def add(self, entry: Entry) -> asyncio.Future[None] | None:
        """Take an entry. None: the answer may go out. A future: only when that is done, which it is for its whole group at once.

        To be called on the loop's thread. The future is shared: wait for it through ``asyncio.shield`` or a callback, for a
        task that is cancelled while it awaits the future itself would cancel it for the others. Raises :class:`RecordFull` if
        the store has been out of reach for so long that the memory for what is pending is used up; the entry is then not on
        record.
        """
        if self._closed is not None:
            raise RecordFull("the server is stopping")
        group = self._take(encode(entry, self.form(entry.layout)))
        if group is None:
            raise RecordFull(self.problem or "more is to be recorded than can be written")
        committed = group.committed
        if committed is None and (self._durable or self._is_late(group)):
            committed = group.committed = self._loop.create_future()
        return committed

    def form(self, layout: RecordLayout | None) -> Form:
        """How entries of a layout are encoded. To be called on the loop's thread; what it gives may be used in any."""
        return NO_FORM if layout is None else self._forms.get(id(layout)) or self._known(layout)

    def add_rows(self, rows: Sequence[bytes]) -> int:
        """Take entries that are encoded already and that nobody waits for; how many there was room for, the first of them."""
        if self._closed is not None:
            return 0
        return next((count for count, row in enumerate(rows) if self._take(row) is None), len(rows))

    def _take(self, row: bytes) -> _Group | None:
        """Put an entry into the group that gathers, which is handed over if it has grown large; None if there is no room."""
        size = len(row) + COUNTED_BYTES
        if self._held + size > self._max_bytes:
            return None
        self._held += size
        group = self._gathering
        group.held += size
        rows = group.rows
        rows.append(row)
        count = len(rows)
        if count == 1:
            group.since = time.monotonic()
            if self._writing is None:
                self._schedule()
        if count >= EARLY_ENTRIES or group.held >= EARLY_BYTES:
            self._grown(group)
        return group

    @property
    def last(self) -> int:
        """The count of the entry that was added last."""
        return self._gathering.first + len(self._gathering.rows) - 1

    def replace(self, count: int, entry: Entry) -> bool:
        """Put an entry in the place of the one with this count; False if that has gone to the writer."""
        group = next((group for group in (*self._ready, self._gathering) if 0 <= count - group.first < len(group.rows)), None)
        if group is None:
            return False
        place = count - group.first
        row = encode(entry, self.form(entry.layout))
        grown = len(row) - len(group.rows[place])
        group.rows[place] = row
        group.held += grown
        self._held += grown
        return True

    async def close(self, patience_s: float = 20.0) -> None:
        """Write all that is pending and stop. Nothing can be added any more.

        Raises :class:`PipelineError` if the store stayed out of reach for so long that entries are lost.
        """
        if self._closed is not None:
            return
        self._closed = self._loop.create_future()
        if self._started:
            self._hand_over()
            if self._writing is None:
                self._store.finish()
            await asyncio.wait((self._closed,), timeout=patience_s)
            if not self._closed.done():
                self._store.kill()
        if self.pending:
            raise PipelineError(f"{self.pending} answers are not on record: {self.problem or 'the store did not answer in time'}")

    def _known(self, layout: RecordLayout) -> Form:
        """The form of a layout that was not seen before; the form keeps the layout, so its id stays its own."""
        form = self._forms[id(layout)] = form_of(layout, len(self._forms) + 1)
        self._store.layout(form.number, recorded_columns(layout))
        return form

    def _is_late(self, group: _Group) -> bool:
        oldest = self._writing or (self._ready[0] if self._ready else group)
        return time.monotonic() - oldest.since > self._loss_s

    def _schedule(self) -> None:
        # Not at once: what else is answered in this turn of the loop joins the group.
        if self._durable:
            self._scheduled = self._loop.call_soon(self._hand_over)
        else:
            left = self._gathering.since + self._loss_s / 2 - time.monotonic()
            self._scheduled = self._loop.call_later(max(0.0, left), self._hand_over)

    def _grown(self, group: _Group) -> None:
        if self._writing is None:
            self._hand_over()
        elif len(group.rows) >= GROUP_ENTRIES or group.held >= GROUP_BYTES:
            self._seal()

    def _seal(self) -> None:
        group = self._gathering
        self._ready.append(group)
        self._gathering = _Group(group.first + len(group.rows))

    def _hand_over(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if self._writing is not None:
            return
        if not self._ready and self._gathering.rows:
            self._seal()
        if self._ready:
            group = self._writing = self._ready.popleft()
            self._sent = time.monotonic()
            self._store.send(group.first, group.rows)

    def _heard(self, committed: int, problem: str) -> None:
        self._problem = problem
        group = self._writing
        if group is None or committed < group.first + len(group.rows):
            return
        self._writing = None
        self._held -= group.held
        self.written += len(group.rows)
        if group.committed is not None and not group.committed.done():
            group.committed.set_result(None)
        gathering = self._gathering
        grown = len(gathering.rows) >= EARLY_ENTRIES or gathering.held >= EARLY_BYTES
        if self._durable or self._ready or grown or gathering.committed is not None or self._closed is not None:
            self._hand_over()
        elif gathering.rows:
            self._schedule()
        if self._closed is not None and self._writing is None:
            self._store.finish()

    def _ended(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
