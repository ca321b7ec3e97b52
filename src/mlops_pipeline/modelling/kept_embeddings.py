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
    tell: Callable[[str], None] = lambda _line: None


_state = [_Where()]
"""What this process works with, in any of its threads."""


@contextmanager
def kept_embeddings(folder: Path) -> Iterator[None]:
    """Keep the embeddings that are made meanwhile in a folder, and take those that lie there."""
    with _meanwhile(replace(_state[-1], folder=folder)):
        yield


@contextmanager
def embedding(threads: int | None, say: Callable[[str], None], tell: Callable[[str], None]) -> Iterator[None]:
    """Make embeddings meanwhile on so many threads, None: on every core; ``say`` hears how far it is, ``tell`` what is to be remembered."""
    with _meanwhile(replace(_state[-1], threads=threads, say=say, tell=tell)):
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


def told(line: str) -> None:
    """Tell what is to be remembered of the embeddings that are made."""
    _state[-1].tell(line)


Embed = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
"""Texts to their embeddings, float32 (rows, size), and whether each was cut, bool (rows,)."""


def embedded_once(texts: Sequence[str], of: str, size: int, embed: Embed) -> tuple[np.ndarray, np.ndarray]:
    """What ``embed`` makes of texts; of those that are kept under the name ``of`` it is not made again."""
    folder, say = _state[-1].folder, _state[-1].say
    found, cut = np.empty((len(texts), size), dtype=np.float32), np.zeros(len(texts), dtype=bool)
    if folder is None:
        if texts:
            found[:], cut[:] = embed(list(texts))
        return found, cut
    keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / f"{of}.sqlite", timeout=60)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("DROP TABLE IF EXISTS embeddings")  # of before: it did not say which texts were cut
        columns = "text BLOB PRIMARY KEY, numbers BLOB NOT NULL, cut INTEGER NOT NULL"
        connection.execute(f"CREATE TABLE IF NOT EXISTS embedded ({columns}) WITHOUT ROWID")
        lacking = []
        for place, key in enumerate(keys):
            row = connection.execute("SELECT numbers, cut FROM embedded WHERE text = ?", (key,)).fetchone()
            if row is None:
                lacking.append(place)
            else:
                found[place], cut[place] = np.frombuffer(row[0], dtype=np.float32), row[1]
        # By length: texts of equally many tokens go together.
        lacking.sort(key=lambda place: len(texts[place]))
        for start in range(0, len(lacking), TOGETHER):
            say(f"{start:,} of {len(lacking):,} texts embedded")
            part = lacking[start : start + TOGETHER]
            found[part], cut[part] = embed([texts[place] for place in part])
            rows = [(keys[place], found[place].tobytes(), int(cut[place])) for place in part]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO embedded VALUES (?, ?, ?)", rows)
    return found, cut
