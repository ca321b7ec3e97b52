"""Embeddings of texts kept by the texts' digests, so that each is made once, and a kill loses few."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

TOGETHER = 256
"""Texts that are embedded, and then kept, at a time."""


@dataclass(frozen=True)
class _Where:
    folder: Path | None = None
    threads: int | None = None
    say: Callable[[str], None] = lambda _line: None


_state = [_Where()]
"""What this process works with, in any of its threads."""


@contextmanager
def kept_embeddings(folder: Path) -> Iterator[None]:
    """Keep the embeddings that are made meanwhile in a folder, and take those that lie there."""
    with _meanwhile(replace(_state[-1], folder=folder)):
        yield


@contextmanager
def embedding(threads: int | None, say: Callable[[str], None]) -> Iterator[None]:
    """Make embeddings meanwhile on so many threads, None: on every core, and say how far it is."""
    with _meanwhile(replace(_state[-1], threads=threads, say=say)):
        yield


@contextmanager
def _meanwhile(state: _Where) -> Iterator[None]:
    _state.append(state)
    try:
        yield
    finally:
        _state.pop()


def threads_to_use() -> int:
    """How many threads embeddings are made on."""
    return _state[-1].threads or len(os.sched_getaffinity(0))


def embedded_once(texts: Sequence[str], of: str, size: int, embed: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """Embeddings of texts, float32 (rows, size); those that are kept under the name ``of`` are not made again."""
    folder, say = _state[-1].folder, _state[-1].say
    found = np.empty((len(texts), size), dtype=np.float32)
    if folder is None:
        if texts:
            found[:] = embed(list(texts))
        return found
    keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / f"{of}.sqlite", timeout=60)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS embeddings (text BLOB PRIMARY KEY, numbers BLOB NOT NULL) WITHOUT ROWID")
        lacking = []
        for place, key in enumerate(keys):
            row = connection.execute("SELECT numbers FROM embeddings WHERE text = ?", (key,)).fetchone()
            if row is None:
                lacking.append(place)
            else:
                found[place] = np.frombuffer(row[0], dtype=np.float32)
        # By length: texts of equally many tokens go together.
        lacking.sort(key=lambda place: len(texts[place]))
        for start in range(0, len(lacking), TOGETHER):
            say(f"{start:,} of {len(lacking):,} texts embedded")
            part = lacking[start : start + TOGETHER]
            found[part] = made = embed([texts[place] for place in part])
            rows = [(keys[place], numbers.tobytes()) for place, numbers in zip(part, made, strict=True)]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
    return found
