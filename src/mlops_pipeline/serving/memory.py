"""The watch's memory as a server uses it: labels go in, the page and the figures that the job has put there come out.

The job alone measures. A worker writes in one thread and reads in another, neither of them its loop's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_pipeline.config.moments import seconds_of
from mlops_pipeline.config.monitoring import load_monitoring
from mlops_pipeline.contract.label import Target, target_in
from mlops_pipeline.errors import PipelineError, without_secrets
from mlops_pipeline.monitoring.labels import Added, One, keep_labels, target_of
from mlops_pipeline.monitoring.state import Shown, WatchState, state_at
from mlops_pipeline.serving.problems import RETRY, refused

if TYPE_CHECKING:
    from mlops_pipeline.config.monitoring import Monitoring
    from mlops_pipeline.config.serving import Serving
    from mlops_pipeline.contract.spec import Contract
    from mlops_pipeline.server_layout import Place

log = logging.getLogger("mlops.serving")

USUAL = "monitoring_config.yaml"
WAITING = 8
"""Requests with labels that may wait for one another in a worker."""
FRESH_S = 2.0
"""So long what was read is told again without a look."""
READ_S = 1.0
"""A scrape waits no longer for the memory than this."""

Found = TypeVar("Found")


class Memory:
    """The memory at one place, for one worker; used on the loop's thread."""

    def __init__(self, settings: Monitoring, file: Path, about: Target | None) -> None:
        self._file, self._uri, self._about = file, settings.state.uri, about
        self._wait = settings.labels.wait
        is_server = self._uri is not None
        self._writer = _Side(self._open, "labels", may_be_gone=is_server)
        self._reader = _Side(self._open, "watched", may_be_gone=is_server)
        self._waiting = 0
        self._known: dict[str, Shown] = {}
        self._looked = -FRESH_S
        self._look_under_way: asyncio.Task[None] | None = None
        self._is_away = False

    def target(self, contract: Contract) -> Target:
        """What labels are of: as the pipeline's settings say, or the contract of the model that is served."""
        return self._about or target_in(contract)

    async def add(self, labels: Sequence[One], empty: int, who: str, within_s: float) -> Added:
        """Keep labels; on return they are on the disk. Raises :class:`Refused` (429, 503): then they may be sent again."""
        if self._waiting >= WAITING:
            raise refused(429, "queue_full", "labels of too many requests wait to be kept: send again later", RETRY)
        self._waiting += 1
        work = self._writer.run(self._keep, labels, empty, who)
        work.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(work), within_s)
        except TimeoutError:
            said = f"the labels were not kept within {within_s:g} s: send them again, none counts twice"
            raise refused(503, "labels_not_kept", said, RETRY) from None
        except PipelineError as error:
            self._tell(error)
            raise refused(503, "labels_not_kept", "the labels cannot be kept at present: send them again later", RETRY) from error

    async def shown(self, name: str) -> Shown | None:
        """What the job has put there under a name, a few seconds old at most; None where there is none.

        While it cannot be read, it is what was read last: no alert ends since a database is away, and what is shown says when it was made.
        """
        now = time.monotonic()
        if now - self._looked >= FRESH_S and self._look_under_way is None:
            self._look_under_way = asyncio.get_running_loop().create_task(self._look())
            self._look_under_way.add_done_callback(self._looked_at)
        if self._look_under_way is not None:
            await asyncio.wait([self._look_under_way], timeout=READ_S)
        return self._known.get(name)

    def close(self) -> None:
        """Write what is under way, and leave."""
        self._writer.close()
        self._reader.close()

    def _keep(self, state: WatchState, labels: Sequence[One], empty: int, who: str) -> Added:
        return keep_labels(state, labels, "POST /labels", who, empty=empty, wait_s=seconds_of(self._wait))

    async def _look(self) -> None:
        known = {name: each.made for name, each in self._known.items()}
        try:
            if not self._is_there():
                return
            found = await self._reader.run(_newer, known)
        except PipelineError as error:
            self._tell(error)
        else:
            self._known = {name: self._known[name] if each is None else each for name, each in found.items()}
            self._is_away = False

    def _looked_at(self, _: object) -> None:
        self._looked, self._look_under_way = time.monotonic(), None

    def _is_there(self) -> bool:
        """Whether there is anything to read: a look makes no file."""
        return self._uri is not None or self._file.is_file()

    def _open(self) -> WatchState:
        return state_at(self._file, self._uri)

    def _done(self, work: asyncio.Future[Added]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # who waited no longer has been told; it is not to be told again

    def _tell(self, error: PipelineError) -> None:
        """Why it cannot be used is in the log once, until it can be again."""
        if not self._is_away:
            self._is_away = True
            log.error("the watch's memory is away", extra={"detail": without_secrets(str(error))})


class _Side:
    """One thread with a connection of its own, which is made anew after any failure."""

    def __init__(self, make: Callable[[], WatchState], name: str, *, may_be_gone: bool) -> None:
        self._make, self._may_be_gone = make, may_be_gone
        self._state: WatchState | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def run(self, what: Callable[..., Found], *given: Any) -> asyncio.Future[Found]:
        """Do something with the memory in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, self._do, what, given)

    def close(self) -> None:
        """End the thread when its work is done."""
        self._pool.submit(self._leave)
        self._pool.shutdown(wait=True)

    def _do(self, what: Callable[..., Found], given: tuple[Any, ...]) -> Found:
        was_open = self._state is not None
        try:
            return self._once(what, given)
        except PipelineError:
            # A server of databases ends connections that are long idle; whatever is done here may be done twice.
            if not (was_open and self._may_be_gone):
                raise
            return self._once(what, given)

    def _once(self, what: Callable[..., Found], given: tuple[Any, ...]) -> Found:
        try:
            if self._state is None:
                self._state = self._make()
            return what(self._state, *given)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        state, self._state = self._state, None
        if state is not None:
            with suppress(Exception):  # it is being left
                state.close()


def _newer(state: WatchState, known: dict[str, float]) -> dict[str, Shown | None]:
    """All that is shown, by name; None for what is known as it is."""
    return {name: None if known.get(name) == made else state.shown(name) for name, made in state.shown_names().items()}


def memory_of(settings: Serving, config: Path, place: Place) -> Memory | None:
    """The memory that a server's settings mean; None if they mean none. Raises :class:`PipelineError` if these are no good.

    That of the watch's settings that they name, or that lie beside them; else the pipeline's usual one.
    """
    beside = config.parent / USUAL
    named = config.parent / settings.monitoring if settings.monitoring is not None else beside if beside.is_file() else None
    if named is None and place.pipeline is None:
        return None
    watch = load_monitoring(named)
    return Memory(watch, place.base / watch.state.file, None if place.pipeline is None else target_of(place.pipeline))
