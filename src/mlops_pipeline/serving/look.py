"""A worker's look at the table of releases: again and again, in a thread, however long the table is away."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlops_pipeline.errors import PipelineError, without_secrets
from mlops_pipeline.release.table import Anothers, Release, Table, open_table

log = logging.getLogger("mlops.serving")

REFUSED_S = 30.0
"""So long a table is left alone that is another pipeline's: to connect again and again would keep those waiting whose it is."""


class Look:
    """Looks at the table again and again, in a thread; tells it of this worker's breakers, and of challengers that it cannot load."""

    def __init__(self, where: str, of: str, worker: str, pause_s: float, heard: Callable[[dict[str, Release]], None]) -> None:
        self._where, self._of, self._worker, self._pause_s, self._heard = where, of, worker, pause_s, heard
        self._table: Table | None = None
        self._words: deque[Callable[[Table], None]] = deque()
        self._awake, self._stopped = threading.Event(), False
        self._enabled = self._is_away = self._anew = False
        self._not_before = 0.0
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)

    def first(self) -> dict[str, Release]:
        """What the table says now; nothing if it is away."""
        return self._once() or {}

    def start(self, *, enabled: bool) -> None:
        """Begin to look."""
        self._enabled = enabled
        self._thread.start()

    def enable(self, enabled: bool) -> None:
        """Look, or do not; from any thread."""
        if enabled != self._enabled:
            self._enabled, self._anew = enabled, True
            self._awake.set()

    def report(self, number: int, reason: str) -> None:
        """Tell the table that this worker asks a challenger no more."""
        self._words.append(lambda table: table.add_breaker(number, self._worker, reason))
        self._awake.set()

    def report_unable(self, number: int, reason: str) -> None:
        """Tell the table that this worker cannot ask a challenger now, and why; that it can, with an empty reason."""
        self._words.append(lambda table: table.say_unable(number, self._worker, reason))
        self._awake.set()

    def stop(self) -> None:
        """Look no more; what is under way is not waited for."""
        self._stopped = True
        self._awake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._awake.wait(self._pause_s)
            self._awake.clear()
            if self._enabled and not self._stopped and (found := self._once()) is not None:
                self._heard(found)

    def _once(self) -> dict[str, Release] | None:
        """What the table says, if it has changed since this was last asked."""
        try:
            if self._table is None:
                if time.monotonic() < self._not_before:
                    return None
                if "://" not in self._where and not Path(self._where).is_file():
                    return None
                self._table = open_table(self._where, self._of)
            while self._words:
                self._words[0](self._table)
                self._words.popleft()
                self._anew = True  # what a connection writes itself is no change to it
            has_changed, anew, self._anew = self._table.changed(), self._anew, False
            found = self._table.current() if has_changed or anew else None
        except Exception as error:  # noqa: BLE001  # the thread outlives whatever a database says
            self._tell(error)
            return None
        if self._is_away:
            self._is_away = False
            log.info("the table of releases is there again")
        return found

    def _tell(self, error: Exception) -> None:
        table, self._table = self._table, None
        if table is not None:
            with suppress(Exception):  # it is being left
                table.close()
        if isinstance(error, Anothers):
            self._not_before = time.monotonic() + REFUSED_S
        if not self._is_away:
            self._is_away = True
            said = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
            log.error(
                "the table of releases is away: what it said last holds until its lease ends", extra={"detail": without_secrets(said)}
            )
