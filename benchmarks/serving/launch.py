"""Servers as processes: started on a free port of the loopback, awaited, asked once, and ended with all their children."""

from __future__ import annotations

import http.client
import os
import resource
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

START_LIMIT = 120
STOP_LIMIT = 10
MARK = "BENCH_PROCESS"


@dataclass(frozen=True)
class Command:
    """What to run, and in which environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, words: Sequence[object], environment: Mapping[str, str]) -> Command:
        return cls(tuple(map(str, words)), environment)


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def cores(*, of_load: bool) -> Iterator[None]:
    """What is started in this block runs on its own share of the cores: the last for the load, the others for the server.

    Without shares the scheduler now and then puts both on one core, which triples the figures of one connection.
    """
    everything = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(everything) < 2:
        yield
        return
    os.sched_setaffinity(0, everything[-1:] if of_load else everything[:-1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, everything)


@contextmanager
def running(command: Command, port: int, ready: str, folder: Path, *, pinned: bool = True) -> Iterator[str]:
    """The mark of the server's processes, from its readiness until the block ends; its output goes to a file in its folder.

    ``pinned``: on its own share of the cores.
    """
    mark, log = uuid.uuid4().hex, folder / "log"
    try:
        with log.open("wb") as output, cores(of_load=False) if pinned else nullcontext():
            process = subprocess.Popen(
                command.words,
                cwd=folder,
                env={**command.environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _await(process, port, ready, log)
        yield mark
    finally:
        _end(mark)


def ask(port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """One request: status and content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def spent_elsewhere(mark: str) -> float:
    """Processor seconds so far that neither the server nor we and our load spent: to be subtracted from a later such."""
    machine, ended = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = sum(getattr(machine, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    ours = sum(times.user + times.system for times in (one.cpu_times() for one in (psutil.Process(), *_marked(mark))))
    return float(busy - ours - ended.ru_utime - ended.ru_stime)


def spent(mark: str) -> float:
    """Processor seconds of a server's processes so far."""
    return float(sum(times.user + times.system for times in (one.cpu_times() for one in _marked(mark))))


def _await(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    ends, said = time.monotonic() + START_LIMIT, "no answer"
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode}: {_tail(log)}")
        try:
            status, _ = ask(port, "GET", ready)
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        else:
            if status == http.HTTPStatus.OK:
                return
            said = f"status {status}"
        time.sleep(0.1)
    raise RuntimeError(f"not ready after {START_LIMIT} s ({said}): {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-1500:]


def _end(mark: str) -> None:
    """Ask every process of the server to end, then make those that stay."""
    for stop in (psutil.Process.terminate, psutil.Process.kill):
        # By mark and not by group: BentoML's workers leave their parent's.
        left = _marked(mark)
        for process in left:
            try:
                stop(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=STOP_LIMIT)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
