"""``mlops serve``: a listening socket, the workers that share it, and what replaces those that die."""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from mlops_pipeline.config.serving import Serving
from mlops_pipeline.errors import PipelineError, one_line, without_secrets
from mlops_pipeline.server_layout import Place, place_of
from mlops_pipeline.serving import logs
from mlops_pipeline.serving.worker import tls_files, work

log = logging.getLogger("mlops.serving")

START_S = 120
"""How long a worker may take to its first beat before it counts as stuck."""
RESTART_S = 5.0
RECORD_S = 25.0
"""What a worker may need to write the last records and to send the last spans."""
USER_ERROR = 2


def serve(settings: Serving, config: Path) -> None:
    """Serve until SIGTERM or Ctrl+C; raises :class:`PipelineError` if the port, the models or the record are not to be had."""
    place = place_of(settings, config)
    _check_tls(settings, config)
    listeners = [_listener(settings, port) for port in (settings.port, settings.probe_port) if port is not None]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if settings.workers == 1:
        # Alone, a worker keeps its figures in memory: files would only cost time, and need a disk with room.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        work(settings, config, place, 0, listeners, [time.monotonic()])
    else:
        _supervise(settings, config, place, listeners)


def _check_tls(settings: Serving, config: Path) -> None:
    certificate, key = tls_files(settings, config)
    if certificate is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise PipelineError(
            f"{config}: tls: {certificate} and {key} are no certificate with its key ({one_line(error)}): give PEM files"
        ) from error


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
    if not (settings.api_keys or settings.anonymous) and not ipaddress.ip_address(address).is_loopback:
        listener.close()
        raise PipelineError(f"host '{settings.host}' is {address}, which other machines reach, and no API key is set: listen on 127.0.0.1")
    return listener


def _supervise(settings: Serving, config: Path, place: Place, listeners: list[socket.socket]) -> None:
    logs.set_up(settings.log.format)
    context = multiprocessing.get_context("spawn")
    beats = context.Array("d", settings.workers, lock=False)
    stopping = threading.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: stopping.set())
    with _metrics_folder() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder

        def start(number: int) -> SpawnProcess:
            beats[number] = time.monotonic() + START_S
            process = context.Process(target=_worker, args=(settings, config, place, number, listeners, beats, os.getpid()))
            process.start()
            return process

        workers = [start(number) for number in range(settings.workers)]
        ever_ready, pause = False, 0.2
        while not stopping.wait(pause):
            ever_ready = ever_ready or any(beat < time.monotonic() for beat in beats)
            pause = 0.2
            for number, process in enumerate(workers):
                stuck = time.monotonic() - beats[number] > settings.stuck_s
                if process.is_alive() and not stuck:
                    continue
                if not ever_ready and process.exitcode:
                    _end(workers, settings)
                    sys.exit(process.exitcode)
                cause = "stuck" if process.is_alive() else f"exit {process.exitcode}"
                log.error("replaces a worker", extra={"worker": number, "cause": cause})
                process.kill()
                process.join()
                _forget(process.pid)
                # One that dies before it serves would be started again and again.
                pause = RESTART_S if beats[number] > time.monotonic() else 0.2
                workers[number] = start(number)
        _end(workers, settings)


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


def _worker(settings: Serving, config: Path, place: Place, number: int, listeners: list[socket.socket], beats: Any, parent: int) -> None:
    _die_with(parent)
    try:
        work(settings, config, place, number, listeners, beats)
    except PipelineError as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr)
        sys.exit(USER_ERROR)


def _die_with(parent: int) -> None:
    """A worker whose parent is killed ends too, instead of serving on unwatched (prctl(2), PR_SET_PDEATHSIG)."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def _end(workers: list[SpawnProcess], settings: Serving) -> None:
    for process in workers:
        process.terminate()
    deadline = time.monotonic() + settings.drain_s + settings.stop_s + RECORD_S
    for process in workers:
        process.join(max(0.1, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _forget(pid: int | None) -> None:
    from mlops_pipeline.serving.metrics import forget_worker

    if pid is not None:
        forget_worker(pid)
