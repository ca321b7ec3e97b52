"""One worker of a server: its models, its record, and the application on uvicorn, from the first load to the last answer."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline import environment, plugins
from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.serving import Serving, keys_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import EVENTS
from mlops_pipeline.server_layout import Place
from mlops_pipeline.serving import logs
from mlops_pipeline.serving.reload import Reload
from mlops_pipeline.serving.tls import Tls, contexts_of

if TYPE_CHECKING:
    from mlops_pipeline.events import Listener
    from mlops_pipeline.features.state import FeatureState
    from mlops_pipeline.serving.answer import Service
    from mlops_pipeline.serving.application import Application
    from mlops_pipeline.serving.computing import States
    from mlops_pipeline.serving.models import Loaded, Watch

log = logging.getLogger("mlops.serving")

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while the event loop waits for it; Python's own 5 ms would show in the latency."""


Reread = Callable[[], Serving]
"""Reads the settings again, with what the command line changed in them."""


def work(
    settings: Serving, config: Path, place: Place, number: int, listeners: list[socket.socket], beats: Any, reread: Reread | None = None
) -> None:
    """One worker, from its models to its last answer."""
    environment.prepare()
    plugins.use(place.parts)
    logs.set_up(settings.log.format)
    sys.setswitchinterval(SWITCH_S)
    first_tls = contexts_of(settings, config)
    reload = Reload(settings, config, reread)
    application, first = assembled(settings, config, place, number, beats, reload)
    # What is loaded now stays; the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    if number == 0:
        _announce(settings, listeners, first)
    _run(settings, application, listeners, None if first_tls is None else Tls(first_tls), reload)
    if application.service.lost:
        raise PipelineError(application.service.lost)


def assembled(
    settings: Serving, config: Path, place: Place, number: int, beats: Any, reload: Reload | None = None
) -> tuple[Application, dict[str, Loaded]]:
    """A worker's application with its models loaded, which begin to answer when the application starts.

    Raises :class:`PipelineError` if there is no version to serve, but for one that waits for approval: then it is not ready.
    """
    from importlib.metadata import version

    from mlops_pipeline.serving.access import Access
    from mlops_pipeline.serving.answer import Service, Workers
    from mlops_pipeline.serving.application import Application
    from mlops_pipeline.serving.memory import memory_of
    from mlops_pipeline.serving.metrics import Metrics
    from mlops_pipeline.serving.models import lengths_of
    from mlops_pipeline.serving.rates import Rates
    from mlops_pipeline.serving.tracing import tracing
    from mlops_pipeline.serving.traffic import Traffic

    metrics, spans = Metrics(), tracing()
    metrics.started.set(time.time())
    workers, recorder = Workers(number, beats, settings.stuck_s), _recorder(settings, place, number)
    access = partial(Access, rates=Rates(_shared_rates()))
    service = Service(settings, metrics, workers, recorder, access, keys_of(settings, config) if settings.has_keys else None)
    first, watch = _models(settings, config, place, number, service)
    service.releases = releases = Traffic(service, watch.load_version, place.releases, place.model, number)
    releases.on_look = watch.look_now
    releases.look_first()
    service.on_start.append(lambda: _begin(service, first, watch))
    service.on_start.append(releases.start)
    service.on_use.append(releases.use)
    service.on_stop.append(releases.stop)
    service.on_use.append(lambda settings: watch.limit(settings.limits.max_rows, lengths_of(settings.limits)))
    service.on_use.append(lambda settings: logs.set_up(settings.log.format))
    service.on_stop.append(watch.stop)
    service.memory = memory_of(settings, config, place)
    if service.memory is not None:
        service.on_stop.append(service.memory.close)
    if reload is not None:
        service.on_start.append(lambda: reload.begin(service))
    if spans is not None:
        service.on_stop.append(spans.close)
    return Application(service, version=version("mlops-pipeline"), tracing=spans), first


def _shared_rates() -> Path | None:
    """Where several workers share what keys have used up: beside their figures."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return None if folder is None else Path(folder) / "rates"


def _begin(service: Service, first: dict[str, Loaded], watch: Watch) -> None:
    for loaded in first.values():
        service.activate(service.prepared(loaded))
    first.clear()  # else the first versions would outlive their service
    watch.start()


def _models(settings: Serving, config: Path, place: Place, number: int, service: Service) -> tuple[dict[str, Loaded], Watch]:
    import asyncio

    from mlops_pipeline.events import ModelLoaded, ModelRefused
    from mlops_pipeline.serving.computing import States
    from mlops_pipeline.serving.models import Options, Watch, lengths_of
    from mlops_pipeline.serving.source import ModelSource

    loop: asyncio.AbstractEventLoop | None = None

    def remember_loop() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()

    service.on_start.append(remember_loop)

    tell = _teller(place)

    def loaded_told(name: str, loaded: Loaded) -> None:
        tell(
            ModelLoaded(
                name=name,
                reference=loaded.reference,
                version=loaded.version,
                content_sha256=loaded.content_sha256,
                worker=number,
            )
        )

    def refused_told(name: str, reason: str, detail: str) -> None:
        tell(ModelRefused(name=name, reference=settings.models[name], reason=reason, detail=detail, worker=number))

    def on_loaded(name: str, loaded: Loaded) -> None:
        if loop is not None:
            loop.call_soon_threadsafe(service.activate, service.prepared(loaded))
        loaded_told(name, loaded)

    def on_failed(name: str, reason: str, detail: str) -> None:
        refused_told(name, reason, detail)
        service.metrics.load_failed(name, reason)
        kept = name in service.models or name in first
        log.warning("keeps its version" if kept else "has no version", extra={"model": name, "reason": reason, "detail": detail})

    def on_dropped(name: str, reason: str, detail: str) -> None:
        refused_told(name, reason, detail)
        if loop is not None:
            loop.call_soon_threadsafe(service.drop, name, reason, detail)

    option = _option(settings, config)
    source = ModelSource(place.registry, place.model, place.versions, place.cache, server=place.artifacts, option=option)
    options = Options(
        reject_unseen=settings.unseen_categories == "reject",
        refuse_extra=settings.extra_columns == "refuse",
        max_rows=settings.limits.max_rows,
        lengths=lengths_of(settings.limits),
        threads=settings.batching.threads,
        inputs=settings.inputs,
        option=option,
    )
    states = States(place.state)

    def look_at_state() -> None:
        state = _newest(states)
        if state is not None and loop is not None:
            loop.call_soon_threadsafe(service.know, state)
        elif state is not None:
            service.state = state

    if settings.inputs != "features":
        look_at_state()
    watch = Watch(
        source,
        settings.models,
        options,
        poll_s=settings.registry.poll_s,
        on_loaded=on_loaded,
        on_failed=on_failed,
        on_dropped=on_dropped,
        meanwhile=look_at_state if settings.inputs != "features" else lambda: None,
    )
    first, failures = watch.first_load()
    for name, loaded in first.items():
        loaded_told(name, loaded)
    _, reason, why = next((one for one in failures if one.name == settings.default_model), ("", "missing", "it was not found"))
    if settings.default_model not in first and reason != "gate":
        for failure in failures:
            refused_told(*failure)
        raise PipelineError(f"{config}: models.{settings.default_model} = '{settings.models[settings.default_model]}': {why}")
    for failure in failures:
        on_failed(*failure)
    return first, watch


def _option(settings: Serving, config: Path) -> str:
    """What commands for this server's pipeline are told; nothing for one that is found without."""
    return "" if settings.pipeline is None else option_for(config.parent / settings.pipeline)


def _newest(states: States) -> FeatureState | None:
    try:
        return states.newest()
    except PipelineError as error:
        log.warning("keeps the features' state that it has", extra={"detail": str(error)})
        return None


def _teller(place: Place) -> Listener:
    """Events are kept where the record is: in its PostgreSQL, or beside its folder, which is where a server may write."""
    from mlops_pipeline.events import Event, Warned, kept

    def logged(event: Event) -> None:
        if isinstance(event, Warned):
            log.warning("warned", extra={"detail": event.text})

    in_table = place.store.name == "postgresql"
    return kept(None if in_table else place.records.with_name(EVENTS), place.store.where if in_table else "", logged)


def _recorder(settings: Serving, place: Place, number: int) -> Callable[[Any], Any] | None:
    record = settings.record
    if record.mode == "off":
        return None
    from mlops_pipeline.records.process import open_store
    from mlops_pipeline.serving.record import Recorder

    store = open_store(place.store, number)
    return lambda loop: Recorder(store, loop, durable=record.mode == "durable", loss_ms=record.loss_ms, max_bytes=int(record.max_mb * 1e6))


def _run(settings: Serving, application: Application, listeners: list[socket.socket], tls: Tls | None, reload: Reload) -> None:
    import uvicorn

    from mlops_pipeline.serving import connection

    class Server(uvicorn.Server):
        """uvicorn's server, which at SIGTERM first says that it is not ready, and takes requests for a while still."""

        stop_at: float | None = None

        def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  # the signature is uvicorn's
            if self.stop_at is not None:
                self.force_exit = sig == signal.SIGINT
                self.stop_at = 0
                return
            application.service.draining = True
            self.stop_at = time.monotonic() + (settings.drain_s if sig == signal.SIGTERM else 0)

        async def on_tick(self, counter: int) -> bool:
            if self.stop_at is not None and time.monotonic() >= self.stop_at:
                self.should_exit = True
            return await super().on_tick(counter)

    limits, metrics = settings.limits, application.service.metrics
    among = connection.Connections(limits, limits.connections, metrics)
    probes = connection.Connections(limits, connection.PROBE_CONNECTIONS, metrics, probes_only=True)
    protocol: Any = partial(connection.Connection, among=among, probes=probes, probe_port=settings.probe_port)
    config = uvicorn.Config(
        application,
        # Taken as it is, though uvicorn's types name strings alone.
        loop=partial(connection.Loop, tls, settings.probe_port),  # type: ignore[arg-type]
        http=protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.stop_s)),
    )
    config.load()
    if tls is not None:
        config.ssl, reload.tls = tls.listening.clients, tls
    application.service.on_use.append(lambda settings: among.use(settings.limits, settings.limits.connections))
    application.service.on_use.append(lambda settings: probes.use(settings.limits, connection.PROBE_CONNECTIONS))
    Server(config).run(sockets=listeners)


def _announce(settings: Serving, listeners: list[socket.socket], first: dict[str, Loaded]) -> None:
    scheme = "https" if settings.tls else "http"
    host, port = listeners[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    models = (
        ", ".join(f"{name} (version {loaded.version or '–'}, {loaded.engine.name})" for name, loaded in first.items()) or "no model yet"
    )
    print(f"serving {models} on {scheme}://{shown}:{port}  (page: /, API: /docs, Ctrl+C stops)", file=sys.stderr, flush=True)
