"""Releases in one worker: which arm answers a request, who stands in for a challenger that fails, and what is asked in its shadow.

A request is answered by one arm as a whole, whatever rows it holds: an answer names one version. Everything but the look at the table
and the loading of versions happens on the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.errors import without_secrets
from mlops_pipeline.inference.engine import NotFinite, score
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.raw import RawRows
from mlops_pipeline.release.table import Release
from mlops_pipeline.release.traffic import Taken, unit_on_record
from mlops_pipeline.serving.answer import take_rows
from mlops_pipeline.serving.arms import Breaker, are_read_alike, header_of, id_of, reason_of, value_of, why_of, why_unfit
from mlops_pipeline.serving.aside import Aside
from mlops_pipeline.serving.batching import Batcher, Predict, Queue
from mlops_pipeline.serving.computing import Computation
from mlops_pipeline.serving.look import Look
from mlops_pipeline.serving.models import LONGEST_PAUSE_S
from mlops_pipeline.serving.served import Served
from mlops_pipeline.serving.shadows import Shadows

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving
    from mlops_pipeline.inference.formats import Engine
    from mlops_pipeline.registry.download import Unfit
    from mlops_pipeline.serving.answer import Read, Service
    from mlops_pipeline.serving.models import Loaded
    from mlops_pipeline.serving.protocol import Headers
    from mlops_pipeline.serving.request import Request

FIRST_RETRY_S = 2.0

log = logging.getLogger("mlops.serving")


@dataclass
class Split:
    """A release as this worker carries it out."""

    release: Release
    breaker: Breaker = field(default_factory=Breaker)
    challenger: Served | None = None
    """What answers; None while it is not loaded, or cannot be."""
    shadow: Shadows | None = None
    why_not: str = ""
    """Why it cannot be loaded or may not answer."""
    pause_s: float = FIRST_RETRY_S
    is_loading: bool = False
    is_over: bool = False

    def __post_init__(self) -> None:
        self.unit, _, self.unit_name = self.release.unit.partition(":")
        self.header = self.unit_name.lower().encode()
        self._compared: tuple[Served, Served] | None = None
        self._is_alike = False
        self.carry_out(self.release)

    def carry_out(self, release: Release) -> None:
        """Divide as the table says from now on."""
        self.release = release
        self.taken = Taken(release.salt, release.weight)
        self.shadowed = Taken(release.salt, release.shadow, b"shadow")

    def reads_for(self, challenger: Served, champion: Served) -> bool:
        """Whether rows that the champion has read, and predicted, are as the challenger would read them."""
        if self._compared != (challenger, champion):
            # An engine that is not ours may have written into what it was given.
            self._is_alike = _is_ours(champion.loaded.engine) and are_read_alike(champion, challenger)
            self._compared = challenger, champion
        return self._is_alike

    def stands(self, champion: Served, now: float) -> bool:
        """Whether it is between these versions, and its lease lasts."""
        return now < self.release.lease_until and champion.version == self.release.champion


class Traffic:
    """The releases of one worker. ``load`` proves a version by its model's name and its number; it is called in a thread.

    ``where`` the table is, and ``of`` which registered model.
    """

    def __init__(self, service: Service, load: Callable[[str, str], Loaded], where: str, of: str, worker: int) -> None:
        self._service, self._load, self._where = service, load, where
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{worker}"
        self.splits: dict[str, Split] = {}
        self._enabled = service.settings.release.enabled
        self._look = Look(where, of, self.worker, service.settings.release.look_ms / 1000, self._heard)
        self._loader = Aside("challengers")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._first: dict[str, Release] = {}
        self._loaded_first: dict[str, Loaded | Unfit] = {}
        self.on_look: Callable[[], None] = lambda: None
        """Called in another thread when the table has changed."""

    # ------------------------------------------------------------------------------------------------ life of it

    def look_first(self) -> None:
        """Before the loop: find what is under way and load it, so that a worker that comes back divides its first request too."""
        if not self._enabled:
            return
        self._first = self._look.first()
        for name, release in self._first.items():
            if name in self._service.settings.models and release.lease_until > time.time():
                self._loaded_first[name] = self._loaded(name, release.challenger)

    def start(self) -> None:
        """Begin to look, on the loop, when there are champions."""
        self._loop = asyncio.get_running_loop()
        for name, release in self._first.items():
            if name in self._loaded_first:
                split = self.splits[name] = Split(release)
                self._arrived(name, split, self._loaded_first[name])
        self._loaded_first.clear()
        self._carry_out(self._first)
        self._look.start(enabled=self._enabled)

    def stop(self) -> None:
        """Look no more."""
        self._look.stop()

    def use(self, settings: Serving) -> None:
        """Go on under other settings: above all, stop at once where releases are no longer enabled."""
        self._enabled = settings.release.enabled
        self._look.enable(self._enabled)
        if not self._enabled:
            self._carry_out({})
        for split in self.splits.values():
            if split.challenger is not None and split.shadow is not None:
                split.challenger = split.shadow.served = self._service.limited(split.challenger)
                split.challenger.batcher.queue.deadline_s = self._patience_s()
        self._settle()

    def _heard(self, releases: dict[str, Release]) -> None:
        """In the thread that looks: the table says so now."""
        self.on_look()
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._carry_out, releases)
            except RuntimeError:  # the loop has ended
                return

    def _carry_out(self, releases: dict[str, Release]) -> None:
        releases = releases if self._enabled else {}
        for name in [name for name in self.splits if name not in releases or releases[name].number != self.splits[name].release.number]:
            self._end(name)
        for name, release in releases.items():
            if name not in self._service.settings.models:
                continue
            split = self.splits.get(name)
            if split is None:
                split = self.splits[name] = Split(release)
                log.info("release", extra=self._facts(name, split))
            elif release != split.release:
                told = (release.weight, release.shadow, release.state) != (split.release.weight, split.release.shadow, split.release.state)
                split.carry_out(release)
                if told:
                    log.info("release", extra=self._facts(name, split))
            if split.challenger is None and not split.is_loading and not split.why_not:
                self._begin_load(name, split)
        self._settle()

    def _settle(self) -> None:
        """What holds from the next request on."""
        service, at_work = self._service, False
        for name, split in self.splits.items():
            works = split.challenger is not None
            at_work = at_work or works
            service.metrics.release(
                name, split.release.weight if works and not split.breaker.reason else 0, tripped=bool(split.breaker.reason)
            )
        service.traffic = self if at_work else None
        service.challengers = [split.challenger for split in self.splits.values() if split.challenger is not None]

    def _end(self, name: str) -> None:
        split = self.splits.pop(name)
        split.is_over = True
        if split.shadow is not None:
            split.shadow.close()
        if split.challenger is not None and split.challenger.computation is not None:
            split.challenger.computation.close()
        self._service.metrics.release(name, 0, tripped=False)
        log.info("release has ended", extra=self._facts(name, split))

    def _facts(self, name: str, split: Split) -> dict[str, Any]:
        release = split.release
        return {
            "model": name, "release": release.number, "challenger": release.challenger, "step": release.step, "state": release.state,
            "weight": release.weight, "shadow": release.shadow,
        }  # fmt: skip

    # -------------------------------------------------------------------------------------------- its challenger

    def _loaded(self, name: str, number: str) -> Loaded | Unfit:
        from mlops_pipeline.registry.download import Unfit

        try:
            return self._load(name, number)
        except Unfit as fault:
            return fault

    def _begin_load(self, name: str, split: Split) -> None:
        assert self._loop is not None  # noqa: S101  # only called on it
        if split.is_over:
            return
        split.is_loading = True
        loading = self._loop.run_in_executor(self._loader, self._loaded, name, split.release.challenger)
        loading.add_done_callback(lambda done: self._arrived(name, split, done.result()))

    def _arrived(self, name: str, split: Split, found: Loaded | Unfit) -> None:
        from mlops_pipeline.registry.download import Unfit

        split.is_loading = False
        if split.is_over:
            return
        champion = self._service.models.get(name)
        if isinstance(found, Unfit):
            self._cannot(name, split, found.reason, found.detail)
        elif champion is None:
            self._cannot(name, split, "missing", f"model '{name}' has no champion yet")
        elif problem := why_unfit(champion, found):
            self._cannot(name, split, "signature", f"version {found.version} cannot take the champion's requests: {problem}")
        else:
            if split.why_not:
                self._look.report_unable(split.release.number, "")
            split.why_not, split.pause_s = "", FIRST_RETRY_S
            predict = _alone(found.engine)
            split.challenger = self._beside(found, predict)
            split.shadow = Shadows(self._service, name, split.challenger, predict, inline=_is_ours(found.engine))
            log.info("knows its challenger", extra={**self._facts(name, split), "engine": found.engine.name})
        self._settle()

    def _cannot(self, name: str, split: Split, reason: str, detail: str) -> None:
        assert self._loop is not None  # noqa: S101  # only called on it
        if detail != split.why_not:
            split.why_not = detail
            self._service.metrics.load_failed(name, reason)
            log.warning("its challenger does not answer", extra={**self._facts(name, split), "reason": reason, "detail": detail})
        self._look.report_unable(split.release.number, without_secrets(detail))
        self._loop.call_later(split.pause_s, self._begin_load, name, split)
        split.pause_s = min(2 * split.pause_s, LONGEST_PAUSE_S)

    def _patience_s(self) -> float:
        settings = self._service.settings
        return settings.limits.deadline_ms / 1000 * settings.release.patience

    def _beside(self, loaded: Loaded, predict: Predict) -> Served:
        """What answers as the challenger: nothing of it waits in a queue, or works in a thread, of the champion's."""
        service, settings = self._service, self._service.settings
        assert self._loop is not None  # noqa: S101  # only called on it
        queue = Queue(self._loop, rows=settings.limits.queue_rows, deadline_s=self._patience_s())
        batcher = Batcher(
            predict,
            queue,
            Aside("challenger"),
            max_rows=settings.batching.max_rows,
            seen=service.metrics.batches(loaded.name),
            inline=_is_ours(loaded.engine),
            weigh=loaded.signature.row_weights,
        )
        computation = Computation(queue, Aside("challenger's features"))
        made = Served(loaded, batcher, service.state, only_raw=settings.inputs == "raw", computation=computation)
        if made.computing is not None and made.computing.needs_frames:
            computation.prepare()
        return service.limited(made)

    # -------------------------------------------------------------------------------------------------- requests

    def predict(
        self, request: Request, champion: Served, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> Awaitable[tuple[bytes, Headers]]:
        """The answer of the arm that the request's unit belongs to, or of the champion for it.

        Raises what went wrong, as its result does. Not a coroutine itself, which would cost every request one more.
        """
        service, split = self._service, self.splits.get(request.model)
        if split is None or split.challenger is None or not split.stands(champion, request.arrived):
            return service.predict(request, champion, body)
        read = None
        if split.unit == "request":
            unit = request.request_id
            service.metrics.not_sticky(request.model)
        else:
            unit, read = self._unit_of(request, split, champion, body, headers)
        if not split.taken.has(unit):
            request.arm = "champion"
            if split.shadowed.every is not False and split.shadowed.has(request.request_id):
                read = read or champion.protocols[request.protocol].read(request, body)
                request.behind = split, champion, read[0]
            return service.predict(request, champion, body, read)
        if split.breaker.reason:
            request.arm, request.why = "fallback", f"version {split.release.challenger}: tripped"
            service.metrics.fallback(request.model, "tripped")
            return service.predict(request, champion, body, read)
        request.arm, request.answering = "challenger", split.challenger
        return self._by_challenger(request, split, split.challenger, champion, body)

    def _unit_of(
        self, request: Request, split: Split, champion: Served, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[str, Read | None]:
        """What decides of the arm, which goes on record as a hash; and what had to be read of the body for it."""
        read = None
        if split.unit == "header":
            unit = header_of(split.header, headers)
        else:
            read = champion.protocols[request.protocol].read(request, body)
            unit = id_of(read[0]) if split.unit == "ids" else value_of(split.unit_name, read[0], champion)
        if unit is None:
            self._service.metrics.not_sticky(request.model)
            unit, request.why = request.request_id, "not sticky"
        request.unit = unit_on_record(split.release.salt, unit)
        return unit, read

    async def _by_challenger(
        self, request: Request, split: Split, challenger: Served, champion: Served, body: bytes
    ) -> tuple[bytes, Headers]:
        service = self._service
        try:
            given, wanted = challenger.protocols[request.protocol].read(request, body)
            count = given.count
        except Exception as error:  # noqa: BLE001  # whatever it is, the champion answers
            return await self._instead(request, split, challenger, champion, body, error)
        if request.holder is not None:
            take_rows(request, count)
        try:
            rows, raw = (await service.computed(request, challenger, given), given) if isinstance(given, RawRows) else (given, None)
            outputs = await challenger.batcher.submit(rows, request.began)
            content, headers = service.written(request, challenger, rows, wanted, outputs)
        except Exception as error:  # noqa: BLE001  # as above
            return await self._instead(request, split, challenger, champion, body, error)
        split.breaker.succeeded()
        on_disk = service.keep(request, challenger, rows, outputs, raw)
        if on_disk is not None:
            await on_disk
        return content, headers

    async def _instead(
        self, request: Request, split: Split, challenger: Served, champion: Served, body: bytes, error: Exception
    ) -> tuple[bytes, Headers]:
        """The champion's answer to a request that its challenger failed."""
        before = request.why
        request.arm, request.why, request.answering, request.computed = "fallback", why_of(challenger.version, error), champion, None
        try:
            answer = await self._service.predict(request, champion, body)
        except Refused as refusal:
            if isinstance(error, Refused) and error.reason == refusal.reason:
                # It is the client's fault, or this server's, and would have been with either.
                request.arm, request.why, request.answering = "challenger", before, challenger
                raise
            self._failed(request, split, error)
            raise
        self._failed(request, split, error)
        return answer

    def _failed(self, request: Request, split: Split, error: Exception) -> None:
        facts = {"request_id": request.request_id, **self._facts(request.model, split), "why": request.why}
        log.warning("challenger failed", extra=facts, exc_info=None if isinstance(error, (Refused, NotFinite)) else error)
        self._service.metrics.fallback(request.model, reason_of(error))
        breaker = split.breaker
        if breaker.failed(self._service.settings.release.breaker):
            log.error("asks its challenger no more", extra={**self._facts(request.model, split), "reason": breaker.reason})
            self._look.report(split.release.number, breaker.reason)
            self._settle()

    def follow(self, request: Request, body: bytes) -> None:
        """Ask the challenger behind an answer of the champion's that has gone out, as was decided when it came."""
        (split, champion, given), request.behind = request.behind, None
        shadow: Shadows | None = split.shadow
        if shadow is None or split.is_over or split.breaker.reason or request.arrived >= split.release.lease_until:
            return
        shadow.add(request, body, given if split.reads_for(shadow.served, champion) else None)

    # ------------------------------------------------------------------------------------------------- what is told

    def status(self) -> dict[str, dict[str, Any]]:
        """Each model's release, for those who may look."""
        now = time.time()
        return {
            name: {
                **{key: value for key, value in msgspec.to_builtins(split.release).items() if key != "salt"},
                "enabled": self._enabled,
                "leased": now < split.release.lease_until,
                "loaded": split.challenger is not None,
                "why_not": split.why_not,
                "tripped": split.breaker.reason,
            }
            for name, split in self.splits.items()
        }

    def notes(self) -> list[str]:
        """What everybody may know of challengers that do not answer."""
        said = []
        for name, split in self.splits.items():
            if split.why_not:
                said.append(f"model '{name}': its challenger does not answer, the champion answers everything: the log and /status say why")
            elif split.breaker.reason:
                said.append(f"model '{name}': its challenger failed and is asked no more, the champion answers everything")
        return said


def _is_ours(engine: Engine) -> bool:
    """Whether an engine is one of those that are known to take no longer for a batch than for those before, in any thread."""
    form = plugins.parts(plugins.ModelFormat).get(engine.name)
    return form is not None and form.twin and plugins.is_ours(form)


def _alone(engine: Engine) -> Predict:
    """What predicts with an engine that is asked in two threads: one after the other, unless it is known to take both."""
    if _is_ours(engine):
        return partial(score, engine)
    one_at_a_time = threading.Lock()

    def predict(numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        with one_at_a_time:
            return score(engine, numbers, categories)

    return predict
