"""Values planted in private columns, and the search for them in every byte of a folder, packed or not."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sqlite3
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ZSTD, GZIP, ZIP, SQLITE, PARQUET = b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"PK\x03\x04", b"SQLite format 3\0", b"PAR1"


@dataclass(frozen=True)
class Canary:
    """A value that must not be told, and what it would look like: texts, and the bytes of a number."""

    name: str
    pattern: re.Pattern[bytes]

    def is_in(self, content: bytes) -> bool:
        return self.pattern.search(content) is not None


def word(text: str) -> Canary:
    """A canary that is a text, in whatever case."""
    return Canary(text, re.compile(re.escape(text.encode()), re.IGNORECASE))


def number(value: float) -> Canary:
    """A canary that is a number: written out or rounded to six digits, or as a float's bytes."""
    shorter = {f"{value:.6g}", repr(value), f"{value:.1f}", f"{value:.2f}", f"{value:,.1f}"}
    written = b"|".join(re.escape(text.encode()) for text in sorted(shorter, key=len, reverse=True))
    packed = b"|".join(re.escape(struct.pack(how, value)) for how in ("<d", "<f"))
    return Canary(str(value), re.compile(rb"(?<![\w.])(?:" + written + rb")(?![\w])|" + packed, re.DOTALL))


def moment(value: datetime) -> Canary:
    """A canary that is a moment: its day and time as text, or its seconds or microseconds since 1970."""
    seconds = int(value.replace(tzinfo=UTC).timestamp())
    texts = [value.date().isoformat(), str(seconds), f"{value:%d.%m.%Y}"]
    packed = [struct.pack("<d", seconds), struct.pack("<q", seconds), struct.pack("<q", seconds * 1_000_000)]
    return Canary(value.isoformat(), re.compile(b"|".join(re.escape(each) for each in [*(t.encode() for t in texts), *packed]), re.DOTALL))


def found(folder: Path, canaries: list[Canary], allowed: Mapping[str, re.Pattern[str]]) -> list[str]:
    """``canary: place`` for every canary in a file that it is not ``allowed`` in (by its name: a pattern of paths).

    Files in DVC's cache have no names of their own: each may hold what a file of the same bytes may.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    named: dict[str, list[str]] = {}
    for path in files:
        if ".dvc/cache" not in path.as_posix():
            named.setdefault(_digest(path), []).append(path.relative_to(folder).as_posix())
    told = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        places = named.get(_digest(path), [name]) if ".dvc/cache" in name else [name]
        parts = list(contents(path.read_bytes()))
        for canary in canaries:
            if any(allowed[canary.name].search(place) for place in places):
                continue
            if any(canary.is_in(part) for part in parts):
                told.append(f"{canary.name}: {name}")
    return told


def contents(content: bytes) -> Iterator[bytes]:
    """Bytes as they are, and what they hold once unpacked."""
    yield content
    if content.startswith(GZIP):
        yield from contents(gzip.decompress(content))
    elif content.startswith(ZSTD):
        import pyarrow as pa

        with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
            yield from contents(stream.read())
    elif content.startswith(ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from contents(archive.read(name))
    elif content.startswith(PARQUET):
        import polars as pl

        table = pl.read_parquet(io.BytesIO(content))
        for column in table:
            yield "\n".join([column.name, *map(str, column.to_list())]).encode()
    elif content.startswith(SQLITE):
        with closing(sqlite3.connect(":memory:")) as database:
            # A file with a write-ahead log is none that memory takes: bytes 18 and 19 say so (SQLite, Database File Format).
            database.deserialize(content[:18] + b"\x01\x01" + content[20:])
            for (table_name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                for row in database.execute(f'SELECT * FROM "{table_name}"'):  # noqa: S608  # the database's own names
                    yield b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
