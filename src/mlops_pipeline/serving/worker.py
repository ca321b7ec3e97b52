"""``mlops serve``: workers on one port, each with the application on uvicorn, and a parent that replaces those that die."""

from __future__ import annotations

import ctypes
import gc
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline import environment, plugins
from mlops_pipeline.config.pipeline import load_settings, registry_uri, tracking_uri
from mlops_pipeline.config.serving import Serving, is_folder
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.layout import find_project, layout_of
from mlops_pipeline.serving import logs

if TYPE_CHECKING:
    from mlops_pipeline.serving.application import Application
    from mlops_pipeline.serving.models import Loaded, Watch

log = logging.getLogger("mlops.serving")

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while the event loop waits for it; Python's own 5 ms would show in the latency."""

START_S = 120
"""How long a worker may take to its first beat before it counts as stuck."""


@dataclass(frozen=True)
class Place:
    """Where this server finds its models and writes its record; ``artifacts`` is the MLflow server that hands out files, or empty."""

    registry: str
    artifacts: str
    model: str
    versions: Path
    cache: Path
    records: Path
    parts: plugins.Source
    """What the pipeline's settings add to ours, for models that need them."""


def place_of(settings: Serving, config: Path) -> Place:
    """Paths and addresses, with what the pipeline's own settings say as defaults."""
    given = settings.registry
    stated = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or given.uri
    if settings.pipeline is not None:
        path = config.parent / settings.pipeline
        pipeline = load_settings(path, with_parts=False)
        layout = layout_of(pipeline, path, find_project(path))
        base, versions, parts = layout.root, layout.versions, plugins.source()
        registry = stated or registry_uri(pipeline, layout.default_tracking_uri)
        artifacts = tracking_uri(pipeline, layout.default_tracking_uri)
        name = given.model or pipeline.registry.model or pipeline.name
    else:
        base, parts = config.resolve().parent, plugins.Source()
        versions = base / given.cache
        registry, name = stated or "", given.model or ""
        artifacts = os.environ.get("MLFLOW_TRACKING_URI") or registry
        named = [reference for reference in settings.models.values() if not is_folder(reference)]
        missing = "registry.uri" if not registry else "registry.model" if not name else ""
        if named and missing:
            raise PipelineError(
                f"{config}: {missing} is missing, which says where '{named[0]}' is: add it, or the pipeline's settings under 'pipeline'"
            )
    return Place(
        registry,
        artifacts if artifacts.startswith("http") else "",
        name,
        versions,
        base / given.cache,
        base / settings.record.folder,
        parts,
    )


def serve(settings: Serving, config: Path) -> None:
    """Serve until SIGTERM or Ctrl+C; raises :class:`PipelineError` if the port, the models or the record are not to be had."""
    place = place_of(settings, config)
    _check_tls(settings, config)
    listener = _listener(settings)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if settings.workers == 1:
        # Alone, a worker keeps its figures in memory: files would only cost time, and need a disk with room.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        work(settings, config, place, 0, listener, [time.monotonic()])
    else:
        _supervise(settings, config, place, listener)


def work(settings: Serving, config: Path, place: Place, number: int, listener: socket.socket, beats: Any) -> None:
    """One worker, from its models to its last answer."""
    environment.prepare()
    plugins.use(place.parts)
    logs.set_up(settings.log.format)
    sys.setswitchinterval(SWITCH_S)
    application, first = assembled(settings, config, place, number, beats)
    # What is loaded now stays; the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    if number == 0:
        _announce(settings, listener, first)
    _run(settings, config, application, listener)
    if application.lost:
        raise PipelineError(application.lost)


def assembled(settings: Serving, config: Path, place: Place, number: int, beats: Any) -> tuple[Application, dict[str, Loaded]]:
    """A worker's application with its models loaded, which begin to answer when the application starts.

    Raises :class:`PipelineError` if there is no version to serve.
    """
    from importlib.metadata import version

    from mlops_pipeline.serving.application import Application
    from mlops_pipeline.serving.metrics import Metrics
    from mlops_pipeline.serving.operations import Workers
    from mlops_pipeline.serving.tracing import tracing

    metrics, spans = Metrics(), tracing()
    metrics.started.set(time.time())
    workers, recorder = Workers(number, beats, settings.stuck_s), _recorder(settings, place, number)
    application = Application(settings, metrics, workers, recorder, version=version("mlops-pipeline"), tracing=spans)
    first, watch = _models(settings, config, place, application)
    application.on_start.append(lambda: _begin(application, first, watch))
    application.on_stop.append(watch.stop)
    if spans is not None:
        application.on_stop.append(spans.close)
    return application, first


def _begin(application: Application, first: dict[str, Loaded], watch: Watch) -> None:
    for loaded in first.values():
        application.take(application.prepared(loaded))
    first.clear()  # else the first versions would outlive their service
    watch.start()


def _models(settings: Serving, config: Path, place: Place, application: Application) -> tuple[dict[str, Loaded], Watch]:
    import asyncio

    from mlops_pipeline.serving.models import Options, Watch
    from mlops_pipeline.serving.source import Source

    loop: asyncio.AbstractEventLoop | None = None

    def remember_loop() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()

    application.on_start.append(remember_loop)

    def on_loaded(_: str, loaded: Loaded) -> None:
        if loop is not None:
            loop.call_soon_threadsafe(application.take, application.prepared(loaded))

    def on_failed(name: str, reason: str, detail: str) -> None:
        application.metrics.load_failed(name, reason)
        log.warning("keeps its version", extra={"model": name, "reason": reason, "detail": detail})

    source = Source(place.registry, place.model, place.versions, place.cache, server=place.artifacts)
    options = Options(
        reject_unseen=settings.unseen_categories == "reject", max_rows=settings.limits.max_rows, threads=settings.batching.threads
    )
    watch = Watch(source, settings.models, options, poll_s=settings.registry.poll_s, on_loaded=on_loaded, on_failed=on_failed)
    first, failures = watch.first_load()
    if settings.default_model not in first:
        why = next((detail for name, _, detail in failures if name == settings.default_model), "it was not found")
        raise PipelineError(f"{config}: models.{settings.default_model} = '{settings.models[settings.default_model]}': {why}")
    for failure in failures:
        on_failed(*failure)
    return first, watch


def _recorder(settings: Serving, place: Place, number: int) -> Callable[[Any], Any] | None:
    record = settings.record
    if record.mode == "off":
        return None
    from mlops_pipeline.records.store import open_store
    from mlops_pipeline.serving.record import Recorder

    store = open_store(record.uri or place.records, number)
    return lambda loop: Recorder(store, loop, durable=record.mode == "durable", loss_ms=record.loss_ms, max_bytes=int(record.max_mb * 1e6))


def _run(settings: Serving, config: Path, application: Application, listener: socket.socket) -> None:
    import uvicorn

    from mlops_pipeline.serving.connection import Connection

    class Server(uvicorn.Server):
        """uvicorn's server, which at SIGTERM first says that it is not ready, and takes requests for a while still."""

        stop_at: float | None = None

        def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  # the signature is uvicorn's
            if self.stop_at is not None:
                self.force_exit = sig == signal.SIGINT
                self.stop_at = 0
                return
            application.draining = True
            self.stop_at = time.monotonic() + (settings.drain_s if sig == signal.SIGTERM else 0)

        async def on_tick(self, counter: int) -> bool:
            if self.stop_at is not None and time.monotonic() >= self.stop_at:
                self.should_exit = True
            return await super().on_tick(counter)

    certificate, key = _tls_files(settings, config)
    Server(
        uvicorn.Config(
            application,
            loop="uvloop",
            http=Connection,
            limit_concurrency=settings.limits.connections,
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(settings.stop_s)),
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
    ).run(sockets=[listener])


def _tls_files(settings: Serving, config: Path) -> tuple[Path, Path] | tuple[None, None]:
    return (None, None) if settings.tls is None else (config.parent / settings.tls.certificate, config.parent / settings.tls.key)


def _check_tls(settings: Serving, config: Path) -> None:
    certificate, key = _tls_files(settings, config)
    if certificate is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise PipelineError(
            f"{config}: tls: {certificate} and {key} are no certificate with its key ({one_line(error)}): give PEM files"
        ) from error


def _listener(settings: Serving) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PipelineError(
            f"{settings.host}:{settings.port}: cannot listen there ({error.strerror}): stop what does, or give another --port"
        ) from error
    address = listener.getsockname()[0]
    if not (settings.api_keys or settings.anonymous) and not ipaddress.ip_address(address).is_loopback:
        listener.close()
        raise PipelineError(f"host '{settings.host}' is {address}, which other machines reach, and no API key is set: listen on 127.0.0.1")
    return listener


def _announce(settings: Serving, listener: socket.socket, first: dict[str, Loaded]) -> None:
    scheme = "https" if settings.tls else "http"
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    models = ", ".join(f"{name} (version {loaded.version or '–'}, {loaded.engine.name})" for name, loaded in first.items())
    print(f"serving {models} on {scheme}://{shown}:{port}  (page: /, API: /docs, Ctrl+C stops)", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------ several workers


def _supervise(settings: Serving, config: Path, place: Place, listener: socket.socket) -> None:
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
            process = context.Process(target=_worker, args=(settings, config, place, number, listener, beats, os.getpid()))
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


RESTART_S = 5.0
RECORD_S = 25.0
"""What a worker may need to write the last records and to send the last spans."""
USER_ERROR = 2


def _worker(settings: Serving, config: Path, place: Place, number: int, listener: socket.socket, beats: Any, parent: int) -> None:
    _die_with(parent)
    try:
        work(settings, config, place, number, listener, beats)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
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
