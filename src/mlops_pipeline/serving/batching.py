"""Micro-batches that make themselves: what has come while the last batch ran is the next one.

At one connection a request waits for nothing but the end of the event loop's turn. Under load every request that came in
the same turn, or while a long batch ran in its thread, shares one call of the engine. Everything is counted in rows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import pairwise
from typing import Any

import numpy as np

from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.signature import Rows
from mlops_pipeline.serving.problems import RETRY, refused

INLINE_S = 0.001
"""A batch that is expected to take less runs on the event loop itself; handing it to a thread would cost more than it frees."""

Predict = Callable[[Any, Any], np.ndarray]
Answer = asyncio.Future[np.ndarray]
Weigh = Callable[[Rows], "list[int] | None"]
"""What each row costs, in rows; None if they cost one each."""


def _alike(_rows: Rows) -> None:
    return None


class Queue:
    """What may wait in one worker, over all its models: rows, and for how long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, rows: int, deadline_s: float) -> None:
        self.loop, self.limit, self.deadline_s = loop, rows, deadline_s
        self.rows = 0
        self._watched: deque[tuple[float, asyncio.Future[Any], Callable[[float], Refused]]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    def watch(self, future: asyncio.Future[Any], now: float, late: Callable[[float], Refused] | None = None) -> None:
        """Give up waiting for a future at its deadline; ``late`` says of so many seconds what was waited for.

        One timer serves all, since all have the same time to wait and so expire in the order in which they came.
        """
        self._watched.append((now + self.deadline_s, future, late or expired))
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(self.deadline_s / 16, self._sweep)

    def _sweep(self) -> None:
        now = time.perf_counter()
        while self._watched and (self._watched[0][1].done() or self._watched[0][0] <= now):
            _, future, late = self._watched.popleft()
            if not future.done():
                future.set_exception(late(self.deadline_s))
        self._sweeping = self.loop.call_later(self.deadline_s / 16, self._sweep) if self._watched else None


class Batcher:
    """The queue in front of one model's engine."""

    def __init__(
        self,
        predict: Predict,
        queue: Queue,
        pool: Executor,
        *,
        max_rows: int,
        seen: Callable[[int, int], None],
        inline: bool = True,
        weigh: Weigh = _alike,
    ) -> None:
        """``seen`` is told the requests and rows of every batch; unless ``inline`` none runs on the loop itself.

        ``weigh`` says what each row costs. Rows of one request that cost more than ``max_rows`` are taken in turns with other requests.
        """
        self._weigh = weigh
        self._predict, self.queue, self._pool, self._max_rows, self._seen = predict, queue, pool, max_rows, seen
        self._inline_s = INLINE_S if inline else -1.0
        self._waiting: deque[tuple[Rows, int, Answer]] = deque()
        self._due = self._busy = False
        self._cost: dict[int, float] = {}

    def submit(self, rows: Rows, now: float) -> Answer:
        """The future outputs of these rows. Raises :class:`Refused` (429) when the queue is full."""
        queue = self.queue
        if queue.rows and queue.rows + rows.count > queue.limit:
            seconds = max(1, round(self._expected_s(queue.rows)))
            raise refused(
                429,
                "queue_full",
                f"{queue.rows:,} rows are waiting already, of at most {queue.limit:,}: send again later",
                ((b"retry-after", str(seconds).encode()),),
            )
        answer: Answer = queue.loop.create_future()
        queue.rows += rows.count
        queue.watch(answer, now)
        weights = self._weigh(rows)
        if weights is None or rows.count == 1 or sum(weights) <= self._max_rows:
            self._wait(rows, rows.count if weights is None else sum(weights), answer)
        else:
            self._take_turns(slices(rows, weights, self._max_rows), answer)
        return answer

    def _wait(self, rows: Rows, weight: int, answer: Answer) -> None:
        self._waiting.append((rows, weight, answer))
        if not self._due and not self._busy:
            self._due = True
            self.queue.loop.call_soon(self._turn)

    def _take_turns(self, left: deque[tuple[Rows, int]], whole: Answer) -> None:
        """Put each slice behind what others have sent while the one before ran; none once nobody waits for the whole."""
        outputs: list[np.ndarray] = []
        part: Answer = self.queue.loop.create_future()

        def go_on(done: Answer) -> None:
            nonlocal part
            error = None if done.cancelled() else done.exception()
            if error is not None and not whole.done():
                whole.set_exception(error)
            if whole.done():
                self.queue.rows -= sum(rows.count for rows, _ in left)
                return
            outputs.append(done.result())
            if left:
                part = self.queue.loop.create_future()
                part.add_done_callback(go_on)
                self._wait(*left.popleft(), part)
            else:
                whole.set_result(np.concatenate(outputs))

        part.add_done_callback(go_on)
        whole.add_done_callback(lambda _: part.cancel())
        self._wait(*left.popleft(), part)

    def _turn(self) -> None:
        self._due = False
        while self._waiting and not self._busy:
            batch, count, weight = self._next()
            if not batch:
                continue
            if self._expected_s(weight) <= self._inline_s:
                began = time.perf_counter()
                outputs = self._attempt(batch)
                self._learn(weight, time.perf_counter() - began)
                self._hand_out(batch, count, outputs)
            else:
                self._busy = True
                began = time.perf_counter()
                running = self.queue.loop.run_in_executor(self._pool, self._attempt, batch)
                running.add_done_callback(lambda done, b=batch, n=count, w=weight, t=began: self._finished(b, n, w, t, done))  # type: ignore[misc]

    def _finished(self, batch: list[tuple[Rows, Answer]], count: int, weight: int, began: float, done: asyncio.Future[Any]) -> None:
        self._busy = False
        self._learn(weight, time.perf_counter() - began)
        self._hand_out(batch, count, done.result())
        self._turn()

    def _next(self) -> tuple[list[tuple[Rows, Answer]], int, int]:
        """What fits into one batch, in the order of arrival, its rows and their weight; what has expired meanwhile is dropped."""
        batch: list[tuple[Rows, Answer]] = []
        count, total, waiting = 0, 0, self._waiting
        while waiting and (not batch or total + waiting[0][1] <= self._max_rows):
            rows, weight, answer = waiting.popleft()
            if answer.done():
                self.queue.rows -= rows.count
            else:
                batch.append((rows, answer))
                count += rows.count
                total += weight
        return batch, count, total

    def _attempt(self, batch: list[tuple[Rows, Answer]]) -> list[np.ndarray | Exception]:
        return attempts(self._predict, [rows for rows, _ in batch])

    def _hand_out(self, batch: list[tuple[Rows, Answer]], count: int, outputs: list[np.ndarray | Exception]) -> None:
        self.queue.rows -= count
        self._seen(len(batch), count)
        for (_, answer), output in zip(batch, outputs, strict=True):
            if answer.done():
                continue
            if isinstance(output, Exception):
                answer.set_exception(output)
            else:
                answer.set_result(output)

    def _learn(self, count: int, seconds: float) -> None:
        size = count.bit_length()
        self._cost[size] = 0.8 * self._cost.get(size, seconds) + 0.2 * seconds

    def _expected_s(self, count: int) -> float:
        """Seconds that a batch will take: what batches of about this size took lately, or more than any inline limit if none has run."""
        size = count.bit_length()
        known = self._cost.get(size)
        if known is not None:
            return known
        smaller = max((s for s in self._cost if s < size), default=None)
        return 10 * INLINE_S if smaller is None else self._cost[smaller] * 2 ** (size - smaller)


def slices(rows: Rows, weights: list[int], most: int) -> deque[tuple[Rows, int]]:
    """Rows cut into runs that weigh at most so much, or are one row, with the weight of each."""
    ends, total = [], 0
    for row, weight in enumerate(weights):
        if total and total + weight > most:
            ends.append(row)
            total = 0
        total += weight
    cut: deque[tuple[Rows, int]] = deque()
    for start, end in pairwise([0, *ends, rows.count]):
        numbers, categories = (None if part is None else part[start:end] for part in (rows.numbers, rows.categories))
        cut.append((Rows(end - start, numbers, categories), sum(weights[start:end])))
    return cut


def attempts(predict: Predict, batch: list[Rows]) -> list[np.ndarray | Exception]:
    """Outputs a request; one that makes the engine fail is found by running each alone, so that it harms no other."""
    if len(batch) == 1:
        rows = batch[0]
        try:
            return [predict(rows.numbers, rows.categories)]
        except Exception as error:  # noqa: BLE001  # whatever an engine raises becomes that one request's answer
            return [error]
    try:
        first = batch[0]
        numbers = None if first.numbers is None else np.concatenate([rows.numbers for rows in batch])
        categories = None if first.categories is None else np.concatenate([rows.categories for rows in batch])
        outputs = predict(numbers, categories)
    except Exception:  # noqa: BLE001  # as above
        return [attempts(predict, [one])[0] for one in batch]
    parts: list[np.ndarray | Exception] = []
    start = 0
    for rows in batch:
        parts.append(outputs[start : start + rows.count])
        start += rows.count
    return parts


def expired(deadline_s: float) -> Refused:
    """The answer to a request that could not be answered in time."""
    return refused(
        503,
        "deadline",
        f"no answer within {deadline_s * 1000:.0f} ms, the server has too much to do: send again later",
        RETRY,
    )


def unrecorded(deadline_s: float) -> Refused:
    """The answer to a request whose record was not written in time."""
    return refused(
        503,
        "deadline",
        f"the record of this request was not written within {deadline_s * 1000:.0f} ms, its disk or database is slow or cannot be written: "
        "send again later",
        RETRY,
    )
