"""A thread beside the loop for work that may never end: it holds up neither others' work nor the end of its process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar
from weakref import finalize

Result = TypeVar("Result")

_Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Aside(Executor):
    """One thread of the kind that a process does not wait for, begun with its first work.

    A library's own pool is waited for at the end, however long a model sleeps. When nobody has it any more, its thread ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: Thread | None = None
        finalize(self, self._work.put, None)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Do it after what was given before."""
        future: Future[Result] = Future()
        self._work.put((future, fn, args, kwargs))
        if self._thread is None:
            self._thread = Thread(target=_run, args=(self._work,), name=self._name, daemon=True)
            self._thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  # as Python's own
        """Let the thread end with what it has been given; nobody waits for it."""
        self._work.put(None)


def _run(waiting: SimpleQueue[_Work | None]) -> None:
    while (work := waiting.get()) is not None:
        future, fn, args, kwargs = work
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # it is the asker's
            future.set_exception(error)
        del work, future, fn, args, kwargs
