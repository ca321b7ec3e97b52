"""``mlops serve``: a listening socket, the workers that share it, and what replaces those that die."""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mlops_pipeline.config.serving import Serving, reloaded
from mlops_pipeline.errors import PipelineError, without_secrets
from mlops_pipeline.server_layout import Place, place_of
from mlops_pipeline.serving import logs
from mlops_pipeline.serving.tls import contexts_of
from mlops_pipeline.serving.worker import Reread, work

log = logging.getLogger("mlops.serving")

START_S = 600
"""How long a worker may take to its first beat, with models to fetch, before it counts as stuck."""
RESTART_S = 5.0
AWAY_S = 1.0
"""A turn of the supervisor's own that is so late was a pause of all: ``docker pause``, Ctrl+Z and ``fg``, a frozen machine."""
RECORD_S = 25.0
"""What a worker may need to write the last records and to send the last spans."""
USER_ERROR = 2
ENDS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Signals as they come, for the loop that waits for them.

    A handler may begin within another, or within a wait: an Event would be set in one that holds the lock which it needs, and both wait
    for ever. A ``SimpleQueue`` is made for that: its ``put`` may come within itself and within ``get``.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._come: SimpleQueue[int] = SimpleQueue()
        for number in numbers:
            signal.signal(number, lambda come, _: self._come.put(come))

    def next(self, seconds: float) -> int | None:
        """The next one; None if none comes in so many seconds."""
        try:
            return self._come.get(timeout=seconds)
        except Empty:
            return None


class Turns:
    """The supervisor's own turns, in seconds of one clock. After a pause of all, workers get the time for their next beat anew."""

    def __init__(self, now: float) -> None:
        self._last = self._awake = now

    def turn(self, pause: float, now: float) -> None:
        """Begin a turn that was to come ``pause`` seconds after the one before."""
        if now - self._last > pause + AWAY_S:
            self._awake = now
        self._last = now

    def is_stuck(self, beat: float, seconds: float) -> bool:
        """Whether a worker whose last beat that was has had so many seconds for another, while this process had them too."""
        return self._last - max(beat, self._awake) > seconds


def serve(settings: Serving, config: Path, reread: Reread | None = None) -> None:
    """Serve until SIGTERM, Ctrl+C or the end of the terminal; at SIGHUP, ``reread`` gives the settings as they are then.

    Raises :class:`PipelineError` if the port, the models or the record are not to be had.
    """
    place = place_of(settings, config)
    contexts_of(settings, config)
    listeners = [_listener(settings, port) for port in (settings.port, settings.probe_port) if port is not None]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logs.set_up(settings.log.format)
    with _metrics_folder() if settings.workers > 1 else nullcontext() as folder:
        if folder is None:
            # Alone, a worker keeps its figures in memory: files would only cost time, and need a disk with room.
            os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        else:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        code = _supervise(settings, config, place, listeners, reread)
    if code:
        sys.exit(code)


def _listener(settings: Serving, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PipelineError(
            f"{settings.host}:{port}: cannot listen there ({error.strerror}): stop what does, or give another "
            f"{'--port' if port == settings.port else 'probe_port'}"
        ) from error
    address = listener.getsockname()[0]
    if not settings.is_guarded and not ipaddress.ip_address(address).is_loopback:
        listener.close()
        raise PipelineError(f"host '{settings.host}' is {address}, which other machines reach, and no API key is set: listen on 127.0.0.1")
    return listener


def _supervise(settings: Serving, config: Path, place: Place, listeners: list[socket.socket], reread: Reread | None) -> int:
    """Keep the workers at work until the server is told to stop; the exit code of one that could not start, or end, as it should."""
    context = _context()
    beats = context.Array("d", settings.workers, lock=False)
    on_terminal = os.isatty(0) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    signals = Signals(*ENDS, *((signal.SIGHUP,) if reread is not None else ()))

    def start(number: int) -> BaseProcess:
        beats[number] = time.monotonic() + START_S
        process = context.Process(target=_worker, args=(settings, config, place, number, listeners, beats, os.getpid(), reread))
        # A signal that comes before the worker knows what to do at it waits: the mask is inherited.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        return process

    workers = [start(number) for number in range(settings.workers)]
    ever_ready, pause, turns = False, 0.2, Turns(time.monotonic())
    while (come := signals.next(pause)) not in ENDS:
        turns.turn(pause, time.monotonic())
        if come == signal.SIGHUP and reread is not None:
            if on_terminal and not os.isatty(0):
                break  # the terminal was closed: nobody would see a server that goes on
            settings = _told(settings, config, reread, workers)
        _bury({process.pid for process in workers})
        ever_ready = ever_ready or any(beat < time.monotonic() for beat in beats)
        pause = 0.2
        for number, process in enumerate(workers):
            if process.is_alive() and not turns.is_stuck(beats[number], settings.stuck_s):
                continue
            if not ever_ready and process.exitcode:
                _end(workers, settings)
                return process.exitcode if process.exitcode > 0 else 128 - process.exitcode
            cause = "stuck" if process.is_alive() else f"exit {process.exitcode}"
            log.error("replaces a worker", extra={"worker": number, "cause": cause})
            process.kill()
            process.join()
            _forget(process.pid)
            # One that dies before it serves would be started again and again.
            pause = RESTART_S if beats[number] > time.monotonic() else 0.2
            workers[number] = start(number)
    _end(workers, settings)
    return USER_ERROR if any(process.exitcode == USER_ERROR for process in workers) else 0


def _context() -> ForkContext | SpawnContext:
    """How workers are started: as copies of this process, which has loaded little and shares it with them, if it has one thread only."""
    threads = Path("/proc/self/task")
    alone = threads.is_dir() and len(list(threads.iterdir())) == 1
    return multiprocessing.get_context("fork") if alone else multiprocessing.get_context("spawn")


def _bury(workers: set[int | None]) -> None:
    """Take note of ended processes that others left to this one, as they do to the first of a container."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None and ended.si_pid not in workers:
            os.waitpid(ended.si_pid, 0)


def _told(settings: Serving, config: Path, reread: Reread, workers: list[BaseProcess]) -> Serving:
    """Let every worker read its settings again, if they can be read; those that workers started from now on begin with."""
    try:
        found = reread()
        settings, _ = reloaded(settings, found, str(config))
        contexts_of(settings, config)
    except PipelineError as error:
        log.error("keeps its settings", extra={"detail": without_secrets(str(error))})
        return settings
    for process in workers:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGHUP)
    return settings


@contextmanager
def _metrics_folder() -> Iterator[str]:
    """Where workers share their figures: in memory where there is such a place, since a full disk would end them.

    Folders of servers that were killed are removed.
    """
    memory = Path("/dev/shm")  # noqa: S108  # its folders are made for their owner alone
    place = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    for left in place.glob("mlops-metrics-*-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"mlops-metrics-{os.getpid()}-", dir=place) as folder:
        yield folder


def _worker(
    settings: Serving,
    config: Path,
    place: Place,
    number: int,
    listeners: list[socket.socket],
    beats: Any,
    parent: int,
    reread: Reread | None,
) -> None:
    # A copy has its parent's handlers. Ctrl+C reaches both, and the parent ends its workers.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    with _figures(parent):
        try:
            work(settings, config, place, number, listeners, beats, reread)
        except PipelineError as error:
            print(f"error: {without_secrets(str(error))}", file=sys.stderr)
            sys.exit(USER_ERROR)


@contextmanager
def _figures(parent: int) -> Iterator[None]:
    """The folder with the workers' figures is removed by the last of them, if the parent that made it has been killed."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        yield
        return
    with Path(folder, "workers").open("wb") as together:
        fcntl.flock(together, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if os.getppid() != parent:
                fcntl.flock(together, fcntl.LOCK_UN)
                with suppress(OSError):
                    fcntl.flock(together, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)


def _die_with(parent: int) -> None:
    """A worker whose parent is killed ends too, instead of serving on unwatched (prctl(2), PR_SET_PDEATHSIG)."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def _end(workers: list[BaseProcess], settings: Serving) -> None:
    for process in workers:
        process.terminate()
    deadline = time.monotonic() + settings.drain_s + settings.stop_s + RECORD_S
    for process in workers:
        process.join(max(0.1, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _forget(pid: int | None) -> None:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return
    from mlops_pipeline.serving.metrics import forget_worker

    if pid is not None:
        forget_worker(pid)
