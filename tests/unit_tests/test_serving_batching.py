"""Micro-batches: who shares a call of the model, who waits, who is turned away, and that nobody harms another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.signature import Rows
from mlops_pipeline.serving import computing
from mlops_pipeline.serving.batching import Batcher, Queue


def rows(*values: float) -> Rows:
    return Rows(len(values), np.array(values, dtype=np.float32).reshape(-1, 1), None)


def double(numbers: Any, _: Any) -> np.ndarray:
    if (numbers == 13).any():
        raise ValueError("13")
    return np.asarray(numbers[:, 0] * 2)


def run(body: Callable[[Callable[..., Batcher]], Coroutine[Any, Any, Any]], predict: Any = double, **limits: Any) -> Any:
    """Run a test's coroutine with a maker of batchers on its own loop."""

    async def inside() -> Any:
        loop = asyncio.get_running_loop()
        queue = Queue(loop, rows=limits.get("rows", 100), deadline_s=limits.get("deadline_s", 10))
        with ThreadPoolExecutor(1) as pool:
            seen: list[int] = []

            def made() -> Batcher:
                batcher = Batcher(
                    predict,
                    queue,
                    pool,
                    max_rows=limits.get("max_rows", 10),
                    seen=lambda requests, _: seen.append(requests),
                    weigh=limits.get("weigh", lambda _: None),
                )
                batcher.sizes = seen  # type: ignore[attr-defined]
                batcher.queue = queue  # type: ignore[attr-defined]
                return batcher

            return await body(made)

    return asyncio.run(inside())


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=12), min_size=1, max_size=20))
def test_everyone_gets_the_outputs_of_their_own_rows(requests: list[list[float]]) -> None:
    async def body(made: Any) -> None:
        batcher = made()
        answers = [batcher.submit(rows(*values), 0.0) for values in requests]
        for values, answer in zip(requests, await asyncio.gather(*answers), strict=True):
            assert answer.tolist() == (np.array(values, dtype=np.float32) * 2).tolist()
        assert batcher.queue.rows == 0

    run(body, rows=10_000, deadline_s=1e9)


def test_requests_of_one_turn_share_a_call() -> None:
    async def body(made: Any) -> list[int]:
        batcher = made()
        await batcher.submit(rows(1), 0.0)
        await asyncio.gather(*[batcher.submit(rows(k), 0.0) for k in range(8)])
        return list(batcher.sizes)

    assert run(body, deadline_s=1e9) == [1, 8]


def test_a_batch_is_counted_in_rows() -> None:
    async def body(made: Any) -> list[int]:
        batcher = made()
        await asyncio.gather(*[batcher.submit(rows(*range(4)), 0.0) for _ in range(5)], batcher.submit(rows(*[1] * 30), 0.0))
        return list(batcher.sizes)

    assert run(body, deadline_s=1e9, max_rows=10) == [2, 2, 1, 1]


def test_a_row_that_breaks_the_model_fails_alone() -> None:
    async def body(made: Any) -> list[Any]:
        batcher = made()
        return await asyncio.gather(*[batcher.submit(rows(value), 0.0) for value in (1, 13, 3)], return_exceptions=True)

    good, bad, other = run(body, deadline_s=1e9)
    assert (good.tolist(), other.tolist()) == ([2], [6])
    assert isinstance(bad, ValueError)


def test_while_a_long_batch_runs_the_next_one_gathers() -> None:
    release, started = threading.Event(), threading.Event()

    def slow(numbers: Any, categories: Any) -> np.ndarray:
        started.set()
        assert release.wait(120)
        return double(numbers, categories)

    async def body(made: Any) -> list[int]:
        batcher = made()
        first = batcher.submit(rows(1), 0.0)
        await asyncio.to_thread(started.wait)
        others = [batcher.submit(rows(k), 0.0) for k in range(5)]
        await asyncio.sleep(0)
        assert not any(other.done() for other in others)
        release.set()
        await asyncio.gather(first, *others)
        return list(batcher.sizes)

    assert run(body, slow, deadline_s=1e9) == [1, 5]


def test_a_full_queue_turns_away_with_a_time_to_come_back() -> None:
    async def body(made: Any) -> Refused:
        batcher = made()
        waiting = [batcher.submit(rows(*range(4)), 0.0) for _ in range(2)]
        with pytest.raises(Refused) as refused:
            batcher.submit(rows(1, 2, 3), 0.0)
        await asyncio.gather(*waiting)
        await batcher.submit(rows(1, 2, 3), 0.0)
        return refused.value

    refusal = run(body, deadline_s=1e9, rows=10)
    assert refusal.status == 429
    assert int(dict(refusal.headers)[b"retry-after"]) >= 1


def test_a_single_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async def body(made: Any) -> int:
        return len(await made().submit(rows(*[1] * 50), 0.0))

    assert run(body, deadline_s=1e9, rows=10) == 50


def test_a_request_past_its_deadline_is_told_so_and_not_run() -> None:
    release = threading.Event()
    ran: list[int] = []

    def slow(numbers: Any, categories: Any) -> np.ndarray:
        ran.append(len(numbers))
        assert release.wait(120)
        return double(numbers, categories)

    async def body(made: Any) -> tuple[list[Any], float]:
        batcher = made()
        now = time.perf_counter()
        said = await asyncio.gather(*[batcher.submit(rows(*[1] * count), now) for count in (1, 2)], return_exceptions=True)
        release.set()
        await batcher.submit(rows(1, 1, 1), time.perf_counter() + 60)
        return said, batcher.queue.rows

    said, left = run(body, slow, deadline_s=0.2, max_rows=1)
    assert [(refusal.status, refusal.reason) for refusal in said] == [(503, "deadline")] * 2
    assert (ran, left) == ([1, 3], 0)


def test_a_failure_to_put_a_batch_together_leaves_nothing_in_the_queue() -> None:
    async def body(made: Any) -> tuple[list[Any], int]:
        batcher = made()
        odd = Rows(1, np.zeros((1, 2), dtype=np.float32), None)
        said = await asyncio.gather(*[batcher.submit(one, 0.0) for one in (rows(1), odd, rows(3))], return_exceptions=True)
        return said, batcher.queue.rows

    said, left = run(body, deadline_s=1e9)
    assert [answer.tolist() for answer in said] == [[2], [0], [6]]
    assert left == 0


def test_a_request_of_long_texts_takes_turns_with_small_ones_and_stops_when_nobody_waits() -> None:
    order: list[list[float]] = []

    def predict(numbers: Any, _: Any) -> np.ndarray:
        order.append(numbers[:, 0].tolist())
        return double(numbers, None)

    def weigh(rows: Rows) -> list[int]:
        assert rows.numbers is not None
        return [8 if value > 100 else 1 for value in rows.numbers[:, 0]]

    async def body(made: Any) -> None:
        batcher = made()
        long = batcher.submit(rows(101, 102, 103), 0.0)
        small = [batcher.submit(rows(value), 0.0) for value in (1, 2)]
        assert (await long).tolist() == [202, 204, 206]
        assert [(await answer).tolist() for answer in small] == [[2], [4]]
        assert order == [[101, 1, 2], [102], [103]]
        order.clear()
        given_up = batcher.submit(rows(101, 102, 103), 0.0)
        given_up.cancel()
        await batcher.submit(rows(3), 0.0)
        assert order == [[101, 3]]
        assert batcher.queue.rows == 0

    run(body, predict, weigh=weigh)


# -------------------------------------------------------------------------------------------------- features of raw rows


def test_rows_that_are_refused_after_a_long_time_are_computed_beside_the_loop_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of raw rows whose last one is at fault; what is refused at once says nothing of those that are not."""
    clock, threads = [0.0], list[threading.Thread]()
    monkeypatch.setattr(computing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def work(seconds: float, *, fails: bool) -> Callable[[], Rows]:
        def done() -> Rows:
            threads.append(threading.current_thread())
            clock[0] += seconds
            if fails:
                raise ValueError("the last row")
            return rows(1)

        return done

    async def body() -> None:
        computation = computing.Computation(Queue(asyncio.get_running_loop(), rows=100, deadline_s=1e9))
        try:
            for seconds in (1.0, 0.0, 0.0):
                with pytest.raises(ValueError, match="the last row"):
                    await computation.of(work(seconds, fails=True), 1, 0.0)
            for _ in range(100):
                await computation.of(work(0.0, fails=False), 1, 0.0)
        finally:
            computation.close()

    asyncio.run(body())
    own = threading.current_thread()
    assert [thread is own for thread in threads[:4]] == [True, False, False, False]
    assert threads[-1] is own, "once they are quick, they are computed at once again"
