"""The writer: a process that takes groups from its standard input, commits them, and says on its output what is committed.

It ends when its input does: the server has closed it, or is gone. It outlives the signals that ask a server to stop, because
the server has records to write then.
"""

from __future__ import annotations

import io
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.serving import RecordStore
from mlops_pipeline.errors import one_line
from mlops_pipeline.records.encoding import Columns, read_rows
from mlops_pipeline.records.process import HEAD, LAYOUT, ROWS, Opening
from mlops_pipeline.records.store import Database, located, part_at

PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
"""Pauses between attempts to write grow from one to the other."""
ORPHAN_S = 10.0
"""How long a group that is left of a server that is gone is still tried."""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    source = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  # a descriptor, to the process's end
    said = os.dup(1)
    os.dup2(2, 1)  # what a library may print is no message of ours
    message = _message(source)
    if message is None:
        return
    opening = msgspec.json.decode(message[3], type=Opening)
    plugins.use(plugins.NamedParts(None if opening.project is None else Path(opening.project), opening.plugins, opening.origin))
    store = RecordStore(opening.store, opening.where, opening.settings, opening.of)
    _Writer(source, said, lambda: open_database(store, opening.worker, opening.token)).work()


class _Writer:
    def __init__(self, source: io.FileIO, said: int, database: Callable[[], Database]) -> None:
        self._source = source
        self._said = said
        self._make = database
        self._made: Database | None = None
        self._layouts: dict[int, Columns] = {}
        self._committed = 0
        self._problem = ""
        self._told: tuple[int, str] | None = None

    def work(self) -> None:
        self._until_it_works(lambda: self._database().open(), give_way=True)
        while (message := _message(self._source)) is not None:
            kind, first, count, content = message
            if kind == LAYOUT:
                self._layouts[first] = msgspec.json.decode(content, type=Columns)
            elif kind == ROWS:
                rows = read_rows(count, content)
                if not self._until_it_works(lambda first=first, rows=rows: self._database().write(first, rows, self._layouts)):  # type: ignore[misc]
                    break
                self._committed = first + count
                self._tell()
        if self._made is not None:
            self._made.close()

    def _database(self) -> Database:
        """What is written to. Another's store may fail while it is made, as while it is opened."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def _until_it_works(self, call: Callable[[], None], *, give_way: bool = False) -> bool:
        """Try until it works, or the server is gone; with ``give_way`` only until there is something else to do."""
        pause, deadline = PAUSE_S, None
        # The end of the input is always told; what there is to read, such as the layout of a new version, only if asked for.
        ready = select.poll()
        ready.register(self._source, select.POLLIN if give_way else 0)
        while True:
            try:
                call()
            except Exception as error:  # noqa: BLE001  # whatever it is: the server has to know, and it may pass
                self._problem = one_line(error) or type(error).__name__
            else:
                self._problem = ""
                if give_way:
                    self._tell()
                return True
            self._tell()
            if deadline is None and ready.poll(1000 * pause):
                if give_way:
                    return False
                deadline = time.monotonic() + ORPHAN_S
            elif deadline is not None:
                if time.monotonic() > deadline:
                    return False
                time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _tell(self) -> None:
        now = (self._committed, self._problem)
        if now != self._told:
            self._told = now
            try:
                os.write(self._said, msgspec.json.encode(now) + b"\n")
            except OSError:  # nobody listens any more
                return


def _message(source: io.FileIO) -> tuple[bytes, int, int, bytearray] | None:
    head = _exactly(source, HEAD.size)
    if head is None:
        return None
    kind, first, count, length = HEAD.unpack(head)
    content = _exactly(source, length)
    return None if content is None else (kind, first, count, content)


def _exactly(source: io.FileIO, length: int) -> bytearray | None:
    """So many bytes; None if the input ends before them: a group that is not whole was never acknowledged."""
    content = bytearray(length)
    view, done = memoryview(content), 0
    while done < length:
        read = source.readinto(view[done:])
        if not read:
            return None
        done += read
    return content


def open_database(where: str | Path | RecordStore, worker: int, token: str) -> Database:
    """The database behind a store; ``token`` (32 hexadecimal digits) tells this run of the server from all others."""
    store = located(where)
    part, settings = part_at(store)
    made: Database = plugins.run(part, store.where, worker, token, *settings)
    belongs_to: Callable[[str], object] | None = getattr(made, "belongs_to", None)
    if belongs_to is not None and store.of:
        belongs_to(store.of)
    return made


if __name__ == "__main__":
    main()
