"""A request answered, whatever carried it: from its key and its body's bytes to outputs, record, figures and log.

One :class:`Service` serves one worker and is used from one event loop only. Models come and go by :meth:`Service.activate`; a
request keeps the version that it began with.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mlops_pipeline.config.moments import rfc3339
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.engine import NotFinite, score
from mlops_pipeline.inference.faults import STALE_FEATURES, Fault, Notice, Refused, first_of
from mlops_pipeline.inference.raw import RawRows
from mlops_pipeline.records.entry import WITHDRAWN, Entry
from mlops_pipeline.serving.access import WRONG_KEYS
from mlops_pipeline.serving.batching import Batcher, Queue, unrecorded
from mlops_pipeline.serving.computing import Computation, is_stale
from mlops_pipeline.serving.metrics import Metrics, resident_bytes
from mlops_pipeline.serving.models import lengths_of
from mlops_pipeline.serving.problems import RETRY, refused
from mlops_pipeline.serving.protocol.labels import LabelBody
from mlops_pipeline.serving.record import Recorder, RecordFull
from mlops_pipeline.serving.request import JSON, Computed, asked_for
from mlops_pipeline.serving.served import Served

if TYPE_CHECKING:
    import numpy as np

    from mlops_pipeline.config.keys import Key
    from mlops_pipeline.config.serving import FeatureSettings, Limits, Serving
    from mlops_pipeline.features.online import OnlineFeatures
    from mlops_pipeline.features.state import FeatureState
    from mlops_pipeline.inference.signature import Rows
    from mlops_pipeline.serving.access import Access
    from mlops_pipeline.serving.computing import Computing
    from mlops_pipeline.serving.memory import Memory
    from mlops_pipeline.serving.models import Loaded
    from mlops_pipeline.serving.protocol import Headers
    from mlops_pipeline.serving.request import Request

    Read = tuple[Rows | RawRows, Any]

BEAT_S = 0.5
LONG_BODY = 4096
"""Bytes of labels from which they are read off the loop."""
LABEL_COUNTS = ("rows", "new", "known", "contradicting", "empty", "late")
"""What is told of labels that were kept."""
NO_WATCH = "this server's settings name no watch: write monitoring: monitoring_config.yaml there, beside a pipeline's settings or its own"
SHOWN_IN_HEADER = 10
RECORDED = frozenset({422, 500, 503})
"""Refusals that go on record: those of input that was read, and our own failures."""

log = logging.getLogger("mlops.serving")


class Dividing(Protocol):
    """What divides requests between a champion and its challenger."""

    def predict(
        self, request: Request, champion: Served, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> Awaitable[tuple[bytes, Headers]]:
        """The answer of one of the two."""

    def follow(self, request: Request, body: bytes) -> None:
        """Ask the other behind an answer that has gone out."""

    def status(self) -> dict[str, dict[str, Any]]:
        """Each model's release."""

    def notes(self) -> list[str]:
        """What everybody may know."""


@dataclass(frozen=True)
class Workers:
    """What one worker knows of all: its own number, and when each one's loop last turned (seconds of the monotonic clock)."""

    own: int
    beats: Any
    stuck_s: float


class Service:
    """What answers in one worker: its models, their queue, the record and the figures."""

    def __init__(
        self,
        settings: Serving,
        metrics: Metrics,
        workers: Workers,
        recorder: Callable[[asyncio.AbstractEventLoop], Recorder] | None,
        access: Callable[[Mapping[str, Key], Limits], Access],
        keys: Mapping[str, Key] | None,
    ) -> None:
        self.settings, self.metrics, self.workers = settings, metrics, workers
        self.models: dict[str, Served] = {}
        self._dropped: dict[str, str] = {}
        """The version that each model without one answered with until a person rejected it."""
        self.state: FeatureState | None = None
        """What is known of the keys of raw rows; None where there is no such thing."""
        self.draining = False
        self.lost = ""
        """What could not be put on record at the end, in one line."""
        self.on_start: list[Callable[[], None]] = []
        self.on_beat: list[Callable[[], None]] = []
        self.on_stop: list[Callable[[], None]] = []
        self.on_use: list[Callable[[Serving], None]] = []
        self.recorder: Recorder | None = None
        self.traffic: Dividing | None = None
        """What divides requests between a champion and its challenger; None while there is nothing to divide."""
        self.releases: Dividing | None = None
        """The same at all times."""
        self.challengers: list[Served] = []
        """Versions that answer beside the models, each in queues and threads of its own."""
        self.memory: Memory | None = None
        """The watch's memory; None where the settings mean none."""
        self._make_access = access
        self.access = None if keys is None else access(keys, settings.limits)
        """Who may ask; None where no key is asked for."""
        self._make_recorder = recorder
        self.queue: Queue
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._written = 0
        self._record_failing = False

    # ------------------------------------------------------------------------------------------------ a prediction

    def served(self, name: str, version: str | None) -> Served:
        """The version of a model that answers now; raises :class:`Refused` if there is none, or not the one that is asked for."""
        served = self.models.get(name)
        if served is None:
            see = "" if name in self._dropped else ": see /ready"
            raise refused(503, "not_ready", f"model '{name}' {self.why_none(name)}{see}", RETRY)
        if version is not None and version != served.version:
            raise refused(404, "not_found", f"model '{name}' is served in version {served.version or '(none)'}, not in {version[:40]}")
        return served

    def why_none(self, name: str) -> str:
        """Why a model has no version that answers, for everybody."""
        dropped = self._dropped.get(name)
        return "is not loaded" if dropped is None else f"answers no more: its version {dropped} was rejected"

    async def predict(self, request: Request, served: Served, body: bytes, read: Read | None = None) -> tuple[bytes, Headers]:
        """The answer's body and headers, once the prediction is on record as the settings promise. Raises what went wrong.

        ``read`` is what its protocol has read of the body already.
        """
        given, wanted = served.protocols[request.protocol].read(request, body) if read is None else read
        if request.holder is not None:
            take_rows(request, given.count)
        rows, raw = (await self.computed(request, served, given), given) if isinstance(given, RawRows) else (given, None)
        outputs = await served.batcher.submit(rows, request.began)
        content, headers = self.written(request, served, rows, wanted, outputs)
        on_disk = self.keep(request, served, rows, outputs, raw)
        if on_disk is not None:
            await on_disk
        return content, headers

    def written(self, request: Request, served: Served, rows: Rows, wanted: Any, outputs: np.ndarray) -> tuple[bytes, Headers]:
        """The answer's body and headers; what is unusual in its rows is counted."""
        if served.notices is not None and (unusual := served.notices(rows.categories)):
            rows.notices = [*(rows.notices or ()), *unusual]
        content, headers = served.protocols[request.protocol].write(request, rows, wanted, outputs)
        headers += served.headers
        if request.arm and self.settings.release.header:
            headers.append((b"mlops-arm", request.arm.encode()))
        if rows.notices:
            self.metrics.warned(request.model, rows.notices)
            headers.append((b"mlops-warnings", in_header(rows.notices)))
        return content, headers

    def keep(self, request: Request, served: Served, rows: Rows, outputs: np.ndarray, raw: RawRows | None) -> Awaitable[None] | None:
        """Put an answer on record; what is to be awaited before it goes out, where the settings promise that. Raises what went wrong."""
        if self.recorder is None or (on_disk := self.recorder.add(entry_of(request, served, rows, outputs, raw))) is None:
            return None
        request.on_record = self.recorder.last
        return self._on_disk(on_disk, request.began)

    async def keep_labels(self, request: Request, served: Served, body: bytes) -> tuple[bytes, Headers]:
        """The answer to labels, once they are on disk. Raises what went wrong."""
        memory = self.memory
        if memory is None:
            raise refused(404, "not_found", NO_WATCH)
        target, limits = memory.target(served.loaded.contract), self.settings.limits
        read = LabelBody(target, lengths_of(limits), limits.max_rows).read
        labels, empty = await asyncio.to_thread(read, request, body) if len(body) > LONG_BODY else read(request, body)
        holder = request.holder
        if holder is not None and holder.rows is not None:
            holder.take(holder.rows, len(labels) + empty)
        added = await memory.add(labels, empty, "anonymous" if holder is None else holder.name, limits.deadline_ms / 1000)
        self.metrics.labels(added.counts)
        told = {name: added.counts[name] for name in LABEL_COUNTS}
        return msgspec.json.encode({"request_id": request.request_id, **told}), [(b"content-type", JSON)]

    async def computed(self, request: Request, served: Served, raw: RawRows) -> Rows:
        """The features of raw rows, all with the state of this moment. Raises :class:`Refused`."""
        now, taken = served.computing, served.loaded.raw
        assert now is not None and taken is not None  # noqa: S101  # else no row is raw
        by, stale = self.knowing(request, served, raw.count)
        computation = self._computation if served.computation is None else served.computation
        rows = await computation.of(partial(taken.computed, raw, by), raw.count, request.began)
        self.metrics.computed(request.model, raw.count)
        if stale is not None:
            rows.notices = [*(rows.notices or ()), stale]
        if request.query or request.asks_as_of:
            asked = request.asks_as_of or asked_for(request.query, "features_as_of")
            features = taken.told(raw) if asked_for(request.query, "features") else None
            if asked or features is not None:
                as_of = rfc3339(now.as_of) if asked and now.as_of is not None else None
                request.computed = Computed(as_of, features)
        return rows

    def knowing(self, request: Request, served: Served, count: int) -> tuple[OnlineFeatures, Notice | None]:
        """What computes so many raw rows now, and what is said of its age. Raises :class:`Refused`; in any thread."""
        now, taken = served.computing, served.loaded.raw
        assert now is not None and taken is not None  # noqa: S101  # else no row is raw
        by, settings, model = now.features, self.settings.features, request.model
        stale = now.as_of is not None and is_stale(now.as_of, settings, request.arrived)
        if stale:
            self.metrics.stale(model, settings.policy, count)
            if settings.policy == "refuse":
                raise refused(503, "stale_features", f"{_aged(now, settings)}: send again later, or finished features", RETRY)
            if settings.policy == "null":
                if (must := taken.never_null) is not None:
                    null = f"'{must}', which this model does not take as null"
                    raise refused(
                        503, "stale_features", f"{_aged(now, settings)}, also {null}: send again later, or finished features", RETRY
                    )
                by = now.without
        assert by is not None  # noqa: S101  # the protocol has looked
        return by, Notice(STALE_FEATURES, "", count, _aged(now, settings)) if stale else None

    async def refusal(self, error: Exception, request: Request, served: Served | None) -> Refused:
        """What is answered to a request that failed: on record first, then counted and logged, by its reason, row and column."""
        refusal = _refusal_of(error, request)
        served = request.answering or served
        if served is not None and self.recorder is not None and refusal.status in RECORDED and not isinstance(error, RecordFull):
            try:
                written = self._record_refusal(request, served, refusal)
                if written is not None and refusal.status < 500:
                    try:
                        await self._on_disk(written, time.perf_counter())
                    except Refused as late:
                        refusal = late
                        self._record_refusal(request, served, refusal)
            except RecordFull:
                log.warning("a refusal could not be put on record", extra={"request_id": request.request_id})
        self.metrics.rejected(request.protocol, refusal.reason)
        if self.settings.log.requests != "none" and refusal.reason != WRONG_KEYS:
            _log(logging.WARNING, "refused", request, refusal.status, reason=_place(refusal, served))
        return refusal

    def answered(self, request: Request, status: int) -> None:
        """Count a prediction's request whose answer has been sent."""
        self.metrics.answered(request.protocol, request.model, status, request.arm, time.perf_counter() - request.began)
        if status == 200 and self.settings.log.requests == "all":
            _log(logging.INFO, "answered", request, status)

    async def _on_disk(self, written: asyncio.Future[None], began: float) -> None:
        """Wait for a group's commit. The future is the whole group's, so this request has one of its own to give up on."""
        own = self.queue.loop.create_future()
        written.add_done_callback(lambda _: None if own.done() else own.set_result(None))
        self.queue.watch(own, began, unrecorded)
        await own

    def _record_refusal(self, request: Request, served: Served, refusal: Refused) -> asyncio.Future[None] | None:
        """Put on record what was answered, in the place of what came too late or, if the writer has that, after it.

        Never a value of a column. Gives what a first entry has to wait for.
        """
        assert self.recorder is not None  # noqa: S101  # who calls has looked
        entry = failed_entry(request, served, _place(refusal, served))
        if request.on_record < 0:
            written = self.recorder.add(entry)
            request.on_record = self.recorder.last
            return written
        if not self.recorder.replace(request.on_record, entry):
            self.recorder.add(failed_entry(request, served, WITHDRAWN))
        return None

    # ---------------------------------------------------------------------------------------------------- life of it

    def prepared(self, loaded: Loaded) -> Served:
        """A version with all that it needs to answer; in any thread, once the service has started."""
        before = self.models.get(loaded.name)
        if before is not None and before.loaded.engine is loaded.engine:
            batcher = before.batcher
        else:
            seen = self.metrics.batches(loaded.name)
            batcher = Batcher(
                partial(score, loaded.engine),
                self.queue,
                self._pool,
                max_rows=self.settings.batching.max_rows,
                seen=seen,
                weigh=loaded.signature.row_weights,
            )
        return Served(loaded, batcher, self.state, only_raw=self.settings.inputs == "raw")

    def know(self, state: FeatureState) -> None:
        """Compute raw rows with another state, from the next request on; on the loop's own thread."""
        self.state = state
        for name, served in self.models.items():
            if served.loaded.raw is not None:
                served.compute_with(state)
                facts = {"model": name, "as_of": state.as_of.isoformat(), "state": state.digest[:16]}
                if served.computing is None or served.computing.state is state:
                    log.info("knows the features' state", extra=facts)
                else:
                    log.warning("keeps what it knows: the features' state is of another recipe", extra=facts)
        for served in self.challengers:
            if served.loaded.raw is not None:
                served.compute_with(state)

    def activate(self, served: Served) -> None:
        """Let a version answer from the next request on; on the loop's own thread."""
        # Limits may have changed while it was loaded, and the state.
        served = self.limited(served)
        if served.computing is not None and served.computing.state is not self.state:
            served.compute_with(self.state)
        before = self.models.get(served.loaded.name)
        if served.computing is not None and served.computing.why_not and before is not None and before.computing is not None:
            served.compute_with(before.computing.state)
        loaded = served.loaded
        if served.computing is not None and served.computing.needs_frames:
            self._computation.prepare()
        self.models[loaded.name] = served
        self._dropped.pop(loaded.name, None)
        self.metrics.loaded(loaded.name, loaded.version)
        facts = {"model": loaded.name, "version": loaded.version, "content": loaded.content_sha256[:16], "engine": loaded.engine.name}
        log.info("serves", extra=facts)
        if served.computing is not None and served.computing.why_not:
            log.warning("takes finished features only", extra={"model": loaded.name, "detail": served.computing.why_not})

    def drop(self, name: str, reason: str, detail: str) -> None:
        """Let a model answer no more, from the next request on; on the loop's own thread."""
        served = self.models.pop(name, None)
        if served is not None:
            self._dropped[name] = served.version
            self.metrics.dropped(name, reason)
            log.warning("answers no more", extra={"model": name, "reason": reason, "detail": detail})

    def limited(self, served: Served) -> Served:
        """A version under the limits of now."""
        max_rows, lengths = self.settings.limits.max_rows, lengths_of(self.settings.limits)
        if (served.signature.max_rows, served.signature.lengths) == (max_rows, lengths):
            return served
        loaded, now = served.loaded.limited(max_rows, lengths), served.computing
        known = self.state if now is None or now.why_not else now.state
        return Served(loaded, served.batcher, known, only_raw=self.settings.inputs == "raw", computation=served.computation)

    def use(self, settings: Serving, keys: Mapping[str, Key] | None) -> None:
        """Go on under other settings, from the next request on; on the loop's own thread. ``keys`` None: no key is asked for."""
        self.settings, limits = settings, settings.limits
        self.queue.limit, self.queue.deadline_s = limits.queue_rows, limits.deadline_ms / 1000
        if keys is None:
            self.access = None
        elif self.access is None:
            self.access = self._make_access(keys, limits)
        else:
            self.access.use(keys)
            self.access.limit(limits)
        for name, served in self.models.items():
            self.models[name] = self.limited(served)
        for call in self.on_use:
            call(settings)

    async def start(self) -> None:
        """Make what belongs to the loop, before the first request."""
        loop = asyncio.get_running_loop()
        limits = self.settings.limits
        self.queue = Queue(loop, rows=limits.queue_rows, deadline_s=limits.deadline_ms / 1000)
        self._computation = Computation(self.queue)
        if self._make_recorder is not None:
            self.recorder = self._make_recorder(loop)
            self.recorder.start()
        for call in self.on_start:
            call()
        self._beating = loop.create_task(self._beat())

    async def stop(self) -> None:
        """After the last request: stop looking for models, write what is to be recorded."""
        self._beating.cancel()
        if self.recorder is not None:
            try:
                await self.recorder.close()
            except PipelineError as error:
                self.lost = str(error)
            self._tell(self.recorder.problem)
        self.metrics.settle()
        for call in self.on_stop:
            await asyncio.to_thread(call)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._computation.close()

    async def _beat(self) -> None:
        while True:
            self.workers.beats[self.workers.own] = time.monotonic()
            metrics, recorder = self.metrics, self.recorder
            metrics.queue_rows.set(self.queue.rows)
            metrics.resident.set(resident_bytes())
            if recorder is not None:
                self._tell(recorder.problem)
                metrics.record_pending.set(recorder.pending)
                metrics.record_failing.set(1 if recorder.problem else 0)
                metrics.records_written.inc(recorder.written - self._written)
                self._written = recorder.written
            for name, served in self.models.items():
                if served.computing is not None and (as_of := served.computing.as_of) is not None:
                    metrics.knows(name, as_of.timestamp(), time.time())
            metrics.settle()
            for call in self.on_beat:
                call()
            await asyncio.sleep(BEAT_S)

    def _tell(self, problem: str) -> None:
        """Why the record cannot be written is in the log once, however many requests it fails, and that it can be again."""
        if bool(problem) == self._record_failing:
            return
        self._record_failing = bool(problem)
        if problem:
            log.error("record_cannot_be_written", extra={"problem": problem})
        else:
            log.info("record_is_written_again")


def _refusal_of(error: Exception, request: Request) -> Refused:
    """What is answered for an error; one that is ours is in the log, whole."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RecordFull):
        return refused(503, "record_full", "the record of predictions cannot be written at present: send again later", RETRY)
    told = {"request_id": request.request_id, "path": request.path[:200]}
    if isinstance(error, NotFinite):
        log.error("output_not_finite", extra=told)
        return Refused(500, [Fault("output_not_finite", f"{error}: nothing was predicted", int(error.rows[0]))])
    log.error("failed", exc_info=error, extra=told)
    return refused(500, "internal", f"the server failed; its log says more under {request.request_id}")


def _place(refusal: Refused, served: Served | None) -> str:
    """A refusal's reason, row and column, as log and record have it."""
    return refusal.place(() if served is None else served.names)


def in_header(notices: list[Notice]) -> bytes:
    """What is unusual as JSON in ASCII: reason, column and rows of the first of many, for clients whose protocol has no place for it."""
    said = [{"reason": one.reason, "column": one.column[:60], "rows": one.rows} for one in first_of(notices, SHOWN_IN_HEADER)]
    return json.dumps(said).replace("\x7f", "\\u007f").encode("ascii")


def _log(level: int, event: str, request: Request, status: int, **more: Any) -> None:
    facts = {
        "request_id": request.request_id,
        "protocol": request.protocol,
        "path": request.path[:200],
        "status": status,
        "ms": round((time.perf_counter() - request.began) * 1000, 3),
        **more,
    }
    if request.holder is not None:
        facts["key_name"] = request.holder.name
    if request.traceparent:
        facts["traceparent"] = request.traceparent
    log.log(level, event, extra=facts)


def _aged(now: Computing, settings: FeatureSettings) -> str:
    """What is said of a state that is older than it may be."""
    as_of = "" if now.as_of is None else rfc3339(now.as_of)
    nothing = ", so that what comes from it is null" if settings.policy == "null" else ""
    return f"the features' state is of {as_of}, older than {settings.max_age}{nothing}"


def take_rows(request: Request, count: int) -> None:
    """Take a request's rows, once, off what its key may ask. Raises :class:`Refused`."""
    holder = request.holder
    if holder is not None and (bucket := holder.rows) is not None and not request.rows_taken:
        if bucket.spare >= count:
            bucket.spare -= count
        else:
            holder.take(bucket, count)
        request.rows_taken = True


def entry_of(request: Request, served: Served, rows: Rows, outputs: np.ndarray, raw: RawRows | None, seconds: float | None = None) -> Entry:
    """What is recorded of an answer, which took so long unless it goes out now."""
    return Entry(
        request.request_id,
        request.arrived,
        int((time.perf_counter() - request.began if seconds is None else seconds) * 1e6),
        request.model,
        served.version,
        served.layout,
        rows.count,
        rows.numbers,
        rows.categories,
        outputs,
        rows.ids,
        "",
        "" if request.holder is None else request.holder.name,
        None if raw is None else raw.rows.numbers,
        None if raw is None else raw.rows.categories,
        request.arm,
        request.why,
        request.unit,
    )


def failed_entry(request: Request, served: Served, error: str, seconds: float | None = None) -> Entry:
    """What is recorded of a request without an answer: never a value of a column."""
    return Entry(
        request.request_id,
        request.arrived,
        int((time.perf_counter() - request.began if seconds is None else seconds) * 1e6),
        request.model,
        served.version,
        served.layout,
        0,
        error=error,
        key_name="" if request.holder is None else request.holder.name,
        arm=request.arm,
        why=request.why,
        unit=request.unit,
    )
