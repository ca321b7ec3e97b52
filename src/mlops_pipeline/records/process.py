"""The writer as the server sees it: a process of its own at the other end of two pipes.

A thread in the server would wait for Python's lock at every step, and an event loop that gives the lock back for
microseconds at a time hardly ever lets it have it: a busy loop starved such a writer for seconds, and lost a third of its
own time to it (benchmarks/record.py keeps the comparison). The process ends when the server does, in whatever way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.serving import RecordStore
from mlops_pipeline.environment import beside
from mlops_pipeline.records.encoding import Columns
from mlops_pipeline.records.store import Store, located

HEAD = struct.Struct("<cQQQ")
"""Before every message to the writer: its kind, the count of its first row, the number of rows, the bytes that follow."""
OPEN, LAYOUT, ROWS = b"O", b"L", b"R"
PIPE_BYTES = 1 << 20
RESTART_S = 0.2
LONGEST_RESTART_S = 5.0


class Opening(msgspec.Struct):
    """The first message. It goes through the pipe and not by the command line, which others can see."""

    store: str
    where: str
    settings: dict[str, Any]
    worker: int
    token: str
    project: str | None
    plugins: tuple[str, ...]
    origin: str
    of: str


class WriterProcess:
    """Starts the writer, and starts it again if it dies; what was not committed then is sent again."""

    def __init__(self, store: RecordStore, worker: int) -> None:
        parts = plugins.source()
        project = None if parts.project is None else str(parts.project)
        token = secrets.token_hex(16)
        self._opening = Opening(store.name, store.where, store.settings, worker, token, project, parts.plugins, parts.origin, store.of)
        self._layouts: list[tuple[int, Columns]] = []
        self._group: tuple[int, int, bytes] | None = None
        self._out: deque[memoryview] = deque()
        self._said = b""
        self._finishing = self._over = False
        self._pause = RESTART_S
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, loop: asyncio.AbstractEventLoop, heard: Callable[[int, str], None], ended: Callable[[], None]) -> None:
        """Start the process."""
        self._loop, self._heard, self._ended = loop, heard, ended
        self._spawn()

    def layout(self, number: int, columns: Columns) -> None:
        """Tell the writer of a layout before the first row that names it."""
        self._layouts.append((number, columns))
        self._write_layout(number, columns)

    def send(self, first: int, rows: Sequence[bytes]) -> None:
        """Send a group."""
        self._group = (first, len(rows), b"".join(rows))
        self._write(ROWS, *self._group)

    def finish(self) -> None:
        """Let the writer close the store and end."""
        self._finishing = True
        self._flush()

    def kill(self) -> None:
        """End the process at once."""
        self._over = True
        self._drop()

    def _spawn(self) -> None:
        if self._over:
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlops_pipeline.records.writer"],
                env=beside(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._heard(0, f"the writer of records cannot be started: {error.strerror}")
            self._loop.call_later(self._next_pause(), self._spawn)
            return
        assert self._process.stdin is not None  # noqa: S101  # they are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        _widen(self._input)
        self._said = b""
        self._loop.add_reader(self._output, self._read)
        self._write(OPEN, 0, 0, msgspec.json.encode(self._opening))
        for number, columns in self._layouts:
            self._write_layout(number, columns)
        if self._group is not None:
            self._write(ROWS, *self._group)

    def _write_layout(self, number: int, columns: Columns) -> None:
        self._write(LAYOUT, number, 0, msgspec.json.encode(columns))

    def _write(self, kind: bytes, first: int, count: int, content: bytes) -> None:
        if self._process is None:
            return  # all of it is sent when there is one again
        waiting = bool(self._out)
        self._out.append(memoryview(HEAD.pack(kind, first, count, len(content))))
        if content:
            self._out.append(memoryview(content))
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        if self._process is None:
            return
        try:
            while self._out:
                sent = os.writev(self._input, list(self._out)[:16])
                while self._out and sent >= len(self._out[0]):
                    sent -= len(self._out.popleft())
                if sent:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:
            self._loop.add_writer(self._input, self._flush)
            return
        except OSError:  # it has died: its end of the other pipe says so too
            self._out.clear()
        self._loop.remove_writer(self._input)
        if self._finishing and self._group is None and self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def _read(self) -> None:
        try:
            said = os.read(self._output, 65536)
        except BlockingIOError:
            return
        if not said:
            self._died()
            return
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            committed, problem = msgspec.json.decode(line, type=tuple[int, str])
            self._pause = RESTART_S
            if self._group is not None and committed >= self._group[0] + self._group[1]:
                self._group = None
            self._heard(committed, problem)

    def _died(self) -> None:
        done = self._finishing and self._group is None
        code = self._drop()
        if done:
            self._over = True
            self._ended()
            return
        self._heard(0, f"the writer of records ended by itself ({code}): it is started again; its own words are in the server's log")
        self._loop.call_later(self._next_pause(), self._spawn)

    def _drop(self) -> int | None:
        process, self._process = self._process, None
        self._out.clear()
        if process is None:
            return None
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        self._loop.remove_reader(self._output)
        if not process.stdin.closed:
            self._loop.remove_writer(self._input)
            process.stdin.close()
        process.stdout.close()
        process.kill()
        return process.wait()

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_RESTART_S)
        return pause


def _widen(pipe: int) -> None:
    """Room for a group, where the system lets us: then the server writes it in one go."""
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def open_store(where: str | Path | RecordStore, worker: int) -> Store:
    """The store at an address, or in a folder (made if missing), for one worker of a server.

    Raises :class:`PipelineError` if no store here answers to it.
    """
    return WriterProcess(located(where), worker)
