"""What computes the features of raw rows now: a model's recipe with the state of the moment, which is replaced between two requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.config.moments import span_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.columns import Coded, ColumnValues
from mlops_pipeline.features.online import OnlineFeatures, features_of
from mlops_pipeline.features.state import FeatureState, open_state
from mlops_pipeline.features.store import StateStore
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.raw import check_state, has_frames
from mlops_pipeline.serving.batching import INLINE_S, Queue
from mlops_pipeline.serving.problems import RETRY, refused

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.serving import FeatureSettings as Settings
    from mlops_pipeline.contract.spec import Contract
    from mlops_pipeline.features.windows import Ints
    from mlops_pipeline.inference.signature import Rows
    from mlops_pipeline.layout import StatePlace


ROW_S = 0.0005
"""What the first row of a size may take to compute."""


@dataclass(frozen=True)
class Computing:
    """A model's recipe with one state, or why there is none."""

    state: FeatureState | None
    features: OnlineFeatures | None
    without: OnlineFeatures | None
    """The same where nothing of the state is known."""
    why_not: str = ""
    """Why no raw row can be computed; empty if it can."""

    @property
    def needs_frames(self) -> bool:
        """Whether many rows are computed as a frame, since the recipe has more than plain Python can say."""
        return self.features is not None and not self.features.is_quick

    @property
    def as_of(self) -> datetime | None:
        """The moment (UTC) that what it knows is true for; None if it needs no state."""
        return None if self.state is None else self.state.as_of.astimezone(UTC)


def computing(contract: Contract, state: FeatureState | None, before: Computing | None = None) -> Computing:
    """What computes a model's features with a state; what did ``before`` if the state is of another recipe."""
    try:
        if state is not None:
            check_state(contract, state)
        features = features_of(contract, state)
    except PipelineError as error:
        if before is not None and not before.why_not:
            return before
        return Computing(None, None, None, f"raw rows cannot be computed: {error}: until then, send finished features")
    without = None if state is None else features_of(contract, Unknown(state))
    return Computing(state, features, without)


@dataclass(frozen=True)
class Unknown:
    """A state that says of each key that it knows nothing, with columns of the types that the state has."""

    instead_of: FeatureState

    def value(self, name: str, key: tuple[Any, ...], moment: int | None) -> None:
        """Null."""

    def many(self, name: str, keys: Sequence[tuple[Any, ...]], places: Ints, moments: Ints) -> ColumnValues:  # noqa: ARG002  # as a state is asked
        """Null for each row."""
        return Coded([None], np.zeros_like(places))

    def values(self, name: str, keys: Sequence[pl.Series], moments: pl.Series | None) -> pl.Series:
        """Null for each row."""
        found = self.instead_of.values(name, keys, moments)
        return found.clear(len(found))


def is_stale(as_of: datetime, settings: Settings, now: float) -> bool:
    """Whether a state is older than it may be."""
    if settings.max_age is None:
        return False
    return as_of < span_of(settings.max_age).before(datetime.fromtimestamp(now, UTC))


class Computation:
    """Computes at once what takes no time, and the rest in a thread beside the event loop; what waits there is counted in rows."""

    def __init__(self, queue: Queue, pool: Executor | None = None) -> None:
        self._queue, self._waiting = queue, 0
        self._cost: dict[int, float] = {}
        self._pool = pool or ThreadPoolExecutor(1, thread_name_prefix="features")

    async def of(self, work: Callable[[], Rows], count: int, began: float) -> Rows:
        """What ``work`` gives of so many rows of a request. Raises :class:`Refused`, also where there is too much to do (429, 503)."""
        if self._expected_s(count) <= INLINE_S:
            return self._timed(work, count)
        queue = self._queue
        if self._waiting and self._waiting + queue.rows + count > queue.limit:
            waiting = f"{self._waiting:,} rows are waiting to be computed, of at most {queue.limit:,}"
            raise refused(429, "queue_full", f"{waiting}: send again later", RETRY)
        done: asyncio.Future[Rows] = queue.loop.create_future()
        running = queue.loop.run_in_executor(self._pool, self._timed, work, count)
        self._waiting += count
        running.add_done_callback(lambda finished: self._hand_out(finished, done, count))
        queue.watch(done, began)
        try:
            return await done
        except Refused:
            running.cancel()  # no thread need begin what nobody waits for
            raise

    def prepare(self) -> None:
        """Load what many rows at once take, before the first of them come."""
        if has_frames():
            self._pool.submit(import_module, "polars")

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _hand_out(self, finished: asyncio.Future[Rows], done: asyncio.Future[Rows], count: int) -> None:
        self._waiting -= count
        if done.done() or finished.cancelled():
            return
        error = finished.exception()
        if error is None:
            done.set_result(finished.result())
        else:
            done.set_exception(error)

    def _timed(self, work: Callable[[], Rows], count: int) -> Rows:
        began, size, is_whole = time.perf_counter(), count.bit_length(), False
        try:
            rows = work()
            is_whole = True
        finally:
            seconds = time.perf_counter() - began
            # What is refused at its first row says nothing of how long all of them take, what is refused after a long time does.
            if is_whole or seconds > self._expected_s(count):
                self._cost[size] = 0.8 * self._cost.get(size, seconds) + 0.2 * seconds
        return rows

    def _expected_s(self, count: int) -> float:
        """What requests of about this size took lately; of a size that none had, what a row by itself may take."""
        return self._cost.get(count.bit_length(), count * ROW_S)


class States:
    """The state where it is kept, opened anew when its current version is another one."""

    def __init__(self, place: StatePlace) -> None:
        self._store = StateStore(place)
        self._opened: Path | None = None
        self._told = ""

    def newest(self) -> FeatureState | None:
        """The state, if it is another than the last time. Raises :class:`PipelineError`, once for each distinct failure.

        Where a database cannot be asked, the first is what was fetched from it last.
        """
        try:
            place = self._store.version()
        except PipelineError as error:
            place = None if self._opened is not None else self._store.copy()
            if place is None:
                self._fail(error)
        if place is None or place == self._opened:
            return None
        try:
            state = open_state(place)
        except PipelineError as error:
            self._fail(error)
            return None
        self._opened, self._told = place, ""
        return state

    def _fail(self, error: PipelineError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            raise error
