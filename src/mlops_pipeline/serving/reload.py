"""What one worker reads again while it serves: keys and certificates when their files change, limits too at SIGHUP.

What cannot be read is told in one line of the log, and what was known before holds on.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.serving import keys_of, reloaded
from mlops_pipeline.errors import PipelineError, without_secrets
from mlops_pipeline.serving.tls import Tls, contexts_of, tls_files

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving
    from mlops_pipeline.serving.answer import Service

log = logging.getLogger("mlops.serving")


class Files:
    """Files that are looked at again and again. A change counts when it is there at two looks: nothing is read half written."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._taken = self._seen = self._state()

    def changed(self) -> bool:
        """Whether they stand still, and not as they did when this was last true."""
        before, self._seen = self._seen, self._state()
        if self._seen != before or self._seen == self._taken:
            return False
        self._taken = self._seen
        return True

    def _state(self) -> list[tuple[int, ...] | None]:
        return [_identity(path) for path in self._paths]


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


class Reload:
    """Looks after one worker's keys, certificates and limits. Made before they are first read; used on the loop's thread."""

    def __init__(self, settings: Serving, config: Path, reread: Callable[[], Serving] | None) -> None:
        """``reread`` reads the settings as they were read at the start, with what the command line changed in them."""
        self._config, self._reread = config, reread
        self.tls: Tls | None = None
        self._watch(settings)
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, service: Service) -> None:
        """Look after this worker from now on; in the main thread, on the loop."""
        self._service, loop = service, asyncio.get_running_loop()
        service.on_beat.append(self._look)
        if self._reread is not None:
            signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._do, self._everything))
            # Held back since before there was anything to do at it.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _watch(self, settings: Serving) -> None:
        named = settings.api_keys_file
        self._key_files = Files([] if named is None else [self._config.parent / named])
        self._tls_files = Files(tls_files(settings, self._config))

    def _look(self) -> None:
        if self._key_files.changed():
            self._do(self._keys)
        if self._tls_files.changed():
            self._do(self._certificates)

    def _do(self, what: Callable[[], Awaitable[None]]) -> None:
        async def in_turn() -> None:
            async with self._turn:
                try:
                    await what()
                except PipelineError as error:
                    log.error("keeps what it knows", extra={"detail": without_secrets(str(error))})

        task = asyncio.get_running_loop().create_task(in_turn())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _keys(self) -> None:
        service, settings = self._service, self._service.settings
        if service.access is None:
            return
        try:
            keys = await asyncio.to_thread(keys_of, settings, self._config)
        except PipelineError:
            # One that was taken out is out, whatever is wrong with the others.
            text = _text(self._config.parent / str(settings.api_keys_file))
            if text is not None:
                service.access.use(
                    {name: key for name, key in service.access.keys.items() if name in settings.api_keys or key.digest in text}
                )
            raise
        service.access.use(keys)
        log.info("knows its API keys anew", extra={"keys": len(keys)})

    async def _certificates(self) -> None:
        newest = await asyncio.to_thread(contexts_of, self._service.settings, self._config)
        if newest is not None and self.tls is not None:
            self.tls.use(newest)
            log.info("shows new connections what its TLS files hold now")

    async def _everything(self) -> None:
        assert self._reread is not None  # noqa: S101  # else nobody calls this
        found, before = await asyncio.to_thread(self._reread), self._service.settings
        settings, others = reloaded(before, found, str(self._config))
        # First everything that may fail.
        watched = self._key_files, self._tls_files
        self._watch(settings)
        try:
            keys = await asyncio.to_thread(keys_of, settings, self._config) if settings.has_keys else None
            newest = await asyncio.to_thread(contexts_of, settings, self._config)
        except PipelineError:
            self._key_files, self._tls_files = watched
            raise
        self._service.use(settings, keys)
        if newest is not None and self.tls is not None:
            self.tls.use(newest)
        log.info("has read its settings again", extra={"for_a_restart": ", ".join(others)} if others else {})


def _text(path: Path) -> str | None:
    """What stands in a file: nothing if it is gone; None if that cannot be told."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError:
        return None
