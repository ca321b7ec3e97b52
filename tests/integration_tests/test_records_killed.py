"""A killed server loses no record that it acknowledged (durable), or only those of the stated window (relaxed)."""

from __future__ import annotations

import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops_pipeline.records.reading import read
from tests.conftest import process_environment, wait_for

pytestmark = pytest.mark.slow

SERVICE = """
import asyncio, os, signal, sys, time
import numpy as np
from mlops_pipeline.records.entry import Entry, RecordLayout
from mlops_pipeline.records.process import open_store
from mlops_pipeline.serving.record import Recorder

NOON = 1_735_732_800.0  # of 2025-01-01, whose file is written to whatever day it is by now
folder, worker, mode, loss_ms, boot, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5], int(sys.argv[6])
layout = RecordLayout("a" * 64, "binary", tuple(f"n{k}" for k in range(30)), ("kind",), frozenset(), ("no", "yes"))
numbers, outputs = np.ones((rows, 30), np.float32), np.full((rows, 2), 0.5, np.float32)
kinds = np.full((rows, 1), "a", object)

async def client(recorder, name, stopping):
    count, told = 0, name > 0
    while not stopping.is_set():
        count += 1
        if recorder.problem and not told:
            told = True
            os.write(1, b"problem\\n")
        request = f"{boot}-{worker}-{name}-{count}"
        entry = Entry(request, NOON, 100, "champion", "1", layout, rows, numbers, kinds, outputs)
        before = time.monotonic()
        committed = recorder.add(entry)
        after = time.monotonic()
        if committed is not None:
            if mode == "relaxed":
                os.write(1, b"held\\n")
            await asyncio.shield(committed)
        os.write(1, f"{request} {before!r} {after!r}\\n".encode())
        await asyncio.sleep(0)

async def main():
    loop = asyncio.get_running_loop()
    recorder = Recorder(open_store(folder, worker), loop, durable=mode == "durable", loss_ms=loss_ms, max_bytes=1 << 26)
    recorder.start()
    os.write(1, f"writer {recorder._store._process.pid}\\n".encode())
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.gather(*(client(recorder, name, stopping) for name in range(8)))
    await recorder.close()

asyncio.run(main())
"""
"""A service of eight clients at once that answers as fast as its recorder lets it, and says on a pipe what it answered."""


class Service:
    """The process, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.answered: list[tuple[str, float, float]] = []
        self.held = 0
        self.writer = 0
        self.problem = False

    def hear(self, answers: float = math.inf, held: float = math.inf, *, problem: bool = False) -> None:
        """Read until so many answers went out, or were held back, or a problem was told; without any of them, until the end."""
        assert self.process.stdout is not None
        while len(self.answered) < answers and self.held < held and not (problem and self.problem):
            line = self.process.stdout.readline()
            if not line.endswith(b"\n"):
                assert answers == held == math.inf, "the service ended by itself"
                return
            if line == b"held\n":
                self.held += 1
            elif line == b"problem\n":
                self.problem = True
            elif line.startswith(b"writer"):
                self.writer = int(line.split()[1])
            else:
                request, before, after = line.split()
                self.answered.append((request.decode(), float(before), float(after)))

    def end(self, number: int) -> None:
        """Send a signal and wait for the end of the service, and of its writer, which keeps the error output open."""
        self.process.send_signal(number)
        self.hear()
        self.process.wait(60)
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        assert not said, said.decode()

    def lose_power(self) -> None:
        """The service and its writer end in the same moment: neither can do anything about the other's end."""
        self.process.send_signal(signal.SIGSTOP)
        os.kill(self.writer, signal.SIGKILL)
        self.end(signal.SIGKILL)


@contextmanager
def service(folder: Path, mode: str, worker: int = 0, loss_ms: int = 200, boot: int = 0, rows: int = 1) -> Iterator[Service]:
    words = [sys.executable, "-c", SERVICE, str(folder), str(worker), mode, str(loss_ms), str(boot), str(rows)]
    process = subprocess.Popen(words, env=process_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Service(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def recorded(folder: Path) -> list[str]:
    """Every request in the files, which must be sound, each once."""
    for path in folder.glob("*.sqlite"):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    requests = list(read(folder).filter(row=0)["request_id"])
    assert len(requests) == len(set(requests))
    return requests


@pytest.mark.parametrize("rows", [1, 300])
def test_two_workers_killed_again_and_again_lose_nothing_they_acknowledged(tmp_path: Path, rows: int) -> None:
    chance = random.Random(rows)  # noqa: S311  # moments, no secrets
    acknowledged: set[str] = set()
    for boot in range(6):
        with service(tmp_path, "durable", 0, boot=boot, rows=rows) as one, service(tmp_path, "durable", 1, boot=boot, rows=rows) as two:
            one.hear(answers=chance.randint(1, 2000 // rows + 50))
            one.end(signal.SIGKILL)
            two.hear(answers=chance.randint(1, 2000 // rows + 50))
            two.lose_power()
        assert one.process.returncode == two.process.returncode == -signal.SIGKILL
        acknowledged |= {request for request, _, _ in one.answered + two.answered}
        assert acknowledged <= set(recorded(tmp_path))
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite"}, "the reader folded in what was left"


def lost_window(answered: list[tuple[str, float, float]], kept: list[str]) -> float:
    """Seconds of service from the first lost answer to the last; 0 if none is lost."""
    there = set(kept)
    lost = [(before, after) for request, before, after in answered if request not in there]
    return max(before for before, _ in lost) - min(after for _, after in lost) if lost else 0.0


def test_relaxed_a_kill_loses_at_most_the_stated_window(tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311  # moments, no secrets
    for boot in range(5):
        with service(tmp_path, "relaxed", loss_ms=100, boot=boot) as one:
            one.hear(answers=chance.randint(1, 20_000))
            one.lose_power()
        assert lost_window(one.answered, recorded(tmp_path)) <= 0.1


def test_relaxed_a_store_that_hangs_holds_answers_back_before_more_can_be_lost(tmp_path: Path) -> None:
    with service(tmp_path, "relaxed", loss_ms=300) as one:
        one.hear(answers=100)
        wait_for(lambda: read(tmp_path).height, 120, "the first commit")
        lock = sqlite3.connect(tmp_path / "2025-01-01.w0.sqlite", isolation_level=None, timeout=30)
        lock.execute("BEGIN IMMEDIATE")
        one.hear(held=8)  # every client waits
        one.lose_power()
        lock.execute("ROLLBACK")
        lock.close()
    kept = recorded(tmp_path)
    assert len(kept) >= 1
    assert lost_window(one.answered, kept) <= 0.3


def test_relaxed_a_kill_of_the_server_alone_spares_what_its_writer_has_been_given(tmp_path: Path) -> None:
    with service(tmp_path, "relaxed", loss_ms=3_600_000) as one:
        one.hear(answers=600)  # a group has gone into the pipe, whether the writer is up by then or not
        one.end(signal.SIGKILL)
    assert len(recorded(tmp_path)) >= 500


def test_a_writer_without_its_server_still_tries_to_write_what_it_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.write_text("in the way")
    with service(folder, "relaxed", loss_ms=3_600_000) as one:
        one.hear(problem=True)  # the writer is up
        one.hear(answers=len(one.answered) + 600)
        one.process.kill()
        one.process.wait()
        folder.unlink()
        one.end(signal.SIGKILL)
    assert len(recorded(folder)) >= 500


def test_asked_to_stop_a_server_writes_all_that_is_pending(tmp_path: Path) -> None:
    with service(tmp_path, "relaxed", loss_ms=3_600_000) as one:
        one.hear(answers=300)  # fewer than are written before their time
        one.end(signal.SIGTERM)
    assert one.process.returncode == 0
    assert sorted(recorded(tmp_path)) == sorted(request for request, _, _ in one.answered)
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite"}
